//! What every backend of the chunk store must do: plain functions, run against each, and what only a local folder can do.

use bytes::Bytes;
use quorate_dfs::{ChunkStore, StoreError, Usage};
use quorate_protocol::{
    digest::{ChunkId, Digest},
    ids::AttemptId,
    limits,
};

fn attempt(text: &str) -> AttemptId {
    text.parse().expect("an attempt")
}

fn name(bytes: &[u8]) -> ChunkId {
    ChunkId(Digest::of(bytes))
}

async fn stored_chunks_are_read_back(store: &ChunkStore) {
    for bytes in [&b"a"[..], &b"b".repeat(3 << 20)] {
        let chunk = name(bytes);
        assert!(matches!(store.get(chunk).await, Ok(None)));
        for _ in 0..2 {
            store.put(chunk, Bytes::copy_from_slice(bytes)).await.expect("put");
        }
        assert_eq!(store.get(chunk).await.expect("get").expect("there"), bytes);
        assert_eq!(store.length(chunk).await.expect("length"), Some(bytes.len() as u64));
    }
    assert_eq!(store.usage().await.expect("usage"), Usage { chunks: 2, bytes: (3 << 20) + 1 });
    store.remove(&[name(b"a"), name(b"never stored")]).await.expect("remove");
    assert!(matches!(store.get(name(b"a")).await, Ok(None)));
    store.remove(&[name(&b"b".repeat(3 << 20))]).await.expect("remove");
    assert_eq!(store.usage().await.expect("usage"), Usage::default());
}

async fn bytes_of_another_name_or_too_many_are_refused(store: &ChunkStore) {
    let refused = store.put(name(b"a"), Bytes::from_static(b"b")).await;
    assert!(matches!(refused, Err(StoreError::WrongBytes { got, .. }) if got == name(b"b")));
    assert!(matches!(store.get(name(b"a")).await, Ok(None)));
    assert!(matches!(store.get(name(b"b")).await, Ok(None)));
    let long = Bytes::from(vec![0; limits::CHUNK_BYTES_MAX as usize + 1]);
    let refused = store.stage(attempt("job-1/reduce-0.0"), long.clone()).await;
    assert!(matches!(refused, Err(StoreError::TooLong(_))));
    let chunk = name(&long[1..]);
    store.put(chunk, long.slice(1..)).await.expect("at the bound");
    store.remove(&[chunk]).await.expect("remove");
}

async fn staged_chunks_are_readable_until_they_are_discarded(store: &ChunkStore) {
    let (first, second) = (attempt("job-1/reduce-0.0"), attempt("job-1/reduce-1.2"));
    let shared = store.stage(first, Bytes::from_static(b"shared")).await.expect("stage");
    assert_eq!(store.stage(second, Bytes::from_static(b"shared")).await.expect("stage"), shared);
    let own = store.stage(second, Bytes::from_static(b"own")).await.expect("stage");
    assert_eq!(store.staged(), [first, second]);
    assert_eq!(store.get(shared).await.expect("get").expect("there"), "shared");

    store.discard(first).await.expect("discard");
    assert_eq!(store.staged(), [second]);
    assert_eq!(store.get(shared).await.expect("get").expect("the other attempt's copy"), "shared");

    for _ in 0..2 {
        store.publish(second).await.expect("publish, also again");
    }
    assert!(store.staged().is_empty());
    store.discard(second).await.expect("nothing is left to discard");
    assert_eq!(store.get(own).await.expect("get").expect("published"), "own");

    store.stage(first, Bytes::from_static(b"own")).await.expect("stage");
    store.remove(&[own, shared]).await.expect("remove");
    assert_eq!(store.get(own).await.expect("get").expect("the staged copy stays"), "own");
    store.discard(first).await.expect("discard");
    assert!(matches!(store.get(own).await, Ok(None)));
    assert!(matches!(store.get(shared).await, Ok(None)));
}

