//! Lying replicas, one file per lie, for tests and demonstrations.
//!
//! A [`Lie`] sits at the seams of an honest replica: what it hears from others and says to them, what it takes from
//! clients, and what it answers. The honest replica has none. A replica takes a lie only when the cluster's configuration
//! allows liars. No lie goes beyond what a liar can do without another's key or a broken trusted log.

mod censor;
mod equivocate;
mod forge_directive;
mod stale_view;
mod wrong_reply;

use crate::keys::Keyring;
use quorate_protocol::{digest::Digest, ids::ReplicaId, query::Answer};
use quorate_smr::message::{OwnMessage, WireMessage};
use std::{fmt, str::FromStr, sync::Arc};

/// The seams of an honest replica at which it can lie. Every default is honest.
pub(crate) trait Lie: Send + Sync {
    /// Whether it hears what another replica says.
    fn hears(&self, _message: &OwnMessage) -> bool {
        true
    }
    /// What it says to another replica instead of a message.
    fn says(&self, _to: ReplicaId, message: WireMessage) -> Vec<WireMessage> {
        vec![message]
    }
    /// Whether it takes what clients and trackers send.
    fn takes_requests(&self) -> bool {
        true
    }
    /// What it signs instead of an answer.
    fn answers(&self, answer: Answer) -> Answer {
        answer
    }
    /// Whether its page says that nothing is held against anybody.
    fn hides_suspects(&self) -> bool {
        false
    }
    /// What it invents at the beginning of a tracker's stream of directives from a number on.
    fn invents(&self, _from: u64) -> Option<Answer> {
        None
    }
}

/// The lies that can be chosen by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ReplicaLiar {
    /// Tells half of the other replicas other proposals and another history.
    Equivocate,
    /// Signs wrong answers.
    WrongReply,
    /// Signs directives that nobody ordered.
    ForgeDirective,
    /// Drops what clients and trackers send.
    Censor,
    /// Never leaves its view.
    StaleView,
}

impl ReplicaLiar {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Equivocate, Self::WrongReply, Self::ForgeDirective, Self::Censor, Self::StaleView];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equivocate => "equivocate",
            Self::WrongReply => "wrong-reply",
            Self::ForgeDirective => "forge-directive",
            Self::Censor => "censor",
            Self::StaleView => "stale-view",
        }
    }

    /// What it does, in a few words.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::Equivocate => "tells half of the replicas other proposals and another history",
            Self::WrongReply => "signs wrong answers",
            Self::ForgeDirective => "signs directives that nobody ordered",
            Self::Censor => "drops what clients and trackers send",
            Self::StaleView => "never leaves its view",
        }
    }

    pub(crate) fn lie(self, cluster: Digest, me: ReplicaId, keys: Keyring) -> Arc<dyn Lie> {
        match self {
            Self::Equivocate => Arc::new(equivocate::Equivocate { cluster, me, keys }),
            Self::WrongReply => Arc::new(wrong_reply::WrongReply),
            Self::ForgeDirective => Arc::new(forge_directive::ForgeDirective),
            Self::Censor => Arc::new(censor::Censor),
            Self::StaleView => Arc::new(stale_view::StaleView),
        }
    }
}

impl fmt::Display for ReplicaLiar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no replica's lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no lying replica {name:?}; there are {known}")]
pub struct UnknownReplicaLiar {
    name: String,
    known: String,
}

impl FromStr for ReplicaLiar {
    type Err = UnknownReplicaLiar;
    fn from_str(name: &str) -> Result<Self, UnknownReplicaLiar> {
        Self::ALL
            .into_iter()
            .find(|liar| liar.name() == name)
            .ok_or_else(|| UnknownReplicaLiar { name: name.to_owned(), known: Self::ALL.map(Self::name).join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_parse_back() {
        for liar in ReplicaLiar::ALL {
            assert_eq!(liar.name().parse(), Ok(liar));
        }
        let error = "liar".parse::<ReplicaLiar>().expect_err("no such liar").to_string();
        assert!(error.contains("stale-view"), "{error}");
    }
}
