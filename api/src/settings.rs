//! Settings: options that may also stand in a file, `quorate.toml`, or in the environment.
//!
//! A setting is an option of the command line that names an environment variable, `QUORATE_…`. The variable tells its
//! place in the file too: `QUORATE_JOB_MEMORY` is the key `memory` in the table `[job]`, and `QUORATE_CLUSTER` the key
//! `cluster` before all tables. What must hold: a flag beats the environment, the environment the file, and the file what
//! is built in. The file's values become the options' defaults, so `--help` shows what holds here, and the parser that
//! reads flags reads them too.
//!
//! A program knows the tables of its own options. Of other programs' tables it looks at the names alone.

use crate::{
    exit::{Code, Failure},
    terminal::{When, set_colour},
    toml_file::TomlFile,
};
use clap::{Arg, Command, ValueEnum, error::ContextKind};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};
use toml::de::{DeTable, DeValue};

/// The file in the current folder, and in the user's folder for configuration.
pub const FILE: &str = "quorate.toml";
/// The variable that names another file; empty, it says that none is to be read.
pub const FILE_VARIABLE: &str = "QUORATE_CONFIG";
/// What every setting's variable begins with.
const PREFIX: &str = "QUORATE_";

/// A table of the file.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name; empty for what stands before all tables.
    pub name: &'static str,
    /// Whose options they are.
    pub about: &'static str,
    /// Its settings.
    pub settings: Vec<Setting>,
}

/// An option that is a setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its key in the table: the flag without its dashes.
    pub key: String,
    /// Its environment variable.
    pub variable: String,
    /// The option.
    pub arg: Arg,
}

/// The tables that programs of Quorate have, with whose options they are. A program leaves alone those that are not its own.
pub const TABLES: [(&str, &str); 6] = [
    ("", "Of every command"),
    ("job", "Of jobs, wherever they run"),
    ("embedded", "Of the cluster inside a job program"),
    ("up", "Of `quorate cluster up`"),
    ("jobtracker", "Of `quorate jobtracker`"),
    ("tasktracker", "Of `quorate tasktracker`"),
];

impl Section {
    /// The settings among a command's options, in the table of this name.
    pub fn of(name: &'static str, command: &Command) -> Self {
        let prefix = match name {
            "" => PREFIX.to_owned(),
            _ => format!("{PREFIX}{}_", name.to_ascii_uppercase()),
        };
        let about = TABLES.iter().find(|(table, _)| *table == name).map_or("", |(_, about)| about);
        let setting = |arg: &Arg| {
            let variable = arg.get_env()?.to_str()?.to_owned();
            let key = variable.strip_prefix(&prefix)?.to_ascii_lowercase().replace('_', "-");
            (arg.get_long() == Some(key.as_str())).then(|| Setting { key, variable, arg: arg.clone() })
        };
        Self { name, about, settings: command.get_arguments().filter_map(setting).collect() }
    }
}

impl Setting {
    /// What holds when nobody says otherwise, when that can be said in a word.
    pub fn default(&self) -> Option<String> {
        let values: Vec<_> = self.arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        (!values.is_empty() && self.takes_value()).then(|| values.join(","))
    }

    /// Whether it is more than yes or no.
    pub fn takes_value(&self) -> bool {
        self.arg.get_action().takes_values()
    }

    /// Reads a value as the flag's parser does.
    fn check(&self, value: &str) -> Result<(), String> {
        if !self.takes_value() {
            return value.parse::<bool>().map(drop).map_err(|_| format!("{value:?} is neither true nor false"));
        }
        let alone = Command::new("").no_binary_name(true).arg(self.arg.clone().env(None::<&str>).required(false));
        let Err(error) = alone.try_get_matches_from([format!("--{}={value}", self.key)]) else { return Ok(()) };
        let why = std::error::Error::source(&error).map(ToString::to_string);
        let possible = error.get(ContextKind::ValidValue).map(|values| format!("it is one of {values}"));
        Err(why.or(possible).unwrap_or_else(|| format!("{value:?} is not what it takes")))
    }
}

/// Where a setting's value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Given {
    value: String,
    /// `quorate.toml:3:1`.
    place: String,
}

/// What the file and the environment say.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    sections: Vec<Section>,
    file: Option<PathBuf>,
    /// By variable, what the file says.
    given: BTreeMap<String, Given>,
}

