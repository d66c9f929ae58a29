//! One seed gives everything that a run depends on: cluster, limits, network, disks, trusted logs, workload and faults.

use crate::{
    actors::Lie,
    directed,
    fault::{DiskFate, Fault, LogFate},
    rng::Rng,
};
use quorate_protocol::cluster::Agreement;
use quorate_smr::{Limits, Mutant};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// What a run is to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Whatever the seed gives, within the bounds that the protocol promises to bear.
    Random,
    /// The same with one lie in any case.
    Lie(Lie),
    /// All honest replicas have a known bug: a violation is to be found.
    Mutant(Mutant),
    /// Two instances of one replica, each with a copy of the trusted log: safety is to break, or the clone to be seen.
    ClonedLog,
    /// A replica's disk and trusted log go back together: safety is to break.
    RolledBackLog,
    /// Fewer witnesses certify a head than must: a liar's two logs are to break safety. Trusted logs have none.
    FewWitnesses,
}

impl Plan {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        [Plan::Random, Plan::ClonedLog, Plan::RolledBackLog, Plan::FewWitnesses]
            .into_iter()
            .chain(Lie::ALL.into_iter().map(Plan::Lie))
            .chain(Mutant::ALL.into_iter().map(Plan::Mutant))
    }
}

/// `VoteAfterViewChange` as `vote-after-view-change`.
fn dashed(name: &str) -> String {
    let mut dashed = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !dashed.is_empty() {
            dashed.push('-');
        }
        dashed.push(letter.to_ascii_lowercase());
    }
    dashed
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plan::Random => f.write_str("random"),
            Plan::Lie(lie) => write!(f, "lie:{}", dashed(&format!("{lie:?}"))),
            Plan::Mutant(mutant) => write!(f, "mutant:{}", dashed(&format!("{mutant:?}"))),
            Plan::ClonedLog => f.write_str("broken:cloned-log"),
            Plan::RolledBackLog => f.write_str("broken:rolled-back-log"),
            Plan::FewWitnesses => f.write_str("broken:few-witnesses"),
        }
    }
}

impl FromStr for Plan {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Plan::all().find(|plan| plan.to_string() == text).ok_or_else(|| {
            let known: Vec<_> = Plan::all().map(|plan| plan.to_string()).collect();
            format!("{text:?} is none of {}", known.join(", "))
        })
    }
}

/// The network between replicas, and between clients and replicas.
#[derive(Clone, Debug)]
pub struct Network {
    /// The shortest delay in milliseconds.
    pub delay_min: u64,
    /// The longest ordinary delay.
    pub delay_max: u64,
    /// How many of a thousand messages take ten times as long.
    pub slow: u64,
    /// How many of a thousand are lost.
    pub loss: u64,
    /// How many of a thousand come twice.
    pub double: u64,
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many work at the same time.
    pub clients: usize,
    /// Whether all of them are processes of one and the same client, in sessions of their own.
    pub shared_identity: bool,
    /// Requests of each.
    pub requests: u64,
    /// The longest pause between two requests, in milliseconds.
    pub pause_max: u64,
    /// Milliseconds until a request is sent again, to all replicas.
    pub retry: u64,
    /// How many of a thousand requests are sent to all replicas at once.
    pub everywhere: u64,
    /// How many of a thousand are given up at a retry: the client goes on in a new session.
    pub give_up: u64,
    /// How many of a thousand set an alarm.
    pub alarms: u64,
    /// Bytes that a few requests add to the state.
    pub ballast: u32,
    /// The longest ordinary request.
    pub bytes_max: u64,
}

/// Everything that a run depends on.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is to show.
    pub plan: Plan,
    /// Where it comes from.
    pub seed: u64,
    /// What keeps replicas from saying two things.
    pub mode: Agreement,
    /// 2f + 1 or 3f + 1.
    pub replicas: usize,
    /// Witnesses that certify a head, where there are witnesses.
    pub witness_quorum: usize,
    /// The core's bounds.
    pub limits: Limits,
    /// The network.
    pub network: Network,
    /// Milliseconds of an attestation, by replica.
    pub log_latency: Vec<u64>,
    /// The longest time until a write is durable, in milliseconds.
    pub disk_latency: u64,
    /// Milliseconds by which each replica's clock is ahead of the slowest.
    pub skew: Vec<u64>,
    /// The clients.
    pub workload: Workload,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// When everything but liars heals.
    pub heals: u64,
    /// A known bug in all honest replicas.
    pub mutant: Option<Mutant>,
}

