//! Where two outputs of one task differ first, and what they have in common.

use super::{
    attempt::Output,
    rounds::{Again, Round},
    suspect::{self, Evidence, Pair, Suspect},
};
use crate::exit::{Code, Failure};
use quorate_engine::{
    program::Span,
    record::{FileRange, RecordReader},
};
use quorate_protocol::{ids::Stage, vote::Counters};
use serde::Serialize;
use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    path::Path,
};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// What is looked at of a line or a record, in bytes.
const LOOKED_AT_BYTES_MAX: usize = 64 << 10;
/// What is shown of it, in bytes.
const SHOWN_BYTES_MAX: usize = 80;

/// A task that does not give the same each time.
#[derive(Clone, Debug, Serialize)]
pub struct Divergence {
    /// Which, as in `map-0`.
    pub task: String,
    /// In which rounds it gave something else than in the first.
    pub rounds: Vec<Round>,
    /// Where it differs first.
    pub place: String,
    /// What it gave there in the first round, and in the first one that differs.
    pub sides: [String; 2],
    /// Whether both have the same records, or lines, in another order.
    pub reordered: bool,
    /// What it looks like, the likeliest first. A guess.
    pub suspects: Vec<Suspect>,
}

/// The first place at which outputs differ.
struct Place {
    words: String,
    shown: [String; 2],
    /// The differing part itself: a value, a key, or a line.
    bytes: [Vec<u8>; 2],
    /// Whether one of them has a record that the other has not.
    is_choice: bool,
    /// Whether it is in what was put out, and not beside it.
    in_output: bool,
}

fn trouble(error: io::Error) -> Failure {
    Failure::new(Code::System, "cannot compare outputs").caused_by(&error)
}

/// Whether two outputs are the same, as a vote would have it.
pub(super) fn are_alike(one: &Output, other: &Output) -> Result<bool, Failure> {
    match (one, other) {
        (
            Output::Product { data: ours, spans: our_spans, counters: our_counters, .. },
            Output::Product { data: theirs, spans, counters, .. },
        ) => Ok(our_spans == spans && our_counters == counters && have_same_bytes(ours, theirs).map_err(trouble)?),
        (Output::Failed { kind: ours, record: our_record, .. }, Output::Failed { kind, record, .. }) => {
            Ok(ours == kind && our_record == record)
        }
        (Output::Product { .. } | Output::Failed { .. }, _) => Ok(false),
    }
}

fn have_same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let count = one.read(&mut ours)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut theirs[..count])?;
        if ours[..count] != theirs[..count] {
            return Ok(false);
        }
    }
}

/// Describes a task that differs in some of its rounds: those have their outputs.
pub(super) fn divergence((stage, index): (Stage, u32), own: &Output, rounds: &[Again]) -> Result<Divergence, Failure> {
    let differing = || rounds.iter().filter_map(|(round, other)| Some((*round, other.as_ref()?)));
    let mut places = Vec::new();
    for (round, other) in differing() {
        let place = first_difference(stage, own, other).map_err(trouble)?;
        places.push((round, place, [own.processes(), other.processes()]));
    }
    let (_, first) = differing().next().ok_or_else(|| trouble(io::ErrorKind::InvalidInput.into()))?;
    // Outputs that are alike are in one order: then it is a counter that differs.
    let in_output = places.first().is_some_and(|(_, place, _)| place.in_output);
    let reordered = in_output && have_same_pieces(stage, own, first).map_err(trouble)?;
    let on_one: Vec<&Output> = rounds
        .iter()
        .filter(|(round, _)| *round == Round::OneProcessor)
        .map(|(_, o)| o.as_ref().unwrap_or(own))
        .collect();
    let mut is_steady_on_one = on_one.len() > 1;
    for pair in on_one.windows(2) {
        is_steady_on_one &= are_alike(pair[0], pair[1])?;
    }
    let mut rounds: Vec<Round> = places.iter().map(|(round, ..)| *round).collect();
    rounds.dedup();
    let evidence = Evidence {
        rounds: &rounds,
        pairs: places
            .iter()
            .map(|(_, place, processes)| Pair { values: &place.bytes, processes: *processes })
            .collect(),
        reordered,
        is_choice: places.iter().all(|(_, place, _)| place.is_choice),
        is_steady_on_one,
    };
    let suspects = suspect::suspects(&evidence);
    let Some((_, place, _)) = places.into_iter().next() else {
        return Err(trouble(io::ErrorKind::InvalidInput.into()));
    };
    let Place { words, shown, .. } = place;
    Ok(Divergence { task: format!("{stage}-{index}"), rounds, place: words, sides: shown, reordered, suspects })
}

