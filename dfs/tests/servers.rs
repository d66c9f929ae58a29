//! The client against real servers on this machine: honest, lying, broken and gone.

mod testbed;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use quorate_dfs::{
    ChunkClient, ChunkStore, GetError, PIECE_BYTES, PutError, Server, ServerFault, Servers, Upload, UploadError,
};
use quorate_protocol::{
    canonical,
    digest::{ChunkId, Digest},
    file::{File, PutPermit},
    ids::{Domain, TrackerId},
    limits,
    query::Blame,
    sign::{SecretKey, Signed},
    spent::Spent,
    vote::{Served, Subject},
    wire::{Block, ChunkRequest, PutBlock},
};
use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};
use testbed::{Scripted, Testbed, client_key, cluster, id, key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

fn name(bytes: &[u8]) -> ChunkId {
    ChunkId(Digest::of(bytes))
}

/// Bytes without a pattern.
fn noise(length: usize, seed: u8) -> Bytes {
    let mut out = vec![0; length];
    for (i, block) in out.chunks_mut(32).enumerate() {
        let digest = Digest::of(&[&[seed], &i.to_le_bytes()[..]].concat());
        block.copy_from_slice(&digest.as_bytes()[..block.len()]);
    }
    out.into()
}

fn flip(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

async fn collect(stream: impl futures::Stream<Item = Result<Bytes, GetError>> + Unpin) -> Result<Vec<u8>, GetError> {
    stream
        .try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_goes_round() {
    let mut bed = Testbed::new(2);
    bed.honest(0).await;
    bed.honest(1).await;
    let client = bed.client();
    for length in [1, limits::BLOCK_BYTES_MAX, limits::BLOCK_BYTES_MAX + 1, 5 << 20] {
        let bytes = noise(length, 1);
        let chunk = client.put(bytes.clone(), &[id(0), id(1)]).await.expect("put");
        assert_eq!(chunk, name(&bytes));
        for server in [0, 1] {
            assert_eq!(bed.store(server).get(chunk).await.expect("get").expect("stored"), bytes);
            assert_eq!(client.get(chunk, length as u32, &[id(server)]).await.expect("get"), bytes);
        }
    }
    assert!(matches!(client.put(Bytes::new(), &[id(0)]).await, Err(PutError::Length { length: 0 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_store_is_used_without_a_server() {
    let bed = Testbed::new(1);
    let store = Arc::new(ChunkStore::memory());
    let client = bed.client().with_local(id(0), store.clone());
    let chunk = client.put(Bytes::from_static(b"own"), &[id(0)]).await.expect("put");
    assert_eq!(client.get(chunk, 3, &[]).await.expect("get"), "own");
    let error = client.get(name(b"other"), 5, &[id(0)]).await.expect_err("it has no such chunk");
    assert!(matches!(error, GetError::NoCopy { tried, .. } if matches!(tried[..], [(_, ServerFault::Missing)])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_bypassed_and_what_it_signed_convicts_it() {
    let mut bed = Testbed::new(2);
    bed.lying(0, |_, bytes| flip(&bytes)).await;
    bed.honest(1).await;
    let client = bed.client();
    let bytes = noise(2 << 20, 2);
    let chunk = client.put(bytes.clone(), &[id(0), id(1)]).await.expect("put");

    let error = client.get(chunk, bytes.len() as u32, &[id(0)]).await.expect_err("only a liar");
    assert!(error.to_string().contains("tracker-0: it sent other bytes, and signed them"), "{error}");
    assert!(error.to_string().contains(&chunk.to_string()));
    assert_eq!(client.get(chunk, bytes.len() as u32, &[id(0), id(1)]).await.expect("the honest copy"), bytes);

    let findings = client.findings();
    assert_eq!(findings.len(), 1, "one proof is enough: {findings:?}");
    assert_eq!(findings[0].check(&bed.cluster), Ok((id(0), Blame::Convicted)));
    assert!(client.findings().is_empty(), "they are given once");
}

/// Reads a part of a chunk from servers, all in all.
async fn part(client: &ChunkClient, bytes: &Bytes, part: Range<u32>, servers: &[u32]) -> Result<Bytes, GetError> {
    let servers: Vec<TrackerId> = servers.iter().copied().map(id).collect();
    client.get_part(name(bytes), bytes.len() as u32, part, &servers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_chunk_comes_alone() {
    let mut bed = Testbed::new(2);
    bed.honest(0).await;
    let client = bed.client();
    const P: u32 = PIECE_BYTES as u32;
    for length in [1, P, P + 1, 5 * P + 7, 4 << 20] {
        let bytes = noise(length as usize, 4);
        client.put(bytes.clone(), &[id(0)]).await.expect("put");
        for wanted in [0..1, 0..P.min(length), length - 1..length, length / 2..(length / 2 + P).min(length), 0..length]
        {
            let expected = bytes.slice(wanted.start as usize..wanted.end as usize);
            assert_eq!(
                part(&client, &bytes, wanted.clone(), &[0]).await.expect("read"),
                expected,
                "{length}: {wanted:?}"
            );
        }
    }
    // A server that was started again has digested nothing yet.
    bed.kill(0).await;
    bed.honest(0).await;
    let bytes = noise(4 << 20, 4);
    let before = Spent::now();
    let read = part(&bed.client(), &bytes, (4 << 20) - 1..4 << 20, &[0]).await.expect("read");
    assert_eq!(read, bytes.slice((4 << 20) - 1..));
    assert!(Spent::now().since(before).digested >= 4 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lies_about_a_part_is_bypassed_and_convicted_by_the_whole() {
    let mut bed = Testbed::new(2);
    bed.lying(0, |_, bytes| flip(&bytes)).await;
    bed.honest(1).await;
    let client = bed.client();
    let bytes = noise(2 << 20, 2);
    client.put(bytes.clone(), &[id(0), id(1)]).await.expect("put");
    let error = part(&client, &bytes, 7..8, &[0]).await.expect_err("only a liar");
    assert!(error.to_string().contains("tracker-0: it sent other bytes, and signed them"), "{error}");
    assert_eq!(part(&client, &bytes, 7..8, &[0, 1]).await.expect("the honest copy"), bytes.slice(7..8));
    let findings = client.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].check(&bed.cluster), Ok((id(0), Blame::Convicted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_place_of_a_part_and_silence_are_bypassed() {
    let bytes = noise(2 << 20, 5);
    let block = |data: &[u8], served: &[u8]| Block { data: data.to_vec().into(), served: served.to_vec() };
    let nonsense = [block(b"", b""), block(&[7; PIECE_BYTES as usize], &[7; 160]), block(&[7; 1 << 20], &[7; 999])];
    for block in nonsense {
        let mut bed = Testbed::new(2);
        bed.scripted(0, Scripted::blocks(vec![block]));
        bed.honest(1).await;
        let client = bed.client();
        client.put(bytes.clone(), &[id(1)]).await.expect("put");
        assert_eq!(part(&client, &bytes, 0..9, &[0, 1]).await.expect("the honest copy"), bytes.slice(..9));
        assert!(client.findings().is_empty(), "nothing was signed");
    }
    let mut bed = Testbed::new(2);
    bed.scripted(0, Scripted::silent());
    bed.honest(1).await;
    let client = bed.client().with_patience(Duration::from_millis(200));
    client.put(bytes.clone(), &[id(1)]).await.expect("put");
    assert_eq!(part(&client, &bytes, 0..9, &[0, 1]).await.expect("the honest copy"), bytes.slice(..9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_gives_no_part_of_itself_and_no_lie() {
    let mut bed = Testbed::new(2);
    bed.honest(0).await;
    bed.honest(1).await;
    let client = bed.client();
    let bytes = noise(1 << 20, 6);
    let chunk = client.put(bytes.clone(), &[id(0), id(1)]).await.expect("put");
    // The disk gives something else than what was written, which was digested then.
    let damage = |path: &std::path::Path| {
        let mut stored = std::fs::read(path).expect("read");
        stored[3] ^= 1;
        std::fs::write(path, stored).expect("written");
    };
    let text = chunk.to_string();
    damage(&bed.folder(0).join("chunks").join(&text[..2]).join(&text));
    assert_eq!(part(&client, &bytes, 0..9, &[0, 1]).await.expect("the other copy"), bytes.slice(..9));
    let error = part(&client, &bytes, 0..9, &[0]).await.expect_err("only the damaged copy");
    assert!(matches!(error, GetError::NoCopy { .. }), "{error}");
    assert!(client.findings().is_empty(), "a damaged disk is not a lie");
}

#[tokio::test(flavor = "multi_thread")]
async fn longer_and_shorter_lies_are_proven_too() {
    for lie in [Bytes::new(), noise(1, 9), noise(3 << 20, 9)] {
        let mut bed = Testbed::new(1);
        bed.lying(0, move |_, _| lie.clone()).await;
        let client = bed.client();
        let chunk = client.put(noise(1 << 20, 3), &[id(0)]).await.expect("put");
        let error = client.get(chunk, 1 << 20, &[id(0)]).await.expect_err("a lie");
        assert!(
            matches!(&error, GetError::NoCopy { tried, .. }
            if matches!(tried[..], [(_, ServerFault::WrongBytes { proven: true })])),
            "{error}"
        );
        assert_eq!(client.findings().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_that_is_honest_when_it_has_to_sign_is_of_use() {
    let mut bed = Testbed::new(1);
    let lied = Mutex::new(false);
    bed.lying(0, move |_, bytes| {
        let first = !std::mem::replace(&mut *lied.lock().expect("not poisoned"), true);
        if first { flip(&bytes) } else { bytes }
    })
    .await;
    let client = bed.client();
    let chunk = client.put(Bytes::from_static(b"chunk"), &[id(0)]).await.expect("put");
    assert_eq!(client.get(chunk, 5, &[id(0)]).await.expect("the second answer is right"), "chunk");
    assert!(client.findings().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_convicted_of_a_wrong_length_in_a_manifest() {
    let mut bed = Testbed::new(1);
    bed.honest(0).await;
    let client = bed.client();
    let chunk = client.put(Bytes::from_static(b"chunk"), &[id(0)]).await.expect("put");
    for length in [4, 6] {
        let error = client.get(chunk, length, &[id(0)]).await.expect_err("not its length");
        assert!(
            matches!(&error, GetError::NoCopy { tried, .. }
            if matches!(tried[..], [(_, ServerFault::WrongLength { got: 5, .. })])),
            "{error}"
        );
    }
    assert!(client.findings().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_stream_ends_at_the_length_and_an_oversized_block_is_refused() {
    let mut bed = Testbed::new(3);
    let bytes = noise(1000, 4);
    let chunk = name(&bytes);
    bed.scripted(0, Scripted::endless(noise(1 << 20, 5)));
    bed.scripted(1, Scripted::blocks(vec![Block { data: noise(8 << 20, 6), served: Vec::new() }]));
    bed.honest(2).await;
    let client = bed.client();
    client.put(bytes.clone(), &[id(2)]).await.expect("put");
    assert_eq!(client.get(chunk, 1000, &[id(0), id(1), id(2)]).await.expect("the honest copy"), bytes);
    for server in [0, 1] {
        assert!(client.get(chunk, 1000, &[id(server)]).await.is_err());
    }
    assert!(client.findings().is_empty(), "nothing was signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_convicts_only_the_server_that_signed_it() {
    let bytes = noise(100, 7);
    let chunk = name(&bytes);
    let cluster_id = cluster(2).id();
    let served = |tracker, signer: &SecretKey, cluster| {
        let sent = Some((Digest::of(b"lie"), 3));
        Signed::seal(&Served { cluster, tracker, subject: Subject::Chunk(chunk), vote: None, sent }, signer).to_wire()
    };
    let statements = [
        served(id(1), &key(0), cluster_id),
        served(id(0), &client_key(), cluster_id),
        served(id(0), &key(0), Digest::of(b"another cluster")),
        b"garbage".to_vec(),
    ];
    for statement in statements {
        let mut bed = Testbed::new(2);
        bed.scripted(0, Scripted::blocks(vec![Block { data: Bytes::from_static(b"lie"), served: statement }]));
        let client = bed.client();
        let error = client.get(chunk, 100, &[id(0)]).await.expect_err("a lie");
        assert!(
            matches!(&error, GetError::NoCopy { tried, .. }
            if matches!(tried[..], [(_, ServerFault::WrongBytes { proven: false })])),
            "{error}"
        );
        assert!(client.findings().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_left_when_patience_ends() {
    let mut bed = Testbed::new(2);
    bed.scripted(0, Scripted::silent());
    bed.honest(1).await;
    let chunk = bed.client().put(Bytes::from_static(b"chunk"), &[id(1)]).await.expect("put");
    let client = bed.client().with_patience(Duration::from_secs(2));
    let (silent, both) = ([id(0)], [id(0), id(1)]);
    let (got, unread, unsent) = tokio::join!(
        client.get(chunk, 5, &both),
        client.get(chunk, 5, &silent),
        client.put(Bytes::from_static(b"chunk"), &silent),
    );
    assert_eq!(got.expect("the other's"), "chunk");
    assert!(
        matches!(&unread, Err(GetError::NoCopy { tried, .. })
        if matches!(tried[..], [(_, ServerFault::Stalled(_))])),
        "{unread:?}"
    );
    assert!(
        matches!(&unsent, Err(PutError::Failed { failed, .. })
        if matches!(failed[..], [(_, ServerFault::Stalled(_))])),
        "{unsent:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_is_not_signed_right_is_none() {
    let mut bed = Testbed::new(1);
    bed.scripted(0, Scripted::blocks(Vec::new()));
    let error = bed.client().put(Bytes::from_static(b"chunk"), &[id(0)]).await.expect_err("garbage");
    assert!(
        matches!(&error, PutError::Failed { failed, .. }
        if matches!(failed[..], [(_, ServerFault::NotAcknowledged)])),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_chunk_names_every_server_and_what_it_did() {
    let mut bed = Testbed::new(3);
    bed.honest(0).await;
    let client = bed.client();
    let chunk = name(b"nowhere");
    let error = client.get(chunk, 7, &[id(0), id(1), id(9)]).await.expect_err("nobody has it").to_string();
    assert!(error.contains(&chunk.to_string()), "{error}");
    assert!(error.contains("tracker-0: it does not have the chunk"), "{error}");
    assert!(error.contains("tracker-1: its address is not known"), "{error}");
    assert!(error.contains("tracker-9: its address is not known"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_disk_is_no_lie_and_another_copy_serves() {
    let mut bed = Testbed::new(2);
    bed.honest(0).await;
    bed.honest(1).await;
    let client = bed.client();
    let bytes = noise(100_000, 8);
    let chunk = client.put(bytes.clone(), &[id(0), id(1)]).await.expect("put");
    let path = bed.store(0).verified_path(chunk, 100_000).await.expect("whole").expect("a file");
    std::fs::write(path, flip(&bytes)).expect("damaged");

    let error = client.get(chunk, 100_000, &[id(0)]).await.expect_err("damaged");
    assert!(
        matches!(&error, GetError::NoCopy { tried, .. }
        if matches!(&tried[..], [(_, ServerFault::Refused(status))] if status.code() == Code::DataLoss)),
        "{error}"
    );
    assert_eq!(client.get(chunk, 100_000, &[id(0), id(1)]).await.expect("the other copy"), bytes);
    assert!(client.findings().is_empty());

    let request = ChunkRequest { chunk: canonical::encode(&chunk), prove: true };
    let blocks: Vec<Block> =
        bed.raw(0).await.get_chunk(request).await.expect("an answer").into_inner().try_collect().await.expect("blocks");
    let served = Signed::<Served>::from_wire(&blocks[0].served).expect("signed").verify(&key(0).public());
    assert_eq!(served.expect("by it").sent, None, "under its signature it says that it has nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_bypassed_and_found_again_at_its_new_address() {
    let mut bed = Testbed::new(2);
    bed.honest(0).await;
    bed.honest(1).await;
    let client = bed.client();
    let chunk = client.put(Bytes::from_static(b"chunk"), &[id(0), id(1)]).await.expect("put");
    bed.kill(0).await;
    assert_eq!(client.get(chunk, 5, &[id(0), id(1)]).await.expect("the other's"), "chunk");
    assert!(client.get(chunk, 5, &[id(0)]).await.is_err());
    bed.honest(0).await;
    client.set_servers(bed.servers());
    assert_eq!(client.get(chunk, 5, &[id(0)]).await.expect("it is back"), "chunk");
}

fn put_request(permit: Vec<u8>, data: &[&'static [u8]]) -> impl futures::Stream<Item = PutBlock> + Send + use<> {
    let data: Vec<_> =
        data.iter().map(|data| PutBlock { permit: Vec::new(), data: Bytes::from_static(data) }).collect();
    futures::stream::iter(std::iter::once(PutBlock { permit, data: Bytes::new() }).chain(data))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_right_permit_and_exactly_its_bytes_are_taken() {
    let mut bed = Testbed::new(2);
    bed.honest(0).await;
    let right = PutPermit {
        cluster: bed.cluster.id(),
        server: id(0),
        by: client_key().public(),
        chunk: name(b"chunk"),
        length: 5,
    };
    let stranger = SecretKey::from_seed([99; 32]);
    let sealed = |permit: &PutPermit, key: &SecretKey| Signed::seal(permit, key).to_wire();
    let by_us = |permit: PutPermit| sealed(&permit, &client_key());
    type Case = (&'static str, Vec<u8>, &'static [&'static [u8]], Code);
    let cases: Vec<Case> = vec![
        ("garbage", b"garbage".to_vec(), &[b"chunk"], Code::InvalidArgument),
        ("nothing", Vec::new(), &[b"chunk"], Code::InvalidArgument),
        (
            "a stranger's",
            sealed(&PutPermit { by: stranger.public(), ..right.clone() }, &stranger),
            &[b"chunk"],
            Code::PermissionDenied,
        ),
        (
            "a tracker's",
            sealed(&PutPermit { by: key(1).public(), ..right.clone() }, &key(1)),
            &[b"chunk"],
            Code::PermissionDenied,
        ),
        ("forged", sealed(&right, &stranger), &[b"chunk"], Code::Unauthenticated),
        ("another server's", by_us(PutPermit { server: id(1), ..right.clone() }), &[b"chunk"], Code::PermissionDenied),
        (
            "another cluster's",
            by_us(PutPermit { cluster: Digest::of(b"other"), ..right.clone() }),
            &[b"chunk"],
            Code::PermissionDenied,
        ),
        ("empty", by_us(PutPermit { length: 0, ..right.clone() }), &[], Code::InvalidArgument),
        (
            "too long a chunk",
            by_us(PutPermit { length: limits::CHUNK_BYTES_MAX as u32 + 1, ..right.clone() }),
            &[b"chunk"],
            Code::InvalidArgument,
        ),
        ("more than permitted", by_us(right.clone()), &[b"chu", b"nks"], Code::InvalidArgument),
        ("less than permitted", by_us(right.clone()), &[b"chu"], Code::InvalidArgument),
        ("empty blocks", by_us(right.clone()), &[b"", b"chunk"], Code::InvalidArgument),
        ("other bytes", by_us(right.clone()), &[b"chunc"], Code::InvalidArgument),
    ];
    for (what, permit, data, code) in cases {
        let refused = bed.raw(0).await.put_chunk(put_request(permit, data)).await.expect_err(what);
        assert_eq!(refused.code(), code, "{what}: {refused}");
        assert!(matches!(bed.store(0).get(name(b"chunk")).await, Ok(None)), "{what}");
    }
    bed.raw(0).await.put_chunk(put_request(by_us(right), &[b"ch", b"unk"])).await.expect("right");
    assert_eq!(bed.store(0).get(name(b"chunk")).await.expect("get").expect("stored"), "chunk");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_socket_stops_nobody() {
    let mut bed = Testbed::new(2);
    bed.honest(0).await;
    let client = bed.client();
    let chunk = client.put(Bytes::from_static(b"chunk"), &[id(0)]).await.expect("put");
    for seed in 0..8 {
        let mut socket = tokio::net::TcpStream::connect(bed.address(0)).await.expect("connected");
        let _ = socket.write_all(&noise(10_000, seed)).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
        read.expect("the server hangs up").ok();
    }
    for name in [&b""[..], b"short", &[7; 33]] {
        let request = ChunkRequest { chunk: name.to_vec(), prove: true };
        let refused = bed.raw(0).await.get_chunk(request).await.expect_err("no name");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert_eq!(client.get(chunk, 5, &[id(0)]).await.expect("it still serves"), "chunk");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    bed.at(1, listener.local_addr().expect("bound").to_string());
    let answering = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(&noise(10_000, 1)).await;
        }
    });
    client.set_servers(bed.servers());
    assert_eq!(client.get(chunk, 5, &[id(1), id(0)]).await.expect("the other's"), "chunk");
    assert!(client.get(chunk, 5, &[id(1)]).await.is_err());
    bed.at(1, "not an address".to_owned());
    client.set_servers(bed.servers());
    let error = client.get(chunk, 5, &[id(1)]).await.expect_err("no address");
    assert!(error.to_string().contains("\"not an address\" is not an address"), "{error}");
    answering.abort();
}

async fn check_copies(bed: &Testbed, file: &File, copies: usize) {
    file.check().expect("a right file");
    for (index, (chunk, length)) in file.manifest.chunks.iter().enumerate() {
        let servers = file.servers(index);
        let domains: BTreeSet<_> =
            servers.iter().map(|server| &bed.cluster.tracker(*server).expect("member").domain).collect();
        assert_eq!((servers.len(), domains.len()), (copies, copies));
        for server in servers {
            let bytes = bed.store(server.number()).get(*chunk).await.expect("get").expect("acknowledged, so stored");
            assert_eq!(bytes.len(), *length as usize);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_stored_in_chunks_and_read_back_whole_and_in_parts() {
    let mut bed = Testbed::new(3);
    for server in 0..3 {
        bed.honest(server).await;
    }
    let client = bed.client();
    let bytes = noise(50_000, 11);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let report = {
        let seen = seen.clone();
        move |stored| seen.lock().expect("not poisoned").push(stored)
    };
    let how = Upload::copies(2).chunk_bytes(1024).length(50_000).progress(report);
    let file = client.upload(&bytes[..], how).await.expect("upload");
    assert_eq!((file.manifest.chunks.len(), file.manifest.length()), (49, 50_000));
    assert_eq!(file.placements.len(), 4, "runs of 16 chunks: {:?}", file.placements);
    check_copies(&bed, &file, 2).await;
    let seen = seen.lock().expect("not poisoned").clone();
    assert!(seen.len() == 49 && seen.is_sorted() && seen.last() == Some(&50_000), "{seen:?}");

    assert_eq!(collect(client.read(&file)).await.expect("read"), bytes);
    for (start, end) in
        [(0, 0), (0, 1), (1023, 1025), (1024, 2048), (777, 40_001), (49_999, 60_000), (60_000, 70_000), (9, 3)]
    {
        let expected = bytes.get(start.min(50_000)..end.min(50_000)).unwrap_or_default();
        let range = client.read_range(&file, start as u64, end as u64);
        assert_eq!(collect(range).await.expect("read"), expected, "{start}..{end}");
    }

    let empty = client.upload(&b""[..], Upload::copies(2)).await.expect("an empty file");
    assert_eq!(empty, File { manifest: Default::default(), placements: Vec::new() });
    assert!(collect(client.read(&empty)).await.expect("read").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_although_a_server_of_each_chunk_lies() {
    let mut bed = Testbed::new(3);
    bed.lying(0, |_, bytes| flip(&bytes)).await;
    bed.honest(1).await;
    bed.honest(2).await;
    let client = bed.client();
    let bytes = noise(40_000, 12);
    let file = client.upload(&bytes[..], Upload::copies(2).chunk_bytes(1000)).await.expect("upload");
    assert!(file.placements.iter().any(|run| run.servers.contains(&id(0))), "the liar holds some");
    assert_eq!(collect(client.read(&file)).await.expect("read"), bytes);
    let blamed: Vec<_> = client.findings().iter().map(|finding| finding.check(&bed.cluster)).collect();
    assert!(blamed.iter().all(|blame| *blame == Ok((id(0), Blame::Convicted))), "{blamed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_chunk_ends_the_stream_with_its_error() {
    let mut bed = Testbed::new(1);
    bed.honest(0).await;
    let client = bed.client();
    let bytes = noise(10_000, 13);
    let file = client.upload(&bytes[..], Upload::copies(1).chunk_bytes(1000)).await.expect("upload");
    let young = bed.store(0).remove(&[file.manifest.chunks[4].0]).await.expect("young");
    bed.store(0).remove_unreferenced(&young).await.expect("lost");
    let items: Vec<_> = client.read(&file).collect().await;
    assert_eq!(items.len(), 5);
    assert!(items[..4].iter().all(Result::is_ok));
    assert!(matches!(&items[4], Err(GetError::NoCopy { chunk, .. }) if *chunk == file.manifest.chunks[4].0));

    let torn = File { placements: Vec::new(), ..file };
    let items: Vec<_> = client.read(&torn).collect().await;
    assert!(matches!(items[..], [Err(GetError::BadFile(_))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_without_a_server_that_is_down() {
    let mut bed = Testbed::new(3);
    bed.honest(0).await;
    bed.honest(1).await;
    bed.honest(2).await;
    let client = bed.client();
    bed.kill(1).await;
    let bytes = noise(60_000, 14);
    let file = client.upload(&bytes[..], Upload::copies(2).chunk_bytes(1000)).await.expect("two are left");
    assert!(file.placements.iter().all(|run| run.servers == [id(0), id(2)]), "{:?}", file.placements);
    check_copies(&bed, &file, 2).await;
    assert_eq!(collect(client.read(&file)).await.expect("read"), bytes);

    let error = client.upload(&bytes[..], Upload::copies(3).chunk_bytes(1000)).await.expect_err("too few");
    assert!(
        matches!(&error, UploadError::TooFewDomains { copies: 3, domains: 2, failed }
        if matches!(failed[..], [(server, _)] if server == id(1))),
        "{error}"
    );
    assert!(error.to_string().contains("start more trackers"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_in_the_middle_is_replaced_from_there_on() {
    let mut bed = Testbed::new(3);
    bed.honest(0).await;
    bed.honest(1).await;
    bed.scripted(2, Scripted::acknowledging(2, 3));
    let client = bed.client();
    let bytes = noise(64_000, 15);
    let file = client.upload(&bytes[..], Upload::copies(2).chunk_bytes(1000)).await.expect("two are left");
    file.check().expect("a right file");
    let on_it = (0..64).filter(|index| file.servers(*index).contains(&id(2))).count();
    assert_eq!(on_it, 3, "as many as it acknowledged");
    assert_eq!(collect(client.read(&file)).await.expect("the other copies"), bytes);
}

#[tokio::test]
async fn an_upload_without_servers_says_so_before_anything_is_sent() {
    let bed = Testbed::new(2);
    let client = bed.client();
    let server = |live| Server { domain: Domain("d".to_owned()), address: "127.0.0.1:1".to_owned(), live };
    client.set_servers(Servers::from_iter([(TrackerId::new(0), server(true)), (TrackerId::new(1), server(true))]));
    let error = client.upload(&b"x"[..], Upload::copies(2)).await.expect_err("one domain");
    assert!(matches!(&error, UploadError::TooFewDomains { copies: 2, domains: 1, failed } if failed.is_empty()));
    client.set_servers(Servers::from_iter([(TrackerId::new(0), server(false))]));
    let error = client.upload(&b"x"[..], Upload::copies(1)).await.expect_err("none is live");
    assert!(matches!(&error, UploadError::TooFewDomains { domains: 0, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_grow_with_a_known_length_and_too_many_are_refused() {
    let bed = Testbed::new(1);
    let store = Arc::new(ChunkStore::memory());
    let mut known = Testbed::new(1);
    known.at(0, "127.0.0.1:1".to_owned());
    let client = bed.client().with_local(id(0), store);
    client.set_servers(known.servers());
    let length = 2 * limits::FILE_CHUNKS_MAX;
    let bytes = vec![7; length + 1];
    let how = || Upload::copies(1).chunk_bytes(1);
    let file = client.upload(&bytes[..length], how().length(length as u64)).await.expect("at the bound");
    assert_eq!(file.manifest.chunks.len(), limits::FILE_CHUNKS_MAX);
    let error = client.upload(&bytes[..], how().length(length as u64)).await.expect_err("it grew meanwhile");
    assert!(matches!(error, UploadError::TooLong { chunk_bytes: 2 }), "{error}");
    let longest = limits::FILE_CHUNKS_MAX as u64 * limits::CHUNK_BYTES_MAX;
    assert!(client.upload(&bytes[..1], how().length(longest)).await.is_ok());
    let error = client.upload(&bytes[..1], how().length(longest + 1)).await.expect_err("known to be too long");
    assert!(matches!(error, UploadError::TooLong { chunk_bytes: limits::CHUNK_BYTES_MAX }), "{error}");
}
