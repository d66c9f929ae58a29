use super::*;
use crate::testing::{TRACKER, Who, cluster, create, envelope, key, sender};
use quorate_protocol::command::{AttemptReport, Report};

fn door() -> Door {
    Door::new(Arc::new(cluster("127.0.0.1:1")))
}
fn encoded(who: Who) -> Envelope {
    envelope(&cluster("127.0.0.1:1"), who, 1, 1, create("/x"))
}

#[test]
fn members_come_in_and_strangers_and_forgers_do_not() {
    let door = door();
    let admit = |envelope: &Envelope| door.admit(&canonical::encode(envelope)).map(|_| ());
    for who in [Who::Client, Who::Tracker, Who::Replica] {
        assert_eq!(admit(&encoded(who)), Ok(()));
        assert_eq!(admit(&encoded(who)), Ok(()), "the second time too");
    }
    let stranger = encoded(Who::Stranger);
    assert!(matches!(admit(&stranger), Err(Refused::Stranger(_))));
    let claimed = Envelope { sender: sender(Who::Tracker), ..stranger };
    assert!(matches!(admit(&claimed), Err(Refused::Forged(_))));
    let borrowed = {
        let request =
            Request { sender: sender(Who::Client), ..encoded(Who::Tracker).request.peek().expect("readable") };
        Envelope { sender: sender(Who::Tracker), request: Signed::seal(&request, &key(Who::Tracker)) }
    };
    assert_eq!(admit(&borrowed), Err(Refused::Borrowed));
    let elsewhere = {
        let mut other = cluster("127.0.0.1:1");
        other.name = "elsewhere".to_owned();
        envelope(&other, Who::Client, 1, 1, create("/x"))
    };
    assert_eq!(admit(&elsewhere), Err(Refused::Elsewhere));
}

#[test]
fn a_report_with_a_vote_that_its_sender_did_not_sign_stays_outside() {
    let (door, cluster) = (door(), cluster("127.0.0.1:1"));
    let admit = |signers: &[Who]| {
        let voted = |who: &Who| AttemptReport::Voted {
            vote: Signed::seal_bytes(vec![7; 9], &key(*who)),
            cost: Default::default(),
            message: String::new(),
        };
        let report = Report { attempts: signers.iter().map(voted).collect(), ..Report::default() };
        let envelope = envelope(&cluster, Who::Tracker, 1, 1, Command::Report(report));
        door.admit(&canonical::encode(&envelope)).map(|_| ())
    };
    assert_eq!(admit(&[Who::Tracker, Who::Tracker]), Ok(()), "what a vote says is looked at when it is executed");
    let forged = Err(Refused::Forged(Rejection::Signature(key(Who::Tracker).public())));
    assert_eq!(admit(&[Who::Tracker, Who::Stranger]), forged);
}

#[test]
fn one_flipped_bit_of_what_is_remembered_is_not_let_in() {
    let door = door();
    let bytes = canonical::encode(&encoded(Who::Client));
    door.admit(&bytes).expect("let in");
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(door.admit(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn requests_are_told_apart_by_sender_session_and_number() {
    let door = door();
    let cluster = cluster("127.0.0.1:1");
    let id = |who, session, sequence| {
        let envelope = envelope(&cluster, who, session, sequence, create("/x"));
        door.admit(&canonical::encode(&envelope)).expect("let in").id
    };
    let first = id(Who::Client, 3, 4);
    assert_eq!((first.session, first.sequence), (3, 4));
    assert_eq!(id(Who::Client, 5, 6).client, first.client);
    assert_ne!(id(Who::Tracker, 3, 4).client, first.client);
}

#[test]
fn only_a_trackers_unreadable_request_comes_in_and_all_of_them_are_one() {
    let door = door();
    let garbled = |who, byte| {
        let request = Signed::seal_bytes(vec![byte; 9], &key(who));
        door.admit(&canonical::encode(&Envelope { sender: sender(who), request })).map(|admitted| admitted.id)
    };
    assert!(matches!(garbled(Who::Client, 0xff), Err(Refused::Malformed(_))));
    assert!(matches!(garbled(Who::Replica, 0xff), Err(Refused::Malformed(_))));
    let one = garbled(Who::Tracker, 0xff).expect("evidence");
    assert_eq!(garbled(Who::Tracker, 0xfe), Ok(one));
    assert_ne!(one.client, door.admit(&canonical::encode(&encoded(Who::Tracker))).expect("let in").id.client);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut recent = Recent::default();
    let admitted = door().admit(&canonical::encode(&encoded(Who::Client))).expect("let in");
    let digest = |i: usize| Digest::of(&i.to_le_bytes());
    (0..5 * REMEMBERED_MIN / 2).for_each(|i| recent.insert(digest(i), admitted));
    assert!(recent.young.len() + recent.old.len() <= 2 * REMEMBERED_MIN);
    assert!(recent.get(&digest(0)).is_none() && recent.get(&digest(5 * REMEMBERED_MIN / 2 - 1)).is_some());
}

#[test]
fn only_a_tracker_itself_follows_its_directives() {
    let (door, cluster) = (door(), cluster("127.0.0.1:1"));
    let wanted = FollowDirectives { cluster: cluster.id(), tracker: TRACKER, incarnation: 3, from: 4, seen: None };
    let admit = |wanted: &FollowDirectives, who| door.admit_follower(&Signed::seal(wanted, &key(who)).to_wire());
    assert_eq!(admit(&wanted, Who::Tracker), Ok(wanted.clone()));
    for who in [Who::Client, Who::Replica, Who::Stranger] {
        assert!(matches!(admit(&wanted, who), Err(Refused::Forged(_))));
    }
    let elsewhere = FollowDirectives { cluster: Digest::of(b"elsewhere"), ..wanted.clone() };
    assert_eq!(admit(&elsewhere, Who::Tracker), Err(Refused::Elsewhere));
    let stranger = FollowDirectives { tracker: quorate_protocol::ids::TrackerId::new(99), ..wanted };
    assert!(matches!(admit(&stranger, Who::Tracker), Err(Refused::Stranger(_))));
    assert!(matches!(door.admit_follower(&[7; 9]), Err(Refused::Malformed(_))));
    assert!(matches!(door.admit_follower(&[7; 1000]), Err(Refused::Malformed(_))));
}

#[test]
fn the_length_holds_at_the_bound_and_one_above() {
    let door = door();
    let of = |length: usize| {
        let request = Signed::<Request>::seal_bytes(vec![7; length], &key(Who::Tracker));
        canonical::encode(&Envelope { sender: sender(Who::Tracker), request })
    };
    let bytes = of(ENVELOPE_BYTES_MAX - of(0).len() - 3);
    assert_eq!(bytes.len(), ENVELOPE_BYTES_MAX);
    assert!(door.admit(&bytes).is_ok());
    let bytes = of(ENVELOPE_BYTES_MAX - of(0).len() - 2);
    assert!(matches!(door.admit(&bytes), Err(Refused::Malformed(DecodeError::TooLong { .. }))));
}
