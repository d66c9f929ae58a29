//! Results that are kept in the repository: `bench/results/DATE-NAME.md`, each with the machine, the revision and the
//! command that made it. Figures without these three cannot be compared with later ones.

use quorate::exit::Failure;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The lines below a table that say where it comes from: machine, revision, and the command with this process's arguments.
pub fn origin(command: &str) -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("{command} {}", arguments.join(" "));
    format!("* Machine: {}\n* Revision: {}\n* Command: `{}`\n", machine(), revision(), command.trim_end())
}

/// The machine: system, processor, cores that this process may use.
pub fn machine() -> String {
    let system = said("sh", &["-c", "uname -sm; grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"]);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{system}, {cores} cores")
}

/// The revision of the source, and whether it was changed.
pub fn revision() -> String {
    said("git", &["describe", "--always", "--dirty"])
}

/// Today, as 2026-11-20.
pub fn date() -> String {
    said("date", &["-u", "+%Y-%m-%d"])
}

/// Writes a result to `bench/results/DATE-NAME.md`, under a heading that has the date, and with its origin at the end.
///
/// `command` is what comes before this process's own arguments, such as `cargo run --release -p quorate-bench --`.
///
/// # Errors
/// A failure of the machine when the file cannot be written.
pub fn keep(name: &str, title: &str, body: &str, command: &str) -> Result<PathBuf, Failure> {
    let date = date();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let path = folder.join(format!("{date}-{name}.md"));
    let text = page(title, &date, body, &origin(command));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
    written.map_err(|e| Failure::io("cannot write", &path, &e))?;
    eprintln!("kept in {}", path.display());
    Ok(path)
}

fn page(title: &str, date: &str, body: &str, origin: &str) -> String {
    format!("# {title}, {date}\n\n{}\n\n{origin}", body.trim_end())
}

/// What a program of this machine prints, in one line.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() { "unknown".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_heading_body_and_origin() {
        let page = page("Stages", "2026-11-20", "| a |\n\n", "* Machine: m\n");
        assert_eq!(page, "# Stages, 2026-11-20\n\n| a |\n\n* Machine: m\n");
    }

    #[test]
    fn what_cannot_be_asked_is_unknown() {
        assert_eq!(said("no-such-program-anywhere", &[]), "unknown");
        assert_eq!(said("echo", &["two", " words "]), "two words");
    }

    #[test]
    fn the_origin_names_machine_revision_and_command() {
        let origin = origin("cargo run");
        assert!(
            origin.contains("cores\n") && origin.contains("* Revision: ") && origin.contains("`cargo run"),
            "{origin}"
        );
    }
}
