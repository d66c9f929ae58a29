//! Shows how long work gets on: a bar on a terminal; elsewhere lines of text for a job, and nothing for bytes that are
//! copied. All of it goes to standard error, and a bar goes away with the work.

use crate::{
    report,
    terminal::{note, visible},
};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_protocol::query::{JobState, JobView};
use std::{
    io::{IsTerminal, stderr},
    sync::OnceLock,
};

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Shown {
    /// A bar on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Lines everywhere.
    Lines,
    /// Not at all.
    None,
}

/// What was chosen for this process.
static CHOSEN: OnceLock<Shown> = OnceLock::new();

/// Says how progress is shown in this process. The first word counts.
pub(crate) fn show(how: Shown) {
    let _ = CHOSEN.set(how);
}

fn chosen() -> Shown {
    CHOSEN.get().copied().unwrap_or_default()
}

/// The progress of one job.
pub struct Progress {
    form: Form,
}

enum Form {
    Bar(ProgressBar),
    /// The line printed last.
    Lines(String),
    Nothing,
}

impl Progress {
    /// Starts to show progress.
    pub fn new() -> Self {
        match chosen() {
            Shown::Auto if stderr().is_terminal() => {}
            Shown::Auto | Shown::Lines => return Self { form: Form::Lines(String::new()) },
            Shown::None => return Self { form: Form::Nothing },
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { form: Form::Bar(bar) }
    }

    /// Shows how the job stands.
    pub fn update(&mut self, view: &JobView) {
        let summary = &view.summary;
        let (done, all) = (summary.maps.0 + summary.reduces.0, summary.maps.1 + summary.reduces.1);
        let waiting = match &summary.state {
            JobState::Waiting(reason) => format!("; waiting: {}", visible(reason)),
            JobState::Running | JobState::Succeeded | JobState::Failed(_) | JobState::Killed => String::new(),
        };
        match &mut self.form {
            Form::Bar(bar) => {
                bar.set_prefix(format!("{} {}", summary.job, summary.name));
                bar.set_length(all.into());
                bar.set_position(done.into());
                bar.set_message(format!("{}{waiting}", stages(view)));
            }
            Form::Nothing => {}
            Form::Lines(last) => {
                // A line for each tenth of the way is enough for a file.
                let tenth = |done: u32, all: u32| u64::from(done) * 10 / u64::from(all.max(1));
                let step = format!(
                    "{} {} {}",
                    tenth(summary.maps.0, summary.maps.1),
                    tenth(summary.reduces.0, summary.reduces.1),
                    waiting
                );
                if *last != step {
                    note(&format!("{} {}: {}{waiting}", summary.job, summary.name, stages(view)));
                    *last = step;
                }
            }
        }
    }

    /// Tells something besides.
    pub fn say(&self, text: &str) {
        match &self.form {
            Form::Bar(bar) => bar.suspend(|| note(text)),
            Form::Lines(_) | Form::Nothing => note(text),
        }
    }

    /// Takes the bar away, and tells how the job ended.
    pub fn finish(self, view: &JobView) {
        match self.form {
            Form::Bar(bar) => bar.finish_and_clear(),
            Form::Lines(_) => {}
            Form::Nothing => return,
        }
        let summary = &view.summary;
        note(&format!("{} {}: {}, {}", summary.job, summary.name, report::state(&summary.state), stages(view)));
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn stages(view: &JobView) -> String {
    let summary = &view.summary;
    let disputed = if view.disputed > 0 { format!(", {} disputed", view.disputed) } else { String::new() };
    format!("maps {}/{}, reduces {}/{}{disputed}", summary.maps.0, summary.maps.1, summary.reduces.0, summary.reduces.1)
}

/// The progress of bytes that are copied or compared.
pub struct Transfer {
    bar: ProgressBar,
}

impl Transfer {
    /// Starts to show that so many bytes are copied. Nothing is shown where standard error is no terminal.
    pub fn new(what: &'static str, bytes: u64) -> Self {
        if chosen() != Shown::Auto {
            return Self::hidden();
        }
        let bar = ProgressBar::new(bytes).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {bytes} of {total_bytes}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar }
    }

    /// Shows nothing anywhere.
    pub(crate) fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// So many more bytes are copied.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Takes the bytes of the next file that are copied by now.
    pub(crate) fn part(&self) -> impl Fn(u64) + Send + Sync + 'static {
        let (bar, before) = (self.bar.clone(), self.bar.position());
        move |bytes| bar.set_position(before + bytes)
    }
}
