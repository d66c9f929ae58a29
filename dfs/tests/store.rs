//! What every backend of the chunk store must do: plain functions, run against each, and what only a local folder can do.

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as BackendResult, memory::InMemory, path::Path as Key,
};
use quorate_dfs::{ChunkStore, StoreError, Usage, YOUNG};
use quorate_protocol::{
    digest::{ChunkId, Digest},
    ids::AttemptId,
    limits,
};
use std::{fmt, sync::Arc};
use tokio::sync::Notify;

fn attempt(text: &str) -> AttemptId {
    text.parse().expect("an attempt")
}

fn name(bytes: &[u8]) -> ChunkId {
    ChunkId(Digest::of(bytes))
}

/// Deletes chunks although they were stored just now.
async fn drop_now(store: &ChunkStore, chunks: &[ChunkId]) {
    let young = store.remove(chunks).await.expect("remove");
    store.remove_unreferenced(&young).await.expect("remove");
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
    drop_now(store, &[name(b"a"), name(b"never stored")]).await;
    assert!(matches!(store.get(name(b"a")).await, Ok(None)));
    drop_now(store, &[name(&b"b".repeat(3 << 20))]).await;
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
    drop_now(store, &[chunk]).await;
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
    drop_now(store, &[own, shared]).await;
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
        drop_now(store, &[chunk]).await;
    }
}

async fn a_young_chunk_is_deleted_only_when_it_was_not_stored_again(store: &ChunkStore) {
    let chunk = name(b"young");
    let put = || async { store.put(chunk, Bytes::from_static(b"young")).await.expect("put") };
    let publish = || async {
        let attempt = attempt("job-3/reduce-0.0");
        store.stage(attempt, Bytes::from_static(b"young")).await.expect("stage");
        store.publish(attempt).await.expect("publish");
    };
    put().await;
    for again in [true, false] {
        let young = store.remove(&[chunk]).await.expect("remove");
        assert_eq!(young.iter().map(|young| young.chunk).collect::<Vec<_>>(), [chunk]);
        assert!(store.get(chunk).await.expect("get").is_some(), "STORE-4: it is young");
        if again {
            put().await
        } else {
            publish().await
        }
        store.remove_unreferenced(&young).await.expect("remove");
        assert!(store.get(chunk).await.expect("get").is_some(), "STORE-4: it was stored again");
    }
    let young = store.remove(&[chunk]).await.expect("remove");
    store.remove_unreferenced(&young).await.expect("remove");
    assert!(matches!(store.get(chunk).await, Ok(None)), "young, and no file has it");
}

async fn an_old_chunk_is_deleted_at_once(store: &ChunkStore) {
    let (old, young) = (name(b"old"), name(b"young"));
    store.put(old, Bytes::from_static(b"old")).await.expect("put");
    store.put(young, Bytes::from_static(b"young")).await.expect("put");
    tokio::time::advance(YOUNG).await;
    store.put(young, Bytes::from_static(b"young")).await.expect("put again");
    let kept = store.remove(&[old, young]).await.expect("remove");
    assert_eq!(kept.iter().map(|young| young.chunk).collect::<Vec<_>>(), [young]);
    assert!(matches!(store.get(old).await, Ok(None)));
    assert!(store.get(young).await.expect("get").is_some());
}

#[tokio::test(start_paused = true)]
async fn chunks_grow_old() {
    an_old_chunk_is_deleted_at_once(&ChunkStore::memory()).await;
    let root = tempfile::tempdir().expect("a folder");
    an_old_chunk_is_deleted_at_once(&ChunkStore::local(root.path()).await.expect("a store")).await;
}

#[tokio::test]
async fn after_a_restart_every_chunk_is_young() {
    let root = tempfile::tempdir().expect("a folder");
    let chunk = name(b"chunk");
    ChunkStore::local(root.path()).await.expect("a store").put(chunk, Bytes::from_static(b"chunk")).await.expect("put");
    let store = ChunkStore::local(root.path()).await.expect("a store");
    assert_eq!(store.remove(&[chunk]).await.expect("remove").len(), 1);
    assert!(store.get(chunk).await.expect("get").is_some());
}

