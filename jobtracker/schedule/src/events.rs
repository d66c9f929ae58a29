//! What happens to jobs, for those who keep a record of it.
//!
//! Events change nothing and decide nothing. All replicas number them alike, whether they listen or not: so whoever was
//! away, or executes again what was executed before, knows which ones it has. Without a listener an event costs an
//! addition. A listener takes them after each command; beyond [`EVENTS_WAITING_MAX`] they are forgotten, which the numbers
//! show.

use quorate_protocol::{
    command::Cost,
    digest::Digest,
    file::Path,
    ids::{AttemptId, JobId, OrderedTime, TaskId, TrackerId},
    query::{Blame, JobState},
    vote::Counters,
};
use serde::{Deserialize, Serialize};

pub use crate::task::Purpose;

/// Events that wait for a listener.
pub const EVENTS_WAITING_MAX: usize = 1 << 16;
/// Inputs of a job that are named.
const INPUTS_MAX: usize = 16;

/// Something that happened to a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Counts all events of the cluster, from 0.
    pub number: u64,
    /// When.
    pub time: OrderedTime,
    /// To which job.
    pub job: JobId,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happening {
    /// It was submitted.
    Submitted(Box<Submitted>),
    /// An attempt was given to a tracker.
    Placed {
        /// The attempt.
        attempt: AttemptId,
        /// To whom.
        tracker: TrackerId,
        /// What it is for.
        purpose: Purpose,
    },
    /// A vote came.
    Voted {
        /// Of which attempt.
        attempt: AttemptId,
        /// The ballot's digest.
        ballot: Digest,
        /// What it cost, by the tracker's word.
        cost: Cost,
    },
    /// A task has a verdict.
    Agreed {
        /// Which.
        task: TaskId,
        /// The agreed ballot's digest.
        ballot: Digest,
    },
    /// An attempt is overdue.
    Overdue {
        /// Which.
        attempt: AttemptId,
    },
    /// An attempt will not vote.
    Ended {
        /// Which.
        attempt: AttemptId,
        /// Why.
        why: AttemptEnd,
    },
    /// An agreed task's bytes can no longer be had, or can be had again.
    Lacking {
        /// Which.
        task: TaskId,
        /// Whether they are lacking now.
        is_lacking: bool,
    },
    /// Something was found against a tracker in the course of this job.
    Blamed {
        /// Whom.
        tracker: TrackerId,
        /// The kind of evidence, as it is named for people.
        kind: String,
        /// How much it proves.
        blame: Blame,
        /// The attempt that it is about.
        attempt: AttemptId,
    },
    /// It ended.
    Closed(Box<Closed>),
}

/// A job at its beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submitted {
    /// Its name.
    pub name: String,
    /// Which of its program's jobs it is.
    pub entry: String,
    /// Its f.
    pub f: u32,
    /// Map tasks.
    pub maps: u32,
    /// Reduce tasks.
    pub reduces: u32,
    /// Its first inputs.
    pub inputs: Vec<Path>,
    /// Where the output will be.
    pub output: Path,
}

/// Why an attempt will not vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttemptEnd {
    /// Its tracker went away or gave no answer.
    Lost(String),
    /// Its tracker could not run it.
    Declined(String),
    /// It was taken back: another job could use its slot.
    Withdrawn,
    /// Its task was decided without it.
    Cancelled,
}

/// A job at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// How it ended.
    pub state: JobState,
    /// Agreed counters.
    pub counters: Counters,
}

/// Numbers events, and holds those that wait for a listener.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Events {
    /// The next event's number.
    next: u64,
    /// Those that wait; `None` without a listener. No part of the state.
    #[serde(skip)]
    waiting: Option<Vec<Event>>,
}

impl Events {
    /// Tells an event, if anybody listens.
    pub(crate) fn tell(&mut self, time: OrderedTime, job: JobId, what: impl FnOnce() -> Happening) {
        let number = self.next;
        self.next += 1;
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.len() < EVENTS_WAITING_MAX) {
            waiting.push(Event { number, time, job, what: what() });
        }
    }

    /// From now on somebody listens.
    pub(crate) fn listen(&mut self) {
        self.waiting.get_or_insert_default();
    }

    /// Takes what waits.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        self.waiting.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl crate::Scheduler {
    /// From now on events wait to be taken. What happened before is not told.
    pub fn listen(&mut self) {
        self.workforce.events.listen();
    }

    /// Takes the events since the last time.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.workforce.events.take()
    }
}

impl crate::workforce::Workforce {
    /// Tells an event that happens now.
    pub(crate) fn tell(&mut self, job: JobId, what: impl FnOnce() -> Happening) {
        self.events.tell(self.now, job, what);
    }
}

impl crate::job::Job {
    /// The job at its beginning.
    pub(crate) fn introduction(&self) -> Happening {
        let specification = &self.specification;
        Happening::Submitted(Box::new(Submitted {
            name: specification.name.clone(),
            entry: specification.entry.clone(),
            f: specification.f,
            maps: self.maps.all.len() as u32,
            reduces: self.reduces.all.len() as u32,
            inputs: specification.inputs.iter().take(INPUTS_MAX).cloned().collect(),
            output: specification.output.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(events: &mut Events, count: usize) {
        let what = || Happening::Overdue { attempt: "job-1/map-0.0".parse().expect("an attempt") };
        (0..count).for_each(|_| events.tell(OrderedTime(7), JobId::new(1), what));
    }

    #[test]
    fn events_are_numbered_whether_anybody_listens_or_not() {
        let (mut deaf, mut listening) = (Events::default(), Events::default());
        listening.listen();
        for events in [&mut deaf, &mut listening] {
            tell(events, 3);
        }
        assert_eq!((deaf.take(), deaf.next), (Vec::new(), listening.next));
        let numbers: Vec<u64> = listening.take().iter().map(|event| event.number).collect();
        assert_eq!((numbers, listening.take()), (vec![0, 1, 2], Vec::new()));
        deaf.listen();
        tell(&mut deaf, 1);
        assert_eq!(deaf.take().first().map(|event| event.number), Some(3));
    }

    #[test]
    fn events_that_nobody_takes_are_bounded() {
        let mut events = Events::default();
        events.listen();
        tell(&mut events, EVENTS_WAITING_MAX + 1);
        assert_eq!(events.take().len(), EVENTS_WAITING_MAX);
        assert_eq!(events.next, EVENTS_WAITING_MAX as u64 + 1);
    }
}
