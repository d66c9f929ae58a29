//! The processes of a cluster on this machine, and where their files are.

use quorate::{
    connection,
    exit::{Code, Failure},
    settings::FILE_VARIABLE,
    terminal::warn,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, Command as Process},
    task::JoinSet,
    time::timeout,
};

/// How long members may take to stop before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Where a cluster's files are.
pub(crate) struct Place {
    /// Keys, logs and the members' state.
    pub(crate) state: PathBuf,
    /// Where clients look.
    pub(crate) connection: PathBuf,
    /// Removed at the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    pub(crate) fn choose(dir: Option<&Path>, connection: Option<&Path>) -> Result<Self, Failure> {
        match dir {
            Some(dir) => {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
                made.map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                        Failure::io("cannot make", dir, &error).hint("--dir is a folder, and there is a file")
                    }
                    _ => Failure::io("cannot make", dir, &error),
                })?;
                let state = dir.canonicalize().map_err(|error| Failure::io("cannot open", dir, &error))?;
                Ok(Self {
                    connection: connection.map_or_else(|| state.clone(), Path::to_owned),
                    state,
                    _temporary: None,
                })
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("quorate-cluster-").tempdir();
                let temporary =
                    temporary.map_err(|error| Failure::io("cannot make a folder in", std::env::temp_dir(), &error))?;
                let connection = connection.map_or_else(connection::default_folder, Path::to_owned);
                Ok(Self { state: temporary.path().to_owned(), connection, _temporary: Some(temporary) })
            }
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.state.join("config.toml")
    }
    pub(crate) fn key(&self, member: &str) -> PathBuf {
        self.state.join("keys").join(member)
    }
    pub(crate) fn log(&self, member: &str) -> PathBuf {
        self.state.join("logs").join(format!("{member}.log"))
    }
}

/// The processes of a cluster.
#[derive(Default)]
pub(crate) struct Members {
    pids: Vec<(String, u32)>,
    ends: JoinSet<String>,
}

impl Members {
    pub(crate) fn start(&mut self, place: &Place, name: &str, arguments: &[String]) -> Result<(), Failure> {
        let log_path = place.log(name);
        let log = fs::OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|error| Failure::io("cannot write", &log_path, &error))?;
        let own = std::env::current_exe();
        let own =
            own.map_err(|error| Failure::new(Code::System, "cannot find this program's file").caused_by(&error))?;
        let mut process = Process::new(&own);
        process
            .args(arguments)
            .arg("--config")
            .arg(place.config())
            .arg("--key")
            .arg(place.key(name))
            .arg("--dir")
            .arg(place.state.join(name))
            .arg("--until-stdin-ends")
            // What holds for them was decided here.
            .env(FILE_VARIABLE, "")
            // Ctrl-C goes to this process alone, which then stops the members in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        for (variable, _) in std::env::vars_os() {
            if variable != FILE_VARIABLE && variable.to_string_lossy().starts_with("QUORATE_") {
                process.env_remove(variable);
            }
        }
        let child = process.spawn().map_err(|error| Failure::io("cannot start", &own, &error))?;
        let name = name.to_owned();
        self.pids.extend(child.id().map(|pid| (name.clone(), pid)));
        self.ends.spawn(async move { end_of(child, name).await });
        Ok(())
    }

    /// The next member that ended by itself.
    pub(crate) async fn ended(&mut self) -> String {
        loop {
            match self.ends.join_next().await {
                Some(Ok(name)) => return name,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// `kill -9`: a member ends without having its say.
    pub(crate) fn kill(&self, name: &str) {
        self.pids.iter().filter(|(member, _)| member == name).for_each(|(_, pid)| signal(*pid, Signal::KILL));
    }

    pub(crate) async fn stop(mut self) {
        self.pids.iter().for_each(|(_, pid)| signal(*pid, Signal::TERM));
        let all = async { while self.ends.join_next().await.is_some() {} };
        if timeout(STOP_PATIENCE, all).await.is_err() {
            warn(&format!("some members did not stop in {} s and are killed", STOP_PATIENCE.as_secs()));
            self.ends.shutdown().await;
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    // One that has ended already has been reaped by its own task; the number is not reused so soon.
    let _ = Pid::from_raw(pid as i32).map(|pid| kill_process(pid, signal));
}

/// Holds a member's standard input open, which ends with this process, and waits for its end.
async fn end_of(mut child: Child, name: String) -> String {
    let _held = child.stdin.take();
    let _ = child.wait().await;
    name
}
