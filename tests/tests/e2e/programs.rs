//! The jobs of the embedded tests.

use quorate::prelude::*;

pub(crate) struct Words;
impl Mapper for Words {
    type Input = Lines;
    type Key = [u8];
    type Value = u64;
    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
        for word in line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
            out.emit(word, &1)?;
        }
        Ok(())
    }
}

pub(crate) struct Sum;
impl Reducer for Sum {
    type Key = [u8];
    type Value = u64;
    type Output = TextLines;
    fn reduce(&mut self, word: &[u8], counts: Values<'_, u64>, out: &mut Writer<'_, TextLines>) -> Result<()> {
        let total: u64 = counts.sum();
        out.count("words", total);
        out.write(word, &total)
    }
}

/// Emits random bytes for the line that says so.
struct Dice;
impl Mapper for Dice {
    type Input = Lines;
    type Key = [u8];
    type Value = u64;
    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
        let value = if line == b"roll" { getrandom::u64().map_err(|_| Error::new("no dice"))? } else { 1 };
        Ok(out.emit(line, &value)?)
    }
}

/// Panics at the line that says so.
struct Bomb;
impl Mapper for Bomb {
    type Input = Lines;
    type Key = [u8];
    type Value = u64;
    fn map(&mut self, line: &[u8], out: &mut Emitter<'_, [u8], u64>) -> Result<()> {
        assert!(line != b"panic", "the bomb went off");
        if line == b"error" {
            return Err(Error::new("the fuse is wet"));
        }
        Ok(out.emit(line, &1)?)
    }
}

pub(crate) fn app() -> App<NoArgs> {
    App::named("tests")
        .job("words", |_| Job::new(|| Words, || Sum).combiner(|total, count| *total += count))
        .job("words-uncombined", |_| Job::new(|| Words, || Sum))
        .job("dice", |_| Job::new(|| Dice, || Sum))
        .job("bomb", |_| Job::new(|| Bomb, || Sum))
}
