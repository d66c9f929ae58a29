//! What makes a program give something else each time: found by experiment, or guessed by how the values look.

use super::{attempt::Processes, rounds::Round};
use serde::Serialize;
use std::{
    fmt::{self, Display, Formatter},
    time::{SystemTime, UNIX_EPOCH},
};

/// Values so near to the present are called times, in seconds.
const NEAR_SECONDS: u128 = 2 * 24 * 3600;
/// Numbers below this may be counts or durations in nanoseconds; random ones are seldom as small.
const SMALL: u128 = 100_000_000_000;
/// Floats that differ by less than this part of them are called one sum in two orders.
const CLOSE: f64 = 1e-6;

/// A usual suspect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspect {
    /// Times of now.
    Clock,
    /// Small numbers that differ: durations, or counts of what is not always the same.
    Duration,
    /// Large numbers without any likeness.
    Random,
    /// The same in another order, or another choice from the same.
    HashOrder,
    /// Records that one has and the other has not.
    Choice,
    /// Floats that differ in their last digits.
    FloatOrder,
    /// Floats that are no numbers, with different bits.
    NanBits,
    /// Addresses in memory.
    Address,
    /// Numbers of processes or threads.
    ProcessId,
    /// Threads' names for themselves.
    ThreadId,
    /// What differs on several processors, and not on one.
    Race,
    /// How many processors there are.
    Processors,
    /// The environment.
    Environment,
    /// The folder.
    Folder,
    /// The host's name.
    HostName,
    /// What one task leaves for the next in the same process.
    SharedState,
}

impl Suspect {
    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Suspect::Clock => "leave times out, or take them from the input",
            Suspect::Duration => "leave measurements out of the output and of counters",
            Suspect::Random => "seed random numbers from the input; a hasher, with a constant",
            Suspect::HashOrder => "use a BTreeMap or BTreeSet, or sort before anything is emitted or chosen",
            Suspect::Choice => "choose by what is in the input, or by a random number that is seeded from it",
            Suspect::FloatOrder => "add floats in one order, or add integers",
            Suspect::NanBits => "replace every NaN by f64::NAN before it is emitted",
            Suspect::Address => "leave addresses out, and do not sort by them",
            Suspect::ProcessId => "leave the numbers of processes and threads out",
            Suspect::ThreadId => "leave threads' names out",
            Suspect::Race => "join threads and put their results in order, or use one thread",
            Suspect::Processors => "do not let what is emitted depend on the number of threads",
            Suspect::Environment => "take settings from the job's arguments",
            Suspect::Folder => "leave paths out",
            Suspect::HostName => "leave the host's name out",
            Suspect::SharedState => {
                "keep state in the mapper or reducer, which is made anew for each task, not in statics"
            }
        }
    }
}

impl Display for Suspect {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Suspect::Clock => "a clock",
            Suspect::Duration => "a measured duration, or a count that is not always the same",
            Suspect::Random => "random numbers, or a hash with a random seed",
            Suspect::HashOrder => "the order of a hash map or hash set",
            Suspect::Choice => "a choice of records: a random sample, or what comes first in a hash map",
            Suspect::FloatOrder => "floats that are added in another order",
            Suspect::NanBits => "the bits of a NaN",
            Suspect::Address => "an address in memory",
            Suspect::ProcessId => "the number of a process or thread",
            Suspect::ThreadId => "the number of a thread",
            Suspect::Race => "threads that race",
            Suspect::Processors => "the number of processors",
            Suspect::Environment => "the environment",
            Suspect::Folder => "the folder in which the task runs, or that of temporary files",
            Suspect::HostName => "the host's name",
            Suspect::SharedState => "state that tasks in one process share",
        })
    }
}

/// Two values that should be one.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) values: &'a [Vec<u8>; 2],
    /// The processes of the attempts that gave them.
    pub(super) processes: [Processes; 2],
}

/// What is known of a task that differs.
pub(super) struct Evidence<'a> {
    /// Rounds in which it differs from the first.
    pub(super) rounds: &'a [Round],
    /// What the first round has at the first difference, and what another one has.
    pub(super) pairs: Vec<Pair<'a>>,
    /// Whether they have the same records or lines in another order.
    pub(super) reordered: bool,
    /// Whether it is always a whole record that one has and the other has not.
    pub(super) is_choice: bool,
    /// Whether it gives the same on one processor each time.
    pub(super) is_steady_on_one: bool,
}

