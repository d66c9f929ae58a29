//! Chunks of one server, kept by an `object_store` backend.
//!
//! Two places: `chunks/ab/abcdef…` holds what files are made of; `staged/<attempt>/<chunk>` holds the output of a reduce
//! attempt until its job has ended, when it is published or discarded. A reader finds a chunk in either.
//!
//! What must hold:
//! * STORE-1: what [`ChunkStore::get`] gives has the digest that is its name. A damaged copy is an error, never served.
//! * STORE-2: a chunk is there whole or not at all: backends write beside and rename.
//! * STORE-3: a chunk that was staged once is readable until all of its attempts were discarded, also while one of them is
//!   being published. A publishing that fails leaves what it has not moved staged, and may be repeated.
//! * STORE-4: a deletion never takes a chunk that was stored within the last ten minutes, unless its caller asked about it
//!   meanwhile and it was not stored again since. Deleting a chunk and storing it exclude each other.
//!
//! Nobody waits until a written chunk is on the disk, though it goes there at once: copies in other failure domains outlive a power
//! cut, and a copy that it tore is noticed by its digest.

use crate::{
    behind::Behind,
    digest::{name_of, name_of_read, tree_of, tree_of_file},
    direct::Direct,
    piece::{self, Tree, Trees},
    youth::{Young, Youth},
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::ready, stream};
use object_store::{
    Error as BackendError, ObjectStore, ObjectStoreExt, local::LocalFileSystem, memory::InMemory, path::Path as Key,
};
use quorate_protocol::{
    digest::{ChunkId, Digest},
    ids::{AttemptId, JobId, Stage, TaskId},
    limits,
};
use std::{
    collections::BTreeSet,
    error::Error as StdError,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::RwLock, time::Instant};

/// Backend operations of one call that run at once.
const PARALLEL_MAX: usize = 16;
/// Chunks that share a turn wait for each other's deletion.
const TURNS: usize = 64;

/// Why a chunk could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes to store are not the chunk that they were said to be.
    #[error("the bytes are chunk {got}, not {chunk}")]
    WrongBytes {
        /// The name given.
        chunk: ChunkId,
        /// The name of the bytes.
        got: ChunkId,
    },
    /// The bytes to store are more than a chunk may have.
    #[error("a chunk is at most {max} bytes long, and this one is {0}", max = limits::CHUNK_BYTES_MAX)]
    TooLong(usize),
    /// The copy kept here no longer has the digest that is its name.
    #[error("the copy of chunk {chunk} at {place} is damaged")]
    Damaged {
        /// The chunk.
        chunk: ChunkId,
        /// Its key in the backend.
        place: String,
    },
    /// The disk is full.
    #[error("no space is left for chunks; free some, or store them elsewhere")]
    Full(#[source] BackendError),
    /// The folder cannot be used.
    #[error("cannot keep chunks in {}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A chunk's file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The backend failed.
    #[error("the chunk store's backend failed")]
    Backend(#[source] BackendError),
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        if is_full(&error) { Self::Full(error) } else { Self::Backend(error) }
    }
}

/// Whether a lack of space is among an error's causes.
fn is_full(error: &BackendError) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a store holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Chunks, staged copies included.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The chunks of one server.
#[derive(Debug)]
pub struct ChunkStore {
    objects: Arc<dyn ObjectStore>,
    /// The same as `objects` when that is a local folder: it knows where the files are.
    folder: Option<Arc<LocalFileSystem>>,
    direct: Direct,
    behind: Behind,
    trees: Arc<Trees>,
    staged: Mutex<Staged>,
    youth: Mutex<Youth>,
    /// Storing a chunk shares its turn, deleting it takes it alone. Held across the backend's call, which is the point: a
    /// chunk that was noted in between would be deleted after it was acknowledged. [STORE-4]
    turns: [Arc<RwLock<()>>; TURNS],
}

/// Which attempts staged which chunks, so that finding a staged chunk takes no listing. A copy is noted after it was
/// written and forgotten after it was moved or deleted. [STORE-3]
#[derive(Debug, Default)]
struct Staged {
    attempts: BTreeSet<(AttemptId, ChunkId)>,
    chunks: BTreeSet<(ChunkId, AttemptId)>,
}

