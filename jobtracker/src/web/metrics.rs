//! What is measured, as text that Prometheus and its kin read (OpenMetrics).
//!
//! Everything is taken from the replica's standing and the state when it is asked for: nothing is counted on the way.

use super::live::{Outline, count, newest, not_ready};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use quorate_protocol::query::{Blame, ReplicaView};
use quorate_schedule::storage::Totals;
use std::fmt;

/// Jobs that are measured one by one, the newest: each costs a time series of every metric.
const JOBS_MAX: usize = 32;

/// What the text is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics at one moment.
#[derive(Debug, Default)]
struct Measured {
    families: Vec<Family>,
}

/// A metric with its values by label.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    label: &'static str,
    values: Vec<(String, u64)>,
}

impl Measured {
    fn add(&mut self, kind: MetricType, name: &'static str, help: &'static str, value: u64) {
        let values = vec![(String::new(), value)];
        self.families.push(Family { name, help, unit: None, kind, label: "", values });
    }
    fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(MetricType::Gauge, name, help, value);
    }
    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(MetricType::Counter, name, help, value);
    }
    fn by(&mut self, name: &'static str, help: &'static str, label: &'static str, values: &[(&str, u64)]) {
        let values = values.iter().map(|(of, value)| ((*of).to_owned(), *value)).collect();
        self.families.push(Family { name, help, unit: None, kind: MetricType::Gauge, label, values });
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.families {
            let mut encoder = encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), family.kind)?;
            for (of, value) in &family.values {
                let labels = [(family.label, of.as_str())];
                let encoder = match family.label {
                    "" => encoder.encode_family(&[] as &[(&str, &str); 0])?,
                    _ => encoder.encode_family(&labels)?,
                };
                match family.kind {
                    MetricType::Counter => ConstCounter::new(*value).encode(encoder)?,
                    _ => ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX)).encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

/// All metrics as text.
pub(crate) fn encode(report: &ReplicaView, outline: &Outline, f: u32) -> String {
    let mut measured = Measured::default();
    agreement(&mut measured, report, f);
    trackers(&mut measured, outline);
    let jobs = count(&outline.jobs);
    let states: [(&str, u32); 5] = [
        ("running", jobs.running),
        ("waiting", jobs.waiting),
        ("succeeded", jobs.succeeded),
        ("failed", jobs.failed),
        ("killed", jobs.killed),
    ];
    let states = states.map(|(state, count)| (state, u64::from(count)));
    measured.by("quorate_jobs", "Jobs that are remembered", "state", &states);
    let totals = &outline.totals;
    measured.gauge("quorate_jobs_attempts", "Attempts of the jobs that are remembered", totals.attempts);
    measured.gauge("quorate_jobs_tasks_disputed", "Tasks that did not go smoothly, of these jobs", totals.disputed);
    measured.gauge("quorate_jobs_shuffled_bytes", "Bytes fetched in these jobs' shuffles", totals.cost.shuffled);
    measured.gauge("quorate_jobs_refetched_bytes", "Of these, bytes fetched again", totals.cost.refetched);
    measured.gauge("quorate_jobs_reduce_restarts", "Reduces that started over", totals.cost.restarts.into());
    by_job(&mut measured, outline);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(measured));
    let mut text = String::new();
    // Writing to text does not fail.
    let _ = text::encode(&mut text, &registry);
    text
}

/// The newest jobs one by one.
fn by_job(measured: &mut Measured, outline: &Outline) {
    let mut of = |name, help, value: fn(&Totals) -> u64| {
        let newest = outline.totals_by_job.iter().take(JOBS_MAX);
        let values: Vec<(String, u64)> = newest.map(|(job, totals)| (job.to_string(), value(totals))).collect();
        let values: Vec<(&str, u64)> = values.iter().map(|(job, value)| (job.as_str(), *value)).collect();
        measured.by(name, help, "job", &values);
    };
    of("quorate_job_attempts", "Attempts of a job", |totals| totals.attempts);
    of("quorate_job_tasks_disputed", "Tasks of a job that did not go smoothly", |totals| totals.disputed);
    of("quorate_job_shuffled_bytes", "Bytes fetched in a job's shuffle", |totals| totals.cost.shuffled);
    of("quorate_job_refetched_bytes", "Of these, bytes fetched again", |totals| totals.cost.refetched);
    of("quorate_job_reduce_restarts", "Reduces of a job that started over", |totals| totals.cost.restarts.into());
}