/// What is suspected, the likeliest first.
pub(super) fn suspects(evidence: &Evidence<'_>) -> Vec<Suspect> {
    if !evidence.rounds.contains(&Round::Again) {
        return by_experiment(evidence);
    }
    let looks = by_looks(evidence);
    // What differs each time on all processors, and never on one, is made by threads. A hash map's order would have to come
    // out alike by chance.
    let is_race = evidence.is_steady_on_one && !matches!(looks, Some(Suspect::Clock | Suspect::Address));
    let mut suspects: Vec<Suspect> = is_race.then_some(Suspect::Race).into_iter().chain(looks).collect();
    suspects.truncate(2);
    suspects
}

/// Rounds that change one thing, and nothing else differs.
fn by_experiment(evidence: &Evidence<'_>) -> Vec<Suspect> {
    let changed = |round: &Round| match round {
        Round::Again | Round::SharedProcess => None,
        Round::OneProcessor => Some(Suspect::Processors),
        Round::Environment => Some(Suspect::Environment),
        Round::Folder => Some(Suspect::Folder),
        Round::HostName => Some(Suspect::HostName),
    };
    let mut suspects: Vec<Suspect> = evidence.rounds.iter().filter_map(changed).collect();
    // A shared process has another folder and environment as well, so that it tells something only when it differs alone.
    if suspects.is_empty() {
        let looks = by_looks(evidence).filter(|looks| matches!(looks, Suspect::ThreadId));
        suspects.push(looks.unwrap_or(Suspect::SharedState));
    }
    suspects
}

/// A guess by how values look, that all pairs allow.
fn by_looks(evidence: &Evidence<'_>) -> Option<Suspect> {
    if evidence.reordered {
        return Some(Suspect::HashOrder);
    }
    let guesses: Vec<Option<Suspect>> = evidence.pairs.iter().map(Pair::look).collect();
    // One pair may look like something by chance; what most look like is it.
    let count = |suspect: &Suspect| guesses.iter().filter(|guess| **guess == Some(*suspect)).count();
    let looks = guesses.iter().flatten().copied().max_by_key(|suspect| (count(suspect), std::cmp::Reverse(*suspect)));
    let is_telling = !matches!(looks, None | Some(Suspect::Duration | Suspect::HashOrder));
    if evidence.is_choice && !is_telling { Some(Suspect::Choice) } else { looks }
}

