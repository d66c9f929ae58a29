//! Trusted logs in processes of their own, also of another user.

use crate::{Processes, processes::CONFIGURATION};
use quorate_protocol::ids::ReplicaId;
use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the process that holds a replica's trusted log is called.
pub fn name(replica: ReplicaId) -> String {
    format!("trusted-log-{}", replica.number())
}

pub(crate) fn is_one(name: &str) -> bool {
    name.starts_with("trusted-log")
}

/// Whether processes of another user can run a program here. Says why not.
pub fn others_can_run(program: &Path, user: u32) -> bool {
    let tried = Command::new(program).arg("--version").uid(user).gid(user).stdout(Stdio::null()).status();
    let problem = match tried {
        Ok(status) if status.success() => return true,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    eprintln!("skipped: user {user} cannot run {} ({problem})", program.display());
    false
}

/// Trusted logs in processes of their own.
impl Processes {
    /// Where a replica finds its trusted log.
    pub fn helper_socket(&self, replica: ReplicaId) -> PathBuf {
        self.folder().join(name(replica)).join("socket")
    }

    /// Starts the process that holds a replica's trusted log, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start_helper(&mut self, replica: ReplicaId) {
        let (name, socket) = (name(replica), self.helper_socket(replica));
        let mut command = self.helper(replica);
        if let Some(user) = self.setup().helpers_user {
            self.give(&name, user).expect("given to the other user");
            command.uid(user).gid(user);
        }
        self.spawn(&name, CONFIGURATION, command);
        self.until("the trusted log is served", async || UnixStream::connect(&socket).is_ok()).await;
    }

    fn helper(&self, replica: ReplicaId) -> Command {
        let mut command = Command::new(&self.setup().programs.quorate);
        let user = rustix::process::geteuid().as_raw().to_string();
        command.args(["trusted-log", "--id", &replica.number().to_string(), "--allow-user", &user, "--socket"]);
        command.arg(self.helper_socket(replica));
        command
    }

    /// Makes a folder and a key another user's, who then passes through the cluster's folder and sees nothing in it.
    fn give(&self, name: &str, user: u32) -> std::io::Result<()> {
        let (state, key) = (self.folder().join(name), self.folder().join(format!("{name}.key")));
        fs::create_dir_all(&state)?;
        fs::set_permissions(&state, PermissionsExt::from_mode(0o711))?;
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600))?;
        fs::set_permissions(self.folder(), PermissionsExt::from_mode(0o711))?;
        chown(&state, Some(user), Some(user))?;
        chown(&key, Some(user), Some(user))
    }
}
