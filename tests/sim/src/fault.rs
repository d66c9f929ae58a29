//! Faults are data: a run can be repeated without some of them.

use crate::actors::Lie;
use std::fmt;

/// Replicas as bits, and [`CLIENTS`] for all clients.
pub type Side = u32;

/// The clients' bit in a [`Side`].
pub const CLIENTS: Side = 1 << 31;

/// What a crashed replica finds on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFate {
    /// All that was durable, and perhaps more.
    Kept,
    /// What was durable at this tick: somebody restored a backup.
    Old(u64),
    /// Nothing.
    Wiped,
}

/// What happens to the trusted log of a crashed replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFate {
    /// It stands where it stood.
    Kept,
    /// A reset as of a chip: the next epoch begins, with an empty chain.
    Reset,
    /// Broken: it stands where it stood at the tick of [`DiskFate::Old`]. No real one can do this.
    RolledBack,
}

/// One fault. Ticks are milliseconds of the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A replica stops, and starts again.
    Crash {
        /// Which.
        node: usize,
        /// When it stops.
        from: u64,
        /// When it starts again.
        until: u64,
        /// Its disk.
        disk: DiskFate,
        /// Its trusted log.
        log: LogFate,
    },
    /// Messages from some do not reach others. Both ways cut make a partition.
    Cut {
        /// Whose messages.
        senders: Side,
        /// Whom they do not reach.
        receivers: Side,
        /// Since when.
        from: u64,
        /// Until when.
        until: u64,
    },
    /// The network loses many more messages for a while.
    Storm {
        /// How many of a thousand.
        loss: u64,
        /// Since when.
        from: u64,
        /// Until when.
        until: u64,
    },
    /// A trusted log needs longer for a while.
    SlowLog {
        /// Whose.
        node: usize,
        /// Milliseconds for an attestation.
        latency: u64,
        /// Since when.
        from: u64,
        /// Until when.
        until: u64,
    },
    /// A replica lies, until the end of the run.
    Liar {
        /// Which.
        node: usize,
        /// How.
        lie: Lie,
        /// Since when. It was honest before.
        from: u64,
    },
}

impl Fault {
    /// The replica that counts against the bound f because of this fault.
    pub fn culprit(&self) -> Option<usize> {
        match self {
            Fault::Crash { node, disk, log, .. } if (*disk, *log) != (DiskFate::Kept, LogFate::Kept) => Some(*node),
            Fault::Liar { node, .. } => Some(*node),
            Fault::Crash { .. } | Fault::Cut { .. } | Fault::Storm { .. } | Fault::SlowLog { .. } => None,
        }
    }

    /// Who lies because of it, how, and from when on.
    pub fn lie(&self) -> Option<(usize, Lie, u64)> {
        if let Fault::Liar { node, lie, from } = self { Some((*node, *lie, *from)) } else { None }
    }

    /// When it begins and ends.
    pub fn span(&self) -> (u64, u64) {
        match self {
            Fault::Crash { from, until, .. }
            | Fault::Cut { from, until, .. }
            | Fault::Storm { from, until, .. }
            | Fault::SlowLog { from, until, .. } => (*from, *until),
            Fault::Liar { from, .. } => (*from, u64::MAX),
        }
    }
}

fn side(side: Side) -> String {
    let replicas = (0..31).filter(|node| side & (1 << node) != 0).map(|node| node.to_string());
    let clients = (side & CLIENTS != 0).then(|| "clients".to_owned());
    replicas.chain(clients).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { node, from, until, disk, log } => {
                write!(f, "replica {node} is down from {from} to {until}, disk {disk:?}, trusted log {log:?}")
            }
            Fault::Cut { senders, receivers, from, until } => {
                write!(f, "cut from {} to {} between {from} and {until}", side(*senders), side(*receivers))
            }
            Fault::Storm { loss, from, until } => write!(f, "{loss} ‰ of messages lost from {from} to {until}"),
            Fault::SlowLog { node, latency, from, until } => {
                write!(f, "the trusted log of replica {node} needs {latency} ms from {from} to {until}")
            }
            Fault::Liar { node, lie, from } => write!(f, "replica {node} lies from {from} on: {lie}"),
        }
    }
}
