//! Trackers, and the evidence against them.

use super::blame;
use quorate_protocol::query::{Duty, TrackerView};
use serde::Serialize;
use utoipa::ToSchema;

/// A tracker as the scheduler sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Tracker {
    pub(crate) tracker: u32,
    pub(crate) domain: String,
    /// Where its services are; empty when it never registered.
    pub(crate) address: String,
    pub(crate) live: bool,
    pub(crate) map_slots: Slots,
    pub(crate) reduce_slots: Slots,
    /// `none`, `suspected` or `convicted`.
    pub(crate) blame: &'static str,
    /// Pieces of evidence against it.
    pub(crate) evidence: u32,
    /// Attempts that were overdue: never evidence of a lie.
    pub(crate) overdue: u64,
    /// Votes that became verdicts.
    pub(crate) agreed: u64,
    /// Votes that were outvoted.
    pub(crate) outvoted: u64,
    /// What it is given to do; logs do not tell.
    pub(crate) duty: Option<TrackerDuty>,
    /// What files say that it holds.
    pub(crate) stored: Option<Stored>,
}

impl From<&TrackerView> for Tracker {
    fn from(view: &TrackerView) -> Self {
        Self {
            tracker: view.id.number(),
            domain: view.domain.to_string(),
            address: view.address.clone(),
            live: view.live,
            map_slots: view.map_slots.into(),
            reduce_slots: view.reduce_slots.into(),
            blame: blame(view.blame),
            evidence: view.evidence,
            overdue: view.overdue,
            agreed: view.agreed,
            outvoted: view.outvoted,
            duty: Some(TrackerDuty::from(&view.duty)),
            stored: None,
        }
    }
}

/// What a tracker is given to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct TrackerDuty {
    /// `full`, `quarantined` or `probation`.
    pub(crate) word: &'static str,
    /// Why it is in quarantine.
    pub(crate) why: Option<String>,
    /// On probation: the known answers that it gave.
    pub(crate) passed: Option<u32>,
    /// On probation: how many it takes.
    pub(crate) needed: Option<u32>,
}

impl From<&Duty> for TrackerDuty {
    fn from(duty: &Duty) -> Self {
        let (passed, needed) = (None, None);
        match duty {
            Duty::Full => Self { word: "full", why: None, passed, needed },
            Duty::Quarantined(why) => Self { word: "quarantined", why: Some(why.clone()), passed, needed },
            Duty::Probation { passed, needed } => {
                Self { word: "probation", why: None, passed: Some(*passed), needed: Some(*needed) }
            }
        }
    }
}

/// Attempts of a stage that a tracker runs and could run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct Slots {
    pub(crate) used: u16,
    pub(crate) all: u16,
}

impl From<(u16, u16)> for Slots {
    fn from((used, all): (u16, u16)) -> Self {
        Self { used, all }
    }
}

/// Chunks on a tracker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Stored {
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
}

/// A tracker in full.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TrackerDetail {
    #[serde(flatten)]
    pub(crate) tracker: Tracker,
    /// The newest of what it ran, newest first.
    pub(crate) attempts: Vec<AttemptOfTracker>,
    pub(crate) accusations: Vec<Evidence>,
}

/// An attempt that a tracker ran.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(crate) struct AttemptOfTracker {
    pub(crate) job: u64,
    pub(crate) task: String,
    pub(crate) attempt: u16,
    /// What it was for, as a task's attempts have it.
    pub(crate) purpose: &'static str,
    pub(crate) repeats: Option<u16>,
    pub(crate) differs: Option<bool>,
    pub(crate) state: &'static str,
    pub(crate) placed: u64,
    pub(crate) ended: Option<u64>,
}

/// A piece of evidence, with what anybody can check.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Evidence {
    /// `two-votes`, `wrong-segment`, `wrong-chunk`, `outvoted`, `garbled`, `complaints`.
    pub(crate) kind: &'static str,
    /// How much it proves: `suspected` or `convicted`.
    pub(crate) blame: &'static str,
    /// Whether this replica checked it just now, with nothing but the cluster's configuration.
    pub(crate) valid: bool,
    pub(crate) job: Option<u64>,
    pub(crate) task: Option<String>,
    pub(crate) attempt: Option<u16>,
    /// What it says, in a sentence.
    pub(crate) text: String,
    /// What was signed.
    pub(crate) statements: Vec<SignedStatement>,
}

/// A signed statement.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SignedStatement {
    /// Who signed it.
    pub(crate) signer: String,
    /// `accused`, `majority` or `accuser`.
    pub(crate) role: &'static str,
    pub(crate) text: String,
    /// The signed bytes in hexadecimal, the first 4 KiB of them.
    pub(crate) signed: String,
    /// How many there are.
    pub(crate) bytes: usize,
    /// Ed25519, in hexadecimal.
    pub(crate) signature: String,
}
