//! A verdict in plain words.

use super::{Divergence, JobVerdict, Verdict, rounds::Round};
use crate::amounts::count;
use std::fmt::{self, Display, Formatter};

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.jobs.iter().try_for_each(|job| job.fmt(f))?;
        match (self.differs(), self.jobs.len()) {
            (_, 0) => writeln!(f, "no job was run"),
            (true, _) => writeln!(f, "verdict: not deterministic"),
            (false, _) => writeln!(f, "verdict: no difference was found, as far as was looked"),
        }
    }
}

impl Display for JobVerdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (maps, all) = self.maps;
        writeln!(
            f,
            "{}: {maps} of {}, {}",
            self.job,
            count(all.into(), "map task"),
            count(self.reduces.into(), "reduce task")
        )?;
        writeln!(f, "  varied: {}", self.varied.join("; "))?;
        writeln!(f, "  not varied: {}", self.not_varied.join("; "))?;
        self.divergences.iter().try_for_each(|divergence| divergence.fmt(f))?;
        self.settings.iter().try_for_each(|setting| writeln!(f, "  note: {setting}"))
    }
}

impl Display for Divergence {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {} does not give the same each time: it differs from {} on", self.task, self.place)?;
        let [one, other] = &self.sides;
        writeln!(f, "    once     {one}")?;
        writeln!(f, "    another  {other}")?;
        if self.reordered {
            writeln!(f, "    both have the same in all, in another order")?;
        }
        match self.rounds.as_slice() {
            rounds if rounds.contains(&Round::Again) => writeln!(f, "    differs with nothing changed on purpose")?,
            rounds => {
                let names: Vec<&str> = rounds.iter().map(|round| round.name()).collect();
                writeln!(f, "    differs only with another: {}", names.join("; "))?;
            }
        }
        match self.suspects.as_slice() {
            [] => writeln!(f, "    nothing tells why; the usual suspects are clocks, random numbers and hash maps"),
            suspects => {
                let names: Vec<String> = suspects.iter().map(ToString::to_string).collect();
                writeln!(f, "    looks like {} (a guess)", names.join(", or "))?;
                suspects.iter().try_for_each(|suspect| writeln!(f, "    hint: {}", suspect.advice()))
            }
        }
    }
}
