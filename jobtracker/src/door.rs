//! The door: who may come in. Nothing is ordered before its sender is known and its signature checked.

use crate::order::ENVELOPE_EXTRA_BYTES_MAX;
use quorate_protocol::{
    canonical::{self, DecodeError},
    cluster::Cluster,
    command::{Envelope, FollowDirectives, Sender},
    digest::Digest,
    limits::COMMAND_BYTES_MAX,
    sign::{PublicKey, Rejection, Signed},
};
use tonic::Status;

/// The longest encoded envelope.
pub(crate) const ENVELOPE_BYTES_MAX: usize = COMMAND_BYTES_MAX + ENVELOPE_EXTRA_BYTES_MAX;

/// Why an envelope is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the command is refused: {0}")]
    Malformed(#[from] DecodeError),
    #[error("{0} is not of this cluster")]
    Stranger(String),
    #[error("it is for another cluster")]
    Elsewhere,
    #[error(transparent)]
    Forged(#[from] Rejection),
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::Malformed(_) => Status::invalid_argument(refused.to_string()),
            Refused::Stranger(_) | Refused::Elsewhere => Status::permission_denied(refused.to_string()),
            Refused::Forged(_) => Status::unauthenticated(refused.to_string()),
        }
    }
}

/// Reads an envelope and checks that its sender belongs to the cluster and signed it. The request inside stays unread.
pub(crate) fn admit(cluster: &Cluster, bytes: &[u8]) -> Result<Envelope, Refused> {
    let envelope: Envelope = canonical::decode(bytes, ENVELOPE_BYTES_MAX)?;
    envelope.request.verify_signature(&key_of(cluster, envelope.sender)?)?;
    Ok(envelope)
}

/// Reads a tracker's wish to follow its directives, and checks that it is the tracker's own.
pub(crate) fn admit_follower(cluster: &Cluster, id: Digest, bytes: &[u8]) -> Result<FollowDirectives, Refused> {
    let signed = Signed::<FollowDirectives>::from_wire(bytes)?;
    let wanted = signed.peek()?;
    signed.verify_signature(&key_of(cluster, Sender::Tracker(wanted.tracker))?)?;
    if wanted.cluster == id { Ok(wanted) } else { Err(Refused::Elsewhere) }
}

fn key_of(cluster: &Cluster, sender: Sender) -> Result<PublicKey, Refused> {
    let (key, name) = match sender {
        Sender::Client(key) => (cluster.clients.contains(&key).then_some(key), format!("the client key {key}")),
        Sender::Tracker(tracker) => (cluster.tracker(tracker).map(|member| member.key), tracker.to_string()),
        Sender::Replica(replica) => (cluster.replica(replica).map(|member| member.key), replica.to_string()),
    };
    key.ok_or(Refused::Stranger(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TRACKER, Who, cluster, envelope, key};
    use quorate_protocol::command::{Command, Request};

    #[test]
    fn members_come_in_and_strangers_and_forgers_do_not() {
        let cluster = cluster("127.0.0.1:1");
        let admit = |envelope: &Envelope| admit(&cluster, &canonical::encode(envelope)).map(|_| ());
        assert_eq!(admit(&envelope(&cluster, Who::Client, 1, 1, Command::Tick)), Ok(()));
        assert_eq!(admit(&envelope(&cluster, Who::Tracker, 1, 1, Command::Tick)), Ok(()));
        let stranger = envelope(&cluster, Who::Stranger, 1, 1, Command::Tick);
        assert!(matches!(admit(&stranger), Err(Refused::Stranger(_))));
        let claimed = Envelope { sender: envelope(&cluster, Who::Tracker, 1, 1, Command::Tick).sender, ..stranger };
        assert!(matches!(admit(&claimed), Err(Refused::Forged(_))));
    }

    #[test]
    fn only_a_tracker_itself_follows_its_directives() {
        let cluster = cluster("127.0.0.1:1");
        let wanted = FollowDirectives { cluster: cluster.id(), tracker: TRACKER, incarnation: 3, from: 4 };
        let admit = |wanted: &FollowDirectives, who| {
            admit_follower(&cluster, cluster.id(), &Signed::seal(wanted, &key(who)).to_wire())
        };
        assert_eq!(admit(&wanted, Who::Tracker), Ok(wanted.clone()));
        for who in [Who::Client, Who::Replica, Who::Stranger] {
            assert!(matches!(admit(&wanted, who), Err(Refused::Forged(_))));
        }
        let elsewhere = FollowDirectives { cluster: Digest::of(b"elsewhere"), ..wanted.clone() };
        assert_eq!(admit(&elsewhere, Who::Tracker), Err(Refused::Elsewhere));
        let stranger = FollowDirectives { tracker: quorate_protocol::ids::TrackerId::new(99), ..wanted };
        assert!(matches!(admit(&stranger, Who::Tracker), Err(Refused::Stranger(_))));
        assert!(matches!(admit_follower(&cluster, cluster.id(), &[7; 9]), Err(Refused::Malformed(_))));
        assert!(matches!(admit_follower(&cluster, cluster.id(), &[7; 1000]), Err(Refused::Malformed(_))));
    }

    #[test]
    fn the_length_holds_at_the_bound_and_one_above() {
        let cluster = cluster("127.0.0.1:1");
        let sender = envelope(&cluster, Who::Tracker, 1, 1, Command::Tick).sender;
        let of = |length: usize| {
            let request = Signed::<Request>::seal_bytes(vec![7; length], &key(Who::Tracker));
            canonical::encode(&Envelope { sender, request })
        };
        let bytes = of(ENVELOPE_BYTES_MAX - of(0).len() - 3);
        assert_eq!(bytes.len(), ENVELOPE_BYTES_MAX);
        assert!(admit(&cluster, &bytes).is_ok());
        let bytes = of(ENVELOPE_BYTES_MAX - of(0).len() - 2);
        assert!(matches!(admit(&cluster, &bytes), Err(Refused::Malformed(DecodeError::TooLong { .. }))));
    }
}
