//! Checks sorted records: their order, duplicate keys, and the sum that shows that none was lost or changed.

use super::generate::{KEY, RECORD};
use quorate::{exit::Failure, prelude::*};
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

/// Checks the order of records, and sums them up.
#[derive(clap::Args)]
pub(crate) struct Validate {
    /// Files of records, or folders of parts, in their order.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Findings {
    /// Records read.
    pub(crate) records: u64,
    /// Records whose key is the one before.
    pub(crate) duplicates: u64,
    /// The first record with a key below the one before.
    pub(crate) unordered: Option<u64>,
    /// The sum of the CRC-32 of all records.
    pub(crate) checksum: u128,
    last: Option<[u8; KEY]>,
}

/// `terasort validate`.
pub(crate) fn run(args: &Validate) -> Result<()> {
    let mut findings = Findings::default();
    for path in &args.paths {
        for file in parts(path)? {
            findings.read(&file)?;
        }
    }
    println!("{} records, checksum {:x}, {} duplicate keys", findings.records, findings.checksum, findings.duplicates);
    match findings.unordered {
        None => {
            println!("sorted");
            Ok(())
        }
        Some(record) => Err(Error::new(format!("record {record} has a smaller key than the one before: not sorted"))),
    }
}

/// The file itself, or the part files of a folder in their order.
fn parts(path: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |e: std::io::Error| Failure::io("cannot read", path, &e);
    if !std::fs::metadata(path).map_err(wrong)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(path).map_err(wrong)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("part-") {
            parts.push(entry.path());
        }
    }
    if parts.is_empty() {
        return Err(Error::new(format!("{} has no part files", path.display())));
    }
    parts.sort();
    Ok(parts)
}

impl Findings {
    /// Goes on with the records of one more file.
    pub(crate) fn read(&mut self, path: &Path) -> Result<()> {
        let wrong = |e: std::io::Error| Failure::io("cannot read", path, &e);
        let file = File::open(path).map_err(wrong)?;
        if file.metadata().map_err(wrong)?.len() % RECORD as u64 != 0 {
            return Err(Error::new(format!("{} does not end with a whole record", path.display())));
        }
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut record = [0; RECORD];
        loop {
            match reader.read_exact(&mut record) {
                Ok(()) => self.add(&record),
                Err(end) if end.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(wrong(error).into()),
            }
        }
    }

    /// Goes on with one more record.
    pub(crate) fn add(&mut self, record: &[u8; RECORD]) {
        let mut key = [0; KEY];
        key.copy_from_slice(&record[..KEY]);
        match self.last {
            Some(last) if last == key => self.duplicates += 1,
            Some(last) if last > key => self.unordered = self.unordered.or(Some(self.records)),
            Some(_) | None => {}
        }
        self.last = Some(key);
        self.records += 1;
        self.checksum += u128::from(crc32fast::hash(record));
    }
}