async fn a_chunk_stays_readable_while_it_is_published(store: &ChunkStore) {
    let attempt = attempt("job-2/reduce-0.0");
    for round in 0u32..50 {
        let chunk = store.stage(attempt, Bytes::copy_from_slice(&round.to_le_bytes())).await.expect("stage");
        let reads = async {
            for _ in 0..8 {
                assert!(store.get(chunk).await.expect("get").is_some(), "STORE-3: lost in round {round}");
            }
        };
        let (published, ()) = tokio::join!(store.publish(attempt), reads);
        published.expect("publish");
        store.remove(&[chunk]).await.expect("remove");
    }
}

async fn conformance(store: &ChunkStore) {
    stored_chunks_are_read_back(store).await;
    bytes_of_another_name_or_too_many_are_refused(store).await;
    staged_chunks_are_readable_until_they_are_discarded(store).await;
    a_chunk_stays_readable_while_it_is_published(store).await;
    assert_eq!(store.usage().await.expect("usage"), Usage::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let store = ChunkStore::memory();
    conformance(&store).await;
    assert_eq!(store.local_path(name(b"a")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_conforms() {
    let root = tempfile::tempdir().expect("a folder");
    conformance(&ChunkStore::local(&root.path().join("made/when/needed")).await.expect("a store")).await;
}

#[tokio::test]
async fn a_damaged_file_is_never_served_and_storing_it_again_mends_it() {
    let root = tempfile::tempdir().expect("a folder");
    let store = ChunkStore::local(root.path()).await.expect("a store");
    let chunk = name(b"chunk");
    store.put(chunk, Bytes::from_static(b"chunk")).await.expect("put");
    let path = store.local_path(chunk).await.expect("a file");
    assert_eq!(std::fs::read(&path).expect("readable"), b"chunk");

    std::fs::write(&path, b"chunc").expect("damaged");
    assert!(matches!(store.get(chunk).await, Err(StoreError::Damaged { chunk: its, .. }) if its == chunk));
    store.stage(attempt("job-1/reduce-0.0"), Bytes::from_static(b"chunk")).await.expect("stage");
    assert_eq!(store.get(chunk).await.expect("get").expect("the staged copy is whole"), "chunk");
    store.discard(attempt("job-1/reduce-0.0")).await.expect("discard");

    store.put(chunk, Bytes::from_static(b"chunk")).await.expect("put");
    assert_eq!(store.get(chunk).await.expect("get").expect("there"), "chunk");

    let file = std::fs::File::options().write(true).open(&path).expect("open");
    file.set_len(limits::CHUNK_BYTES_MAX + 1).expect("grown");
    assert!(matches!(store.get(chunk).await, Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn what_was_staged_is_found_after_a_restart() {
    let root = tempfile::tempdir().expect("a folder");
    let (first, second) = (attempt("job-1/reduce-0.0"), attempt("job-12/reduce-3.1"));
    let (kept, dropped) = {
        let store = ChunkStore::local(root.path()).await.expect("a store");
        let kept = store.stage(first, Bytes::from_static(b"kept")).await.expect("stage");
        (kept, store.stage(second, Bytes::from_static(b"dropped")).await.expect("stage"))
    };
    std::fs::write(root.path().join("staged/stray"), b"somebody else's").expect("a stray file");

    let store = ChunkStore::local(root.path()).await.expect("a store");
    assert_eq!(store.staged(), [first, second]);
    assert_eq!(store.get(dropped).await.expect("get").expect("still staged"), "dropped");
    store.publish(first).await.expect("publish");
    store.discard(second).await.expect("discard");

    let store = ChunkStore::local(root.path()).await.expect("a store");
    assert!(store.staged().is_empty());
    assert_eq!(store.get(kept).await.expect("get").expect("published"), "kept");
    assert!(matches!(store.get(dropped).await, Ok(None)));
    let left: Vec<_> = std::fs::read_dir(root.path().join("staged")).expect("the folder").collect();
    assert_eq!(left.len(), 1, "only the stray file is left: {left:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let file = root.path().join("file");
    std::fs::write(&file, b"").expect("a file");
    let error = ChunkStore::local(&file.join("below")).await.expect_err("a file is no folder");
    assert!(matches!(&error, StoreError::Open { path, .. } if path.ends_with("file/below")), "{error}");
}
