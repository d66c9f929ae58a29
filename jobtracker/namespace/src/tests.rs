//! The namespace against single cases and against a naive model of it.

use super::*;
use proptest::prelude::*;
use quorate_protocol::{
    digest::Digest,
    file::{Manifest, Placement},
};
use std::collections::BTreeSet;

fn path(text: &str) -> Path {
    Path::parse(text).expect(text)
}

fn chunk(n: u8) -> ChunkId {
    ChunkId(Digest::from_bytes([n; 32]))
}

/// A file of one run of chunks, each `n` bytes long where `n` is the chunk's number.
fn file(chunks: &[u8], servers: &[u32]) -> File {
    let manifest = Manifest { chunks: chunks.iter().map(|n| (chunk(*n), u32::from(*n))).collect() };
    let servers = servers.iter().copied().map(TrackerId::new).collect();
    let placements =
        if chunks.is_empty() { Vec::new() } else { vec![Placement { chunks: chunks.len() as u32, servers }] };
    File { manifest, placements }
}

fn one(name: &str) -> Vec<(Path, File)> {
    vec![(path(name), file(&[1], &[0]))]
}

#[test]
fn files_are_made_all_or_none() {
    let mut ns = Namespace::new();
    assert_eq!(ns.create(one("/a/b")), Ok(()));
    let before = ns.clone();
    for taken in ["/a/b", "/a/b/c", "/a", "/"] {
        let both = [one("/new"), one(taken)].concat();
        assert!(matches!(ns.create(both), Err(Refusal::Exists(_))), "{taken}");
        assert_eq!(ns, before, "{taken}");
    }
    for (first, second) in [("/x", "/x"), ("/x", "/x/y"), ("/x/y/z", "/x")] {
        let both = [one(first), one(second)].concat();
        assert!(matches!(ns.create(both), Err(Refusal::Exists(_))), "{first} {second}");
        assert_eq!(ns, before, "{first} {second}");
    }
    assert_eq!(ns.create([one("/a/c"), one("/ab")].concat()), Ok(()));
}

