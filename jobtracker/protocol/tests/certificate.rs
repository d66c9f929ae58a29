//! A job's certificate: what it takes, and everything that is refused.

use proptest::prelude::*;
use quorate_protocol::{
    canonical,
    certificate::{Certificate, CertificateError, Completion, Endorsement, Part, PartVote, verdicts_digest},
    cluster::{Cluster, ReplicaMember, TrackerMember},
    command::History,
    digest::{ChunkId, Digest},
    file::{Manifest, Path},
    ids::{AttemptId, Domain, JobId, OrderedTime, ReplicaId, TrackerId},
    job::{InputKind, Partitioning, Program, Specification},
    limits::CERTIFICATE_BYTES_MAX,
    sign::{SecretKey, Signed},
    vote::{Ballot, Counters, Vote},
};

fn tracker_key(id: u32) -> SecretKey {
    SecretKey::from_seed([id as u8 + 1; 32])
}
fn replica_key(id: u32) -> SecretKey {
    SecretKey::from_seed([id as u8 + 100; 32])
}

/// Three replicas, and five trackers of which 3 and 4 share a domain.
fn cluster() -> Cluster {
    let replica = |id| ReplicaMember {
        id: ReplicaId::new(id),
        address: String::new(),
        key: replica_key(id).public(),
        log: None,
        tpm: None,
        page: None,
    };
    let tracker = |(id, domain): (u32, &str)| TrackerMember {
        id: TrackerId::new(id),
        domain: Domain(domain.to_owned()),
        key: tracker_key(id).public(),
    };
    Cluster {
        name: "test".to_owned(),
        f: 1,
        agreement: Default::default(),
        allow_liars: false,
        clients: Vec::new(),
        authority: None,
        replicas: (0..3).map(replica).collect(),
        trackers: (0..).zip(["a", "b", "c", "d", "d"]).map(tracker).collect(),
    }
}

