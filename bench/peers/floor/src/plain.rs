//! Word count as a careful user of `rayon` and `hashbrown` writes it: a table of borrowed words for each thread.

use crate::count::{Counted, is_space};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rayon::prelude::*;

type Table = HashMap<&'static [u8], u64, FixedState>;

/// Counts the words of the chunks.
pub(crate) fn count(_: &'static [u8], chunks: &[&'static [u8]]) -> Vec<Counted> {
    let tables = chunks.par_iter().fold(Table::default, |mut table, chunk| {
        for word in chunk.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()) {
            *table.entry(word).or_insert(0) += 1;
        }
        table
    });
    tables.reduce(Table::default, merge).into_iter().collect()
}

fn merge(mut a: Table, mut b: Table) -> Table {
    if a.len() < b.len() {
        std::mem::swap(&mut a, &mut b);
    }
    for (word, number) in b {
        *a.entry(word).or_insert(0) += number;
    }
    a
}
