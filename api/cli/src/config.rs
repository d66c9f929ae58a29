//! `quorate config`: what settings there are, and what holds here.

use crate::{Cli, cluster, role};
use clap::{Args, CommandFactory, Subcommand};
use quorate::{
    exit::Failure,
    job_sections,
    settings::{FILE_VARIABLE, Section, Setting, Settings},
    terminal::{print, print_table},
};

/// How wide the comments of the example are.
const WIDTH: usize = 100;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Prints a quorate.toml that explains every setting, with nothing set.
    ///
    /// The file is looked for in the current folder, then in ~/.config/quorate. QUORATE_CONFIG names another; empty, it
    /// says that there is none. A flag beats the environment, the environment the file.
    Example,
    /// Shows what every setting is here, and who says so.
    Show,
}

/// All tables that `quorate.toml` may have.
pub(crate) fn sections() -> Vec<Section> {
    let none = || clap::Command::new("");
    let mut sections = vec![Section::of("", &Cli::command())];
    sections.extend(job_sections());
    sections.push(Section::of("up", &cluster::Up::augment_args(none())));
    sections.push(Section::of("jobtracker", &role::JobTracker::augment_args(none())));
    sections.push(Section::of("tasktracker", &role::TaskTracker::augment_args(none())));
    sections
}

pub(crate) fn example(settings: &Settings) -> Result<(), Failure> {
    print(&example_of(settings.sections()))
}

fn example_of(sections: &[Section]) -> String {
    let intro = format!(
        "Settings of quorate and of job programs. Remove a # to set one. A flag beats the environment variable, and that \
         beats this file. It is looked for in the current folder, then in ~/.config/quorate; {FILE_VARIABLE} names \
         another. An unknown key is an error."
    );
    let mut text = comment(&intro);
    for section in sections {
        text.push_str(&format!("\n{}", comment(&format!("{}.", section.about))));
        if !section.name.is_empty() {
            text.push_str(&format!("[{}]\n", section.name));
        }
        for setting in &section.settings {
            text.push_str(&format!("\n{}", comment(&help(setting))));
            text.push_str(&comment(&format!("Flag: --{}. Environment: {}.", setting.key, setting.variable)));
            text.push_str(&format!("#{} = {}\n", setting.key, toml_value(&sample(setting))));
        }
    }
    text
}

/// What the option's help says, as a sentence.
fn help(setting: &Setting) -> String {
    let help = setting.arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> =
        setting.arg.get_possible_values().iter().map(|value| format!("\"{}\"", value.get_name())).collect();
    let choice = if possible.is_empty() { String::new() } else { format!(" One of {}.", possible.join(", ")) };
    format!("{}.{choice}", help.trim_end_matches('.'))
}

/// The default, or something that could stand there.
fn sample(setting: &Setting) -> String {
    let possible = || setting.arg.get_possible_values().first().map(|value| value.get_name().to_owned());
    let made_up = || {
        let names = setting.arg.get_value_names().unwrap_or_default();
        match names.first().map(|name| name.as_str()) {
            Some("SIZE") => "64MiB",
            Some("FOLDER" | "DIR") => "/path/of/a/folder",
            Some("FILE" | "SOCKET") => "/path/of/a/file",
            Some("ADDRESS" | "HOST:PORT") => "127.0.0.1:8080",
            Some(_) => "3",
            None => "true",
        }
        .to_owned()
    };
    setting.default().or_else(possible).unwrap_or_else(made_up)
}

fn toml_value(value: &str) -> String {
    let is_bare = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
    if is_bare { value.to_owned() } else { format!("{value:?}") }
}

/// A text as comment lines.
fn comment(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => line.push_str(&format!(" {word}")),
            Some(_) | None => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n") + "\n"
}