/// Another cluster of the same names and numbers.
fn another() -> Cluster {
    Cluster { name: "another".to_owned(), ..cluster() }
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

fn specification(f: u32) -> Specification {
    Specification {
        name: "count".to_owned(),
        program: Program::Embedded { digest: Digest::of(b"program") },
        entry: "main".to_owned(),
        arguments: "{}".to_owned(),
        inputs: vec![path("/in")],
        input_kind: InputKind::Lines,
        split_bytes: 100,
        output: path("/out"),
        partitions: 2,
        partitioning: Partitioning::Hash,
        f,
        memory: 16 << 20,
        progress_timeout_ms: 1000,
    }
}

/// A job's record without its votes.
fn unvoted(f: u32) -> Completion {
    let part = |n: u8| Part {
        manifest: Manifest { chunks: vec![(ChunkId(Digest::of(&[n])), 7)] },
        counters: Counters::from([("words".to_owned(), u64::from(n))]),
        votes: Vec::new(),
    };
    Completion {
        cluster: cluster().id(),
        job: JobId::new(3),
        specification: specification(f),
        inputs: vec![(path("/in/a"), Digest::of(b"a"))],
        submitted: OrderedTime(1000),
        ended: OrderedTime(2000),
        maps: 1,
        map_verdicts: verdicts_digest(&[Digest::of(b"ballot")]),
        parts: vec![part(0), part(1)],
    }
}

/// What a tracker votes for a part.
fn vote(completion: &Completion, partition: u32, tracker: u32) -> PartVote {
    let part = &completion.parts[partition as usize];
    let vote = Vote {
        cluster: completion.cluster,
        specification: completion.job_digest(),
        f: completion.specification.f,
        attempt: AttemptId { task: completion.task(partition), attempt: 0 },
        tracker: TrackerId::new(tracker),
        ballot: Ballot::Reduce { manifest: part.manifest.clone(), counters: part.counters.clone() },
    };
    let signature = Signed::seal(&vote, &tracker_key(tracker)).signature();
    let half = |half: &[u8]| half.try_into().expect("32 bytes");
    PartVote { tracker: vote.tracker, attempt: 0, signature: (half(&signature[..32]), half(&signature[32..])) }
}

/// The same with the votes of these trackers for each part.
fn voted(mut completion: Completion, trackers: &[u32]) -> Completion {
    for partition in 0..completion.parts.len() as u32 {
        let votes = trackers.iter().map(|tracker| vote(&completion, partition, *tracker)).collect();
        completion.parts[partition as usize].votes = votes;
    }
    completion
}

fn endorsed(completion: Completion, replicas: &[u32]) -> Certificate {
    let digest = completion.digest();
    let sign = |replica: &u32| {
        let endorsement = Endorsement {
            cluster: completion.cluster,
            replica: ReplicaId::new(*replica),
            completion: digest,
            executed: History { ordered: 40, digest: Digest::of(b"history") },
            log: b"log".to_vec(),
        };
        Signed::seal(&endorsement, &replica_key(*replica))
    };
    Certificate { endorsements: replicas.iter().map(sign).collect(), completion }
}

fn certificate() -> Certificate {
    endorsed(voted(unvoted(1), &[0, 2]), &[0, 1])
}

/// What is wrong with a certificate of which only this differs: its replicas would have signed it so.
fn refused(completion: Completion) -> CertificateError {
    endorsed(completion, &[0, 1]).check(&cluster()).expect_err("refused")
}

#[test]
fn a_certificate_holds_and_comes_back_from_its_file() {
    let certificate = certificate();
    let endorsements = certificate.check(&cluster()).expect("it holds");
    assert_eq!(endorsements.iter().map(|it| it.replica.number()).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(Certificate::from_bytes(&certificate.to_bytes()).as_ref(), Ok(&certificate));
    let votes = certificate.completion.votes(1);
    assert_eq!(votes.len(), 2);
    assert!(votes[0].verify(&tracker_key(0).public()).is_ok());
    assert!(certificate.completion.votes(2).is_empty());
    // Replicas may be any two, and trackers any of distinct domains.
    assert!(endorsed(voted(unvoted(1), &[1, 4]), &[0, 2]).check(&cluster()).is_ok());
    // Without replication there is one vote.
    assert!(endorsed(voted(unvoted(0), &[3]), &[1, 2]).check(&cluster()).is_ok());
}

#[test]
fn golden_bytes() {
    // Certificates are kept for years: another encoding needs another heading.
    let bytes = certificate().to_bytes();
    assert!(bytes.starts_with(b"quorate certificate v1\n"));
    assert_eq!(Digest::of(&bytes).to_string(), GOLDEN_CERTIFICATE);
    assert_eq!(certificate().completion.digest().to_string(), GOLDEN_COMPLETION);
}

const GOLDEN_CERTIFICATE: &str = "881eb727861ff01d63a1c249fa71b4c0aa488eb72bc43af8ce479f1274446d48";
const GOLDEN_COMPLETION: &str = "2a4d3d1b27b29c55a30ad0f03de3b8304878d59312160dc6e6519c7629ec172f";

#[test]
fn every_single_bit_counts() {
    let (bytes, cluster) = (certificate().to_bytes(), cluster());
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let holds = Certificate::from_bytes(&bytes).is_ok_and(|certificate| certificate.check(&cluster).is_ok());
        assert!(!holds, "bit {bit} flipped, and it still holds");
    }
}

#[test]
fn truncated_extended_and_endless_files_are_refused() {
    let bytes = certificate().to_bytes();
    for length in 0..bytes.len() {
        assert!(Certificate::from_bytes(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    assert!(Certificate::from_bytes(&[bytes.clone(), vec![0]].concat()).is_err());
    let endless = [bytes, vec![0; CERTIFICATE_BYTES_MAX]].concat();
    assert!(matches!(Certificate::from_bytes(&endless), Err(CertificateError::Malformed(_))));
}

#[test]
fn a_missing_vote_and_one_too_many_are_refused() {
    assert!(matches!(refused(voted(unvoted(1), &[0])), CertificateError::Votes { got: 1, needed: 2, .. }));
    assert!(matches!(refused(voted(unvoted(1), &[0, 1, 2])), CertificateError::Votes { got: 3, needed: 2, .. }));
    // Of the second part alone.
    let mut second = voted(unvoted(1), &[0, 1]);
    second.parts[1].votes.pop();
    let CertificateError::Votes { task, .. } = refused(second) else { panic!("the votes") };
    assert_eq!(task.to_string(), "job-3/reduce-1");
}

#[test]
fn a_tracker_votes_once_and_a_domain_counts_once() {
    assert!(matches!(refused(voted(unvoted(1), &[1, 1])), CertificateError::VoteTwice { .. }));
    assert!(matches!(refused(voted(unvoted(1), &[2, 1])), CertificateError::VoteTwice { .. }), "one order");
    assert!(matches!(refused(voted(unvoted(1), &[3, 4])), CertificateError::DomainTwice { .. }));
    let stranger = voted(unvoted(1), &[0, 9]);
    assert!(matches!(refused(stranger), CertificateError::Voter { tracker, .. } if tracker.number() == 9));
}

#[test]
fn votes_count_for_their_job_part_and_output_alone() {
    let good = voted(unvoted(1), &[0, 1]);
    let vote_refused = |change: &dyn Fn(&mut Completion)| {
        let mut completion = good.clone();
        change(&mut completion);
        let error = refused(completion);
        assert!(matches!(error, CertificateError::Vote { .. }), "{error}");
    };
    vote_refused(&|it| it.job = JobId::new(4));
    vote_refused(&|it| it.submitted = OrderedTime(1001));
    vote_refused(&|it| it.specification.program = Program::Embedded { digest: Digest::of(b"other") });
    vote_refused(&|it| it.specification.arguments = "{\"least\":2}".to_owned());
    vote_refused(&|it| it.specification.output = path("/elsewhere"));
    vote_refused(&|it| it.inputs[0].1 = Digest::of(b"other input"));
    vote_refused(&|it| it.parts[0].manifest.chunks[0].0 = ChunkId(Digest::of(b"other output")));
    vote_refused(&|it| it.parts[0].counters.clear());
    vote_refused(&|it| it.parts.swap(0, 1));
    vote_refused(&|it| it.parts[0].votes[1].attempt = 1);
    let mut fewer = good.clone();
    fewer.parts.pop();
    assert!(matches!(refused(fewer), CertificateError::Parts { got: 1, needed: 2 }));
    // Fewer lies tolerated is another job: its votes name f.
    let mut f = good.clone();
    f.specification.f = 0;
    f.parts.iter_mut().for_each(|part| part.votes.truncate(1));
    assert!(matches!(refused(f), CertificateError::Vote { .. }));
    let mut nonsense = good;
    nonsense.specification.partitions = 0;
    assert!(matches!(refused(nonsense), CertificateError::Specification(_)));
}

#[test]
fn only_the_replicas_vouch_for_the_rest_and_they_do() {
    let certificate = certificate();
    for change in [
        (|it: &mut Completion| it.ended = OrderedTime(2001)) as fn(&mut Completion),
        |it| it.maps = 2,
        |it| it.map_verdicts = Digest::of(b"other verdicts"),
    ] {
        let mut changed = certificate.clone();
        change(&mut changed.completion);
        assert!(matches!(changed.check(&cluster()), Err(CertificateError::Another(_))));
    }
}

#[test]
fn f_plus_one_distinct_replicas_sign() {
    let check = |replicas: &[u32]| endorsed(voted(unvoted(1), &[0, 1]), replicas).check(&cluster());
    assert!(matches!(check(&[]), Err(CertificateError::Endorsements { got: 0, needed: 2 })));
    assert!(matches!(check(&[1]), Err(CertificateError::Endorsements { got: 1, needed: 2 })));
    assert!(matches!(check(&[0, 1, 2]), Err(CertificateError::Endorsements { got: 3, needed: 2 })));
    assert_eq!(check(&[1, 1]), Err(CertificateError::EndorsedTwice(ReplicaId::new(1))));
    assert_eq!(check(&[2, 1]), Err(CertificateError::EndorsedTwice(ReplicaId::new(1))), "one order");
    assert_eq!(check(&[0, 9]), Err(CertificateError::Replica(ReplicaId::new(9))));
    // A signature of another certificate, and one that another key made.
    let mut borrowed = certificate();
    let mut other = certificate().completion;
    other.ended = OrderedTime(9);
    borrowed.endorsements[1] = endorsed(other, &[0, 1]).endorsements[1].clone();
    assert_eq!(borrowed.check(&cluster()), Err(CertificateError::Another(ReplicaId::new(1))));
    let mut forged = certificate();
    forged.endorsements[1] = Signed::seal_bytes(forged.endorsements[1].bytes().to_vec(), &replica_key(0));
    let refused = forged.check(&cluster());
    assert!(matches!(refused, Err(CertificateError::Endorsement { replica, .. }) if replica.number() == 1));
}

#[test]
fn another_clusters_keys_do_not_do() {
    let refused = certificate().check(&another());
    let keys = another().id();
    assert_eq!(refused.err(), Some(CertificateError::Cluster { says: cluster().id(), keys }));
    // Nor those of one that claims to be this one: all keys are a part of what a cluster is.
    let mut keys = cluster();
    keys.trackers[0].key = tracker_key(50).public();
    assert!(matches!(certificate().check(&keys), Err(CertificateError::Cluster { .. })));
}

#[test]
fn the_longest_endorsement_is_within_its_bound() {
    let longest = Endorsement {
        cluster: Digest::of(b""),
        replica: ReplicaId::new(u32::MAX),
        completion: Digest::of(b""),
        executed: History { ordered: u64::MAX, digest: Digest::of(b"") },
        // More than the longest record of sixteen witnesses with the longest certificate of any log.
        log: vec![0; 32 * 16 + 1024 + 512],
    };
    let key = replica_key(0);
    assert!(Signed::seal(&longest, &key).verify(&key.public()).is_ok());
    let above = Endorsement { log: vec![0; 4096], ..longest };
    assert!(Signed::seal(&above, &key).verify(&key.public()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), headed in any::<bool>()) {
        let heading: &[u8] = if headed { b"quorate certificate v1\n" } else { b"" };
        let read = Certificate::from_bytes(&[heading, &bytes].concat());
        prop_assert!(read.is_err() || read.is_ok_and(|read| read.check(&cluster()).is_err()));
    }

    #[test]
    fn bytes_put_into_a_certificate_are_refused(at in 0usize..2000, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let mut changed = certificate().to_bytes();
        let before = changed.clone();
        let at = at % changed.len();
        let end = changed.len().min(at + bytes.len());
        changed[at..end].copy_from_slice(&bytes[..end - at]);
        prop_assume!(changed != before);
        let holds = Certificate::from_bytes(&changed).is_ok_and(|read| read.check(&cluster()).is_ok());
        prop_assert!(!holds);
    }

    #[test]
    fn a_certificate_that_decodes_has_one_encoding(at in 0usize..2000, bit in 0u8..8) {
        let mut bytes = certificate().to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Certificate::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
            prop_assert_ne!(canonical::encode(&read), canonical::encode(&certificate()));
        }
    }
}