#[test]
fn a_broken_file_is_refused() {
    let mut broken = file(&[1, 2], &[0]);
    broken.placements[0].chunks = 1;
    let refused = Namespace::new().create(vec![(path("/a"), broken)]);
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

#[test]
fn the_number_of_files_in_a_command_is_bounded() {
    let files = |n: usize| (0..n).map(|i| (path(&format!("/d/{i}")), file(&[], &[]))).collect::<Vec<_>>();
    let mut ns = Namespace::new();
    assert!(matches!(ns.create(files(limits::FILES_PER_COMMAND_MAX + 1)), Err(Refusal::Invalid(_))));
    assert_eq!(ns.create(files(limits::FILES_PER_COMMAND_MAX)), Ok(()));
    assert_eq!(ns.create(one("/d/one-more")), Ok(()));
    assert!(matches!(ns.remove(&path("/d"), true), Err(Refusal::Full(_))));
    assert!(ns.remove(&path("/d/one-more"), false).is_ok());
    assert!(ns.remove(&path("/d"), true).is_ok());
    assert_eq!(ns, Namespace::new());
}

#[test]
fn folders_are_removed_only_when_asked_to() {
    let mut ns = Namespace::new();
    ns.create([one("/a/b"), one("/a/c/d"), one("/ab")].concat()).expect("fresh paths");
    assert_eq!(ns.remove(&path("/a"), false), Err(Refusal::IsFolder("/a".to_owned())));
    assert_eq!(ns.remove(&path("/x"), true), Err(Refusal::NotFound("/x".to_owned())));
    assert_eq!(ns.remove(&path("/a"), true), Ok(Unneeded::new()), "/ab still has the chunk");
    assert!(!ns.exists(&path("/a")) && ns.exists(&path("/ab")));
}

#[test]
fn a_shared_chunk_goes_with_its_last_file_on_each_server() {
    let mut ns = Namespace::new();
    let files = vec![(path("/a"), file(&[1, 2, 1], &[0, 1])), (path("/b"), file(&[1], &[1, 2]))];
    ns.create(files).expect("fresh paths");
    let unneeded = ns.remove(&path("/a"), false).expect("a file");
    let server = TrackerId::new;
    assert_eq!(unneeded, Unneeded::from([(server(0), vec![chunk(2), chunk(1)]), (server(1), vec![chunk(2)])]));
    let unneeded = ns.remove(&path("/b"), false).expect("a file");
    assert_eq!(unneeded, Unneeded::from([(server(1), vec![chunk(1)]), (server(2), vec![chunk(1)])]));
    assert_eq!(ns, Namespace::new());
}

#[test]
fn what_is_held_is_needed_without_a_path() {
    let mut ns = Namespace::new();
    let server = TrackerId::new;
    ns.create(vec![(path("/a"), file(&[1, 2], &[0]))]).expect("a fresh path");
    let program = file(&[2, 3, 3], &[0, 1]);
    ns.hold(&program);
    let all = [chunk(1), chunk(2), chunk(3), chunk(4)];
    assert_eq!(ns.unreferenced(server(0), &all), [chunk(4)]);
    assert_eq!(ns.unreferenced(server(1), &all), [chunk(1), chunk(4)]);
    assert_eq!(ns.unreferenced(server(2), &all), all);
    let unneeded = ns.remove(&path("/a"), false).expect("a file");
    assert_eq!(unneeded, Unneeded::from([(server(0), vec![chunk(1)])]), "the program needs chunk 2");
    ns.release(&program);
    assert_eq!(ns, Namespace::new());
}

#[test]
fn a_listing_sums_folders_and_shows_the_fewest_copies() {
    let mut ns = Namespace::new();
    let files = vec![
        (path("/d/f"), file(&[5], &[0, 1])),
        (path("/d/s/x"), file(&[1, 2], &[0])),
        (path("/d/s/t/y"), file(&[4], &[0, 1, 2])),
        (path("/d/s-"), file(&[], &[])),
        (path("/e"), file(&[9], &[0])),
    ];
    ns.create(files).expect("fresh paths");
    let entry = |name, length, files, copies| Entry { path: path(name), length, files, copies };
    assert_eq!(
        ns.list(&path("/d")),
        Ok(vec![entry("/d/f", 5, None, 2), entry("/d/s", 7, Some(2), 1), entry("/d/s-", 0, None, 0)])
    );
    assert_eq!(ns.list(&path("/e")), Ok(vec![entry("/e", 9, None, 1)]));
    assert_eq!(ns.list(&path("/")).map(|e| e.len()), Ok(2));
    assert!(ns.list(&path("/x")).is_err());
    assert_eq!(Namespace::new().list(&path("/")), Ok(vec![]));
}

/// The naive model: a list of files.
#[derive(Default)]
struct Model(Vec<(Path, File)>);

impl Model {
    fn create(&mut self, files: &[(Path, File)]) -> bool {
        let mut all = self.0.clone();
        for (path, file) in files {
            if all.iter().any(|(old, _)| old.is_within(path) || path.is_within(old)) {
                return false;
            }
            all.push((path.clone(), file.clone()));
        }
        self.0 = all;
        true
    }
    fn copies(&self) -> BTreeSet<(TrackerId, ChunkId)> {
        let mut copies = BTreeSet::new();
        for (_, file) in &self.0 {
            for (at, (chunk, _)) in file.manifest.chunks.iter().enumerate() {
                copies.extend(file.servers(at).iter().map(|server| (*server, *chunk)));
            }
        }
        copies
    }
    fn remove(&mut self, path: &Path, recursive: bool) -> Option<BTreeSet<(TrackerId, ChunkId)>> {
        let before = self.copies();
        let is_file = self.0.iter().any(|(old, _)| old == path);
        if !self.0.iter().any(|(old, _)| old.is_within(path)) || !(is_file || recursive) {
            return None;
        }
        self.0.retain(|(old, _)| !old.is_within(path));
        Some(before.difference(&self.copies()).copied().collect())
    }
    fn files(&self, path: &Path) -> Vec<(Path, File)> {
        let mut files: Vec<_> = self.0.iter().filter(|(old, _)| old.is_within(path)).cloned().collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(Vec<(Path, File)>),
    Remove(Path, bool),
}

fn some_path() -> impl Strategy<Value = Path> {
    proptest::collection::vec("[ab]", 1..4).prop_map(|parts| path(&parts.join("/")))
}

fn some_file() -> impl Strategy<Value = File> {
    (proptest::collection::vec(1u8..6, 0..4), proptest::collection::btree_set(0u32..4, 1..3))
        .prop_map(|(chunks, servers)| file(&chunks, &Vec::from_iter(servers)))
}

fn some_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::collection::vec((some_path(), some_file()), 1..3).prop_map(Step::Create),
        2 => (some_path(), any::<bool>()).prop_map(|(path, recursive)| Step::Remove(path, recursive)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_like_a_list_of_files(steps in proptest::collection::vec(some_step(), 1..40)) {
        let (mut ns, mut model) = (Namespace::new(), Model::default());
        for step in steps {
            match step {
                Step::Create(files) => prop_assert_eq!(ns.create(files.clone()).is_ok(), model.create(&files)),
                Step::Remove(path, recursive) => {
                    let unneeded = ns.remove(&path, recursive).ok().map(|unneeded| {
                        let copies = unneeded.iter().flat_map(|(server, chunks)| chunks.iter().map(|c| (*server, *c)));
                        copies.collect::<BTreeSet<_>>()
                    });
                    prop_assert_eq!(unneeded, model.remove(&path, recursive));
                }
            }
            for folder in ["/", "/a", "/a/b", "/b", "/b/b"].map(path) {
                let files: Vec<_> = ns.files(&folder).map(|(p, f)| (p.clone(), f.clone())).collect();
                prop_assert_eq!(&files, &model.files(&folder));
                prop_assert_eq!(ns.exists(&folder), folder.as_str() == "/" || !files.is_empty());
                let listed: u64 = ns.list(&folder).unwrap_or_default().iter().map(|entry| entry.length).sum();
                prop_assert_eq!(listed, files.iter().map(|(_, f)| f.manifest.length()).sum::<u64>());
            }
        }
    }
}