impl Pair<'_> {
    fn look(&self) -> Option<Suspect> {
        let [one, other] = self.values;
        match (printable(one), printable(other)) {
            (Some(one), Some(other)) => self.look_at_text(one, other),
            _ => self.look_at_bytes(one, other),
        }
    }

    fn look_at_text(&self, one: &str, other: &str) -> Option<Suspect> {
        let (ours, theirs) = (tokens(one), tokens(other));
        if ours != theirs && sorted(&ours) == sorted(&theirs) {
            return Some(Suspect::HashOrder);
        }
        let (one, other) = ours.iter().zip(&theirs).find(|(one, other)| one != other)?;
        if one.contains("ThreadId(") && other.contains("ThreadId(") {
            return Some(Suspect::ThreadId);
        }
        if let (Some(one), Some(other)) = (hexadecimal(one), hexadecimal(other)) {
            return Some(if is_address(one) && is_address(other) { Suspect::Address } else { Suspect::Random });
        }
        if let (Ok(one), Ok(other)) = (one.parse::<u128>(), other.parse::<u128>()) {
            return Some(self.look_at_numbers(one, other));
        }
        if is_time_of_day(one) && is_time_of_day(other) {
            return Some(Suspect::Clock);
        }
        if let (Ok(one), Ok(other)) = (one.parse::<f64>(), other.parse::<f64>()) {
            return Some(look_at_floats(one, other));
        }
        // Words: another choice from the same ones.
        let is_word = |token: &str| token.chars().all(|letter| letter.is_alphabetic());
        (is_word(one) && is_word(other)).then_some(Suspect::HashOrder)
    }

    fn look_at_numbers(&self, one: u128, other: u128) -> Suspect {
        let all = |holds: &dyn Fn(u128) -> bool| holds(one) && holds(other);
        if all(&is_now) {
            Suspect::Clock
        } else if all(&is_address) {
            Suspect::Address
        } else if self.processes[0].contain(one) && self.processes[1].contain(other) {
            Suspect::ProcessId
        } else if all(&|number| number < SMALL) {
            Suspect::Duration
        } else {
            Suspect::Random
        }
    }

    /// Values as programs encode them: whole numbers in base 128, or in eight bytes, and floats.
    fn look_at_bytes(&self, one: &[u8], other: &[u8]) -> Option<Suspect> {
        if one.len() == other.len() && one != other && one.len() > 2 {
            let multiset = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                bytes.sort_unstable();
                bytes
            };
            if multiset(one) == multiset(other) {
                return Some(Suspect::HashOrder);
            }
        }
        let mut guesses: Vec<Suspect> = Vec::new();
        if let (Some(one), Some(other)) = (base_128(one), base_128(other)) {
            guesses.push(self.look_at_numbers(one, other));
        }
        if let (Ok(one), Ok(other)) = (<[u8; 8]>::try_from(one), <[u8; 8]>::try_from(other)) {
            let numbers = [u64::from_be_bytes, u64::from_le_bytes].map(|read| (read(one), read(other)));
            guesses.extend(numbers.iter().map(|(one, other)| self.look_at_numbers((*one).into(), (*other).into())));
            let floats = numbers.map(|(one, other)| look_at_floats(f64::from_bits(one), f64::from_bits(other)));
            // Any eight bytes are a float: only what is hardly so by chance says something.
            guesses.extend(floats.into_iter().filter(|look| matches!(look, Suspect::NanBits | Suspect::FloatOrder)));
        }
        if let (Ok(one), Ok(other)) = (<[u8; 4]>::try_from(one), <[u8; 4]>::try_from(other)) {
            let numbers = [u32::from_be_bytes, u32::from_le_bytes].map(|read| (read(one), read(other)));
            guesses.extend(numbers.iter().map(|(one, other)| self.look_at_numbers((*one).into(), (*other).into())));
        }
        // What says most: a likeness that is hardly chance, before a lack of any.
        let telling = |suspect: &Suspect| !matches!(suspect, Suspect::Random | Suspect::Duration);
        guesses.iter().copied().find(telling).or_else(|| guesses.first().copied())
    }
}

fn printable(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_text = text.chars().all(|letter| !letter.is_control() || matches!(letter, '\t' | '\r'));
    (is_text && !text.is_empty()).then_some(text)
}

fn tokens(text: &str) -> Vec<&str> {
    text.split(|letter: char| letter.is_whitespace() || matches!(letter, ',' | ';' | '=' | '"' | '[' | ']' | '{' | '}'))
        .filter(|token| !token.is_empty())
        .collect()
}

fn sorted<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut tokens = tokens.to_vec();
    tokens.sort_unstable();
    tokens
}

fn hexadecimal(token: &str) -> Option<u128> {
    u128::from_str_radix(token.strip_prefix("0x")?, 16).ok()
}

/// Where Linux puts programs, heaps, stacks and libraries on 64-bit machines.
fn is_address(number: u128) -> bool {
    (0x5500_0000_0000..0x8000_0000_0000).contains(&number) || (0xaaaa_0000_0000..0x1_0000_0000_0000).contains(&number)
}

/// `12:34:56`, with a date before it or not, and parts of a second.
fn is_time_of_day(token: &str) -> bool {
    let is_part = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = token.split(':');
    let minutes = parts.next().is_some_and(|hour| hour.len() >= 2) && parts.next().is_some_and(is_part);
    minutes && parts.next().is_none_or(|seconds| seconds.get(..2).is_some_and(is_part))
}

/// Whether a number is the time of about now, in seconds or parts of them.
fn is_now(number: u128) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u128::from(since.as_secs()));
    [1, 1000, 1_000_000, 1_000_000_000].iter().any(|unit| (number / unit).abs_diff(now) < NEAR_SECONDS)
}

