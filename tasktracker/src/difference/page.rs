//! Comparisons for the page of a job-tracker replica, which has votes and no bytes.

use super::{Difference, Finding, Inquiry, Named, Shown, Side, Voted, verified};
use futures::{FutureExt, future::BoxFuture};
use quorate_jobtracker::{Compare, Compared, ComparedSide};
use quorate_protocol::{
    cluster::Cluster,
    query::TrackerView,
    sign::{SecretKey, Signed},
    vote::Vote,
};
use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

/// Compares votes for a replica.
pub struct Comparer {
    cluster: Arc<Cluster>,
    key: SecretKey,
}

impl Comparer {
    /// Reads in the name of this key.
    pub fn new(cluster: Arc<Cluster>, key: SecretKey) -> Self {
        Self { cluster, key }
    }
}

impl Compare for Comparer {
    fn compare(&self, votes: Vec<Signed<Vote>>, trackers: Vec<TrackerView>) -> BoxFuture<'static, Vec<Compared>> {
        let (cluster, key) = (Arc::clone(&self.cluster), self.key.clone());
        async move {
            let votes = verified(&cluster, &votes);
            let findings = Inquiry::among(&trackers, cluster, key).compare_camps(&camps(&votes)).await;
            findings.iter().map(compared).collect()
        }
        .boxed()
    }
}

/// Those that voted alike, most trackers first: one that was asked to repeat an attempt voted twice.
fn camps(votes: &[Voted]) -> Vec<Vec<&Voted>> {
    let mut camps: Vec<Vec<&Voted>> = Vec::new();
    for vote in votes {
        match camps.iter_mut().find(|camp| camp.iter().any(|other| other.0.ballot == vote.0.ballot)) {
            Some(camp) => camp.push(vote),
            None => camps.push(vec![vote]),
        }
    }
    let trackers = |camp: &[&Voted]| camp.iter().map(|vote| vote.0.tracker).collect::<BTreeSet<_>>().len();
    camps.sort_by_key(|camp| Reverse(trackers(camp)));
    camps
}

fn compared(finding: &Finding) -> Compared {
    let (name, sides) = match finding {
        Finding::Difference(difference) => return of_difference(difference, finding.to_string()),
        Finding::Counter { sides, .. } => {
            let count = |count: &Option<u64>| count.map_or("nothing".to_owned(), |count| count.to_string());
            ("counter", sides.iter().map(|(tracker, counted)| side(*tracker, count(counted))).collect())
        }
        Finding::Outcomes(sides) => {
            ("outcomes", sides.iter().map(|(tracker, outcome)| side(*tracker, outcome.clone())).collect())
        }
        Finding::NotAsVoted { .. } => ("not-as-voted", Vec::new()),
        Finding::Cuts => ("cuts", Vec::new()),
        Finding::Missing { .. } => ("missing", Vec::new()),
    };
    let (place, partition, byte, record, line) = (None, None, None, None, None);
    Compared { finding: name, text: finding.to_string(), place, partition, byte, record, line, sides }
}

fn side(tracker: Named, text: String) -> ComparedSide {
    ComparedSide { tracker: tracker.0.number(), attempt: None, key: None, value: None, text }
}

fn of_difference(difference: &Difference, text: String) -> Compared {
    Compared {
        finding: "difference",
        text,
        place: Some(difference.place()),
        partition: Some(difference.partition),
        byte: Some(difference.byte),
        record: difference.record.map(|(record, _)| record),
        line: difference.line,
        sides: difference.sides.iter().map(of_side).collect(),
    }
}

fn of_side(side: &Side) -> ComparedSide {
    let (key, value) = match &side.shown {
        Shown::Record { key, value } => (Some(key.clone()), Some(value.clone())),
        Shown::NoRecord { .. } | Shown::Text(_) | Shown::Nothing => (None, None),
    };
    let (tracker, attempt) = (side.tracker.number(), Some(side.attempt.attempt));
    ComparedSide { tracker, attempt, key, value, text: side.shown.to_string() }
}
