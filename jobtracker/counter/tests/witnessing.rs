//! Witnesses and whoever asks them: the rules one by one, and a liar who asks for whatever it likes.

use proptest::prelude::*;
use quorate_counter::{
    APPEND_DIGESTS_MAX, Answer, Certificate, Considered, DeviceError, Epoch, EpochRecord, Gather, Head, Heard, LogKey,
    Position, Request, RequestError, Seen, Share, Witness, WitnessKey,
};
use quorate_protocol::{canonical, digest::Digest, ids::ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

const SECRET: [u8; 32] = [9; 32];
const OWNER: ReplicaId = ReplicaId::new(0);

fn replica(number: u32) -> ReplicaId {
    ReplicaId::new(number)
}
fn key(by: u32) -> WitnessKey {
    WitnessKey::Simulated { key: SECRET, by: replica(by) }
}
fn record(of: ReplicaId, quorum: u32) -> EpochRecord {
    let key = LogKey::SimulatedWitnesses { key: SECRET, witnesses: 4, quorum };
    EpochRecord { cluster: Digest::of(b"a cluster"), replica: of, epoch: Epoch(0), key }
}
fn witness(by: u32, quorum: u32) -> Witness {
    Witness::new(key(by), (0..4).map(|of| record(replica(of), quorum)).collect(), Vec::new())
}
fn gather() -> Gather {
    Gather::new(record(OWNER, 3), key(0), None)
}
fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

/// A request of the log's owner, who signs anything.
fn request(epoch: u64, from: Head, certificate: Option<&Certificate>, digests: &[Digest]) -> Request {
    let record = EpochRecord { epoch: Epoch(epoch), ..record(OWNER, 3) };
    let head = record.extend(from, digests.iter().copied());
    let certificate = certificate.cloned().unwrap_or(Certificate(Vec::new()));
    Request { epoch: Epoch(epoch), from, certificate, digests: digests.to_vec(), share: key(0).sign(&record, head) }
}

fn genesis(epoch: u64) -> Head {
    EpochRecord { epoch: Epoch(epoch), ..record(OWNER, 3) }.genesis()
}
fn extend(head: Head, digests: &[Digest]) -> Head {
    record(OWNER, 3).extend(head, digests.iter().copied())
}

/// What witnesses 1 and 2 and the owner itself sign.
fn certify(gather: &mut Gather, digests: &[Digest], witnesses: &mut [Witness]) -> Heard {
    assert_eq!(gather.ask(digests).expect("not too many"), None);
    let request = gather.request().expect("asked for").clone();
    let mut heard = Heard::Nothing;
    for (by, witness) in witnesses.iter_mut().enumerate() {
        let considered = witness.consider(OWNER, &request).expect("an honest request");
        heard = gather.hear(replica(by as u32), &considered.answer);
    }
    heard
}

fn signed(considered: Result<Considered, RequestError>) -> bool {
    matches!(considered, Ok(Considered { answer: Answer::Signed { .. }, .. }))
}
fn refused(considered: Result<Considered, RequestError>) -> Option<Head> {
    match considered {
        Ok(Considered { answer: Answer::Refused(seen), keep: None }) => Some(seen.head),
        _ => None,
    }
}

#[test]
fn a_witness_signs_its_last_head_again_and_what_extends_it_and_keeps_only_what_moves_it() {
    let mut one = witness(1, 3);
    let (a, b) = (digest(1), digest(2));
    let first = one.consider(OWNER, &request(0, genesis(0), None, &[a])).expect("signed");
    let after = extend(genesis(0), &[a]);
    assert_eq!(first.keep.map(|seen| (seen.epoch, seen.head)), Some((Epoch(0), after)));
    let again = one.consider(OWNER, &request(0, genesis(0), None, &[a])).expect("signed");
    assert_eq!((again.answer, again.keep), (first.answer, None));
    assert!(signed(one.consider(OWNER, &request(0, genesis(0), None, &[a, b]))), "shown from the beginning");
    let more = extend(after, &[b]);
    assert!(signed(one.consider(OWNER, &request(0, more, None, &[digest(3)]))), "shown from its last one on");
    assert_eq!(refused(one.consider(OWNER, &request(0, genesis(0), None, &[a]))), Some(extend(more, &[digest(3)])));
}

#[test]
fn a_witness_refuses_another_head_with_the_owners_signature_on_its_own() {
    let mut one = witness(1, 3);
    assert!(signed(one.consider(OWNER, &request(0, genesis(0), None, &[digest(1), digest(2)]))));
    let seen = extend(genesis(0), &[digest(1), digest(2)]);
    for other in [vec![], vec![digest(1)], vec![digest(1), digest(3)], vec![digest(2); 5]] {
        let considered = one.consider(OWNER, &request(0, genesis(0), None, &other)).expect("answered");
        let Answer::Refused(shown) = considered.answer else { panic!("{other:?} was signed") };
        assert_eq!(shown.head, seen);
        assert!(record(OWNER, 3).is_signed(OWNER, shown.head, &shown.share));
    }
}

#[test]
fn epochs_only_grow_and_begin_at_their_genesis() {
    let mut one = witness(1, 3);
    assert!(signed(one.consider(OWNER, &request(5, genesis(5), None, &[]))));
    assert!(one.memory()[0].is_some_and(|seen| seen.epoch == Epoch(5)));
    assert_eq!(refused(one.consider(OWNER, &request(4, genesis(4), None, &[digest(1)]))), Some(genesis(5)));
    assert!(signed(one.consider(OWNER, &request(6, genesis(6), None, &[digest(1)]))));
    assert!(refused(one.consider(OWNER, &request(5, genesis(5), None, &[digest(1)]))).is_some());
    let unknown = extend(genesis(7), &[digest(1)]);
    let nowhere = one.consider(OWNER, &request(7, unknown, None, &[digest(2)]));
    assert_eq!(nowhere, Err(RequestError::Uncertified(OWNER)));
}

#[test]
fn what_a_witness_missed_is_passed_with_a_certificate_and_with_nothing_else() {
    let mut witnesses = [witness(0, 3), witness(1, 3), witness(2, 3)];
    let mut gather = gather();
    let Heard::Attested(attested) = certify(&mut gather, &[digest(1)], &mut witnesses) else { panic!("certified") };
    let mut late = witness(3, 3);
    let bare = request(0, attested.head, None, &[digest(2)]);
    assert_eq!(late.consider(OWNER, &bare), Err(RequestError::Uncertified(OWNER)));
    let shown = request(0, attested.head, Some(&attested.certificate), &[digest(2)]);
    assert!(signed(late.consider(OWNER, &shown)));
    // It may have signed what came to nothing, as long as that is not ahead of what is certified.
    let mut misled = witness(3, 3);
    assert!(signed(misled.consider(OWNER, &request(0, genesis(0), None, &[digest(7)]))));
    assert!(refused(misled.consider(OWNER, &shown)).is_some(), "at the same position: it cannot tell");
}

#[test]
fn what_its_owner_did_not_sign_or_is_too_long_or_of_nobody_is_not_answered() {
    let mut one = witness(1, 3);
    let good = request(0, genesis(0), None, &[digest(1)]);
    let forged = Request { share: Share::invented([1; 32]), ..good.clone() };
    assert_eq!(one.consider(OWNER, &forged), Err(RequestError::Unsigned(OWNER)));
    assert_eq!(one.consider(replica(2), &good), Err(RequestError::Uncertified(replica(2))), "another's log");
    assert_eq!(one.consider(replica(4), &good), Err(RequestError::Stranger(replica(4))));
    let most = request(0, genesis(0), None, &vec![digest(1); APPEND_DIGESTS_MAX]);
    let mut more = most.clone();
    more.digests.push(digest(1));
    assert_eq!(one.consider(OWNER, &more), Err(RequestError::TooMany { got: APPEND_DIGESTS_MAX + 1 }));
    assert_eq!(one.memory(), [None; 4], "nothing of it is remembered");
    assert!(signed(one.consider(OWNER, &most)), "the bound itself is allowed");
    let bytes = canonical::encode(&most);
    assert_eq!(canonical::decode::<Request>(&bytes, bytes.len()).expect("read back"), most);
}

#[test]
fn a_quorum_of_distinct_valid_signatures_is_needed() {
    let mut gather = gather();
    assert_eq!(gather.ask(&[digest(1)]).expect("asks"), None);
    let request = gather.request().expect("asked for").clone();
    let head = extend(genesis(0), &[digest(1)]);
    let sign = |by: u32| Answer::Signed { epoch: Epoch(0), head, share: key(by).sign(&record(OWNER, 3), head) };
    let noise = Answer::Signed { epoch: Epoch(0), head, share: Share::invented([3; 32]) };
    for (by, answer) in [(0, sign(0)), (1, sign(1)), (1, sign(1)), (2, sign(1)), (2, noise), (9, sign(9))] {
        assert_eq!(gather.hear(replica(by), &answer), Heard::Nothing, "{by}");
    }
    assert_eq!(gather.missing(), [replica(2), replica(3)]);
    let elsewhere = Answer::Signed { epoch: Epoch(1), head, share: key(3).sign(&record(OWNER, 3), head) };
    assert_eq!(gather.hear(replica(3), &elsewhere), Heard::Nothing);
    let Heard::Attested(attested) = gather.hear(replica(3), &sign(3)) else { panic!("certified") };
    assert_eq!(attested.head, head);
    assert_eq!(record(OWNER, 3).verify(head, &attested.certificate), Ok(()));
    assert_eq!(gather.ask(&[]).expect("known"), Some(attested.clone()));
    assert_eq!(gather.place().certificate, Some(attested.certificate));
    assert_eq!((gather.request(), request.digests.len()), (None, 1));
}

#[test]
fn an_epoch_is_lost_by_proof_only() {
    let mut gather = gather();
    assert_eq!(gather.ask(&[digest(1), digest(2)]).expect("asks"), None);
    let refuse = |epoch: u64, head: Head, by: u32| {
        let record = EpochRecord { epoch: Epoch(epoch), ..record(OWNER, 3) };
        Answer::Refused(Seen { epoch: Epoch(epoch), head, share: key(by).sign(&record, head) })
    };
    let on_the_way = extend(genesis(0), &[digest(1)]);
    let elsewhere = extend(genesis(0), &[digest(5)]);
    for (what, answer) in [
        ("a liar's word", refuse(0, elsewhere, 3)),
        ("an earlier request", refuse(0, on_the_way, 0)),
        ("the beginning", refuse(0, genesis(0), 0)),
        ("a later epoch by a liar's word", refuse(8, genesis(8), 3)),
    ] {
        assert_eq!(gather.hear(replica(3), &answer), Heard::Nothing, "{what}");
    }
    let mut put_back = gather.clone();
    assert_eq!(put_back.hear(replica(3), &refuse(8, genesis(8), 0)), Heard::Lost);
    assert_eq!(gather.hear(replica(3), &refuse(0, elsewhere, 0)), Heard::Lost);
    assert!(matches!(gather.ask(&[digest(1)]), Err(DeviceError::Lost { epoch: Epoch(0) })));
    gather.renew(Epoch(3)).expect("a later epoch");
    assert_eq!((gather.record().epoch, gather.head()), (Epoch(3), genesis(3)));
    put_back.renew(Epoch(3)).expect("a later epoch");
    assert_eq!(put_back.record().epoch, Epoch(9), "one that no witness has seen");
}

/// The next thing that a lying owner asks for: from one of the heads it knows of, by some digests, of one witness.
#[derive(Clone, Debug)]
struct Ask {
    from: usize,
    digests: Vec<u8>,
    witness: u32,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let ask = (0usize..64, prop::collection::vec(0u8..2, 0..4), 1u32..4).prop_map(|(from, digests, witness)| Ask {
        from,
        digests,
        witness,
    });
    prop::collection::vec(ask, 1..60)
}

/// All heads that a lying owner gets certified, with what leads to them. Of four replicas it is the one that lies.
fn certified(asks: &[Ask], quorum: u32) -> Vec<Vec<u8>> {
    let record = record(OWNER, quorum);
    let mut witnesses: Vec<_> = (0..4).map(|by| witness(by, quorum)).collect();
    let mut known: Vec<Vec<u8>> = vec![Vec::new()];
    let mut shares: BTreeMap<Vec<u8>, BTreeMap<u32, Share>> = BTreeMap::new();
    let head = |path: &[u8]| record.extend(record.genesis(), path.iter().map(|number| digest(*number)));
    for ask in asks {
        let from = known[ask.from % known.len()].clone();
        let mut path = from.clone();
        path.extend(&ask.digests);
        // It shows whatever certificate it has.
        let mut collected = Gather::new(record.clone(), key(0), None);
        let digests: Vec<_> = from.iter().map(|number| digest(*number)).collect();
        let mut certificate = Certificate(Vec::new());
        collected.ask(&digests).expect("few");
        for (by, share) in shares.get(&from).into_iter().flatten() {
            let answer = Answer::Signed { epoch: Epoch(0), head: head(&from), share: *share };
            if let Heard::Attested(attested) = collected.hear(replica(*by), &answer) {
                certificate = attested.certificate;
            }
        }
        let share = key(0).sign(&record, head(&path));
        let digests = ask.digests.iter().map(|number| digest(*number)).collect();
        let request = Request { epoch: Epoch(0), from: head(&from), certificate, digests, share };
        if let Ok(Considered { answer: Answer::Signed { share: signature, .. }, .. }) =
            witnesses[ask.witness as usize].consider(OWNER, &request)
        {
            shares.entry(path.clone()).or_default().extend([(0, share), (ask.witness, signature)]);
            known.push(path);
        }
    }
    let enough = shares.into_iter().filter(|(_, shares)| shares.len() >= quorum as usize);
    enough.map(|(path, _)| path).collect()
}

fn on_one_chain(paths: &[Vec<u8>]) -> bool {
    let longest = paths.iter().max_by_key(|path| path.len());
    longest.is_none_or(|longest| paths.iter().all(|path| longest.starts_with(path)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_liar_asks_for_its_certified_heads_lie_on_one_chain(asks in asks()) {
        let paths = certified(&asks, 3);
        prop_assert!(on_one_chain(&paths), "{paths:?}");
    }
}

/// With fewer than 2f + 1 signatures the same liar gets its way.
#[test]
fn the_property_sees_quorums_that_are_too_small() {
    let ask = |witness, digests: &[u8]| Ask { from: 0, digests: digests.to_vec(), witness };
    let paths = certified(&[ask(1, &[0]), ask(2, &[1])], 2);
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), 2);
    assert!(!on_one_chain(&paths));
}

#[test]
fn positions_are_compared_without_overflow() {
    let mut one = witness(1, 3);
    let far = Head { position: Position(u64::MAX), chain: digest(1) };
    assert!(one.consider(OWNER, &request(0, far, None, &[digest(1)])).is_err());
    let mut gather = gather();
    gather.ask(&[digest(1)]).expect("asks");
    let seen = Seen { epoch: Epoch(0), head: far, share: key(3).sign(&record(OWNER, 3), far) };
    assert_eq!(gather.hear(replica(1), &Answer::Refused(seen)), Heard::Nothing);
}
