//! The job tracker's replicas in a cluster of processes: how they stand, and what can happen to them.

use crate::{Processes, proxy::Proxy};
use quorate_protocol::{ids::ReplicaId, query::ReplicaView};
use rustix::process::Signal;
use std::{fs, path::Path, path::PathBuf};

/// Replicas of the job tracker.
impl Processes {
    /// What the replicas that answer say of themselves.
    pub async fn views(&self) -> Vec<ReplicaView> {
        self.client().replicas().await.into_iter().filter_map(|(_, view)| view.ok()).collect()
    }

    /// The primary of the newest view.
    ///
    /// # Panics
    /// When no replica answers.
    pub async fn primary(&self) -> ReplicaId {
        let views = self.views().await;
        views.iter().max_by_key(|view| view.view).expect("a replica answers").primary
    }

    /// Waits until all replicas may vote and have executed the same history, digest by digest. It is that history's place.
    ///
    /// # Panics
    /// When they do not come to that.
    pub async fn replicas_agree(&self) -> u64 {
        let all = self.connection().cluster.replicas.len();
        let mut place = 0;
        self.until("all replicas vote and have executed the same", async || {
            let views = self.views().await;
            place = views.first().map_or(0, |view| view.executed.ordered);
            let alike = views.windows(2).all(|pair| pair[0].executed == pair[1].executed);
            views.len() == all && alike && views.iter().all(|view| view.voting)
        })
        .await;
        place
    }

    /// Waits until all replicas may vote and none is far behind, while work goes on.
    ///
    /// # Panics
    /// When they do not come to that.
    pub async fn replicas_agree_meanwhile(&self) {
        let all = self.connection().cluster.replicas.len();
        let mut before = None;
        self.until("all replicas vote and keep up", async || {
            let views = self.views().await;
            let slowest = views.iter().map(|view| view.executed.ordered).min();
            let newest = views.iter().map(|view| view.executed.ordered).max();
            let kept_up = before.is_some_and(|before| slowest >= before);
            before = Some(newest);
            views.len() == all && kept_up && views.iter().all(|view| view.voting)
        })
        .await;
    }

    /// Asserts that nothing is held against any replica, except against the guilty.
    ///
    /// # Panics
    /// When something is.
    pub async fn only_guilty_replicas(&self, guilty: &[ReplicaId]) {
        for view in self.views().await.iter().filter(|view| !guilty.contains(&view.replica)) {
            for fault in &view.faults {
                assert!(guilty.contains(&fault.replica), "{} says of an honest one: {fault:?}", view.replica);
            }
        }
    }

    /// Stops a member's process where it is, without its knowing.
    ///
    /// # Panics
    /// When there is no such member.
    pub fn freeze(&self, name: &str) {
        self.signal(name, Signal::STOP);
    }

    /// Lets a frozen process go on.
    ///
    /// # Panics
    /// When there is no such member.
    pub fn thaw(&self, name: &str) {
        self.signal(name, Signal::CONT);
    }

    /// Asks a member's process to end, as a service manager does.
    ///
    /// # Panics
    /// When there is no such member.
    pub fn terminate(&self, name: &str) {
        self.signal(name, Signal::TERM);
    }

    fn signal(&self, name: &str, signal: Signal) {
        let pid = rustix::process::Pid::from_child(self.member(name));
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    /// Removes all that a member that was killed had kept.
    ///
    /// # Panics
    /// When it cannot be removed.
    pub fn wipe(&self, name: &str) {
        fs::remove_dir_all(self.folder().join(name)).expect("removed");
    }

    /// Keeps a copy of a killed member's disk, for [`Processes::restore_disk`].
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn save_disk(&self, name: &str) {
        copy(&self.folder().join(name), &self.saved(name)).expect("copied");
    }

    /// Puts a killed member's disk back to where [`Processes::save_disk`] saw it.
    ///
    /// # Panics
    /// When it cannot be put back.
    pub fn restore_disk(&self, name: &str) {
        self.wipe(name);
        fs::rename(self.saved(name), self.folder().join(name)).expect("put back");
    }

    fn saved(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.saved"))
    }

    /// The two directions between two replicas, of a cluster that was started with proxies.
    ///
    /// # Panics
    /// When it was started without.
    pub fn between(&self, one: ReplicaId, other: ReplicaId) -> [&Proxy; 2] {
        [(one, other), (other, one)].map(|way| self.proxies().get(&way).expect("started with proxies"))
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
