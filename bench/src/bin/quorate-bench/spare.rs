//! The makespan where slots are spare: with a second core for the second copy of the work, f = 1 may take hardly longer than
//! f = 0 on one core. A barrier before the vote, or a shuffle that waits for the slower copy, would show here.
//!
//! The time is the job tracker's: a client looks at the job now and then, at longer and longer intervals, of which the last may be an
//! eighth of the job.

use crate::{child::Run, jobs::Input, overhead::Told};
use quorate::exit::Failure;
use quorate_bench::figures::{Measurement, markdown, medians};

/// Runs f = 0 on one core and f = 1 on two, in turn.
pub(crate) fn spare_slots(inputs: &[Input], runs: u32) -> Result<Told, Failure> {
    let mut told = Told::default();
    let heads = ["job", "f = 0, one core: s", "f = 1, two cores: s", "ratio"];
    let mut rows = vec![heads.map(str::to_owned)];
    for input in inputs {
        let (mut alone, mut copied) = (Vec::new(), Vec::new());
        for round in 1..=runs {
            alone.push(Run { cores: Some(1), ..Run::new(input, 0) }.measure()?);
            copied.push(Run { cores: Some(2), ..Run::new(input, 1) }.measure()?);
            eprintln!("{} with spare slots {round}/{runs}", input.kind.name());
        }
        let job_s = |runs: &[Measurement]| medians(&runs.iter().collect::<Vec<_>>()).job_s;
        let (one, two) = (job_s(&alone), job_s(&copied));
        let cells = [format!("{one:.2}"), format!("{two:.2}"), format!("{:.2}", two / one)];
        let [one, two, ratio] = cells;
        rows.push([input.kind.name().to_owned(), one, two, ratio]);
        told.runs.extend(alone.into_iter().chain(copied));
    }
    let sentence = "Seconds by the job tracker's clock, with twice the cores for twice the work.";
    told.section("Spare slots", sentence, &markdown(&rows));
    Ok(told)
}