#[tokio::test]
async fn a_chunk_stored_while_it_is_being_deleted_is_there_afterwards() {
    for given_up in [false, true] {
        let backend = Arc::new(SlowDeletion::default());
        let store = ChunkStore::open(backend.clone()).await.expect("a store");
        let chunk = name(b"chunk");
        store.put(chunk, Bytes::from_static(b"chunk")).await.expect("put");
        let young = store.remove(&[chunk]).await.expect("remove");
        let mut removal = Box::pin(store.remove_unreferenced(&young));
        // Until the backend is at it.
        tokio::select! {
            biased;
            removed = &mut removal => panic!("not deleted yet: {removed:?}"),
            () = backend.begun.notified() => {}
        }
        let removal = (!given_up).then_some(removal);
        let mut put = Box::pin(store.put(chunk, Bytes::from_static(b"chunk")));
        let put_at_once = futures::poll!(&mut put).is_ready();
        backend.go_on.notify_one();
        if let Some(removal) = removal {
            removal.await.expect("removed");
        }
        if !put_at_once {
            put.await.expect("put");
        }
        backend.done.notified().await;
        assert!(store.get(chunk).await.expect("get").is_some(), "STORE-4: deleted after it was acknowledged");
    }
}

#[tokio::test]
async fn a_publishing_that_fails_halfway_loses_nothing_and_is_repeated() {
    let root = tempfile::tempdir().expect("a folder");
    let store = ChunkStore::local(root.path()).await.expect("a store");
    let (ours, other) = (attempt("job-1/reduce-0.0"), attempt("job-1/reduce-0.1"));
    let mut chunks = Vec::new();
    for n in 0u32..40 {
        chunks.push(store.stage(ours, Bytes::copy_from_slice(&n.to_le_bytes())).await.expect("stage"));
    }
    let stuck = chunks[0];
    store.stage(other, Bytes::copy_from_slice(&0u32.to_le_bytes())).await.expect("stage");
    // Where its folder would be there is a file: nothing can be moved there, by no user.
    let folder = |chunk: ChunkId| root.path().join("chunks").join(&chunk.to_string()[..2]);
    std::fs::create_dir_all(root.path().join("chunks")).expect("a folder");
    std::fs::write(folder(stuck), b"in the way").expect("a file");

    for _ in 0..2 {
        assert!(matches!(store.publish(ours).await, Err(StoreError::Backend(_))));
        assert_eq!(store.staged(), [ours, other]);
    }
    for chunk in &chunks {
        assert!(store.get(*chunk).await.expect("get").is_some(), "STORE-3: lost");
        assert!(store.length(*chunk).await.expect("length").is_some(), "STORE-3: lost");
        let moved = folder(*chunk).join(chunk.to_string()).exists();
        assert_eq!(moved, folder(*chunk) != folder(stuck), "what can be moved is moved");
    }
    store.discard(other).await.expect("discard");
    assert_eq!(store.staged(), [ours]);
    assert!(store.get(stuck).await.expect("get").is_some(), "discarding another attempt's output took ours");
    drop(store);

    let store = ChunkStore::local(root.path()).await.expect("a store");
    assert_eq!(store.staged(), [ours], "also after a restart");
    std::fs::remove_file(folder(stuck)).expect("out of the way");
    for _ in 0..2 {
        store.publish(ours).await.expect("publish");
    }
    store.discard(ours).await.expect("nothing is left to discard");
    assert!(store.staged().is_empty());
    for chunk in chunks {
        assert!(store.get(chunk).await.expect("get").is_some(), "published");
    }
}

