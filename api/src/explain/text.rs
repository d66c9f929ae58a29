//! An explanation in plain words.

use super::{Camp, Explained, Explanation, Look, Member, Won};
use crate::amounts::{count, show_bytes};
use quorate_protocol::ids::{Stage, TrackerId};
use quorate_tasktracker::{Difference, Finding, Vouched};
use std::fmt::{self, Display, Formatter};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { job, name, state, disputed, tasks, .. } = self;
        let of = count(*tasks, "task");
        match disputed {
            0 => writeln!(f, "{job} {name}: {state}. Nothing was disputed on its {of}.")?,
            _ => writeln!(f, "{job} {name}: {state}. Votes differed, or were late, on {disputed} of its {of}.")?,
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "  {failure}")?;
        }
        if let Some(task) = &self.undisputed {
            writeln!(f, "\nNobody disputes {task}: all votes on it are alike, and none was late.")?;
        }
        for explained in &self.disputes {
            writeln!(f)?;
            explained.fmt(f)?;
        }
        if self.undisputed.is_none() {
            self.rest(f)?;
        }
        Ok(())
    }
}

impl Explanation {
    fn rest(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let more = self.disputed.saturating_sub(self.disputes.len() as u64);
        if more > 0 && self.disputes.len() > 1 {
            writeln!(f, "\nAnd {more} more: `quorate explain {} TASK` looks into one of them.", self.job)?;
        }
        let cost = &self.cost;
        if self.disputed > 0 {
            write!(f, "\nWhat it cost: {} of {}", count(cost.attempts_more, "more attempt"), cost.attempts)?;
            write!(f, ", {} again", count(cost.restarts.into(), "reduce"))?;
            writeln!(f, ", {} of map output fetched again.", show_bytes(cost.refetched))?;
        }
        if !self.held.is_empty() {
            writeln!(f, "\nWhat is held against trackers:")?;
            self.held.iter().try_for_each(|held| writeln!(f, "  {}", held.what))?;
        }
        writeln!(f, "\nWhat it looks like:")?;
        self.looks.iter().try_for_each(|look| writeln!(f, "  {look}"))
    }
}

impl Display for Explained {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}-{}: {}", self.task.stage, self.task.index, self.outcome())?;
        for camp in &self.camps {
            let won = match camp.won {
                Won::Agreed => "agreed",
                Won::Undecided => "said",
                Won::Outvoted => "outvoted",
            };
            writeln!(
                f,
                "  {won:<9} {}  {}",
                camp.ballot,
                listed(&camp.members, |m| format!("{} ({})", m.tracker, m.domain))
            )?;
        }
        self.others.iter().try_for_each(|other| writeln!(f, "  {} {}", other.tracker, other.what))?;
        self.findings.iter().try_for_each(|finding| found(f, finding))?;
        if let Some(why) = self.not_compared {
            writeln!(f, "  Where they differ is not to be had any more: {why}.")?;
        }
        match self.attempts_more {
            0 => Ok(()),
            more => writeln!(f, "  It took {}.", count(more, "more attempt")),
        }
    }
}

impl Explained {
    fn outcome(&self) -> String {
        let losers: Vec<&Member> = self.members(Won::Outvoted);
        match self.camps.first() {
            None => "nobody has voted.".to_owned(),
            Some(Camp { won: Won::Agreed, members, .. }) if losers.is_empty() => {
                format!("{} agree.", names(members))
            }
            Some(Camp { won: Won::Agreed, members, .. }) => {
                let were = if losers.len() == 1 { "was" } else { "were" };
                format!("{} {were} outvoted by {}.", names(losers), names(members))
            }
            Some(_) if self.camps.len() == 1 => "those that voted agree, and are too few yet.".to_owned(),
            Some(_) => "its votes differ, and no f + 1 of them agree.".to_owned(),
        }
    }

    fn members(&self, won: Won) -> Vec<&Member> {
        self.camps.iter().filter(|camp| camp.won == won).flat_map(|camp| &camp.members).collect()
    }
}

