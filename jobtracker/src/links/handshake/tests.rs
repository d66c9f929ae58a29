use super::*;
use crate::{
    founding::tests::founded,
    testing::{cluster_of, replica_key},
};
use tokio::io::duplex;

fn cluster() -> Cluster {
    cluster_of(&["a:1", "b:1", "c:1"].map(str::to_owned))
}
fn identity(cluster: Cluster, me: u32) -> Identity {
    Identity::new(Arc::new(cluster), None, ReplicaId::new(me), replica_key(me))
}

type Met = (Result<[u8; 32], LinkError>, Result<(ReplicaId, [u8; 32]), LinkError>);

async fn meet(dialer: &Identity, peer: u32, listener: &Identity) -> Met {
    let (mut one, mut other) = duplex(4096);
    tokio::join!(dialer.dial(ReplicaId::new(peer), &mut one), listener.accept(&mut other))
}

#[tokio::test]
async fn both_sides_get_one_key_and_the_next_link_another() {
    let (one, two) = (identity(cluster(), 1), identity(cluster(), 2));
    let (dialed, accepted) = meet(&one, 2, &two).await;
    let (from, key) = accepted.expect("accepted");
    assert_eq!((from, dialed.expect("dialed")), (ReplicaId::new(1), key));
    let (dialed, _) = meet(&one, 2, &two).await;
    assert_ne!(dialed.expect("dialed"), key);
}

#[tokio::test]
async fn who_is_not_who_it_says_is_refused_with_the_reason_on_both_sides() {
    let refused = |met: Met, why: &str| {
        let (Err(dialed), Err(accepted)) = met else { panic!("{why}: a link was made") };
        let told =
            [&dialed, &accepted].iter().any(|error| matches!(error, LinkError::Refused(text) if text.contains(why)));
        let known = [&dialed, &accepted]
            .iter()
            .any(|error| !matches!(error, LinkError::Refused(_)) && error.to_string().contains(why));
        assert!(told && known, "{why}: {dialed}; {accepted}");
    };
    let honest = |me| identity(cluster(), me);
    let thief = |me| Identity { key: replica_key(7), ..honest(me) };
    refused(meet(&thief(1), 2, &honest(2)).await, "does not have the key");
    refused(meet(&honest(1), 2, &thief(2)).await, "does not have the key");
    let mut other = cluster();
    other.name = "other".to_owned();
    refused(meet(&identity(other, 1), 2, &honest(2)).await, "another cluster");
    refused(meet(&honest(1), 2, &honest(0)).await, "looks for replica-2");
    refused(meet(&Identity { me: ReplicaId::new(0), ..honest(1) }, 2, &honest(2)).await, "key");
    let stranger = Identity { me: ReplicaId::new(9), ..honest(1) };
    refused(meet(&stranger, 2, &honest(2)).await, "replica-9 is not another replica");
    refused(
        meet(&Identity { me: ReplicaId::new(2), ..honest(1) }, 1, &Identity { me: ReplicaId::new(1), ..honest(1) })
            .await,
        "key",
    );
}

#[tokio::test]
async fn replicas_of_one_founding_link_and_those_of_two_are_told_why_not() {
    let founded = |me, epoch| {
        let (cluster, me) = (Arc::new(cluster()), ReplicaId::new(me));
        let founding = founded(&cluster, epoch);
        Identity::new(cluster, Some(&founding), me, replica_key(me.number()))
    };
    let (dialed, accepted) = meet(&founded(1, 7), 2, &founded(2, 7)).await;
    assert!(dialed.is_ok() && accepted.is_ok());
    for other in [founded(1, 8), identity(cluster(), 1)] {
        let (dialed, accepted) = meet(&other, 2, &founded(2, 7)).await;
        assert!(matches!(accepted, Err(LinkError::Founding)));
        assert!(matches!(dialed, Err(LinkError::Refused(why)) if why.contains("another founding")));
    }
}

/// Speaks to a listener by hand.
async fn hear(words: Vec<u8>) -> (LinkError, Vec<u8>) {
    let listener = identity(cluster(), 2);
    let (mut one, mut other) = duplex(4096);
    let speak = async {
        one.write_all(&words).await.expect("heard");
        one.shutdown().await.expect("said");
        let mut answer = Vec::new();
        one.read_to_end(&mut answer).await.expect("answered");
        answer
    };
    let listen = async {
        let result = listener.accept(&mut other).await;
        drop(other);
        result.expect_err("refused")
    };
    let (answer, error) = tokio::join!(speak, listen);
    (error, answer)
}

#[tokio::test]
async fn another_version_is_told_so() {
    let (error, answer) = hear([MAGIC.as_slice(), &[9, 1]].concat()).await;
    assert!(matches!(error, LinkError::Version { got: 265 }), "{error}");
    assert!(String::from_utf8_lossy(&answer).contains("version 265"), "{answer:?}");
}

#[tokio::test]
async fn noise_is_no_handshake() {
    let greeting = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    let with = |more: &[u8]| [greeting.as_slice(), more].concat();
    for words in [b"qqqqqqqqqqqqqqqq".to_vec(), with(&[0xff, 0xff, 1, 2]), with(&[3, 0, 9, 9, 9])] {
        let (error, _) = hear(words).await;
        assert!(matches!(error, LinkError::Garbled), "{error}");
    }
    let (error, _) = hear(with(&[200, 0, 1])).await;
    assert!(matches!(error, LinkError::Io(_)), "cut off: {error}");
}

#[tokio::test]
async fn a_message_of_the_greatest_length_is_read_and_one_above_is_not() {
    for (length, readable) in [(MESSAGE_BYTES_MAX, true), (MESSAGE_BYTES_MAX + 1, false)] {
        // A text with a length of two bytes, after the number of its variant.
        let text = "x".repeat(length - 3);
        let bytes = canonical::encode(&Step::Refused(text));
        assert_eq!(bytes.len(), length);
        let words = [(length as u16).to_le_bytes().as_slice(), &bytes].concat();
        let step = receive::<_, Step>(&mut words.as_slice()).await;
        assert_eq!(step.is_ok(), readable);
    }
}

#[test]
fn a_key_of_low_order_makes_no_link() {
    let hello = Hello { cluster: Digest::of(b"c"), from: ReplicaId::new(0), to: ReplicaId::new(1), fresh: [0; 32] };
    let said = Transcript { version: VERSION, hello, fresh: [1; 32], by: Side::Listener };
    let (secret, _) = fresh_key().expect("randomness");
    assert!(matches!(agree(secret, [0; 32], &said), Err(LinkError::Garbled)));
}

#[test]
fn both_sides_sign_something_else() {
    let hello = Hello { cluster: Digest::of(b"c"), from: ReplicaId::new(0), to: ReplicaId::new(1), fresh: [3; 32] };
    let said = |by| Transcript { version: VERSION, hello: hello.clone(), fresh: [1; 32], by };
    let signature = sign(&said(Side::Listener), &replica_key(1));
    assert!(verify(&said(Side::Listener), signature, &replica_key(1).public()).is_some());
    assert!(verify(&said(Side::Dialer), signature, &replica_key(1).public()).is_none());
}
