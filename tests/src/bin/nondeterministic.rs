//! Programs that do not give the same each time, one for each mode: what `check-determinism` must find, and name.
//!
//! And some that do, although they look suspicious.

use quorate::prelude::*;
use std::{
    collections::{HashMap, HashSet},
    env, fs,
    hash::{BuildHasher, RandomState},
    process::{self, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// What the program does.
#[derive(Clone, Debug, clap::Args, serde::Serialize, serde::Deserialize)]
#[serde(crate = "quorate::serde")]
struct Mode {
    /// Which of the ways not to give the same each time
    #[arg(long)]
    mode: String,
}

struct Map(String);

impl Mapper for Map {
    type Input = Lines;
    type Key = [u8];
    type Value = [u8];
    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], [u8]>) -> Result<()> {
        match value(&self.0, line)? {
            Some(value) => Ok(out.emit(line, &value)?),
            None => Ok(()),
        }
    }
}

/// What one word is mapped to: `None` emits nothing.
fn value(mode: &str, line: &[u8]) -> Result<Option<Vec<u8>>> {
    let words: Vec<&str> = std::str::from_utf8(line)?.split(' ').collect();
    let text = |text: String| Ok(Some(text.into_bytes()));
    match mode {
        "clock-seconds" => text(now()?.as_secs().to_string()),
        "clock-nanoseconds" => text(now()?.as_nanos().to_string()),
        "clock-binary" => Ok(Some((now()?.as_millis() as u64).to_be_bytes().to_vec())),
        "instant" => {
            let start = Instant::now();
            let spent: u64 = (0..10_000u64).map(|n| n ^ words.len() as u64).sum();
            text(format!("{} {}", spent.min(1), start.elapsed().as_nanos()))
        }
        "random" => text(random()?.to_string()),
        "random-sample" => Ok(random()?.is_multiple_of(2).then(|| line.to_vec())),
        "random-failure" if random()?.is_multiple_of(2) => Err(Error::new("it does not work today")),
        "random-failure" | "steady" | "reducer-order" | "counter" => Ok(Some(line.to_vec())),
        "hash-map-order" => text(
            words.iter().map(|word| (*word, 1)).collect::<HashMap<_, _>>().into_keys().collect::<Vec<_>>().join(","),
        ),
        "hash-set-first" => {
            let words: HashSet<&str> = words.into_iter().collect();
            Ok(words.iter().next().map(|word| word.as_bytes().to_vec()))
        }
        "hash-seed" => text(RandomState::new().hash_one(line).to_string()),
        "hash-map-floats" => {
            let numbers: HashMap<usize, f64> = (0..1000).map(|n| (n, 1.0 / (n as f64 + 1.1))).collect();
            text(numbers.values().sum::<f64>().to_string())
        }
        "float-race" => text(raced().iter().map(|n| 1.0 / (f64::from(*n) + 1.1)).sum::<f64>().to_string()),
        "thread-race" => text(raced().iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        "channel-order" => text(sent().iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
        "environment" => text(env::var("USER").unwrap_or_default()),
        "locale" => {
            let point = if env::var("LC_ALL").is_ok_and(|locale| locale.starts_with("de")) { "," } else { "." };
            text(format!("1{point}5"))
        }
        "address" => text(format!("{:p}", Box::new(1).as_ref())),
        "address-order" => {
            let mut boxes: Vec<Box<&str>> = words.into_iter().map(Box::new).collect();
            boxes.sort_by_key(|word| (std::ptr::from_ref::<&str>(word) as usize).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            text(boxes.iter().map(|word| **word).collect::<Vec<_>>().join(" "))
        }
        "process-id" => text(format!("by {}", process::id())),
        "thread-id" => text(format!("{:?}", thread::current().id())),
        "working-folder" => text(env::current_dir()?.display().to_string()),
        "temporary-folder" => text(env::temp_dir().display().to_string()),
        "host-name" => text(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned()),
        "count-of-tasks" => {
            static CALLS: AtomicU64 = AtomicU64::new(0);
            text(CALLS.fetch_add(1, Ordering::Relaxed).to_string())
        }
        "file-time" => {
            fs::write("made-now", line)?;
            let modified = fs::metadata("made-now")?.modified()?;
            text(modified.duration_since(UNIX_EPOCH)?.as_millis().to_string())
        }
        "nan-bits" => Ok(Some(f64::from_bits(f64::NAN.to_bits() | random()? >> 14).to_le_bytes().to_vec())),
        "processors" => text(thread::available_parallelism()?.to_string()),
        // A hash map that nobody sees the order of.
        "sorted-hash-map" => {
            let mut words: Vec<&str> = words.into_iter().collect::<HashSet<_>>().into_iter().collect();
            words.sort_unstable();
            text(words.join(","))
        }
        other => Err(Error::new(format!("there is no mode {other}"))),
    }
}

fn now() -> Result<std::time::Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| Error::new(error.to_string()))
}

/// Numbers in the order in which threads came to put them down.
fn raced() -> Vec<u32> {
    let numbers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..4u32 {
            let numbers = &numbers;
            scope.spawn(move || {
                for n in 0..2000 {
                    numbers.lock().expect("nobody panics").push(thread * 2000 + n);
                }
            });
        }
    });
    numbers.into_inner().expect("nobody panics")
}

/// Numbers in the order in which they came through a channel.
fn sent() -> Vec<u32> {
    let (to, numbers) = mpsc::channel();
    for thread in 0..4u32 {
        let to = to.clone();
        thread::spawn(move || (0..2000).for_each(|n| to.send(thread * 2000 + n).expect("it is awaited")));
    }
    drop(to);
    numbers.into_iter().collect()
}

struct Reduce(String);

impl Reducer for Reduce {
    type Key = [u8];
    type Value = [u8];
    type Output = TextLines;
    fn reduce(&mut self, key: &[u8], values: Values<'_, [u8]>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        let mut values = values;
        let mut last = Vec::new();
        while let Some(value) = values.next_ref() {
            last = value.to_vec();
        }
        match self.0.as_str() {
            "reducer-order" => {
                let words: HashSet<&[u8]> = key.split(|byte| *byte == b' ').collect();
                words.into_iter().try_for_each(|word| out.write(word, &1u64))
            }
            "counter" => {
                out.count("nanoseconds", now()?.subsec_nanos().into());
                out.write(key, last.as_slice())
            }
            _ => out.write(key, last.as_slice()),
        }
    }
}

fn main() -> ExitCode {
    quorate::main(App::new("nondeterministic", |args: &Mode| {
        let (map, reduce) = (args.mode.clone(), args.mode.clone());
        Job::new(move || Map(map.clone()), move || Reduce(reduce.clone()))
    }))
}