fn names<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let names: Vec<String> = members.into_iter().map(|member| member.tracker.to_string()).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn listed(members: &[Member], name: impl Fn(&Member) -> String) -> String {
    members.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn found(f: &mut Formatter<'_>, finding: &Finding) -> fmt::Result {
    let Finding::Difference(difference) = finding else { return writeln!(f, "  {}.", capital(&finding.to_string())) };
    writeln!(f, "  They are alike up to {}:", place(difference))?;
    for side in &difference.sides {
        writeln!(f, "    {} has {}", side.tracker, side.shown)?;
    }
    let fetched = show_bytes(difference.fetched);
    match difference.task.stage {
        Stage::Map => writeln!(
            f,
            "  Found in {} of digests and {fetched} in all; the bytes shown are those that were voted{}.",
            count(difference.rounds.into(), "round"),
            word(difference)
        ),
        Stage::Reduce => writeln!(f, "  Found in {fetched}; the bytes shown are those that were voted."),
    }
}

fn place(difference: &Difference) -> String {
    const BLOCK_BYTES: u64 = 64 << 10;
    match difference.task.stage {
        Stage::Map => {
            let place = difference.place();
            format!("{place} (byte {}, in block {} of 64 KiB)", difference.byte, difference.byte / BLOCK_BYTES)
        }
        Stage::Reduce => difference.place(),
    }
}

fn word(difference: &Difference) -> String {
    match difference.record {
        Some((_, Vouched::Both)) => ", and both say that it is this record".to_owned(),
        Some((_, Vouched::One(tracker))) => format!(", and that it is this record is the word of {tracker} alone"),
        None => ", and neither says which record that is".to_owned(),
    }
}

fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

impl Display for Look {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Look::Smooth => f.write_str("all is well: every vote is like the others."),
            Look::Late => {
                f.write_str("nobody's output differs. Some were late or lost, and that is never evidence of a lie.")
            }
            Look::Lied(tracker) => write!(f, "{tracker} lied: what it signed itself proves it."),
            Look::WrongVote(tracker) => write!(
                f,
                "{tracker} voted for a digest that its own bytes do not have, and the bytes are like the others'. No \
                 program does that: it lies, or its machine is faulty."
            ),
            Look::Suspected(tracker) => write!(
                f,
                "{tracker} is under suspicion for what is said above, though its votes are like the others': a lie, or a fault \
                 of its machine or of the network."
            ),
            Look::OneTracker { tracker, tasks, agreed, outvoted } => write!(
                f,
                "{tracker} alone differs, on {}, and those that ran the same agree each time: it lies, or its machine is \
                 faulty. That is suspicion, not proof. Of all its votes {agreed} were agreed and {outvoted} outvoted.",
                count(*tasks, "task")
            ),
            Look::Once(tracker) => write!(
                f,
                "{tracker} differs once, and alone: a lie, a passing fault of its machine, or a program that seldom gives \
                 something else. The program's `check-determinism` tells more of the last."
            ),
            Look::Program { domains } => write!(
                f,
                "trackers of {domains} domains were outvoted, now these, now those: the program does not give the same \
                 each time, or more than f lie. The program's `check-determinism` runs its tasks again and shows what differs."
            ),
            Look::Changes(tracker) => write!(
                f,
                "{tracker} ran a task twice and gave two outputs: the program does not give the same each time. The program's \
                 `check-determinism` shows what differs."
            ),
            Look::NobodyAgrees { all_differ: true } => f.write_str(
                "each vote on a task differs from each other: the program does not give the same each time (a clock, \
                 random numbers, the order of a hash map), or more than f lie.",
            ),
            Look::NobodyAgrees { all_differ: false } => f.write_str(
                "no f + 1 votes on a task agree: the program does not give the same each time, or more than f lie.",
            ),
        }
    }
}

impl Look {
    /// The tracker that it points at, if it points at one.
    pub fn points_at(&self) -> Option<TrackerId> {
        match self {
            Look::Lied(tracker)
            | Look::WrongVote(tracker)
            | Look::Suspected(tracker)
            | Look::OneTracker { tracker, .. }
            | Look::Once(tracker) => Some(*tracker),
            Look::Smooth | Look::Late | Look::Program { .. } | Look::NobodyAgrees { .. } | Look::Changes(_) => None,
        }
    }
}
