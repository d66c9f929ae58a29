//! Pages that are made from the code, and tables in pages that must name what the code has. `UPDATE_PAGES=1` writes the
//! first kind anew.

use quorate::exit::{Code, Exit};
use quorate_jobtracker::ReplicaLiar;
use quorate_liars::Kind;
use std::{collections::BTreeSet, fs, path::PathBuf};

fn path(page: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)
}

fn read(page: &str) -> String {
    fs::read_to_string(path(page)).unwrap_or_default()
}

/// The committed page is the one that the code makes.
fn is_current(page: &str, made: &str) {
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::write(path(page), made).expect("written");
    }
    assert_eq!(read(page), made, "{page} is out of date: run these tests with UPDATE_PAGES=1, and commit it");
}

#[test]
fn the_page_on_errors_is_made_of_their_codes() {
    let chapters = [
        (Exit::JobFailed, "The job failed"),
        (Exit::Usage, "The command line, the settings or a configuration make no sense"),
        (Exit::Path, "An input is missing or unreadable, or an output exists"),
        (Exit::Cluster, "No cluster answers, or it refuses"),
        (Exit::Machine, "This machine is in trouble"),
        (Exit::Refused, "What was checked does not hold"),
        (Exit::Differs, "A program does not give the same each time"),
        (Exit::Interrupted, "Interrupted"),
    ];
    let mut made = "# Troubleshooting\n\n\
        Every error has a code, as in `error[Q0301]`, which keeps its meaning from version to version, so that scripts and\n\
        searches can rely on it. `quorate errors` lists the codes, `quorate errors Q0301` tells of one what stands here. The\n\
        first digits of a code are the exit code of the program, but for the last kind, which ends with 130. A program that is\n\
        done ends with 0.\n"
        .to_owned();
    for (exit, title) in chapters {
        made.push_str(&format!("\n## {title}: exit code {}\n", exit as u8));
        for code in Code::ALL.iter().filter(|code| code.exit() == exit) {
            let (title, meaning, remedy) = (code.title(), code.meaning(), code.remedy());
            made.push_str(&format!("\n### {code}: {title}\n\n{}\n\n**What to do:** {remedy}.\n", fold(meaning)));
        }
    }
    is_current("troubleshooting.md", &made);
}

/// The text with lines of a page's width.
fn fold(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 120 => line.push_str(&format!(" {word}")),
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// The shapes are read from the source: what stands above a field there is what the page says of it.
#[test]
fn the_page_on_json_is_made_of_the_shapes() {
    let source = include_str!("../src/json.rs");
    let mut made = "# JSON\n\n\
        What commands print with `--json`. Fields keep their names and meanings; later versions may add some. Ids are bare\n\
        numbers, amounts are bytes, times are milliseconds, counted from the Unix epoch where they are points. What does not\n\
        apply is `null`. Errors go to standard error as ever, and the exit code tells of them.\n\n\
        | command | prints |\n|---|---|\n\
        | `quorate job list --json` | an array of *Job* |\n\
        | `quorate job show JOB --json` | a *JobDetail* |\n\
        | `quorate fs ls --json`, `quorate fs du --json` | an array of *Stored* |\n\
        | `quorate cluster status --json` | a *Status* |\n\
        | `quorate tracker list --json` | an array of *Tracker* |\n\
        | `quorate tracker show TRACKER --json` | a *Tracker* |\n\n\
        A Rust program reads them with the types in `quorate::json`.\n"
        .to_owned();
    let mut said = String::new();
    let mut in_shape = false;
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            said = if said.is_empty() { text.to_owned() } else { format!("{said} {text}") };
        } else if let Some(shape) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            in_shape = shape != "Format";
            if in_shape {
                made.push_str(&format!("\n## {shape}\n\n{said}\n\n| field | is | meaning |\n|---|---|---|\n"));
            }
            said.clear();
        } else if line == "}" {
            in_shape = false;
            said.clear();
        } else if let Some((field, kind)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            if in_shape {
                made.push_str(&format!("| `{field}` | {} | {said} |\n", kind_of(kind.trim_end_matches(','))));
            }
            said.clear();
        } else if !line.starts_with("#[") {
            said.clear();
        }
    }
    assert!(made.matches("\n## ").count() >= 12, "the source has another form: {made}");
    is_current("json.md", &made);
}

/// A Rust type in the words of JSON.
fn kind_of(kind: &str) -> String {
    if let Some(inner) = kind.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("{} or `null`", kind_of(inner));
    }
    if let Some(inner) = kind.strip_prefix("Vec<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("array of {}", kind_of(inner));
    }
    match kind {
        "u16" | "u32" | "u64" | "usize" => "number".to_owned(),
        "bool" => "boolean".to_owned(),
        "String" => "string".to_owned(),
        "BTreeMap<String, u64>" => "object of numbers by name".to_owned(),
        "Job" => "the fields of *Job*, in the same object".to_owned(),
        shape => format!("*{shape}*"),
    }
}

/// The names in the first column of a chapter's table.
fn first_column(page: &str, chapter: &str) -> BTreeSet<String> {
    let text = read(page);
    let (_, rest) = text.split_once(&format!("\n## {chapter}\n")).expect("the chapter");
    let (chapter, _) = rest.split_once("\n## ").unwrap_or((rest, ""));
    let names = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_fault_model_tells_of_every_liar_and_of_no_other() {
    let kinds: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(first_column("fault-model.md", "Each lie"), kinds);
    let replicas: BTreeSet<String> = ReplicaLiar::ALL.iter().map(|liar| liar.name().to_owned()).collect();
    assert_eq!(first_column("fault-model.md", "Lying replicas"), replicas);
}