fn first_difference(stage: Stage, one: &Output, other: &Output) -> io::Result<Place> {
    let (
        Output::Product { data: ours, spans: our_spans, counters: our_counters, .. },
        Output::Product { data: theirs, spans: their_spans, counters: their_counters, .. },
    ) = (one, other)
    else {
        let shown = [one, other].map(outcome);
        let bytes = [shown[0].clone().into_bytes(), shown[1].clone().into_bytes()];
        return Ok(Place { words: "the outcome".to_owned(), shown, bytes, is_choice: false, in_output: false });
    };
    let found = match stage {
        Stage::Map => {
            let mut found = None;
            for (partition, (one, other)) in our_spans.iter().zip(their_spans).enumerate() {
                found = first_record(partition, (ours, one), (theirs, other))?;
                if found.is_some() {
                    break;
                }
            }
            found
        }
        Stage::Reduce => first_line(ours, theirs)?,
    };
    Ok(found.unwrap_or_else(|| first_counter(our_counters, their_counters)))
}

fn outcome(output: &Output) -> String {
    match output {
        Output::Product { .. } => "it gave output".to_owned(),
        Output::Failed { record, message, .. } => {
            let at = record.map_or(String::new(), |record| format!(" at record {record}"));
            format!("it failed{at}: {}", message.lines().next().unwrap_or_default())
        }
    }
}

fn first_counter(ours: &Counters, theirs: &Counters) -> Place {
    let differs = ours.keys().chain(theirs.keys()).find(|name| ours.get(*name) != theirs.get(*name));
    let name = differs.cloned().unwrap_or_default();
    let shown = [ours, theirs].map(|counters| counters.get(&name).map_or("nothing".to_owned(), u64::to_string));
    let bytes = [shown[0].clone().into_bytes(), shown[1].clone().into_bytes()];
    Place { words: format!("the counter {name}"), shown, bytes, is_choice: false, in_output: false }
}

type Records = RecordReader<FileRange>;

fn records(data: &Path, span: &Span) -> Records {
    let mut reader = RecordReader::new(FileRange::new(data.to_owned(), span.offset, span.length), BUFFER_BYTES);
    reader.begin_span(span.length);
    reader
}

fn first_record(partition: usize, ours: (&Path, &Span), theirs: (&Path, &Span)) -> io::Result<Option<Place>> {
    let (mut one, mut other) = (records(ours.0, ours.1), records(theirs.0, theirs.1));
    let mut number = 0u64;
    loop {
        let there = (one.advance()?, other.advance()?);
        let words = format!("partition {partition}, record {number}");
        match there {
            (true, true) if one.record() == other.record() => number += 1,
            (false, false) => return Ok(None),
            (true, true) => {
                let by_key = one.key() != other.key();
                let part = |reader: &Records| if by_key { reader.key() } else { reader.value() }.to_vec();
                let bytes = [part(&one), part(&other)];
                let shown = show_records(&one, &other);
                return Ok(Some(Place { words, shown, bytes, is_choice: by_key, in_output: true }));
            }
            (is_ours, _) => {
                let nothing = || "nothing more".to_owned();
                let shown = if is_ours { [show_record(&one), nothing()] } else { [nothing(), show_record(&other)] };
                return Ok(Some(Place {
                    words,
                    shown,
                    bytes: [Vec::new(), Vec::new()],
                    is_choice: true,
                    in_output: true,
                }));
            }
        }
    }
}

fn show_record(reader: &Records) -> String {
    format!("key {} value {}", quoted(reader.key()), quoted(reader.value()))
}

/// Two records, each from shortly before what differs.
fn show_records(one: &Records, other: &Records) -> [String; 2] {
    let keys = quoted_pair([one.key(), other.key()]);
    let values = quoted_pair([one.value(), other.value()]);
    [0, 1].map(|side| format!("key {} value {}", keys[side], values[side]))
}

