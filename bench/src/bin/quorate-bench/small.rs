//! Small jobs on a running cluster: there latency counts, not throughput.

use crate::{
    child::TRACKERS,
    jobs::{self, Input, Kind},
    machine,
    overhead::Told,
};
use quorate::{
    LocalCluster,
    exit::{Code, Failure},
    succeeded,
};
use quorate_bench::figures::markdown;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// The input of a small job, in bytes.
const SIZE: u64 = 1 << 20;
const RUNS: usize = 20;
/// Runs before these: the first ones open connections.
const WARM_UP: usize = 2;
const F: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds of one job, from its submission on.
struct Lap {
    /// Until the command was ordered.
    submitted: f64,
    /// Until its client knew that it had ended.
    ended: f64,
    /// Until its client had the list of its output files, from f + 1 replicas.
    known: f64,
}

/// Counts the words of 1 MiB, again and again.
pub(crate) fn small_jobs(folder: &Path) -> Result<Told, Failure> {
    // Apart from the inputs of other parts, one of which may be as long.
    let folder = folder.join("small");
    std::fs::create_dir(&folder).map_err(|e| Failure::io("cannot make", &folder, &e))?;
    let input = Input::make(Kind::Wordcount, SIZE, &folder)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| machine("start threads", e))?;
    let laps = runtime.block_on(async {
        let cluster = LocalCluster::builder(jobs::app()).trackers(TRACKERS).f(F).start().await?;
        let outcome = tokio::select! {
            outcome = laps(&cluster, &input) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Code::Interrupted, "interrupted")),
        };
        cluster.stop().await;
        outcome
    })?;
    let mut told = Told::default();
    let heads = ["ms", "min", "median", "p90", "max"];
    let mut rows = vec![heads.map(str::to_owned)];
    let columns = [
        ("until it is ordered", laps.iter().map(|lap| lap.submitted).collect::<Vec<f64>>()),
        ("until its end is known", laps.iter().map(|lap| lap.ended).collect()),
        ("until its files are known", laps.iter().map(|lap| lap.known).collect()),
    ];
    for (name, mut values) in columns {
        values.sort_by(f64::total_cmp);
        let [min, median, p90, max] = [0.0, 0.5, 0.9, 1.0].map(|q| format!("{:.0}", quantile(&values, q)));
        rows.push([name.to_owned(), min, median, p90, max]);
    }
    let sentence = format!("f = {F}, word count of 1 MiB on a running cluster, {RUNS} times, from submission on.");
    told.section("Small jobs", &sentence, &markdown(&rows));
    Ok(told)
}

/// The value below which a share of the sorted values lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

async fn laps(cluster: &LocalCluster, input: &Input) -> Result<Vec<Lap>, Failure> {
    cluster.put_file(&input.path, "/input").await?;
    let mut laps = Vec::new();
    for number in 0..WARM_UP + RUNS {
        let output = format!("/output-{number}");
        let specification = input.specification(cluster, &output, (None, 2), 64 << 20)?;
        let start = Instant::now();
        let so_far = || start.elapsed().as_secs_f64() * 1e3;
        let job = cluster.submit(specification).await?;
        let submitted = so_far();
        let view = cluster.wait(job, PATIENCE).await?;
        let ended = so_far();
        let files = cluster.client().files(&view.output).await?;
        let known = so_far();
        succeeded(&view)?;
        if files.is_empty() {
            return Err(Failure::new(Code::NoFiles, format!("{job} has no output files")));
        }
        laps.push(Lap { submitted, ended, known });
    }
    Ok(laps.split_off(WARM_UP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=21).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|share| quantile(&values, share)), [1.0, 11.0, 19.0, 21.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
