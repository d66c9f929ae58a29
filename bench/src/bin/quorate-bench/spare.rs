//! The makespan where slots are spare: with a second core for the second copy of the work, f = 1 may take hardly longer than
//! f = 0 on one core. A barrier before the vote, or a shuffle that waits for the slower copy, would show here.

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
        let wall_s = |runs: &[Measurement]| medians(&runs.iter().collect::<Vec<_>>()).wall_s;
        let (one, two) = (wall_s(&alone), wall_s(&copied));
        let cells = [format!("{one:.2}"), format!("{two:.2}"), format!("{:.2}", two / one)];
        let [one, two, ratio] = cells;
        rows.push([input.kind.name().to_owned(), one, two, ratio]);
        told.runs.extend(alone.into_iter().chain(copied));
    }
    told.section("Spare slots", "Wall time, with twice the cores for twice the work.", &markdown(&rows));
    Ok(told)
}