impl Settings {
    /// Reads the file that is there, checks it and the environment, and from then on uses colours as they say. Says too whether
    /// all of it is sound: [`Code::UnknownKey`] and [`Code::Settings`] have the place of what is wrong.
    pub fn read(sections: Vec<Section>) -> (Self, Result<(), Failure>) {
        let mut settings = Self { sections, ..Self::default() };
        let sound = settings.read_all();
        if let Some(when) = settings.early("color").and_then(|when| When::from_str(&when, true).ok()) {
            set_colour(when);
        }
        (settings, sound)
    }

    /// What a file says, without a look at the environment.
    ///
    /// # Errors
    /// As [`Settings::read`] says, or as [`Failure::io`].
    pub fn of_file(sections: Vec<Section>, path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| Failure::io("cannot read", path, &error))?;
        let mut settings = Self { sections, file: Some(path.to_owned()), ..Self::default() };
        settings.read_file(path, &text)?;
        Ok(settings)
    }

    /// How many settings the file gives.
    pub fn given(&self) -> usize {
        self.given.len()
    }

    fn read_all(&mut self) -> Result<(), Failure> {
        if let Some((path, text)) = find()? {
            self.read_file(&path, &text)?;
            self.file = Some(path);
        }
        self.check_environment()
    }

    fn check_environment(&self) -> Result<(), Failure> {
        for setting in self.sections.iter().flat_map(|section| &section.settings) {
            let Some(value) = env::var_os(&setting.variable) else { continue };
            let checked = value.to_str().ok_or_else(|| "it is not UTF-8".to_owned());
            checked.and_then(|value| setting.check(value)).map_err(|why| {
                let message = format!("the environment variable {} cannot be used", setting.variable);
                Failure::new(Code::Settings, message).cause(why)
            })?;
        }
        Ok(())
    }

    /// The tables that this program knows.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What holds for a setting where no flag is given, and who says so.
    pub fn value(&self, setting: &Setting) -> (Option<String>, String) {
        if let Some(value) = env::var_os(&setting.variable) {
            return (Some(value.to_string_lossy().into_owned()), setting.variable.clone());
        }
        match self.given.get(&setting.variable) {
            Some(given) => (Some(given.value.clone()), given.place.clone()),
            None => (setting.default(), "default".to_owned()),
        }
    }

    /// The value of a top-level setting before the command line was read.
    fn early(&self, key: &str) -> Option<String> {
        let top = self.sections.iter().find(|section| section.name.is_empty())?;
        self.value(top.settings.iter().find(|setting| setting.key == key)?).0
    }

    /// Makes the file's values the defaults of a command's options, and of its subcommands'.
    #[must_use]
    pub fn apply(&self, command: Command) -> Command {
        let command = command.mut_args(|arg| {
            let given = arg.get_env().and_then(|variable| self.given.get(variable.to_str()?));
            match given {
                Some(given) => arg.default_value(OsString::from(&given.value)).required(false),
                None => arg,
            }
        });
        command.mut_subcommands(|subcommand| self.apply(subcommand))
    }

    fn read_file(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        let file = TomlFile::new(path, text, Code::Settings);
        let mut top = DeTable::new();
        for (key, value) in file.table()? {
            let name = key.get_ref().as_ref();
            let is_table = TABLES.iter().any(|(table, _)| *table == name && !name.is_empty());
            match value.get_ref() {
                DeValue::Table(table) if is_table => self.read_table(&file, name, table)?,
                _ if is_table => {
                    return Err(file.wrong(key.span().start, &format!("`{name}` is a table: write [{name}]")));
                }
                _ => drop(top.insert(key, value)),
            }
        }
        self.read_table(&file, "", &top)
    }

    fn read_table(&mut self, file: &TomlFile<'_>, name: &str, table: &DeTable<'_>) -> Result<(), Failure> {
        // The tables of other programs are theirs to judge.
        let Some(section) = self.sections.iter().find(|section| section.name == name) else { return Ok(()) };
        let keys = section.settings.iter().map(|setting| setting.key.as_str());
        let tables = TABLES.iter().map(|(table, _)| *table).filter(|table| name.is_empty() && !table.is_empty());
        let known: Vec<&str> = keys.chain(tables).collect();
        for (key, value) in table {
            let Some(setting) = section.settings.iter().find(|setting| setting.key == *key.get_ref()) else {
                return Err(file.unknown_key(Code::UnknownKey, key.span().start, key.get_ref(), &known));
            };
            let given = text_of(value.get_ref()).ok_or_else(|| "it takes a string, a number, true or false".to_owned());
            let checked = given.and_then(|text| setting.check(&text).map(|()| text));
            let value = checked.map_err(|why| {
                file.wrong(value.span().start, &format!("the value of `{}` cannot be used", setting.key)).cause(why)
            })?;
            self.given.insert(setting.variable.clone(), Given { value, place: file.place(key.span().start) });
        }
        Ok(())
    }
}

