//! The sort benchmark's records.
//!
//! Random numbers are 128 bits wide: `X(0) = C`, `X(n + 1) = A·X(n) + C`. Record `n` starts at `X(n)`, so any range of
//! records can be made without the ones before it, and ranges in parallel.

use quorate::{exit::Failure, prelude::*};
use rayon::prelude::*;
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

const A: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
const C: u128 = 0x4a69_6d47_7261_7952_4950_2020_2020_2001;

/// What each ten-byte group of a binary record is xor-ed with. The first group is the key.
const MASKS: [u128; 10] = [
    0,
    0xF0E8_E4E2_E1D8_D4D2_D1CC,
    0xCAC9_C6C5_C3B8_B4B2_B1AC,
    0xAAA9_A6A5_A39C_9A99_9695,
    0x938E_8D8B_8778_7472_716C,
    0x6A69_6665_635C_5A59_5655,
    0x534E_4D4B_473C_3A39_3635,
    0x332E_2D2B_271E_1D1B_170F,
    0xC8C4_C2C1_9894_9291_8CE0,
    0x170F_332E_2D2B_271E_1D1B,
];

/// Bytes of a record.
pub(crate) const RECORD: usize = 100;
/// Bytes of its key, which comes first.
pub(crate) const KEY: usize = 10;
/// Records made at a time by one thread.
const BLOCK: u64 = 10_000;

/// How a record looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Layout {
    /// Random bytes.
    Binary,
    /// Printable, one record a line.
    Ascii,
    /// Binary, with keys that crowd together. The skew is Quorate's own, not that of the benchmark's generator.
    Skewed,
}

/// Makes records of the sort benchmark.
#[derive(clap::Args)]
pub(crate) struct Generate {
    /// How many records, of 100 bytes each.
    records: u64,
    /// The file to make.
    file: PathBuf,
    /// Number of the first record.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How a record looks.
    #[arg(long, value_enum, default_value = "binary")]
    layout: Layout,
}

/// `terasort gen`.
pub(crate) fn run(args: &Generate) -> Result<()> {
    let file = File::create_new(&args.file).map_err(|e| Failure::io("cannot make", &args.file, &e))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let end = args.first.checked_add(args.records).ok_or_else(|| Error::new("record numbers end at 2^64"))?;
    write_records(args.layout, args.first, end, &mut out)?;
    out.flush()?;
    println!("{} records in {}", args.records, args.file.display());
    Ok(())
}

/// Writes the records `first..end`, made in parallel and written in order.
pub(crate) fn write_records(layout: Layout, first: u64, end: u64, out: &mut impl Write) -> Result<()> {
    let threads = rayon::current_num_threads() as u64;
    let mut from = first;
    while from < end {
        let round = end.min(from.saturating_add(threads.saturating_mul(BLOCK)));
        let starts: Vec<u64> = (from..round).step_by(BLOCK as usize).collect();
        let blocks: Vec<Vec<u8>> =
            starts.into_par_iter().map(|start| block(layout, start, round.min(start.saturating_add(BLOCK)))).collect();
        for block in blocks {
            out.write_all(&block)?;
        }
        from = round;
    }
    Ok(())
}

fn block(layout: Layout, start: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((end - start) as usize * RECORD);
    let mut x = random(start);
    for n in start..end {
        match layout {
            Layout::Binary => binary(x, &mut bytes),
            Layout::Ascii => ascii(n, x, &mut bytes),
            Layout::Skewed => skewed(x, &mut bytes),
        }
        x = next(x);
    }
    bytes
}

fn next(x: u128) -> u128 {
    x.wrapping_mul(A).wrapping_add(C)
}

/// `X(n)`, in about 64 steps: the step function applied to itself gives steps of 2, 4, 8, …
fn random(n: u64) -> u128 {
    let (mut factor, mut addend) = (A, C);
    let (mut x, mut rest) = (C, n);
    while rest > 0 {
        if rest & 1 == 1 {
            x = x.wrapping_mul(factor).wrapping_add(addend);
        }
        addend = addend.wrapping_mul(factor.wrapping_add(1));
        factor = factor.wrapping_mul(factor);
        rest >>= 1;
    }
    x
}

fn binary(mut x: u128, bytes: &mut Vec<u8>) {
    for mask in MASKS {
        let group = (x >> 48) ^ mask;
        bytes.extend_from_slice(&group.to_be_bytes()[6..]);
        x = next(x);
    }
}

/// A binary record whose first six key bytes are the same for half of all records, the same for a quarter, and so on.
fn skewed(x: u128, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    binary(x, bytes);
    // Leading ones of random bits: none in half of all records, one in a quarter, and so on.
    let crowd = ((next(x) >> 32) as u64).leading_ones();
    bytes[start..start + 6].copy_from_slice(&random(u64::from(crowd)).to_be_bytes()[..6]);
}

fn ascii(n: u64, x: u128, bytes: &mut Vec<u8>) {
    let digits = |mut number: u64, count: usize, bytes: &mut Vec<u8>| {
        for _ in 0..count {
            bytes.push(b' ' + (number % 95) as u8);
            number /= 95;
        }
    };
    digits((x >> 64) as u64, 8, bytes);
    digits(x as u64, 2, bytes);
    bytes.extend_from_slice(format!("  {n:032X}  ").as_bytes());
    for group in (0..13).rev() {
        let digit =
            char::from_digit((x >> (4 * group)) as u32 & 0xF, 16).map_or(b'0', |d| d.to_ascii_uppercase() as u8);
        bytes.extend_from_slice(&[digit; 4]);
    }
    bytes.extend_from_slice(b"\r\n");
}