fn agreement(measured: &mut Measured, report: &ReplicaView, f: u32) {
    measured.gauge("quorate_replica_ready", "Whether the replica is up to date and votes", {
        u64::from(not_ready(report, f).is_none())
    });
    measured.gauge("quorate_replica_voting", "Whether the replica may vote", u64::from(report.voting));
    measured.gauge("quorate_view", "The view of the agreement", report.view);
    measured.gauge("quorate_view_changing", "Whether the replica waits for another view", {
        u64::from(report.changing_to.is_some())
    });
    measured.counter("quorate_batches_executed", "Batches of commands executed", report.executed.ordered);
    measured.counter("quorate_batches_committed", "Batches of commands committed", report.committed);
    measured.gauge("quorate_checkpoint_batches", "The last stable checkpoint", report.checkpoint);
    measured.gauge("quorate_requests_pending", "Requests that wait to be ordered", report.pending);
    measured.gauge("quorate_trusted_log_epoch", "The epoch of the trusted log", report.epoch);
    measured.counter("quorate_trusted_log_position", "The position of the trusted log", report.position);
    let newest = newest(report, f);
    let lag: Vec<(String, u64)> = report
        .peers
        .iter()
        .filter_map(|peer| Some((peer.replica.to_string(), newest.saturating_sub(peer.executed?))))
        .collect();
    let lag: Vec<(&str, u64)> = lag.iter().map(|(replica, lag)| (replica.as_str(), *lag)).collect();
    measured.by("quorate_replica_lag_batches", "How far other replicas are behind", "replica", &lag);
    let own = newest.saturating_sub(report.executed.ordered);
    measured.gauge("quorate_own_lag_batches", "How far this replica is behind", own);
    let proofs = report.faults.iter().filter(|fault| fault.proof).count();
    let faults = [("proof", proofs as u64), ("suspicion", (report.faults.len() - proofs) as u64)];
    measured.by("quorate_replica_faults", "Faults of replicas, by this replica's word", "weight", &faults);
}

fn trackers(measured: &mut Measured, outline: &Outline) {
    let all = &outline.trackers;
    let with = |blame| all.iter().filter(|tracker| tracker.blame == blame).count() as u64;
    let live = all.iter().filter(|tracker| tracker.live).count() as u64;
    measured.by(
        "quorate_trackers",
        "Trackers, by whether they are there",
        "state",
        &[("live", live), ("absent", all.len() as u64 - live)],
    );
    measured.by(
        "quorate_trackers_blamed",
        "Trackers, by what is held against them",
        "blame",
        &[("none", with(Blame::None)), ("suspected", with(Blame::Suspected)), ("convicted", with(Blame::Convicted))],
    );
    let sum = |of: fn(&quorate_protocol::query::TrackerView) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
    measured.counter("quorate_votes_agreed", "Votes that became verdicts", sum(|tracker| tracker.agreed));
    measured.counter("quorate_votes_outvoted", "Votes that were outvoted", sum(|tracker| tracker.outvoted));
    measured.counter("quorate_attempts_overdue", "Attempts that were overdue", sum(|tracker| tracker.overdue));
    measured.by(
        "quorate_attempts_running",
        "Attempts that hold a slot",
        "stage",
        &[("map", sum(|tracker| tracker.map_slots.0.into())), ("reduce", sum(|tracker| tracker.reduce_slots.0.into()))],
    );
    measured.by(
        "quorate_slots",
        "Slots for attempts",
        "stage",
        &[("map", sum(|tracker| tracker.map_slots.1.into())), ("reduce", sum(|tracker| tracker.reduce_slots.1.into()))],
    );
}