fn look_at_floats(one: f64, other: f64) -> Suspect {
    let (difference, larger) = ((one - other).abs(), one.abs().max(other.abs()));
    if one.is_nan() && other.is_nan() {
        Suspect::NanBits
    } else if is_now(one.abs() as u128) && is_now(other.abs() as u128) {
        Suspect::Clock
    } else if difference <= larger * CLOSE {
        Suspect::FloatOrder
    } else if larger < 0.01 {
        // Parts of a second. Random floats are seldom as small.
        Suspect::Duration
    } else {
        Suspect::Random
    }
}

/// A number of seven bits in each byte, the lowest first.
fn base_128(bytes: &[u8]) -> Option<u128> {
    let (last, rest) = bytes.split_last()?;
    if bytes.len() > 10 || *last >= 0x80 || rest.iter().any(|byte| *byte < 0x80) {
        return None;
    }
    Some(bytes.iter().rev().fold(0, |number, byte| number << 7 | u128::from(byte & 0x7f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects_of(values: [&[u8]; 2], rounds: &[Round], reordered: bool, is_steady_on_one: bool) -> Vec<Suspect> {
        let values = values.map(<[u8]>::to_vec);
        let pairs = vec![Pair { values: &values, processes: [(40, 50), (32_760, 7)].map(Processes::of) }];
        suspects(&Evidence { rounds, pairs, reordered, is_choice: false, is_steady_on_one })
    }

    fn guess(one: &[u8], other: &[u8]) -> Option<Suspect> {
        suspects_of([one, other], &[Round::Again], false, false).first().copied()
    }

    #[test]
    fn values_look_like_what_they_are() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let text = |one: String, other: String| guess(one.as_bytes(), other.as_bytes());
        for (guessed, wanted) in [
            (text(now.as_secs().to_string(), (now.as_secs() + 1).to_string()), Suspect::Clock),
            (text(format!("k\t{}", now.as_nanos()), format!("k\t{}", now.as_nanos() + 77)), Suspect::Clock),
            (
                guess(&(now.as_millis() as u64).to_be_bytes(), &(now.as_millis() as u64 + 5).to_be_bytes()),
                Suspect::Clock,
            ),
            (guess(b"at 2026-01-01T10:11:12Z", b"at 2026-01-01T10:11:13Z"), Suspect::Clock),
            (guess(b"x\t5512", b"x\t5873"), Suspect::Duration),
            (guess(b"81a\t9223372036854775808", b"81a\t1234567890123456789"), Suspect::Random),
            (guess(b"a,b,c,d", b"d,b,a,c"), Suspect::HashOrder),
            (guess(b"first\tapple", b"first\tpear"), Suspect::HashOrder),
            (guess(b"sum\t1.0000000000000002", b"sum\t1.0"), Suspect::FloatOrder),
            (guess(&1.1f64.to_le_bytes(), &1.1000000000000003f64.to_le_bytes()), Suspect::FloatOrder),
            (guess(&f64::NAN.to_le_bytes(), &(f64::from_bits(f64::NAN.to_bits() ^ 5)).to_le_bytes()), Suspect::NanBits),
            (guess(b"at 0x7ffd12345678", b"at 0x7ffe9abcdef0"), Suspect::Address),
            (guess(b"by 45", b"by 32767"), Suspect::ProcessId),
            (guess(b"by 50", b"by 7"), Suspect::ProcessId),
            (guess(b"by 51", b"by 7"), Suspect::Duration),
            (guess(b"ThreadId(3)", b"ThreadId(12)"), Suspect::ThreadId),
        ] {
            assert_eq!(guessed, Some(wanted));
        }
    }

    #[test]
    fn what_an_experiment_shows_comes_before_looks() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let (one, other) = (now.to_string(), (now + 1).to_string());
        let told = |rounds: &[Round], is_steady_on_one| {
            suspects_of([one.as_bytes(), other.as_bytes()], rounds, false, is_steady_on_one)
        };
        assert_eq!(told(&[Round::Again, Round::Folder], false), [Suspect::Clock]);
        assert_eq!(told(&[Round::Folder, Round::SharedProcess], true), [Suspect::Folder]);
        assert_eq!(told(&[Round::SharedProcess], true), [Suspect::SharedState]);
        assert_eq!(told(&[Round::OneProcessor], true), [Suspect::Processors]);
        let raced = suspects_of([b"a b", b"b a"], &[Round::Again], true, true);
        assert_eq!(raced, [Suspect::Race, Suspect::HashOrder]);
    }
}
