//! Three replicas in processes of their own on this machine: this program, started three times more.

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
/// Where `/proc/PID/stat` has the CPU time in user mode, counted from behind the program's name; that in the kernel follows.
const USER_TIME_FIELD: usize = 11;

/// Replicas that run. Dropped, they are killed, and what they kept is removed.
pub(crate) struct Replicas {
    configuration: Arc<Cluster>,
    clients: Vec<SecretKey>,
    processes: Vec<Child>,
    /// Removed last: fields are dropped in this order.
    folder: TempDir,
}

impl Replicas {
    /// Starts a new cluster with so many clients. It may take a moment until its replicas serve.
    pub(crate) fn start(clients: usize) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("quorate-bench-").tempdir()?;
        let clients: Vec<SecretKey> = (0..clients).map(|_| secret()).collect::<io::Result<_>>()?;
        let configuration = configure(folder.path(), &clients)?;
        let mut this = Self { configuration: Arc::new(configuration), clients, processes: Vec::new(), folder };
        for id in (0..REPLICAS).map(ReplicaId::new) {
            let process = start(this.folder.path(), id)?;
            this.processes.push(process);
        }
        Ok(this)
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

/// Draws the keys of the members, and writes what their processes read.
fn configure(folder: &Path, clients: &[SecretKey]) -> io::Result<Cluster> {
    // All are open at once, so that their ports differ.
    let sockets: Vec<_> = (0..REPLICAS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    let mut replicas = Vec::new();
    for (id, socket) in (0..).map(ReplicaId::new).zip(&sockets) {
        let key = secret()?;
        fs::write(folder.join(format!("{id}.key")), key.to_hex())?;
        replicas.push(ReplicaMember {
            id,
            address: socket.local_addr()?.to_string(),
            key: key.public(),
            log: None,
            tpm: None,
        });
    }
    // A cluster has one at least. It is never started.
    let tracker = TrackerMember { id: TrackerId::new(0), domain: Domain("none".to_owned()), key: secret()?.public() };
    let cluster = Cluster {
        name: "bench".to_owned(),
        f: F,
        allow_liars: false,
        clients: clients.iter().map(SecretKey::public).collect(),
        authority: None,
        replicas,
        trackers: vec![tracker],
    };
    fs::write(folder.join(CONFIGURATION), toml::to_string(&cluster).map_err(io::Error::other)?)?;
    Ok(cluster)
}

fn secret() -> io::Result<SecretKey> {
    SecretKey::generate().map_err(io::Error::other)
}

fn start(folder: &Path, id: ReplicaId) -> io::Result<Child> {
    Command::new(env::current_exe()?)
        .args(["replica", "--id", &id.number().to_string()])
        .arg("--config")
        .arg(folder.join(CONFIGURATION))
        .arg("--key")
        .arg(folder.join(format!("{id}.key")))
        .arg("--dir")
        .arg(folder.join(id.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
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