/// A value as it would be written after a flag.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The file and its text: the one that the environment names, else the current folder's, else the user's.
fn find() -> Result<Option<(PathBuf, String)>, Failure> {
    let read = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::io("cannot read the settings in", path, &error)),
    };
    if let Some(named) = env::var_os(FILE_VARIABLE) {
        if named.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(named);
        return match read(path.clone())? {
            Some(found) => Ok(Some(found)),
            None => Err(Failure::new(Code::NotFound, format!("there are no settings in {}", path.display()))
                .hint(format!("{FILE_VARIABLE} names that file"))),
        };
    }
    match read(PathBuf::from(FILE))? {
        Some(found) => Ok(Some(found)),
        None => user_folder().map_or(Ok(None), |folder| read(folder.join("quorate").join(FILE))),
    }
}

/// Where the user's programs keep their configuration.
fn user_folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::value_parser;

    fn command() -> Command {
        let many = Arg::new("many").long("many").env("QUORATE_JOB_MANY").value_parser(value_parser!(u32).range(1..=9));
        let how =
            Arg::new("how").long("how").env("QUORATE_JOB_HOW").value_parser(["fast", "well"]).default_value("well");
        let needed = Arg::new("needed").long("needed").env("QUORATE_JOB_NEEDED").required(true);
        let eager = Arg::new("eager").long("eager").env("QUORATE_JOB_EAGER").action(clap::ArgAction::SetTrue);
        Command::new("test").args([many, how, needed, eager]).arg(Arg::new("plain").long("plain"))
    }

    fn settings(text: &str) -> Result<Settings, Failure> {
        let mut settings = Settings {
            sections: vec![Section::of("", &Command::new("")), Section::of("job", &command())],
            ..Settings::default()
        };
        settings.read_file(Path::new("quorate.toml"), text)?;
        Ok(settings)
    }

    #[test]
    fn the_file_gives_defaults_that_flags_beat() {
        let settings =
            settings("[job]\nmany = 3\nneeded = \"this\"\neager = true\n[up]\nwhatever = 1\n").expect("sound");
        let get = |arguments: &[&str]| {
            let matches =
                settings.apply(command()).try_get_matches_from([&["test"], arguments].concat()).expect("parses");
            let many = matches.get_one::<u32>("many").copied();
            let how = matches.get_one::<String>("how").cloned().expect("a default");
            (many, how, matches.get_one::<String>("needed").cloned(), matches.get_flag("eager"))
        };
        let needed = Some("this".to_owned());
        assert_eq!(get(&[]), (Some(3), "well".to_owned(), needed.clone(), true));
        assert_eq!(get(&["--many", "5", "--how=fast"]), (Some(5), "fast".to_owned(), needed, true));
        let help = settings.apply(command()).render_long_help().to_string();
        assert!(help.contains("[default: 3]"), "{help}");
    }

    #[test]
    fn what_is_wrong_in_the_file_is_told_with_its_place() {
        let refused = |text: &str, code: Code, says: &[&str]| {
            let failure = settings(text).expect_err(text);
            assert_eq!(failure.code, code, "{failure}");
            let told = failure.to_string();
            assert!(says.iter().all(|part| told.contains(part)), "{told}");
        };
        refused("[job]\nmany = 3\nhwo = 1\n", Code::UnknownKey, &["quorate.toml:3:1", "`hwo`", "did you mean `how`?"]);
        refused("[jbo]\nmany = 3\n", Code::UnknownKey, &["quorate.toml:1:2", "did you mean `job`?"]);
        refused("plain = 1\n", Code::UnknownKey, &["quorate.toml:1:1", "`plain`"]);
        refused("[job]\nmany = 10\n", Code::Settings, &["quorate.toml:2:8", "`many`", "1..=9"]);
        refused("[job]\nhow = \"badly\"\n", Code::Settings, &["quorate.toml:2:7", "fast, well"]);
        refused("[job]\neager = 1\n", Code::Settings, &["neither true nor false"]);
        refused("[job]\nmany = [1]\n", Code::Settings, &["it takes a string, a number, true or false"]);
        refused("job = 1\n", Code::Settings, &["quorate.toml:1:1", "write [job]"]);
        refused("[job]\nmany = \n", Code::Settings, &["quorate.toml:2:"]);
    }
}