pub(crate) fn show(settings: &Settings) -> Result<(), Failure> {
    let mut rows = vec![["SETTING", "VALUE", "FROM"].map(str::to_owned).to_vec()];
    for section in settings.sections() {
        for setting in &section.settings {
            let (value, from) = settings.value(setting);
            let name =
                if section.name.is_empty() { setting.key.clone() } else { format!("{}.{}", section.name, setting.key) };
            rows.push(vec![name, value.unwrap_or_else(|| "-".to_owned()), from]);
        }
    }
    let file = settings.file().map_or("no quorate.toml".to_owned(), |path| path.display().to_string());
    print_table(&rows)?;
    print(&format!("{file} was read\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs};

    #[test]
    fn every_option_with_a_variable_is_a_setting_of_one_table() {
        fn variables(command: &clap::Command, found: &mut BTreeSet<String>) {
            found.extend(command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned())));
            command.get_subcommands().for_each(|subcommand| variables(subcommand, found));
        }
        let mut of_commands = BTreeSet::new();
        variables(&Cli::command(), &mut of_commands);
        let mut listed = BTreeSet::new();
        for setting in sections().into_iter().flat_map(|section| section.settings) {
            assert!(listed.insert(setting.variable.clone()), "{} twice", setting.variable);
        }
        let jobs = job_sections().into_iter().flat_map(|section| section.settings).map(|setting| setting.variable);
        of_commands.extend(jobs);
        assert_eq!(listed, of_commands);
    }

    /// `UPDATE_PAGES=1` writes the page anew.
    #[test]
    fn the_page_on_configuration_is_made_of_the_options() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let made = page(&sections());
        if std::env::var_os("UPDATE_PAGES").is_some() {
            fs::write(path, &made).expect("written");
        }
        let page = fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, made, "configuration.md is out of date: run this test with UPDATE_PAGES=1, and commit it");
    }

    fn page(sections: &[Section]) -> String {
        let mut made = format!(
            "# Configuration\n\n## Settings\n\n\
             Many options can be set once for all commands. A flag beats the environment variable, that beats `quorate.toml`, and\n\
             that beats the default. The file is looked for in the current folder, then in `~/.config/quorate`; `{FILE_VARIABLE}`\n\
             names another, and says that there is none when it is empty. A key that nobody knows is an error, with its line and\n\
             the nearest key. `quorate config example` prints a file that explains every setting; `quorate config show` tells\n\
             what holds here, and who says so. `quorate` and job programs read the same file.\n"
        );
        for section in sections {
            let title = if section.name.is_empty() { String::new() } else { format!(": `[{}]`", section.name) };
            made.push_str(&format!("\n### {}{title}\n\n", section.about));
            made.push_str("| key | variable | default | meaning |\n|---|---|---|---|\n");
            for setting in &section.settings {
                let default = setting.default().map_or(String::new(), |default| format!("`{default}`"));
                let (key, variable, help) = (&setting.key, &setting.variable, help(setting));
                made.push_str(&format!("| `{key}` | `{variable}` | {default} | {} |\n", help.trim_end_matches('.')));
            }
        }
        made.push_str(
            "\nBesides, `NO_COLOR` turns colours off, and `RUST_LOG` says how much job programs and members log (`info`, `debug`,\n\
             `quorate_tasktracker=debug`).\n\n## The cluster\n\n\
             Every process of a cluster has the same file, which says who its members are: `--config FILE` of `quorate jobtracker`,\n\
             `tasktracker` and `trusted-log`. `quorate cluster up` writes it, `quorate key` makes the keys that stand in it, and\n\
             clients find a copy, `cluster.toml`, in the cluster's folder beside their own key. Here, too, an unknown key is an error.\n\n\
             | table | key | meaning |\n|---|---|---|\n",
        );
        for key in quorate::configuration::KEYS {
            let table = if key.table.is_empty() { String::new() } else { format!("`{}`", key.table) };
            made.push_str(&format!("| {table} | `{}` | {} |\n", key.name, key.meaning));
        }
        made
    }

    #[test]
    fn the_example_is_sound_with_every_line_uncommented() {
        let text = example_of(&sections());
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        let set = text.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("quorate.toml");
        fs::write(&file, set.collect::<Vec<_>>().join("\n")).expect("written");
        let count = sections().iter().map(|section| section.settings.len()).sum::<usize>();
        assert_eq!(Settings::of_file(sections(), &file).expect("sound").given(), count);
    }
}
