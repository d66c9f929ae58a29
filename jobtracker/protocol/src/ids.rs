//! Names of things. Each is a type of its own, so that a task is never mistaken for an attempt.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }
            /// The bare number, for display, indexing and the wire.
            pub const fn number(self) -> $inner {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            /// Accepts the displayed form and the bare number.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix).unwrap_or(text).parse().map(Self)
            }
        }
    };
}

id!(
    /// A job, numbered in the order of submission within one cluster.
    JobId(u64), "job-");
id!(
    /// A task tracker of the cluster's configuration.
    TrackerId(u32), "tracker-");
id!(
    /// One of the job tracker's replicas.
    ReplicaId(u32), "replica-");

/// A stage: all map tasks or all reduce tasks of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Stage {
    /// The map tasks.
    Map,
    /// The reduce tasks, one for each partition.
    Reduce,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Map => "map",
            Stage::Reduce => "reduce",
        })
    }
}

/// A task: one map split or one reduce partition of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job it belongs to.
    pub job: JobId,
    /// Its stage.
    pub stage: Stage,
    /// Its number within the stage, from 0. A reduce task's number is its partition.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.job, self.stage, self.index)
    }
}
impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An attempt: one execution of one task on one tracker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The task.
    pub task: TaskId,
    /// Its number within the task, from 0.
    pub attempt: u16,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.attempt)
    }
}
impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for AttemptId {
    type Err = String;
    /// Parses the displayed form, `job-1/map-0.2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (job, rest) = text.split_once('/')?;
            let (task, attempt) = rest.split_once('.')?;
            let (stage, index) = task.split_once('-')?;
            let stage = match stage {
                "map" => Stage::Map,
                "reduce" => Stage::Reduce,
                _ => return None,
            };
            let task = TaskId { job: job.parse().ok()?, stage, index: index.parse().ok()? };
            Some(AttemptId { task, attempt: attempt.parse().ok()? })
        };
        parse().ok_or_else(|| format!("{text:?} is not an attempt such as job-1/map-0.2"))
    }
}

/// A failure domain: machines that may fail, or lie, together. Attempts of one task never share one.
///
/// The operator chooses the level (`rack-3`, `site-a/host-7`); two domains are distinct when their labels differ.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Domain(pub String);

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Ordered time: milliseconds since the Unix epoch as the job tracker agreed on them. It never runs backwards, and it is
/// the only clock that decisions may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct OrderedTime(pub u64);

impl OrderedTime {
    /// This time plus `ms` milliseconds, saturating.
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds since `earlier`, 0 when it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displayed_attempts_parse_back() {
        let id = AttemptId { task: TaskId { job: JobId::new(7), stage: Stage::Reduce, index: 3 }, attempt: 2 };
        assert_eq!(id.to_string(), "job-7/reduce-3.2");
        assert_eq!("job-7/reduce-3.2".parse::<AttemptId>(), Ok(id));
        for wrong in ["", "job-7", "job-7/reduce-3", "job-7/shuffle-3.2", "job-x/map-0.0", "job-7/map-0.70000"] {
            assert!(wrong.parse::<AttemptId>().is_err(), "{wrong:?}");
        }
    }
}