/// Quotes two texts. When they differ far in, both begin shortly before that.
fn quoted_pair(pair: [&[u8]; 2]) -> [String; 2] {
    let alike = pair[0].iter().zip(pair[1]).take_while(|(one, other)| one == other).count();
    let differ = pair[0] != pair[1] && alike >= SHOWN_BYTES_MAX / 2;
    let from = if differ { alike - SHOWN_BYTES_MAX / 4 } else { 0 };
    pair.map(|bytes| quoted_from(bytes, from))
}

fn quoted(bytes: &[u8]) -> String {
    quoted_from(bytes, 0)
}

fn quoted_from(bytes: &[u8], from: usize) -> String {
    let rest = bytes.get(from..).unwrap_or_default();
    let shown = rest.get(..SHOWN_BYTES_MAX).unwrap_or(rest);
    let less = if from > 0 { "…" } else { "" };
    let more = if shown.len() < rest.len() { "…" } else { "" };
    format!("\"{less}{}{more}\"", shown.escape_ascii())
}

fn first_line(ours: &Path, theirs: &Path) -> io::Result<Option<Place>> {
    let (mut one, mut other) = (BufReader::new(File::open(ours)?), BufReader::new(File::open(theirs)?));
    let (mut line, mut start, mut at) = (1u64, 0u64, 0u64);
    loop {
        let there = (next_byte(&mut one)?, next_byte(&mut other)?);
        match there {
            (None, None) => return Ok(None),
            (Some(a), Some(b)) if a == b => {
                at += 1;
                if a == b'\n' {
                    (line, start) = (line + 1, at);
                }
            }
            _ => {
                let lines = [line_at(ours, start)?, line_at(theirs, start)?];
                let shown = match &lines {
                    [Some(one), Some(other)] => quoted_pair([one, other]),
                    lines => [0, 1].map(|side| lines[side].as_deref().map_or("nothing more".to_owned(), quoted)),
                };
                let bytes = lines.map(Option::unwrap_or_default);
                return Ok(Some(Place {
                    words: format!("line {line}, byte {at}"),
                    shown,
                    bytes,
                    is_choice: false,
                    in_output: true,
                }));
            }
        }
    }
}

fn next_byte(reader: &mut impl io::BufRead) -> io::Result<Option<u8>> {
    let byte = reader.fill_buf()?.first().copied();
    reader.consume(usize::from(byte.is_some()));
    Ok(byte)
}

/// The line that begins at a byte; `None` when nothing does.
fn line_at(path: &Path, start: u64) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let mut line = vec![0; LOOKED_AT_BYTES_MAX];
    let count = file.read_at(&mut line, start)?;
    line.truncate(count);
    if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
        line.truncate(end);
    }
    Ok((count > 0).then_some(line))
}

/// Whether outputs have the same records, or lines, in whatever order.
fn have_same_pieces(stage: Stage, one: &Output, other: &Output) -> io::Result<bool> {
    match (one, other) {
        (Output::Product { data: ours, spans: our_spans, .. }, Output::Product { data: theirs, spans, .. }) => {
            let sums = match stage {
                Stage::Map => (sum_of_records(ours, our_spans)?, sum_of_records(theirs, spans)?),
                Stage::Reduce => (sum_of_lines(ours)?, sum_of_lines(theirs)?),
            };
            Ok(sums.0 == sums.1)
        }
        (Output::Product { .. } | Output::Failed { .. }, _) => Ok(false),
    }
}

/// Adds up hashes of pieces: in which order they come makes no difference.
fn add(sum: &mut (u64, u64), piece: impl Hash) {
    let mut hasher = DefaultHasher::new();
    piece.hash(&mut hasher);
    *sum = (sum.0 + 1, sum.1.wrapping_add(hasher.finish()));
}

fn sum_of_records(data: &Path, spans: &[Span]) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for span in spans {
        let mut reader = records(data, span);
        while reader.advance()? {
            add(&mut sum, reader.record());
        }
    }
    Ok(sum)
}

fn sum_of_lines(path: &Path) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for line in io::BufRead::split(BufReader::new(File::open(path)?), b'\n') {
        add(&mut sum, line?);
    }
    Ok(sum)
}
