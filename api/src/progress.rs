//! Shows how long work gets on: a bar on a terminal; elsewhere lines of text for a job, and nothing for bytes that are
//! copied. All of it goes to standard error, and a bar goes away with the work.

use crate::report;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_protocol::query::{JobState, JobView};
use std::io::{IsTerminal, stderr};

/// The progress of one job.
pub struct Progress {
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    /// The line printed last.
    Lines(String),
}

impl Progress {
    /// Starts to show progress.
    pub fn new() -> Self {
        if !stderr().is_terminal() {
            return Self { shown: Shown::Lines(String::new()) };
        }
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { shown: Shown::Bar(bar) }
    }

    /// Shows how the job stands.
    pub fn update(&mut self, view: &JobView) {
        let summary = &view.summary;
        let (done, all) = (summary.maps.0 + summary.reduces.0, summary.maps.1 + summary.reduces.1);
        let waiting = match &summary.state {
            JobState::Waiting(reason) => format!("; waiting: {reason}"),
            JobState::Running | JobState::Succeeded | JobState::Failed(_) | JobState::Killed => String::new(),
        };
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_prefix(format!("{} {}", summary.job, summary.name));
                bar.set_length(all.into());
                bar.set_position(done.into());
                bar.set_message(format!("{}{waiting}", stages(view)));
            }
            Shown::Lines(last) => {
                // A line for each tenth of the way is enough for a file.
                let tenth = |done: u32, all: u32| u64::from(done) * 10 / u64::from(all.max(1));
                let step = format!(
                    "{} {} {}",
                    tenth(summary.maps.0, summary.maps.1),
                    tenth(summary.reduces.0, summary.reduces.1),
                    waiting
                );
                if *last != step {
                    eprintln!("{} {}: {}{waiting}", summary.job, summary.name, stages(view));
                    *last = step;
                }
            }
        }
    }

    /// Tells something besides.
    pub fn say(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Shown::Lines(_) => eprintln!("{text}"),
        }
    }

    /// Takes the bar away, and tells how the job ended.
    pub fn finish(self, view: &JobView) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
        let summary = &view.summary;
        eprintln!("{} {}: {}, {}", summary.job, summary.name, report::state(&summary.state), stages(view));
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
