//! The scheduler with some hundred trackers: what the binary `scale` shows of thousands.

use quorate_sim::{Figures, Gauges, Scale, scale};
use std::time::Duration;

/// A tenth of the trackers lies, and each crashes every ten minutes.
fn run(tasks: u32, seed: u64) -> Figures {
    let plan = Scale { tasks, trackers: 200, liars: 20, crash_ms: 600_000, seed };
    let gauges = Gauges { cpu: &|| Duration::ZERO, resident: &|| 0 };
    scale(&plan, &gauges).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"))
}

#[test]
fn a_job_of_thousands_of_tasks_survives_liars_and_failures_within_its_bounds() {
    let figures = run(5000, 1);
    let reached = &figures.reached;
    println!("{reached}; {} commands, {} bytes of state", reached.commands, reached.snapshot_bytes);
    for (what, count) in [
        ("disputed tasks", reached.disputed),
        ("outvoted votes", reached.outvoted),
        ("overdue attempts", reached.overdue),
        ("declined attempts", reached.declined),
        ("crashes", reached.crashes),
        ("suspected trackers", reached.suspected),
        ("convicted trackers", reached.convicted),
    ] {
        assert!(count > 0, "no {what}: {reached}");
    }
    let per_task = |amount| figures.per_task(amount);
    assert!(per_task(reached.attempts) < 2.5, "f + 1 and those that went wrong: {}", per_task(reached.attempts));
    // With fewer liars, who hold the job up, it is below 3.
    assert!(per_task(reached.commands) <= 3.5, "{} commands for each task", per_task(reached.commands));
    assert!(per_task(reached.snapshot_bytes) <= 1024.0, "{} bytes for each task", per_task(reached.snapshot_bytes));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (one, again, other) = (run(500, 7), run(500, 7), run(500, 8));
    assert_eq!(one.reached, again.reached);
    assert_ne!(one.reached, other.reached);
}
