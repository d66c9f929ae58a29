//! TOML that people write: what is wrong with it is told with file, line and column, and a misspelled key with the nearest one.

use crate::exit::{Code, Failure};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// How alike two keys must be for one to be taken for the other misspelled, as clap judges options.
const LIKENESS_MIN: f64 = 0.6;

/// A file's text, and what it is called in messages.
pub(crate) struct TomlFile<'t> {
    path: PathBuf,
    text: &'t str,
    /// What is wrong with such a file.
    code: Code,
}

impl<'t> TomlFile<'t> {
    pub(crate) fn new(path: &Path, text: &'t str, code: Code) -> Self {
        Self { path: path.to_owned(), text, code }
    }

    /// Its keys and values, each with its place in the text.
    pub(crate) fn table(&self) -> Result<DeTable<'t>, Failure> {
        let table = DeTable::parse(self.text).map_err(|error| self.malformed(&error))?;
        Ok(table.into_inner())
    }

    /// Where a byte of the text is: `quorate.toml:3:1`.
    pub(crate) fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    /// Something is wrong at a place.
    pub(crate) fn wrong(&self, offset: usize, what: &str) -> Failure {
        Failure::new(self.code, format!("{}: {what}", self.place(offset)))
    }

    /// What the TOML parser, or a type that is made from it, says.
    pub(crate) fn malformed(&self, error: &toml::de::Error) -> Failure {
        match error.span() {
            Some(span) => self.wrong(span.start, error.message()),
            None => Failure::new(self.code, format!("{}: {}", self.path.display(), error.message())),
        }
    }

    /// A key that stands at `offset`, in a section where only `known` ones may.
    pub(crate) fn unknown_key(&self, code: Code, offset: usize, key: &str, known: &[&str]) -> Failure {
        let failure = Failure::new(code, format!("{}: there is no key `{key}` here", self.place(offset)));
        match nearest(key, known) {
            Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
            None => failure.hint(format!("there are {}", known.join(", "))),
        }
    }
}

/// The known key that was most likely meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let likeness = |other: &&str| strsim::normalized_damerau_levenshtein(key, other);
    let best = known.iter().copied().max_by(|left, right| likeness(left).total_cmp(&likeness(right)))?;
    (likeness(&best) > LIKENESS_MIN).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let file = TomlFile::new(Path::new("x.toml"), "a = 1\né = 2\n", Code::Settings);
        assert_eq!(file.place(0), "x.toml:1:1");
        assert_eq!(file.place(6), "x.toml:2:1");
        assert_eq!(file.place(9), "x.toml:2:3");
        assert_eq!(file.place(1_000), "x.toml:3:1");
    }

    #[test]
    fn the_nearest_key_is_named_and_a_far_one_is_not() {
        assert_eq!(nearest("trackerz", &["f", "trackers", "slots"]), Some("trackers"));
        assert_eq!(nearest("memroy", &["memory", "timeout"]), Some("memory"));
        assert_eq!(nearest("colour", &["f", "slots"]), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn a_torn_line_is_told_with_its_place() {
        let file = TomlFile::new(Path::new("x.toml"), "a = 1\nb = \n", Code::Settings);
        let failure = file.table().expect_err("no value");
        assert!(failure.message.starts_with("x.toml:2:"), "{failure}");
        assert_eq!(failure.code, Code::Settings);
    }
}
