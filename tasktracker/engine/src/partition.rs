//! Which partition a key belongs to.
//!
//! The answer depends on nothing but the key's bytes and the specification, and stays the same in all versions of
//! Quorate: a published hash (XXH3, 64 bits, seed 0), scaled to the number of partitions by the upper half of the product.

use crate::merge::prefix;
use quorate_protocol::job::Partitioning;
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// A job's partitioning, ready for use.
#[derive(Clone, Debug)]
pub struct Partitioner {
    partitions: u32,
    /// Lowest keys of all partitions but the first, with their prefixes; `None` for partitioning by hash.
    cuts: Option<Vec<(u64, Vec<u8>)>>,
}

impl Partitioner {
    /// A job's partitioning into `partitions` parts. Should there be more cuts than parts have room for, the last part takes
    /// all keys above.
    pub fn new(partitioning: &Partitioning, partitions: u32) -> Self {
        let cuts = match partitioning {
            Partitioning::Hash => None,
            Partitioning::Ranges(cuts) => Some(cuts.iter().map(|cut| (prefix(cut), cut.clone())).collect()),
        };
        Self { partitions: partitions.max(1), cuts }
    }

    /// How many partitions there are: at least one.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The partition of a key, by its bytes.
    #[inline]
    pub fn of(&self, key: &[u8]) -> u32 {
        match &self.cuts {
            None => hash_partition(key, self.partitions),
            Some(cuts) => {
                let first = prefix(key);
                let below = cuts.partition_point(|(prefix, cut)| match prefix.cmp(&first) {
                    Ordering::Equal => cut.as_slice() <= key,
                    order => order == Ordering::Less,
                });
                (below as u64).min(u64::from(self.partitions) - 1) as u32
            }
        }
    }
}

/// The partition of a key among `partitions` by its hash.
#[inline]
fn hash_partition(key: &[u8], partitions: u32) -> u32 {
    if partitions == 1 {
        return 0;
    }
    ((u128::from(xxh3_64(key)) * u128::from(partitions)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These numbers must never change: a job's output parts would hold other keys.
    #[test]
    fn hash_partitions_are_golden() {
        let of = |key: &[u8]| [2, 7, 1000].map(|n| Partitioner::new(&Partitioning::Hash, n).of(key));
        assert_eq!([of(b""), of(b"a"), of(b"the"), of(&[0; 300])], GOLDEN);
    }
    const GOLDEN: [[u32; 3]; 4] = [[0, 1, 175], [1, 6, 901], [1, 5, 793], [0, 2, 339]];

    #[test]
    fn all_partitions_are_used_alike() {
        let partitioner = Partitioner::new(&Partitioning::Hash, 16);
        let mut counts = [0u32; 16];
        for n in 0..16_000u32 {
            counts[partitioner.of(n.to_string().as_bytes()) as usize] += 1;
        }
        assert!(counts.iter().all(|n| (800..1200).contains(n)), "{counts:?}");
    }

    #[test]
    fn ranges_take_keys_from_their_cut_on() {
        let cuts = vec![b"b".to_vec(), b"d".to_vec(), b"d".to_vec()];
        let partitioner = Partitioner::new(&Partitioning::Ranges(cuts), 4);
        for (key, partition) in [("", 0), ("az", 0), ("b", 1), ("c\u{7f}", 1), ("d", 3), ("e", 3)] {
            assert_eq!(partitioner.of(key.as_bytes()), partition, "{key}");
        }
        assert_eq!(Partitioner::new(&Partitioning::Ranges(vec![vec![1], vec![2]]), 2).of(&[9]), 1);
    }
}