impl Staged {
    fn note(&mut self, attempt: AttemptId, chunk: ChunkId) {
        self.attempts.insert((attempt, chunk));
        self.chunks.insert((chunk, attempt));
    }

    fn forget(&mut self, attempt: AttemptId, chunk: ChunkId) {
        self.attempts.remove(&(attempt, chunk));
        self.chunks.remove(&(chunk, attempt));
    }

    fn chunks_of(&self, attempt: AttemptId) -> Vec<ChunkId> {
        let first = (attempt, ChunkId(Digest::from_bytes([0; 32])));
        self.attempts.range(first..).take_while(|(its, _)| *its == attempt).map(|(_, chunk)| *chunk).collect()
    }

    fn attempts_with(&self, chunk: ChunkId) -> Vec<AttemptId> {
        let first = TaskId { job: JobId::new(0), stage: Stage::Map, index: 0 };
        let first = (chunk, AttemptId { task: first, attempt: 0 });
        self.chunks.range(first..).take_while(|(its, _)| *its == chunk).map(|(_, attempt)| *attempt).collect()
    }
}

impl ChunkStore {
    /// Chunks in a local folder, which is made when it does not exist.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be made or read.
    pub async fn local(root: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: root.to_owned(), source };
        tokio::fs::create_dir_all(root).await.map_err(open)?;
        let folder = Arc::new(LocalFileSystem::new_with_prefix(root)?);
        let store = Self { folder: Some(folder.clone()), ..Self::empty(folder) };
        store.recover().await
    }

    /// Chunks in memory, for tests.
    pub fn memory() -> Self {
        Self::empty(Arc::new(InMemory::new()))
    }

    /// Chunks in any backend.
    ///
    /// # Errors
    /// [`StoreError`] when the backend does not answer.
    pub async fn open(objects: Arc<dyn ObjectStore>) -> Result<Self, StoreError> {
        Self::empty(objects).recover().await
    }

    fn empty(objects: Arc<dyn ObjectStore>) -> Self {
        let youth = Mutex::new(Youth::new(Instant::now()));
        let turns = std::array::from_fn(|_| Arc::default());
        Self {
            objects,
            folder: None,
            direct: Direct::default(),
            behind: Behind::default(),
            trees: Arc::default(),
            staged: Mutex::default(),
            youth,
            turns,
        }
    }

    /// Finds what was staged before a restart.
    async fn recover(self) -> Result<Self, StoreError> {
        let mut listed = self.objects.list(Some(&Key::from("staged")));
        while let Some(object) = listed.try_next().await? {
            match read_staged_key(&object.location) {
                Some((attempt, chunk)) => self.lock().note(attempt, chunk),
                None => tracing::warn!(key = %object.location, "not a staged chunk: left alone"),
            }
        }
        drop(listed);
        Ok(self)
    }

    /// Stores a chunk. Storing it again replaces the copy, which mends a damaged one.
    ///
    /// # Errors
    /// [`StoreError::WrongBytes`] when the bytes are not that chunk, and when the backend fails.
    pub async fn put(&self, chunk: ChunkId, bytes: Bytes) -> Result<(), StoreError> {
        check_length(&bytes)?;
        let (got, tree) = tree_of(&bytes).await;
        if got != chunk {
            return Err(StoreError::WrongBytes { chunk, got });
        }
        self.trees.keep(chunk, tree);
        let _turn = self.turn(chunk).read().await;
        self.youth().note(chunk, Instant::now());
        let key = chunk_key(chunk);
        self.objects.put(&key, bytes.into()).await?;
        if let Some(folder) = &self.folder {
            self.behind.push(folder.path_to_filesystem(&key)?);
        }
        Ok(())
    }

    /// Reads a chunk, published or staged; `None` when it is not here. The bytes are verified.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when every copy here has other bytes than its name says, and when the backend fails.
    pub async fn get(&self, chunk: ChunkId) -> Result<Option<Bytes>, StoreError> {
        self.find(chunk).await
    }

    /// The file that holds a chunk, its bytes verified just now; `None` when no such file is here, when the chunk is not
    /// `length` bytes long, and when the backend is no local folder. A staged chunk's file moves when its attempt is
    /// published, so a caller that no longer finds it asks again.
    ///
    /// # Errors
    /// As [`ChunkStore::get`].
    pub async fn verified_path(&self, chunk: ChunkId, length: u32) -> Result<Option<PathBuf>, StoreError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let trees = Arc::clone(&self.trees);
        let look = move |path: PathBuf| {
            let (name, tree) = tree_of_file(&path)?;
            Ok((name == chunk).then(|| (trees.keep(chunk, tree).length() == u64::from(length)).then_some(path)))
        };
        Ok(self.look_in_files(folder, chunk, look).await?.flatten())
    }

    /// One of a chunk's pieces and its proof, verified just now; `None` when the chunk is not here, or has no such piece. The
    /// rest of the chunk is read only when it was not digested lately.
    ///
    /// # Errors
    /// As [`ChunkStore::get`].
    pub(crate) async fn piece(&self, chunk: ChunkId, piece: u32) -> Result<Option<(Bytes, Vec<u8>)>, StoreError> {
        let Some(folder) = &self.folder else {
            return Ok(self.find(chunk).await?.and_then(|bytes| {
                let range = piece::range(bytes.len() as u64, piece)?;
                let proof = Tree::of(&bytes).1.proof(piece);
                Some((bytes.slice(range.start as usize..range.end as usize), proof))
            }));
        };
        let trees = Arc::clone(&self.trees);
        let look = move |path: PathBuf| {
            let tree = match trees.get(chunk) {
                Some(tree) => tree,
                None => match tree_of_file(&path)? {
                    (name, tree) if name == chunk => trees.keep(chunk, tree),
                    _ => return Ok(None),
                },
            };
            let Some(range) = piece::range(tree.length(), piece) else { return Ok(Some(None)) };
            let mut bytes = vec![0; (range.end - range.start) as usize];
            match File::open(&path)?.read_exact_at(&mut bytes, range.start) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            }
            let proof = tree.proof(piece);
            let is_right = piece::is_piece(chunk, tree.length(), piece, &bytes, &proof);
            Ok(is_right.then(|| Some((bytes.into(), proof))))
        };
        Ok(self.look_in_files(folder, chunk, look).await?.flatten())
    }

    /// Looks at the files that may hold a chunk, off the async threads, until `look` finds one of them right: `None` is a
    /// damaged one.
    async fn look_in_files<T: Send + 'static>(
        &self,
        folder: &LocalFileSystem,
        chunk: ChunkId,
        look: impl Fn(PathBuf) -> io::Result<Option<T>> + Clone + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let mut failed = None;
        for key in self.places(chunk) {
            let path = folder.path_to_filesystem(&key)?;
            let (look, there) = (look.clone(), path.clone());
            let looked = tokio::task::spawn_blocking(move || look(there)).await.map_err(io::Error::other).flatten();
            match looked {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {
                    failed.get_or_insert(StoreError::Damaged { chunk, place: key.to_string() });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => failed = Some(StoreError::Read { path, source }),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// A chunk's length, `None` when it is not here. Nothing is verified.
    ///
    /// # Errors
    /// When the backend fails.
    pub async fn length(&self, chunk: ChunkId) -> Result<Option<u64>, StoreError> {
        let mut failed = None;
        for key in self.places(chunk) {
            match self.objects.head(&key).await {
                Ok(meta) => return Ok(Some(meta.size)),
                Err(BackendError::NotFound { .. }) => {}
                Err(error) => failed = Some(error.into()),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Keeps a piece of a reduce attempt's output, readable by its name at once. A piece whose address and length are
    /// multiples of [`ALIGNMENT`](crate::ALIGNMENT) is written past the page cache where that is fast.
    ///
    /// # Errors
    /// When it is too long or the backend fails.
    pub async fn stage(&self, attempt: AttemptId, bytes: Bytes) -> Result<ChunkId, StoreError> {
        check_length(&bytes)?;
        let chunk = name_of(&bytes).await;
        let key = staged_key(attempt, chunk);
        let written = match &self.folder {
            Some(folder) => self.direct.write(folder.path_to_filesystem(&key)?, &bytes).await,
            None => false,
        };
        if !written {
            self.objects.put(&key, bytes.into()).await?;
        }
        self.lock().note(attempt, chunk);
        Ok(chunk)
    }

    /// Makes an attempt's output permanent. Without anything staged nothing happens, so it may be repeated.
    ///
    /// # Errors
    /// When the backend fails: as much as can be is published, and the rest stays staged, readable and in
    /// [`ChunkStore::staged`] until this is repeated.
    pub async fn publish(&self, attempt: AttemptId) -> Result<(), StoreError> {
        let chunks = self.lock().chunks_of(attempt);
        all(chunks.into_iter().map(|chunk| self.publish_chunk(attempt, chunk))).await?;
        self.drop_folder(attempt).await;
        Ok(())
    }

    async fn publish_chunk(&self, attempt: AttemptId, chunk: ChunkId) -> Result<(), StoreError> {
        let _turn = self.turn(chunk).read().await;
        self.youth().note(chunk, Instant::now());
        match self.objects.rename(&staged_key(attempt, chunk), &chunk_key(chunk)).await {
            // Moved by a call that was dropped meanwhile; but a folder that is away for a while has moved nothing.
            Err(error @ BackendError::NotFound { .. }) => {
                self.objects.head(&chunk_key(chunk)).await.map_err(|_| error)?;
            }
            moved => moved?,
        }
        self.lock().forget(attempt, chunk);
        Ok(())
    }

    /// Drops an attempt's staged output, and nothing of any other attempt's. The attempt has ended: it stages nothing more.
    ///
    /// # Errors
    /// When the backend fails; it may be repeated.
    pub async fn discard(&self, attempt: AttemptId) -> Result<(), StoreError> {
        let deletions = self.lock().chunks_of(attempt).into_iter().map(|chunk| async move {
            ignore_missing(self.objects.delete(&staged_key(attempt, chunk)).await)?;
            self.lock().forget(attempt, chunk);
            Ok(())
        });
        all(deletions).await?;
        self.drop_folder(attempt).await;
        Ok(())
    }

    /// The attempts that have something staged, in order; after a restart, those of the time before too.
    pub fn staged(&self) -> Vec<AttemptId> {
        let mut attempts: Vec<_> = self.lock().attempts.iter().map(|(attempt, _)| *attempt).collect();
        attempts.dedup();
        attempts
    }

    /// Deletes published chunks but the young ones, and gives those: a client may have stored them anew. Ask later whether
    /// a file has them by then, and give [`ChunkStore::remove_unreferenced`] those that none has. Copies that attempts have
    /// staged stay theirs.
    ///
    /// # Errors
    /// When the backend fails; it may be repeated.
    pub async fn remove(&self, chunks: &[ChunkId]) -> Result<Vec<Young>, StoreError> {
        // Owned names: a borrowing closure would make this future one that no spawned task can hold.
        let names: Vec<ChunkId> = chunks.to_vec();
        let deletions =
            names.into_iter().map(|chunk| self.delete_unless(chunk, move |youth, now| youth.young(chunk, now)));
        let done: Vec<_> = stream::iter(deletions).buffer_unordered(PARALLEL_MAX).collect().await;
        done.into_iter().filter_map(Result::transpose).collect()
    }

    /// Deletes chunks that [`ChunkStore::remove`] kept, but for those that were stored again since.
    ///
    /// # Errors
    /// When the backend fails; it may be repeated.
    pub async fn remove_unreferenced(&self, young: &[Young]) -> Result<(), StoreError> {
        let owned: Vec<Young> = young.to_vec();
        all(owned.into_iter().map(|young| async move {
            let again = move |youth: &mut Youth, now| youth.stored_since(young, now).then_some(());
            self.delete_unless(young.chunk, again).await.map(|_| ())
        }))
        .await
    }

    /// Deletes a published chunk unless there is something that speaks for keeping it. [STORE-4]
    async fn delete_unless<T>(
        &self,
        chunk: ChunkId,
        kept: impl FnOnce(&mut Youth, Instant) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let turn = self.turn(chunk).clone().write_owned().await;
        if let Some(kept) = kept(&mut self.youth(), Instant::now()) {
            return Ok(Some(kept));
        }
        let objects = self.objects.clone();
        // A task of its own: the turn must not end with a caller that gives up while the backend still deletes.
        let deletion = tokio::spawn(async move {
            let deleted = objects.delete(&chunk_key(chunk)).await;
            drop(turn);
            deleted
        });
        ignore_missing(deletion.await.map_err(BackendError::from).flatten())?;
        Ok(None)
    }

    /// Counts what is here, by listing it.
    ///
    /// # Errors
    /// When the backend fails.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        let add = |usage: Usage, size| Usage { chunks: usage.chunks + 1, bytes: usage.bytes.saturating_add(size) };
        let objects = self.objects.list(None);
        Ok(objects.try_fold(Usage::default(), |usage, object| async move { Ok(add(usage, object.size)) }).await?)
    }

    fn lock(&self) -> MutexGuard<'_, Staged> {
        // Nothing under this lock can panic but an allocation, which ends the process.
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn youth(&self) -> MutexGuard<'_, Youth> {
        self.youth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, chunk: ChunkId) -> &Arc<RwLock<()>> {
        &self.turns[usize::from(chunk.0.as_bytes()[0]) % TURNS]
    }

    /// The first whole copy of a chunk. What is wrong with one place does not keep it from the next.
    async fn find(&self, chunk: ChunkId) -> Result<Option<Bytes>, StoreError> {
        let mut failed = None;
        for key in self.places(chunk) {
            match self.read(chunk, &key).await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                // Damage is reported when it is all there is: behind a place that failed there may be a whole copy.
                Err(error @ StoreError::Damaged { .. }) => {
                    failed.get_or_insert(error);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Where a chunk may be, in the order to look. A staged chunk that is being published may have left its stage when a
    /// reader gets there, so its published place comes last again. [STORE-3]
    fn places(&self, chunk: ChunkId) -> Vec<Key> {
        let attempts = self.lock().attempts_with(chunk);
        let mut places = vec![chunk_key(chunk)];
        if !attempts.is_empty() {
            places.extend(attempts.into_iter().map(|attempt| staged_key(attempt, chunk)));
            places.push(chunk_key(chunk));
        }
        places
    }

    async fn read(&self, chunk: ChunkId, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let damaged = || StoreError::Damaged { chunk, place: key.to_string() };
        let object = match self.objects.get(key).await {
            Ok(object) => object,
            Err(BackendError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if object.meta.size > limits::CHUNK_BYTES_MAX {
            return Err(damaged());
        }
        let bytes = object.bytes().await?;
        if name_of_read(&bytes).await == chunk { Ok(Some(bytes)) } else { Err(damaged()) }
    }

    /// Local folders stay behind when they are empty: one for each attempt would pile up.
    async fn drop_folder(&self, attempt: AttemptId) {
        if let Some(folder) = &self.folder
            && let Ok(path) = folder.path_to_filesystem(&attempt_key(attempt))
        {
            // Not there, or not empty because of somebody else's file: either way nothing is to be done.
            let _ = tokio::fs::remove_dir(path).await;
        }
    }
}

fn check_length(bytes: &Bytes) -> Result<(), StoreError> {
    if bytes.len() as u64 > limits::CHUNK_BYTES_MAX { Err(StoreError::TooLong(bytes.len())) } else { Ok(()) }
}

/// Does all of it, whatever becomes of the parts, and gives the first error.
async fn all(parts: impl Iterator<Item = impl Future<Output = Result<(), StoreError>>>) -> Result<(), StoreError> {
    stream::iter(parts).buffer_unordered(PARALLEL_MAX).fold(Ok(()), |done, part| ready(done.and(part))).await
}

fn ignore_missing(done: Result<(), BackendError>) -> Result<(), StoreError> {
    match done {
        Err(BackendError::NotFound { .. }) => Ok(()),
        done => Ok(done?),
    }
}

fn chunk_key(chunk: ChunkId) -> Key {
    let name = chunk.to_string();
    Key::from_iter(["chunks", &name[..2], &name])
}

fn attempt_key(attempt: AttemptId) -> Key {
    Key::from_iter(["staged".to_owned(), attempt.to_string().replace('/', "_")])
}

fn staged_key(attempt: AttemptId, chunk: ChunkId) -> Key {
    attempt_key(attempt).join(chunk.to_string())
}

/// Reads what [`staged_key`] wrote; a file that somebody else put there is none.
fn read_staged_key(key: &Key) -> Option<(AttemptId, ChunkId)> {
    let mut parts = key.parts().skip(1);
    let (attempt, chunk) = (parts.next()?, parts.next()?);
    let attempt: AttemptId = attempt.as_ref().replacen('_', "/", 1).parse().ok()?;
    let digest: Vec<u8> = (0..32)
        .map(|i| chunk.as_ref().get(2 * i..2 * i + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect::<Option<_>>()?;
    let chunk = ChunkId(Digest::from_bytes(digest.try_into().ok()?));
    (staged_key(attempt, chunk) == *key).then_some((attempt, chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_stored_goes_to_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = ChunkStore::local(folder.path()).await.expect("opened");
        store.behind.hold();
        let bytes = Bytes::from_static(b"bytes");
        let chunk = ChunkId(Digest::of(&bytes));
        store.put(chunk, bytes.clone()).await.expect("stored");
        let [path] = &store.behind.waiting()[..] else { panic!("one file waits: {:?}", store.behind.waiting()) };
        assert_eq!(std::fs::read(path).expect("it is there"), bytes);
    }

    #[test]
    fn a_full_disk_is_found_among_the_causes() {
        /// As the backend for local folders wraps what the system says.
        #[derive(Debug, thiserror::Error)]
        #[error("unable to copy data to file")]
        struct Copying(#[source] io::Error);

        let backend = |kind: io::ErrorKind| {
            StoreError::from(BackendError::Generic { store: "test", source: Box::new(Copying(kind.into())) })
        };
        assert!(matches!(backend(io::ErrorKind::StorageFull), StoreError::Full(_)));
        assert!(matches!(backend(io::ErrorKind::QuotaExceeded), StoreError::Full(_)));
        assert!(matches!(backend(io::ErrorKind::PermissionDenied), StoreError::Backend(_)));
    }

    #[test]
    fn staged_keys_read_back_and_others_are_none() {
        let attempt: AttemptId = "job-7/reduce-3.1".parse().expect("an attempt");
        let chunk = ChunkId(Digest::of(b"x"));
        assert_eq!(read_staged_key(&staged_key(attempt, chunk)), Some((attempt, chunk)));
        let name = chunk.to_string();
        for other in ["staged/job-7_reduce-3.1", "staged/x/y", "staged/job-7_reduce-3.1/zz"] {
            assert_eq!(read_staged_key(&Key::from(other)), None, "{other}");
        }
        let wrong = [name.to_uppercase(), format!("{name}00"), format!("+1{}", &name[2..]), "ß".repeat(32)];
        for name in wrong {
            assert_eq!(read_staged_key(&attempt_key(attempt).join(name.clone())), None, "{name}");
        }
    }

    #[test]
    fn staged_copies_are_found_by_attempt_and_by_chunk() {
        let attempt = |text: &str| text.parse::<AttemptId>().expect("an attempt");
        let chunk = |n: u8| ChunkId(Digest::from_bytes([n; 32]));
        let (a, b) = (attempt("job-0/map-0.0"), attempt("job-1/reduce-0.0"));
        let mut staged = Staged::default();
        for (attempt, chunk) in [(a, chunk(0)), (a, chunk(255)), (b, chunk(0))] {
            staged.note(attempt, chunk);
        }
        assert_eq!(staged.chunks_of(a), [chunk(0), chunk(255)]);
        assert_eq!(staged.attempts_with(chunk(0)), [a, b]);
        staged.forget(a, chunk(0));
        assert_eq!(staged.attempts_with(chunk(0)), [b]);
        assert_eq!(staged.chunks_of(a), [chunk(255)]);
    }
}
