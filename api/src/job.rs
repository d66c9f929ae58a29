//! A job: a mapper, a reducer, and how they are put together.

use crate::{
    error::{Error, Result, into_task_error},
    guard,
    input::Input,
    mapper::{MapContext, Mapper},
    output::Writer,
    reducer::{ReduceContext, Reducer},
};
use quorate_engine::{
    collect::{Collected, CombineCollector, SortCollector},
    emitter::{Collect, Emitter},
    groups::Groups,
    key::Key,
    partition::Partitioner,
    program::{FetchedSegment, InputSource, MapProduct, MapTask, ReduceProduct, ReduceTask, TaskError, Watch},
    value::OwnedValue,
};
use quorate_protocol::{
    job::InputKind,
    limits,
    vote::{Counters, FailureKind},
};
use std::{
    cell::Cell,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

type Factory<T> = Arc<dyn Fn() -> T + Send + Sync>;
type Feed<'a, V> = &'a mut dyn FnMut(&mut dyn Collect<V>) -> Result<()>;
type CollectFn<V> = Arc<dyn Fn(CollectPlace<'_>, Feed<'_, V>) -> Result<Collected> + Send + Sync>;

/// Where a collector works, and how.
struct CollectPlace<'a> {
    directory: &'a Path,
    partitioner: Partitioner,
    memory: u64,
    watch: &'a Watch,
}

/// A job of a mapper `M` and a reducer `R`.
///
/// ```
/// # use quorate::prelude::*;
/// # struct Words;
/// # impl Mapper for Words {
/// #     type Input = Lines;
/// #     type Key = [u8];
/// #     type Value = u64;
/// #     fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> { Ok(out.emit(line, &1)?) }
/// # }
/// # struct Sum;
/// # impl Reducer for Sum {
/// #     type Key = [u8];
/// #     type Value = u64;
/// #     type Output = TextLines;
/// #     fn reduce(&mut self, key: &[u8], values: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
/// #         out.write(key, &values.sum::<u64>())
/// #     }
/// # }
/// let job = Job::new(|| Words, || Sum).combiner(|total, count| *total += count).reducers(1);
/// let outcome = quorate::testing::run(job, &[("/text", b"b\na\nb\n")]).unwrap();
/// assert_eq!(outcome.lines(), ["a\t1", "b\t2"]);
/// ```
pub struct Job<M: Mapper, R> {
    mapper: Factory<M>,
    reducer: Factory<R>,
    collect: CollectFn<M::Value>,
    reducers: Option<u32>,
    sorted: bool,
}

impl<M, R> Job<M, R>
where
    M: Mapper + 'static,
    R: Reducer<Key = M::Key, Value = M::Value> + 'static,
{
    /// A job; the closures make the mapper or reducer of one task.
    pub fn new(
        mapper: impl Fn() -> M + Send + Sync + 'static,
        reducer: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        let collect = |place: CollectPlace<'_>, feed: Feed<'_, M::Value>| {
            let mut collector = SortCollector::new(place.directory, place.partitioner, place.memory);
            feed(&mut collector)?;
            Ok(collector.finish(place.watch)?)
        };
        Self {
            mapper: Arc::new(mapper),
            reducer: Arc::new(reducer),
            collect: Arc::new(collect),
            reducers: None,
            sorted: false,
        }
    }

    /// Combines values of one key in the map task already: `combine` adds a value to the one before. It must be
    /// associative, since any neighbours may be combined first.
    #[must_use]
    pub fn combiner(mut self, combine: impl Fn(&mut M::Value, &M::Value) + Send + Sync + 'static) -> Self
    where
        M::Value: OwnedValue,
    {
        self.collect = Arc::new(move |place: CollectPlace<'_>, feed: Feed<'_, M::Value>| {
            let mut collector = CombineCollector::new(place.directory, place.partitioner, place.memory, &combine);
            feed(&mut collector)?;
            Ok(collector.finish(place.watch)?)
        });
        self
    }

    /// Fixes the number of reduce tasks, whatever the command line says.
    #[must_use]
    pub fn reducers(mut self, reducers: u32) -> Self {
        self.reducers = Some(reducers);
        self
    }

    /// Gives keys to partitions by ranges instead of by hash, so that the parts, one after the other, are sorted. The
    /// ranges come from a sample of the input.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.sorted = true;
        self
    }
}

/// A job without its types.
pub struct AnyJob {
    pub(crate) input_kind: InputKind,
    pub(crate) reducers: Option<u32>,
    pub(crate) sorted: bool,
    pub(crate) tasks: Arc<dyn Tasks>,
}

/// What a closure that makes a job may return: the job, or why there is none.
pub trait IntoJob {
    /// The job without its types.
    ///
    /// # Errors
    /// Why there is none.
    fn into_job(self) -> Result<AnyJob>;
}

impl<M, R> IntoJob for Job<M, R>
where
    M: Mapper + 'static,
    R: Reducer<Key = M::Key, Value = M::Value> + 'static,
{
    fn into_job(self) -> Result<AnyJob> {
        let (reducers, sorted) = (self.reducers, self.sorted);
        Ok(AnyJob { input_kind: M::Input::KIND, reducers, sorted, tasks: Arc::new(self) })
    }
}

