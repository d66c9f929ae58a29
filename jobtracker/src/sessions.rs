//! The client table: each command is executed once, however often it is sent.
//!
//! A session is one process of a sender. It numbers its commands upwards and has one in flight, so its last number and
//! the answer to it are all that must be kept. The table is bounded for each sender: the session that has been quiet for
//! the longest goes. Session numbers grow with time, so a session at or below one that went is refused: otherwise its
//! recorded commands could be played back and executed a second time.

use quorate_protocol::{command::Sender, limits::SESSIONS_PER_KEY_MAX, query::Answer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The sessions of all senders.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sessions {
    senders: BTreeMap<Sender, Book>,
    /// Counts executed commands: the order of [`Session::used`].
    executed: u64,
}

/// The sessions of one sender.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Book {
    sessions: BTreeMap<u64, Session>,
    /// The largest session that was forgotten.
    forgotten: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Session {
    sequence: u64,
    answer: Answer,
    used: u64,
}

/// What is to be done with a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// It is new: execute it.
    Execute,
    /// It was executed with this answer.
    Executed(Answer),
    /// It is older than one that was executed, and its answer is gone.
    Stale,
}

impl Sessions {
    /// What is to be done with a command.
    pub(crate) fn turn(&self, sender: &Sender, session: u64, sequence: u64) -> Turn {
        let Some(book) = self.senders.get(sender) else { return Turn::Execute };
        match book.sessions.get(&session) {
            Some(kept) if sequence > kept.sequence => Turn::Execute,
            Some(kept) if sequence == kept.sequence => Turn::Executed(kept.answer.clone()),
            Some(_) => Turn::Stale,
            None if book.forgotten.is_some_and(|forgotten| session <= forgotten) => Turn::Stale,
            None => Turn::Execute,
        }
    }

    /// Keeps the answer to an executed command.
    pub(crate) fn executed(&mut self, sender: Sender, session: u64, sequence: u64, answer: Answer) {
        self.executed += 1;
        let book = self.senders.entry(sender).or_default();
        book.sessions.insert(session, Session { sequence, answer, used: self.executed });
        if book.sessions.len() > SESSIONS_PER_KEY_MAX {
            book.forget_one();
        }
        assert!(book.sessions.len() <= SESSIONS_PER_KEY_MAX, "a sender's sessions outgrew their bound");
    }

    /// A session number that is not stale, `wanted` if possible.
    pub(crate) fn fresh(&self, sender: &Sender, wanted: u64) -> u64 {
        let Some(book) = self.senders.get(sender) else { return wanted };
        let newest = book.sessions.last_key_value().map(|(session, _)| *session).max(book.forgotten);
        newest.map_or(wanted, |newest| wanted.max(newest.saturating_add(1)))
    }
}

impl Book {
    fn forget_one(&mut self) {
        let quietest = self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(session, _)| *session);
        if let Some(session) = quietest {
            self.sessions.remove(&session);
            self.forgotten = self.forgotten.max(Some(session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::{JobId, TrackerId};

    const SENDER: Sender = Sender::Tracker(TrackerId::new(1));

    fn submitted(job: u64) -> Answer {
        Answer::Submitted(JobId::new(job))
    }

    #[test]
    fn a_command_is_executed_once_and_its_answer_kept() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.turn(&SENDER, 7, 1), Turn::Execute);
        sessions.executed(SENDER, 7, 1, submitted(1));
        assert_eq!(sessions.turn(&SENDER, 7, 1), Turn::Executed(submitted(1)));
        assert_eq!(sessions.turn(&SENDER, 7, 2), Turn::Execute);
        sessions.executed(SENDER, 7, 2, submitted(2));
        assert_eq!(sessions.turn(&SENDER, 7, 1), Turn::Stale);
        assert_eq!(sessions.turn(&SENDER, 8, 1), Turn::Execute, "another session counts for itself");
        assert_eq!(sessions.turn(&Sender::Tracker(TrackerId::new(2)), 7, 1), Turn::Execute, "and another sender");
    }

    #[test]
    fn at_the_bound_nothing_is_forgotten_and_above_it_the_quietest() {
        let mut sessions = Sessions::default();
        let max = SESSIONS_PER_KEY_MAX as u64;
        (1..=max).for_each(|session| sessions.executed(SENDER, session, 1, submitted(session)));
        sessions.executed(SENDER, 1, 2, submitted(0));
        assert_eq!(sessions.turn(&SENDER, 2, 1), Turn::Executed(submitted(2)));
        sessions.executed(SENDER, max + 1, 1, submitted(0));
        assert_eq!(sessions.turn(&SENDER, 2, 1), Turn::Stale, "forgotten, and never executed again");
        assert_eq!(sessions.turn(&SENDER, 1, 2), Turn::Executed(submitted(0)), "older, but used since");
    }

    #[test]
    fn a_fresh_session_is_executed_whatever_the_clock_says() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.fresh(&SENDER, 5), 5);
        (100..300).for_each(|session| sessions.executed(SENDER, session, 1, Answer::Done));
        let fresh = sessions.fresh(&SENDER, 5);
        assert_eq!(sessions.turn(&SENDER, fresh, 1), Turn::Execute);
    }
}
