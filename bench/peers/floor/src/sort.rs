//! Terasort in memory: a key of 16 bytes for each record is sorted, then the records are gathered in their order and
//! written, a part for each thread.

use rayon::prelude::*;
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

const RECORD: usize = 100;
/// Records written at once: their bytes stay in the second-level cache.
const BATCH: usize = 10_240;
/// Records asked for ahead of the one being copied.
const AHEAD: usize = 24;

/// A record's ten key bytes as numbers that compare alike, and which record it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64, u16, u32);

/// Sorts and writes.
pub(crate) fn run(input: &[u8], output: &str, threads: usize) -> io::Result<()> {
    let (records, rest) = input.as_chunks::<RECORD>();
    let Ok(count) = u32::try_from(records.len()) else { return Err(io::Error::other("too many records")) };
    if !rest.is_empty() {
        return Err(io::Error::other("the input ends within a record"));
    }
    let mut keys: Vec<Key> = (0..count).into_par_iter().map(|index| key(&records[index as usize], index)).collect();
    keys.par_sort_unstable();
    let parts: Vec<&[Key]> = keys.chunks(records.len().div_ceil(threads).max(1)).collect();
    parts.into_par_iter().enumerate().try_for_each(|(part, keys)| {
        write(records, keys, File::create(Path::new(output).join(format!("part-{part:05}")))?)
    })
}

#[inline(always)]
fn key(record: &[u8; RECORD], index: u32) -> Key {
    let [a, b, c, d, e, f, g, h, i, j, ..] = *record;
    Key(u64::from_be_bytes([a, b, c, d, e, f, g, h]), u16::from_be_bytes([i, j]), index)
}

fn write(records: &[[u8; RECORD]], keys: &[Key], mut out: impl Write) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(BATCH * RECORD);
    for (number, Key(_, _, index)) in keys.iter().enumerate() {
        if let Some(Key(_, _, ahead)) = keys.get(number + AHEAD) {
            prefetch(&records[*ahead as usize]);
        }
        bytes.extend_from_slice(&records[*index as usize]);
        if bytes.len() == BATCH * RECORD {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch(record: &[u8; RECORD]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for byte in [0, 64, RECORD - 1] {
        // SAFETY: a prefetch of any address does no harm, and this one is in the record.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(record.as_ptr().add(byte).cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_: &[u8; RECORD]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_sorted_by_their_keys() {
        let mut input = Vec::new();
        for number in 0..30_000u32 {
            let key = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut record = [0; RECORD];
            record[..8].copy_from_slice(&(key & 0xF000_0000_0000_00FF).to_be_bytes());
            record[8..10].copy_from_slice(&(key as u16).to_be_bytes());
            record[96..].copy_from_slice(&number.to_le_bytes());
            input.push(record);
        }
        let folder = std::env::temp_dir().join(format!("floor-sort-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        run(input.as_flattened(), folder.to_str().expect("a plain name"), 2).expect("it sorts");
        let sorted =
            [0, 1].map(|part| std::fs::read(folder.join(format!("part-0000{part}"))).expect("a part")).concat();
        std::fs::remove_dir_all(&folder).expect("it is there");
        input.sort_by(|a, b| a[..10].cmp(&b[..10]));
        assert!(sorted == input.as_flattened());
    }
}
