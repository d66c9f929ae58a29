//! Gives the job tracker one vote and the reducers another for the same attempt: its own signatures convict it.

use crate::{Ballots, Lie};
use quorate_protocol::vote::{Ballot, Vote};

#[derive(Debug)]
pub(crate) struct TwoVotes;

impl Lie for TwoVotes {
    fn ballots(&self, vote: Vote) -> Ballots {
        let mut direct = vote.clone();
        if let Ballot::Map { counters, .. } = &mut direct.ballot {
            *counters.entry("lies".to_owned()).or_default() += 1;
        }
        Ballots { ordered: vote, direct }
    }
}
