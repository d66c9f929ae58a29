//! Three replicas in processes of their own on this machine: this program, started three times more.

use clap::ValueEnum;
use quorate_jobtracker::client::Client;
use quorate_protocol::{
    cluster::{Cluster, ReplicaMember, TrackerMember},
    command::Sender,
    ids::{Domain, ReplicaId, TrackerId},
    sign::SecretKey,
};
use rustix::param::clock_ticks_per_second;
use std::{
    env, fs, io,
    net::TcpListener,
    path::Path,
    process::{self, Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

const REPLICAS: u32 = 3;
/// How many of them may lie.
const F: u32 = 1;
const CONFIGURATION: &str = "config.toml";
#[cfg(feature = "tpm")]
const FOUNDING: &str = "founding";

/// Where `/proc/PID/stat` has the CPU time in user mode, counted from behind the program's name; that in the kernel follows.
const USER_TIME_FIELD: usize = 11;

/// Where the replicas' trusted logs are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TrustedLogs {
    /// In their own processes
    Software,
    /// In TPMs in software, one for each
    #[cfg(feature = "tpm")]
    Tpm,
}

/// Replicas that run. Dropped, they are killed, and what they kept is removed.
pub(crate) struct Replicas {
    configuration: Arc<Cluster>,
    clients: Vec<SecretKey>,
    processes: Vec<Child>,
    #[cfg(feature = "tpm")]
    tpms: Option<crate::tpms::Tpms>,
    /// Removed last: fields are dropped in this order.
    folder: TempDir,
}

impl Replicas {
    /// Starts a new cluster with so many clients. It may take a moment until its replicas serve.
    pub(crate) fn start(clients: usize, logs: TrustedLogs) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("quorate-bench-").tempdir()?;
        let clients: Vec<SecretKey> = (0..clients).map(|_| secret()).collect::<io::Result<_>>()?;
        #[cfg_attr(not(feature = "tpm"), expect(unused_mut, unused_variables, reason = "nothing is added to it"))]
        let (mut configuration, keys) = configure(folder.path(), &clients)?;
        #[cfg(feature = "tpm")]
        let tpms = match logs {
            TrustedLogs::Software => None,
            TrustedLogs::Tpm => {
                let tpms = crate::tpms::Tpms::start(&mut configuration)?;
                fs::write(folder.path().join(FOUNDING), tpms.found(&configuration, &keys, folder.path())?)?;
                Some(tpms)
            }
        };
        #[cfg(not(feature = "tpm"))]
        let TrustedLogs::Software = logs;
        fs::write(folder.path().join(CONFIGURATION), toml::to_string(&configuration).map_err(io::Error::other)?)?;
        let mut this = Self {
            configuration: Arc::new(configuration),
            clients,
            processes: Vec::new(),
            #[cfg(feature = "tpm")]
            tpms,
            folder,
        };
        for id in (0..REPLICAS).map(ReplicaId::new) {
            let process = this.command(id)?.spawn()?;
            this.processes.push(process);
        }
        Ok(this)
    }

    fn command(&self, id: ReplicaId) -> io::Result<Command> {
        #[cfg_attr(not(feature = "tpm"), expect(unused_mut, reason = "nothing is added to it"))]
        let mut command = command(self.folder.path(), id)?;
        #[cfg(feature = "tpm")]
        if let Some(tcti) = self.tpms.as_ref().and_then(|tpms| tpms.tcti(id)) {
            command.args(["--tpm", &tcti.to_string(), "--founding"]).arg(self.folder.path().join(FOUNDING));
        }
        Ok(command)
    }

    /// Its clients, each with connections of its own.
    pub(crate) fn clients(&self) -> Vec<Client> {
        let client =
            |key: &SecretKey| Client::new(Arc::clone(&self.configuration), Sender::Client(key.public()), key.clone());
        self.clients.iter().map(client).collect()
    }

    /// CPU time of all replicas so far.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        self.processes.iter().map(|process| cpu_time(process.id())).sum()
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // It may have ended before.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// CPU time of this process so far, whose clients these are.
pub(crate) fn own_cpu_time() -> io::Result<Duration> {
    cpu_time(process::id())
}

/// Draws the keys of the members, and writes those of the replicas, which it gives too.
fn configure(folder: &Path, clients: &[SecretKey]) -> io::Result<(Cluster, Vec<SecretKey>)> {
    // All are open at once, so that their ports differ.
    let sockets: Vec<_> = (0..REPLICAS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    let (mut replicas, mut keys) = (Vec::new(), Vec::new());
    for (id, socket) in (0..).map(ReplicaId::new).zip(&sockets) {
        let key = secret()?;
        fs::write(folder.join(format!("{id}.key")), key.to_hex())?;
        replicas.push(ReplicaMember {
            id,
            address: socket.local_addr()?.to_string(),
            key: key.public(),
            log: None,
            tpm: None,
            page: None,
        });
        keys.push(key);
    }
    // A cluster has one at least. It is never started.
    let tracker = TrackerMember { id: TrackerId::new(0), domain: Domain("none".to_owned()), key: secret()?.public() };
    let cluster = Cluster {
        name: "bench".to_owned(),
        f: F,
        agreement: Default::default(),
        allow_liars: false,
        clients: clients.iter().map(SecretKey::public).collect(),
        authority: None,
        replicas,
        trackers: vec![tracker],
    };
    Ok((cluster, keys))
}

fn secret() -> io::Result<SecretKey> {
    SecretKey::generate().map_err(io::Error::other)
}

fn command(folder: &Path, id: ReplicaId) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["replica", "--id", &id.number().to_string()])
        .arg("--config")
        .arg(folder.join(CONFIGURATION))
        .arg("--key")
        .arg(folder.join(format!("{id}.key")))
        .arg("--dir")
        .arg(folder.join(id.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    Ok(command)
}

fn cpu_time(process: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| io::Error::other(format!("the kernel says of {process}: {stat:?}")))?;
    Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name is in parentheses, and may itself have blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(USER_TIME_FIELD).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_that_in_user_mode_and_in_the_kernel() {
        assert_eq!(cpu_ticks("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 400 23 5 6"), Some(423));
        assert_eq!(cpu_ticks("7 (a) S 1 2 3 4 5 6 7 8 9 10 400"), None);
        assert_eq!(cpu_ticks(""), None);
        assert!(own_cpu_time().is_ok());
    }
}
