//! Sorts the records of the sort benchmark: `gen` makes them, `sort` sorts them, `validate` checks the result.
//!
//! ```text
//! terasort gen 100000 /tmp/records
//! terasort sort --input /tmp/records --output /tmp/sorted
//! terasort validate /tmp/sorted
//! ```
//!
//! The parts of the output, one after the other, are sorted: keys are given to partitions by ranges whose cuts come from
//! a sample of the input.

use quorate::prelude::*;
use std::process::ExitCode;

pub(crate) mod generate;
pub(crate) mod validate;
use generate::{KEY, RECORD};

/// Takes records apart into key and value.
pub(crate) struct Records;

impl Mapper for Records {
    type Input = FixedRecords<RECORD>;
    type Key = [u8];
    type Value = [u8];

    fn map(&mut self, record: &[u8; RECORD], out: &mut Emitter<'_, [u8], [u8]>) -> Result<()> {
        let (key, value) = record.split_at(KEY);
        out.emit(key, value)?;
        Ok(())
    }
}

/// Puts them together again, now in order.
pub(crate) struct Sorted;

impl Reducer for Sorted {
    type Key = [u8];
    type Value = [u8];
    type Output = FixedRecords<RECORD>;

    fn reduce(
        &mut self,
        key: &[u8],
        mut values: Values<'_, [u8]>,
        out: &mut Writer<'_, FixedRecords<RECORD>>,
    ) -> Result<()> {
        while let Some(value) = values.next_ref() {
            out.write(&[key, value])?;
        }
        Ok(())
    }
}

pub(crate) fn job() -> Job<Records, Sorted> {
    Job::new(|| Records, || Sorted).sorted()
}

fn main() -> ExitCode {
    quorate::main(
        App::new("terasort", |_: &NoArgs| job())
            .about("Sorts the records of the sort benchmark")
            .verb("sort")
            .tool("gen", "Makes records of the sort benchmark", generate::run)
            .tool("validate", "Checks the order of records, and sums them up", validate::run),
    )
}