impl<J: IntoJob> IntoJob for Result<J> {
    fn into_job(self) -> Result<AnyJob> {
        self?.into_job()
    }
}

/// The tasks of a job without its types.
pub(crate) trait Tasks: Send + Sync {
    /// As [`quorate_engine::program::Program::map`].
    fn map(
        &self,
        task: &MapTask,
        input: &mut dyn InputSource,
        directory: &Path,
        watch: &Watch,
    ) -> Result<MapProduct, TaskError>;
    /// As [`quorate_engine::program::Program::reduce`].
    fn reduce(
        &self,
        task: &ReduceTask,
        segments: &[FetchedSegment],
        output: &mut dyn Write,
        directory: &Path,
        watch: &Watch,
    ) -> Result<ReduceProduct, TaskError>;
}

impl<M, R> Tasks for Job<M, R>
where
    M: Mapper + 'static,
    R: Reducer<Key = M::Key, Value = M::Value> + 'static,
{
    fn map(
        &self,
        task: &MapTask,
        input: &mut dyn InputSource,
        directory: &Path,
        watch: &Watch,
    ) -> Result<MapProduct, TaskError> {
        let mut counters = Counters::new();
        let collected = guarded(|record| {
            let partitioner = Partitioner::new(&task.partitioning, task.context.partitions);
            let place = CollectPlace { directory, partitioner, memory: task.context.memory, watch };
            let collected = (self.collect)(place, &mut |collector| {
                self.map_split(task, input, collector, &mut counters, record, watch)
            })?;
            check_counters(&counters)?;
            Ok(collected)
        })?;
        Ok(collected.into_product(counters))
    }

    fn reduce(
        &self,
        task: &ReduceTask,
        segments: &[FetchedSegment],
        output: &mut dyn Write,
        directory: &Path,
        watch: &Watch,
    ) -> Result<ReduceProduct, TaskError> {
        let counters = guarded(|record| {
            let mut groups = Groups::open(segments, task.context.memory, directory, watch)?;
            let mut reducer = (self.reducer)();
            let mut out = Writer::<R::Output>::open(output)?;
            reducer.setup(&ReduceContext(task))?;
            while let Some(group) = groups.next_group()? {
                record.next();
                let key = R::Key::decode(group.key).map_err(undecodable)?;
                let outcome = reducer.reduce(key, group.values(), &mut out);
                // The machine's own failure comes first: what the reducer made of it is no fault of the program.
                if let Some(failure) = groups.failure() {
                    return Err(failure.into());
                }
                outcome?;
            }
            record.end();
            reducer.finish(&mut out)?;
            let counters = out.close()?;
            check_counters(&counters)?;
            Ok(counters)
        })?;
        Ok(ReduceProduct { counters })
    }
}

impl<M: Mapper, R> Job<M, R> {
    fn map_split(
        &self,
        task: &MapTask,
        input: &mut dyn InputSource,
        collector: &mut dyn Collect<M::Value>,
        counters: &mut Counters,
        record: &RecordNumber,
        watch: &Watch,
    ) -> Result<()> {
        let mut mapper = (self.mapper)();
        mapper.setup(&MapContext(task))?;
        let mut out = Emitter::<M::Key, M::Value>::new(collector, counters);
        M::Input::read(task, input, watch, |one| {
            record.next();
            mapper.map(one, &mut out)
        })?;
        record.end();
        mapper.finish(&mut out)
    }
}

/// The number of the record, or key, that user code is working on.
#[derive(Default)]
struct RecordNumber {
    begun: Cell<u64>,
    ended: Cell<bool>,
}

impl RecordNumber {
    #[inline]
    fn next(&self) {
        self.begun.set(self.begun.get() + 1);
    }
    fn end(&self) {
        self.ended.set(true);
    }
    fn get(&self) -> Option<u64> {
        if self.ended.get() { None } else { self.begun.get().checked_sub(1) }
    }
}

/// Runs a task: what goes wrong in user code becomes a failure of the program, at the record where it was.
fn guarded<T>(task: impl FnOnce(&RecordNumber) -> Result<T>) -> Result<T, TaskError> {
    let number = RecordNumber::default();
    let failed = |kind, message| TaskError::Program { kind, record: number.get(), message };
    match guard::catch(|| task(&number)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(match into_task_error(error) {
            Ok(TaskError::Program { kind, record: None, message }) => failed(kind, message),
            Ok(error) => error,
            Err(error) => failed(FailureKind::UserError, error.chain()),
        }),
        Err(message) => Err(failed(FailureKind::UserPanic, message)),
    }
}

/// The limits of a vote, told to the user in the user's words.
fn check_counters(counters: &Counters) -> Result<()> {
    if counters.len() > limits::COUNTERS_MAX {
        return Err(Error::new(format!("{} counters, and a job has at most {}", counters.len(), limits::COUNTERS_MAX)));
    }
    match counters.keys().find(|name| name.len() > limits::COUNTER_NAME_BYTES_MAX) {
        Some(name) => Err(Error::new(format!(
            "counter {name:?} has a name of more than {} bytes",
            limits::COUNTER_NAME_BYTES_MAX
        ))),
        None => Ok(()),
    }
}

fn undecodable(error: quorate_engine::value::DecodeError) -> TaskError {
    TaskError::machine("merge segments", io::Error::new(io::ErrorKind::InvalidData, error))
}