#[tokio::test]
async fn a_staged_folder_that_is_away_for_a_while_is_not_forgotten() {
    let root = tempfile::tempdir().expect("a folder");
    let store = ChunkStore::local(root.path()).await.expect("a store");
    let attempt = attempt("job-1/reduce-0.0");
    let chunk = store.stage(attempt, Bytes::from_static(b"chunk")).await.expect("stage");
    let (here, away) = (root.path().join("staged"), root.path().join("away"));
    std::fs::rename(&here, &away).expect("moved away");
    assert!(store.publish(attempt).await.is_err());
    assert_eq!(store.staged(), [attempt]);
    std::fs::rename(&away, &here).expect("moved back");
    store.publish(attempt).await.expect("publish");
    assert_eq!(store.get(chunk).await.expect("get").expect("published"), "chunk");
}

#[tokio::test]
async fn a_verified_path_is_the_one_whose_bytes_were_verified() {
    let root = tempfile::tempdir().expect("a folder");
    let store = ChunkStore::local(root.path()).await.expect("a store");
    let (chunk, attempt) = (name(b"chunk"), attempt("job-1/reduce-0.0"));
    assert_eq!(store.verified_path(chunk, 5).await.expect("no error"), None);
    store.put(chunk, Bytes::from_static(b"chunk")).await.expect("put");
    let published = store.verified_path(chunk, 5).await.expect("no error").expect("a file");
    for wrong in [4, 6] {
        assert_eq!(store.verified_path(chunk, wrong).await.expect("no error"), None, "{wrong} bytes");
    }
    std::fs::write(&published, b"chunc").expect("damaged");
    assert!(matches!(store.verified_path(chunk, 5).await, Err(StoreError::Damaged { .. })));
    store.stage(attempt, Bytes::from_static(b"chunk")).await.expect("stage");
    let staged = store.verified_path(chunk, 5).await.expect("no error").expect("the staged file");
    assert_ne!(staged, published);
    assert_eq!(std::fs::read(staged).expect("readable"), b"chunk");
}

async fn conformance(store: &ChunkStore) {
    stored_chunks_are_read_back(store).await;
    bytes_of_another_name_or_too_many_are_refused(store).await;
    staged_chunks_are_readable_until_they_are_discarded(store).await;
    a_chunk_stays_readable_while_it_is_published(store).await;
    a_young_chunk_is_deleted_only_when_it_was_not_stored_again(store).await;
    assert_eq!(store.usage().await.expect("usage"), Usage::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let store = ChunkStore::memory();
    conformance(&store).await;
    store.put(name(b"a"), Bytes::from_static(b"a")).await.expect("put");
    assert_eq!(store.verified_path(name(b"a"), 1).await.expect("no error"), None, "no file");
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
    let path = store.verified_path(chunk, 5).await.expect("whole").expect("a file");
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

/// A backend in memory whose deletions wait until they are told to go on.
#[derive(Debug, Default)]
struct SlowDeletion {
    inner: Arc<InMemory>,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
    done: Arc<Notify>,
}

impl fmt::Display for SlowDeletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlowDeletion")
    }
}

#[tonic::async_trait]
impl ObjectStore for SlowDeletion {
    async fn put_opts(&self, at: &Key, bytes: PutPayload, how: PutOptions) -> BackendResult<PutResult> {
        self.inner.put_opts(at, bytes, how).await
    }

    async fn put_multipart_opts(&self, at: &Key, how: PutMultipartOptions) -> BackendResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Key, how: GetOptions) -> BackendResult<GetResult> {
        self.inner.get_opts(at, how).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, BackendResult<Key>>) -> BoxStream<'static, BackendResult<Key>> {
        let (inner, begun, go_on, done) =
            (self.inner.clone(), self.begun.clone(), self.go_on.clone(), self.done.clone());
        let wait = async move {
            begun.notify_one();
            go_on.notified().await;
        };
        let deleted = inner.delete_stream(keys).inspect(move |_| done.notify_one());
        futures::stream::once(wait).map(|()| None).chain(deleted.map(Some)).filter_map(std::future::ready).boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, BackendResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> BackendResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, how: CopyOptions) -> BackendResult<()> {
        self.inner.copy_opts(from, to, how).await
    }
}
