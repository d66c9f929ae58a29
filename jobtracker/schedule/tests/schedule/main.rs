//! The scheduler driven by fake trackers through its public interface: commands in, directives and verdicts out.

mod blame;
mod campaign;
mod certificates;
mod chaos;
mod deadlines;
mod failures;
mod jobs;
mod probation;
mod repeats;
mod replicas;
mod verdicts;
mod world;