impl Scenario {
    /// The scenario of a seed, with trusted logs.
    pub fn new(plan: Plan, seed: u64) -> Self {
        Self::in_mode(Agreement::Minbft, plan, seed)
    }

    /// The scenario of a seed.
    pub fn in_mode(mode: Agreement, plan: Plan, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5155_4f52_4154_4521);
        let mut scenario = Self::calm(mode, plan, seed, &mut rng);
        match plan {
            Plan::Random => {
                if scenario.replicas > 1 && rng.chance(550) {
                    let lie = *rng.pick(&Lie::ALL);
                    scenario.add_liar(lie, &mut rng);
                    if scenario.bound() == 2 && rng.chance(500) {
                        let lie = *rng.pick(&Lie::ALL);
                        scenario.add_liar(lie, &mut rng);
                    }
                }
                scenario.add_faults(&mut rng);
            }
            Plan::Lie(lie) if rng.chance(400) && directed::stage(&mut scenario, lie, &mut rng) => {}
            Plan::Lie(lie) => {
                scenario.add_liar(lie, &mut rng);
                scenario.add_faults(&mut rng);
                // Many lies are told when views change.
                for _ in 0..rng.below(3) {
                    let from = rng.below(scenario.heals);
                    let until = (from + 4 * scenario.limits.view_timeout).min(scenario.heals);
                    let fault = scenario.isolation(from, until, &mut rng);
                    scenario.faults.push(fault);
                }
            }
            Plan::Mutant(mutant) => directed::mutant(&mut scenario, mutant, &mut rng),
            Plan::ClonedLog => directed::cloned_log(&mut scenario, &mut rng),
            Plan::RolledBackLog => directed::rolled_back_log(&mut scenario, &mut rng),
            Plan::FewWitnesses => directed::few_witnesses(&mut scenario, &mut rng),
        }
        scenario
    }

    /// The same without some of its faults.
    #[must_use]
    pub fn without(&self, left_out: &BTreeSet<usize>) -> Self {
        let mut scenario = self.clone();
        let mut index = 0..;
        scenario.faults.retain(|_| !index.next().is_some_and(|index| left_out.contains(&index)));
        scenario
    }

    /// f.
    pub fn bound(&self) -> usize {
        self.mode.faults(self.replicas)
    }

    /// Replicas that count against f.
    pub fn culprits(&self) -> BTreeSet<usize> {
        self.faults.iter().filter_map(Fault::culprit).collect()
    }

    /// How a replica lies, if it does, and from when on.
    pub fn lie_of(&self, node: usize) -> Option<(Lie, u64)> {
        let mut lies = self.faults.iter().filter_map(Fault::lie);
        lies.find(|(liar, ..)| *liar == node).map(|(_, lie, from)| (lie, from))
    }

    /// A cluster without faults.
    fn calm(mode: Agreement, plan: Plan, seed: u64, rng: &mut Rng) -> Self {
        let faults = match (plan, rng.below(20)) {
            (Plan::Random, 0) => 0,
            (Plan::Random | Plan::Lie(_), 1..=4) => 2,
            _ => 1,
        };
        let replicas = mode.replicas(faults);
        let latency = *rng.pick(&[0, 0, 1, 1, 20, 20, 70, 190]);
        let delay_max = *rng.pick(&[1, 3, 10, 10, 40]);
        let asking = match mode {
            Agreement::Minbft => 0,
            // Each statement goes to the witnesses and back before it is sent.
            Agreement::Pbft => 8 * delay_max,
        };
        let timeout = 60 + 2 * latency + 6 * delay_max + asking + rng.below(300);
        let clients = rng.between(1, 4) as usize;
        let long = if rng.chance(150) { 4 } else { 1 };
        let heals = long * rng.between(600, 600 + 8 * timeout.min(400));
        Self {
            plan,
            seed,
            mode,
            replicas,
            witness_quorum: replicas - faults,
            limits: limits(timeout, clients, rng),
            network: Network {
                delay_min: rng.below(delay_max + 1),
                delay_max,
                slow: *rng.pick(&[0, 0, 10, 50]),
                loss: *rng.pick(&[0, 0, 5, 50, 200]),
                double: *rng.pick(&[0, 0, 10, 100]),
            },
            log_latency: (0..replicas)
                .map(|_| if rng.chance(800) { latency } else { *rng.pick(&[0, 1, 20, 70]) })
                .collect(),
            disk_latency: *rng.pick(&[0, 0, 1, 10]),
            skew: (0..replicas).map(|_| if rng.chance(500) { 0 } else { rng.below(400) }).collect(),
            workload: Workload {
                clients,
                shared_identity: rng.chance(300),
                requests: rng.between(3, 16),
                pause_max: *rng.pick(&[0, 10, 50, 200]),
                retry: timeout / 2 + 20,
                everywhere: *rng.pick(&[0, 300, 1000]),
                give_up: *rng.pick(&[0, 0, 50, 300]),
                alarms: *rng.pick(&[0, 100, 300]),
                ballast: if rng.chance(100) { 50_000 } else { 0 },
                bytes_max: *rng.pick(&[0, 20, 200]),
            },
            faults: Vec::new(),
            heals,
            mutant: None,
        }
    }

    fn add_liar(&mut self, lie: Lie, rng: &mut Rng) {
        let culprits = self.culprits();
        if culprits.len() >= self.bound() {
            return;
        }
        let free: Vec<_> = (0..self.replicas).filter(|node| !culprits.contains(node)).collect();
        let node = if rng.chance(500) { free[0] } else { *rng.pick(&free) };
        let from = if rng.chance(400) { 0 } else { rng.below(self.heals) };
        self.faults.push(Fault::Liar { node, lie, from });
    }

    /// Faults that the protocol promises to bear.
    pub(crate) fn add_faults(&mut self, rng: &mut Rng) {
        for _ in 0..rng.below(7) {
            let from = rng.below(self.heals);
            let lasts = if rng.chance(150) { self.heals } else { rng.between(20, 4 * self.limits.view_timeout) };
            let until = (from + lasts).min(self.heals);
            let fault = match rng.below(10) {
                0..=2 => self.crash(from, until, rng),
                3..=6 => self.cut(from, until, rng),
                7 => Fault::Storm { loss: rng.between(100, 700), from, until },
                8 => {
                    let latency = *rng.pick(&[50, 190, 400]);
                    Fault::SlowLog { node: rng.index(self.replicas), latency, from, until }
                }
                _ => self.isolation(from, until, rng),
            };
            self.faults.push(fault);
            if let Some(Fault::Cut { senders, receivers, from, until }) = self.faults.last().cloned()
                && rng.chance(700)
            {
                self.faults.push(Fault::Cut { senders: receivers, receivers: senders, from, until });
            }
        }
    }

    fn crash(&self, from: u64, until: u64, rng: &mut Rng) -> Fault {
        let honest: Vec<_> = (0..self.replicas).filter(|node| self.lie_of(*node).is_none()).collect();
        let node = *rng.pick(&honest);
        let culprits = self.culprits();
        let affordable = culprits.contains(&node) || culprits.len() < self.bound();
        let (disk, log) = match rng.below(8) {
            0 | 1 if affordable => (DiskFate::Wiped, LogFate::Kept),
            2 | 3 if affordable => (DiskFate::Old(rng.below(from + 1)), LogFate::Kept),
            4 if affordable => (DiskFate::Kept, LogFate::Reset),
            _ => (DiskFate::Kept, LogFate::Kept),
        };
        Fault::Crash { node, from, until, disk, log }
    }

    fn cut(&self, from: u64, until: u64, rng: &mut Rng) -> Fault {
        let all = (1 << self.replicas) - 1;
        let senders = 1 + rng.below(all) as u32;
        Fault::Cut { senders, receivers: all as u32 & !senders, from, until }
    }

    /// Nobody hears one replica, which may be the primary.
    fn isolation(&self, from: u64, until: u64, rng: &mut Rng) -> Fault {
        let alone = 1 << rng.index(self.replicas);
        let others = ((1 << self.replicas) - 1) & !alone;
        Fault::Cut { senders: alone, receivers: others, from, until }
    }
}

fn limits(timeout: u64, clients: usize, rng: &mut Rng) -> Limits {
    let checkpoint_interval = rng.between(4, 16);
    Limits {
        batch_requests_max: rng.between(1, 8) as usize,
        batch_bytes_max: 1024,
        request_bytes_max: 1024,
        pipeline_max: rng.between(1, 8.min(checkpoint_interval)),
        checkpoint_interval,
        flush_statements_max: rng.between(6, 12) as usize,
        flushes_kept_max: rng.between(48, 96) as usize,
        waiting_max: rng.between(16, 64) as usize,
        pending_max: rng.between(clients as u64, 12) as usize,
        pending_bytes_max: 16 << 10,
        sessions_max: rng.between(clients as u64, 8) as usize,
        vouch_interval: rng.between(4, 16),
        clock_ahead_max: rng.between(500, 2000),
        view_timeout: timeout,
        status_interval: rng.between(20, 100),
    }
}
