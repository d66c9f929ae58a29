//! The inverted index against one built word by word.

mod data;
#[allow(dead_code, reason = "a program whose main is not run here")]
#[path = "../src/bin/inverted-index.rs"]
mod inverted_index;

use quorate::testing::Harness;
use std::collections::BTreeSet;

/// Counts one word in one document, by looking at each character.
fn occurrences(document: &str, word: &str) -> usize {
    let mut count = 0;
    let mut current = String::new();
    for c in document.chars().chain([' ']) {
        if c.is_alphanumeric() {
            current.push(c);
        } else {
            count += usize::from(current == word);
            current.clear();
        }
    }
    count
}

#[test]
fn words_lead_to_their_files() {
    let files: [(&str, &[u8]); 3] =
        [("/a", b"The traitor, the General."), ("/b", b"general attack! Attack; attack"), ("/c", b"")];
    let outcome = Harness::new(inverted_index::job()).run(&files).expect("indexed");
    assert_eq!(outcome.lines(), ["attack\t/b:3", "general\t/a:1 /b:1", "the\t/a:2", "traitor\t/a:1"]);
    assert_eq!((outcome.counters["documents"], outcome.counters["words"]), (3, 4));
}

#[test]
fn logs_are_indexed_as_a_search_finds_them() {
    let Some(path) = data::shared("logs/Apache.log") else { return };
    let text = std::fs::read(path).expect("readable");
    let (first, second) = text.split_at(text.len() / 2);
    let files: [(&str, &[u8]); 2] = [("/1", first), ("/2", second)];
    let outcome = Harness::new(inverted_index::job()).partitions(4).run(&files).expect("indexed");
    let documents = [first, second].map(|part| String::from_utf8_lossy(part).to_lowercase());
    let words: BTreeSet<String> =
        outcome.lines().iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect();
    assert!(words.len() > 20, "{} words", words.len());
    for line in outcome.lines() {
        let (word, postings) = line.split_once('\t').expect("word and postings");
        let mut expected: Vec<(usize, &str)> =
            [(occurrences(&documents[0], word), "/1"), (occurrences(&documents[1], word), "/2")].to_vec();
        expected.retain(|(count, _)| *count > 0);
        expected.sort_by_key(|(count, file)| (usize::MAX - count, *file));
        let expected: Vec<String> = expected.iter().map(|(count, file)| format!("{file}:{count}")).collect();
        assert_eq!(postings, expected.join(" "), "{word}");
    }
}
