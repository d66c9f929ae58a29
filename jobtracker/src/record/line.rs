//! Events as lines of text: the format of event logs.
//!
//! The first line says what the file is and who the trackers are; each other line is one event, in JSON. What was written
//! by a later version with cases that are not known here is passed over, line by line.

use quorate_protocol::{
    command::Cost,
    digest::Digest,
    file::Path,
    ids::{AttemptId, JobId, OrderedTime, Stage, TaskId, TrackerId},
    query::{Blame, JobState},
    vote::Counters,
};
use quorate_schedule::events::{AttemptEnd, Closed, Event, Happening, Purpose, Submitted};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap};

/// The version of the format.
pub(crate) const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Heading {
    /// The format's version.
    pub(crate) quorate_events: u32,
    /// The cluster's name.
    pub(crate) cluster: String,
    /// What binds every signature to it.
    pub(crate) cluster_id: String,
    pub(crate) job: u64,
    /// Each tracker's failure domain.
    pub(crate) domains: BTreeMap<u32, String>,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    /// The event's number.
    n: u64,
    /// Ordered time.
    t: u64,
    #[serde(borrow)]
    e: What<'a>,
}

/// Tasks and attempts by their names within the job: `map-3`, `map-3.0`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What<'a> {
    Submitted {
        name: Cow<'a, str>,
        entry: Cow<'a, str>,
        f: u32,
        maps: u32,
        reduces: u32,
        inputs: Vec<String>,
        output: String,
    },
    Placed {
        a: Cow<'a, str>,
        by: u32,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rerun: bool,
        /// The attempt that its tracker repeats.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<u16>,
        /// Whether it tests a tracker on probation.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        probe: bool,
    },
    Voted {
        a: Cow<'a, str>,
        ballot: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "is_zero")]
        ms: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        shuffled: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        refetched: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        restarts: u64,
    },
    Agreed {
        task: Cow<'a, str>,
        ballot: Cow<'a, str>,
    },
    Overdue {
        a: Cow<'a, str>,
    },
    Lost {
        a: Cow<'a, str>,
        why: String,
    },
    Declined {
        a: Cow<'a, str>,
        why: String,
    },
    Withdrawn {
        a: Cow<'a, str>,
    },
    Cancelled {
        a: Cow<'a, str>,
    },
    Lacking {
        task: Cow<'a, str>,
    },
    Served {
        task: Cow<'a, str>,
    },
    Blamed {
        tracker: u32,
        kind: Cow<'a, str>,
        blame: BlameWord,
        a: Cow<'a, str>,
    },
    Closed {
        state: JobState,
        counters: Counters,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BlameWord {
    None,
    Suspected,
    Convicted,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn task_name(task: TaskId) -> String {
    format!("{}-{}", task.stage, task.index)
}
fn attempt_name<'a>(attempt: AttemptId) -> Cow<'a, str> {
    format!("{}.{}", task_name(attempt.task), attempt.attempt).into()
}

/// A task by its name within a job.
pub(crate) fn parse_task(job: JobId, name: &str) -> Option<TaskId> {
    let (stage, index) = name.split_once('-')?;
    let stage = match stage {
        "map" => Stage::Map,
        "reduce" => Stage::Reduce,
        _ => return None,
    };
    Some(TaskId { job, stage, index: index.parse().ok()? })
}
fn parse_attempt(job: JobId, name: &str) -> Option<AttemptId> {
    let (task, attempt) = name.split_once('.')?;
    Some(AttemptId { task: parse_task(job, task)?, attempt: attempt.parse().ok()? })
}
fn parse_digest(text: &str) -> Option<Digest> {
    text.parse().ok()
}

/// An event as a line, with its end.
pub(crate) fn write(event: &Event) -> String {
    let line = Line { n: event.number, t: event.time.0, e: What::of(&event.what) };
    let mut text = serde_json::to_string(&line).expect("numbers and texts are JSON");
    text.push('\n');
    text
}

/// Reads a line; `None` for one that is no event of this job that this version knows.
pub(crate) fn read(job: JobId, line: &str) -> Option<Event> {
    let Line { n, t, e } = serde_json::from_str(line).ok()?;
    Some(Event { number: n, time: OrderedTime(t), job, what: e.happening(job)? })
}

impl<'a> What<'a> {
    fn of(what: &'a Happening) -> Self {
        match what {
            Happening::Submitted(submitted) => What::Submitted {
                name: submitted.name.as_str().into(),
                entry: submitted.entry.as_str().into(),
                f: submitted.f,
                maps: submitted.maps,
                reduces: submitted.reduces,
                inputs: submitted.inputs.iter().map(Path::to_string).collect(),
                output: submitted.output.to_string(),
            },
            Happening::Placed { attempt, tracker, purpose } => What::Placed {
                a: attempt_name(*attempt),
                by: tracker.number(),
                rerun: *purpose != Purpose::Decides,
                of: match purpose {
                    Purpose::Repeats(of) => Some(*of),
                    Purpose::Decides | Purpose::BringsBack | Purpose::Probes => None,
                },
                probe: *purpose == Purpose::Probes,
            },
            Happening::Voted { attempt, ballot, cost } => What::Voted {
                a: attempt_name(*attempt),
                ballot: ballot.to_string().into(),
                ms: cost.elapsed_ms,
                shuffled: cost.shuffled,
                refetched: cost.refetched,
                restarts: cost.restarts.into(),
            },
            Happening::Agreed { task, ballot } => {
                What::Agreed { task: task_name(*task).into(), ballot: ballot.to_string().into() }
            }
            Happening::Overdue { attempt } => What::Overdue { a: attempt_name(*attempt) },
            Happening::Ended { attempt, why } => {
                let a = attempt_name(*attempt);
                match why {
                    AttemptEnd::Lost(why) => What::Lost { a, why: why.clone() },
                    AttemptEnd::Declined(why) => What::Declined { a, why: why.clone() },
                    AttemptEnd::Withdrawn => What::Withdrawn { a },
                    AttemptEnd::Cancelled => What::Cancelled { a },
                }
            }
            Happening::Lacking { task, is_lacking: true } => What::Lacking { task: task_name(*task).into() },
            Happening::Lacking { task, is_lacking: false } => What::Served { task: task_name(*task).into() },
            Happening::Blamed { tracker, kind, blame, attempt } => What::Blamed {
                tracker: tracker.number(),
                kind: kind.as_str().into(),
                blame: match blame {
                    Blame::None => BlameWord::None,
                    Blame::Suspected => BlameWord::Suspected,
                    Blame::Convicted => BlameWord::Convicted,
                },
                a: attempt_name(*attempt),
            },
            Happening::Closed(closed) => {
                What::Closed { state: closed.state.clone(), counters: closed.counters.clone() }
            }
        }
    }

    fn happening(self, job: JobId) -> Option<Happening> {
        let attempt_of = |name: &str| parse_attempt(job, name);
        let task_of = |name: &str| parse_task(job, name);
        let ended = |a: &str, why| Some(Happening::Ended { attempt: attempt_of(a)?, why });
        match self {
            What::Submitted { name, entry, f, maps, reduces, inputs, output } => {
                let inputs = inputs.iter().filter_map(|path| Path::parse(path).ok()).collect();
                let (name, entry, output) = (name.into_owned(), entry.into_owned(), Path::parse(&output).ok()?);
                Some(Happening::Submitted(Box::new(Submitted { name, entry, f, maps, reduces, inputs, output })))
            }
            What::Placed { a, by, rerun, of, probe } => {
                let purpose = match of {
                    Some(of) => Purpose::Repeats(of),
                    None if probe => Purpose::Probes,
                    None if rerun => Purpose::BringsBack,
                    None => Purpose::Decides,
                };
                Some(Happening::Placed { attempt: attempt_of(&a)?, tracker: TrackerId::new(by), purpose })
            }
            What::Voted { a, ballot, ms, shuffled, refetched, restarts } => {
                let restarts = u32::try_from(restarts).unwrap_or(u32::MAX);
                let cost = Cost { elapsed_ms: ms, shuffled, refetched, restarts };
                Some(Happening::Voted { attempt: attempt_of(&a)?, ballot: parse_digest(&ballot)?, cost })
            }
            What::Agreed { task, ballot } => {
                Some(Happening::Agreed { task: task_of(&task)?, ballot: parse_digest(&ballot)? })
            }
            What::Overdue { a } => Some(Happening::Overdue { attempt: attempt_of(&a)? }),
            What::Lost { a, why } => ended(&a, AttemptEnd::Lost(why)),
            What::Declined { a, why } => ended(&a, AttemptEnd::Declined(why)),
            What::Withdrawn { a } => ended(&a, AttemptEnd::Withdrawn),
            What::Cancelled { a } => ended(&a, AttemptEnd::Cancelled),
            What::Lacking { task } => Some(Happening::Lacking { task: task_of(&task)?, is_lacking: true }),
            What::Served { task } => Some(Happening::Lacking { task: task_of(&task)?, is_lacking: false }),
            What::Blamed { tracker, kind, blame, a } => Some(Happening::Blamed {
                tracker: TrackerId::new(tracker),
                kind: kind.into_owned(),
                blame: match blame {
                    BlameWord::None => Blame::None,
                    BlameWord::Suspected => Blame::Suspected,
                    BlameWord::Convicted => Blame::Convicted,
                },
                attempt: attempt_of(&a)?,
            }),
            What::Closed { state, counters } => Some(Happening::Closed(Box::new(Closed { state, counters }))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use quorate_protocol::query::JobFailure;

    /// One event of each kind, of one job that goes through all of them.
    pub(crate) fn all() -> Vec<Event> {
        let job = JobId::new(3);
        let attempt = |name: &str| parse_attempt(job, name).expect("an attempt");
        let (map, ballot) = (attempt("map-0.0").task, Digest::of(b"ballot"));
        let submitted = Submitted {
            name: "word \"count\"".to_owned(),
            entry: "main".to_owned(),
            f: 1,
            maps: 2,
            reduces: 1,
            inputs: vec![Path::parse("/in").expect("a path")],
            output: Path::parse("/out").expect("a path"),
        };
        let cost = Cost { elapsed_ms: 12, shuffled: 3, refetched: 1, restarts: 1 };
        let failure = JobFailure::Undecidable { task: map };
        let (a, why) = (attempt("map-0.1"), "went away\nat once".to_owned());
        let closed = Closed { state: JobState::Failed(failure), counters: [("words".to_owned(), 7)].into() };
        let what = [
            Happening::Submitted(Box::new(submitted)),
            Happening::Placed { attempt: attempt("map-0.0"), tracker: TrackerId::new(2), purpose: Purpose::Decides },
            Happening::Placed { attempt: a, tracker: TrackerId::new(1), purpose: Purpose::BringsBack },
            Happening::Voted { attempt: attempt("map-0.0"), ballot, cost },
            Happening::Voted { attempt: attempt("reduce-0.0"), ballot, cost: Cost::default() },
            Happening::Agreed { task: map, ballot },
            Happening::Overdue { attempt: a },
            Happening::Ended { attempt: a, why: AttemptEnd::Lost(why.clone()) },
            Happening::Ended { attempt: a, why: AttemptEnd::Declined(why) },
            Happening::Ended { attempt: a, why: AttemptEnd::Withdrawn },
            Happening::Ended { attempt: a, why: AttemptEnd::Cancelled },
            Happening::Lacking { task: map, is_lacking: true },
            Happening::Lacking { task: map, is_lacking: false },
            Happening::Blamed {
                tracker: TrackerId::new(2),
                kind: "outvoted".to_owned(),
                blame: Blame::Suspected,
                attempt: attempt("map-0.0"),
            },
            Happening::Placed { attempt: attempt("map-0.2"), tracker: TrackerId::new(2), purpose: Purpose::Repeats(0) },
            Happening::Placed { attempt: attempt("map-0.3"), tracker: TrackerId::new(4), purpose: Purpose::Probes },
            Happening::Closed(Box::new(closed)),
        ];
        let event = |(number, what)| Event { number, time: OrderedTime(1000 + number), job, what };
        (0..).zip(what).map(event).collect()
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        for event in all() {
            let line = write(&event);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(read(event.job, line.trim_end()), Some(event), "{line}");
        }
    }

    #[test]
    fn golden_lines() {
        let lines: Vec<String> = all().iter().map(write).collect();
        assert_eq!(lines[1], "{\"n\":1,\"t\":1001,\"e\":{\"placed\":{\"a\":\"map-0.0\",\"by\":2}}}\n");
        assert_eq!(lines[6], "{\"n\":6,\"t\":1006,\"e\":{\"overdue\":{\"a\":\"map-0.1\"}}}\n");
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        let job = JobId::new(3);
        for line in [
            "",
            "{",
            "{\"n\":1,\"t\":2,\"e\":{\"invented\":{}}}",
            "{\"n\":1,\"t\":2,\"e\":{\"overdue\":{\"a\":\"map\"}}}",
        ] {
            assert_eq!(read(job, line), None, "{line}");
        }
    }
}
