//! What lies cost, and that they cost no more than they may.
//!
//! * A wrong digest costs one more attempt of its map task: executions of map tasks are f + 1 + p for a share p of tasks
//!   that are hit, as published [Costa et al., Byzantine fault-tolerant MapReduce].
//! * A damaged segment costs its partition's share of the shuffle: one segment is fetched again and one partition is
//!   reduced again, by no more attempts than it has.

use crate::{
    child::{Lie, Run},
    jobs::Input,
    overhead::Told,
};
use quorate::exit::Failure;
use quorate_bench::figures::{Measurement, markdown, mib};
use quorate_liars::is_hit;

/// Percent of the map tasks that are hit.
const PERCENTS: [u8; 6] = [0, 6, 12, 25, 50, 100];
/// Map tasks aimed at where they are hit: enough that 6 percent are some.
const SPLITS: u64 = 100;
/// Reduce tasks where a segment is damaged.
const PARTITIONS: [u32; 4] = [1, 4, 16, 64];
/// Liars tolerated where somebody lies.
const F: u32 = 1;

/// Wrong digests in a share of the map tasks.
pub(crate) fn wrong_digests(inputs: &[Input]) -> Result<Told, Failure> {
    let mut told = Told::default();
    let heads = [
        "job",
        "hit %",
        "hit",
        "map tasks",
        "executions",
        "planned",
        "restarts",
        "refetched",
        "wall s",
        "CPU s",
        "CPU ×",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for input in inputs {
        let mut base = None;
        for percent in PERCENTS {
            let lie = (percent > 0).then_some(Lie::FirstAttempts(percent));
            let one = Run { splits: Some(SPLITS), lie, ..Run::new(input, F) }.measure()?;
            eprintln!("{} {percent} % hit: {:.2} s", one.job, one.wall_s);
            let cpu = one.cpu_s / *base.get_or_insert(one.cpu_s);
            rows.push([
                one.job.clone(),
                percent.to_string(),
                hits(&one, percent).to_string(),
                one.maps.to_string(),
                format!("{:.2}", executions(&one)),
                format!("{:.2}", planned(&one, percent)),
                one.restarts.to_string(),
                mib(one.refetched),
                format!("{:.2}", one.wall_s),
                format!("{:.2}", one.cpu_s),
                format!("{cpu:.2}"),
            ]);
            told.wrong.extend(too_many_executions(&one, percent));
            told.runs.push(one);
        }
    }
    let sentence = "f = 1. The first attempt of so many percent of the map tasks is wrong, whoever runs it. Executions are \
                    those of a map task, and planned are f + 1 + p.";
    told.section("Wrong digests", sentence, &markdown(&rows));
    Ok(told)
}

fn hits(one: &Measurement, percent: u8) -> u64 {
    (0..one.maps).filter(|task| is_hit(*task, percent)).count() as u64
}

/// Executions of a map task, when reduce tasks have no more than f + 1.
fn executions(one: &Measurement) -> f64 {
    let reduces = u64::from(one.reduces) * u64::from(one.f + 1);
    one.attempts.saturating_sub(reduces) as f64 / f64::from(one.maps).max(1.0)
}

fn planned(one: &Measurement, percent: u8) -> f64 {
    f64::from(one.f) + 1.0 + hits(one, percent) as f64 / f64::from(one.maps).max(1.0)
}

fn too_many_executions(one: &Measurement, percent: u8) -> Option<String> {
    let tasks = u64::from(one.maps) + u64::from(one.reduces);
    let planned = tasks * u64::from(one.f + 1) + hits(one, percent);
    (one.attempts != planned).then(|| {
        format!("{} with {percent} % of its map tasks hit took {} attempts, and not {planned}", one.job, one.attempts)
    })
}

/// One damaged segment, for several numbers of partitions.
pub(crate) fn damage(inputs: &[Input], runs: u32) -> Result<Told, Failure> {
    let mut told = Told::default();
    let heads = ["job", "R", "attempts", "planned", "restarts", "MiB shuffled", "refetched", "of it", "1/R", "wall s"];
    let mut rows = vec![heads.map(str::to_owned)];
    for input in inputs {
        for partitions in PARTITIONS {
            let run = Run { partitions, lie: Some(Lie::OneSegment), ..Run::new(input, F) };
            let all = (0..runs).map(|_| run.measure()).collect::<Result<Vec<_>, Failure>>()?;
            eprintln!("{} with one segment damaged, {partitions} partitions", input.kind.name());
            let worst = all.iter().max_by_key(|one| (one.restarts, one.refetched));
            rows.extend(worst.map(damage_row));
            told.wrong.extend(all.iter().filter_map(too_much_damage));
            told.runs.extend(all);
        }
    }
    let sentence = "f = 1. One segment of one map attempt is wrong; of the runs the worst is told, since where the other \
                    copy was there first nothing is to be mended. Attempts are planned to be f + 1 for each task and one \
                    more for the damaged one; each of the f + 1 attempts at its partition may start over once.";
    told.section("One damaged segment", sentence, &markdown(&rows));
    Ok(told)
}

fn damage_row(one: &Measurement) -> [String; 10] {
    let share = 100.0 * one.refetched as f64 / (one.shuffled as f64).max(1.0);
    [
        one.job.clone(),
        one.reduces.to_string(),
        one.attempts.to_string(),
        planned_with_damage(one).to_string(),
        one.restarts.to_string(),
        mib(one.shuffled),
        mib(one.refetched),
        format!("{share:.2} %"),
        format!("{:.2} %", 100.0 / f64::from(one.reduces)),
        format!("{:.2}", one.wall_s),
    ]
}

fn planned_with_damage(one: &Measurement) -> u64 {
    (u64::from(one.maps) + u64::from(one.reduces)) * u64::from(one.f + 1) + 1
}

fn too_much_damage(one: &Measurement) -> Option<String> {
    let (job, partitions) = (&one.job, one.reduces);
    if one.attempts > planned_with_damage(one) {
        return Some(format!("{job} with a damaged segment took {} attempts", one.attempts));
    }
    if one.restarts > one.f + 1 {
        return Some(format!("{job} with a damaged segment started {} reduces over", one.restarts));
    }
    let first = one.shuffled.saturating_sub(one.refetched);
    if one.refetched.saturating_mul(u64::from(partitions)) > first {
        return Some(format!(
            "{job} with a damaged segment fetched {} bytes of {first} again, more than a part of {partitions}",
            one.refetched
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(attempts: u64) -> Measurement {
        Measurement { job: "sort".to_owned(), f: 1, maps: 100, reduces: 2, attempts, ..Measurement::default() }
    }

    #[test]
    fn executions_are_f_and_one_and_p() {
        let quarter = one(204 + 25);
        assert_eq!((executions(&quarter), planned(&quarter, 25)), (2.25, 2.25));
        assert_eq!(too_many_executions(&quarter, 25), None);
        for wrong in [204 + 24, 204 + 26] {
            assert!(too_many_executions(&one(wrong), 25).is_some(), "{wrong} attempts");
        }
    }

    #[test]
    fn damage_has_bounds() {
        let good = Measurement { restarts: 2, shuffled: 1050, refetched: 50, ..one(205) };
        assert_eq!(too_much_damage(&good), None);
        let bad = [
            Measurement { attempts: 206, ..good.clone() },
            Measurement { restarts: 3, ..good.clone() },
            Measurement { refetched: 351, ..good.clone() },
        ];
        for one in bad {
            assert!(too_much_damage(&one).is_some(), "{one:?}");
        }
    }
}
