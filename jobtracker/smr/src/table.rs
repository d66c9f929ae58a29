//! The client table [SMR-16]: each request is executed once, however often it is sent.
//!
//! A session is one process of a client. It numbers its requests upwards and has one in flight, so its last number and
//! the reply to it are all that must be kept. The table is bounded for each client: the session that has been quiet for
//! the longest goes. Session numbers grow with time, so a session at or below one that went is refused: otherwise its
//! recorded requests could be played back and executed a second time.

use crate::{
    action::Outcome,
    types::{ClientId, History, Payload, RequestId},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The sessions of all clients.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ClientTable {
    clients: BTreeMap<ClientId, Book>,
    /// Counts executed requests: the order of [`Session::used`].
    executed: u64,
}

/// The sessions of one client.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Book {
    /// In the order of their numbers. They are few.
    sessions: Vec<(u64, Session)>,
    /// The largest session that was forgotten.
    forgotten: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Session {
    sequence: u64,
    reply: Payload,
    /// The batch that it was executed in.
    history: History,
    used: u64,
}

/// What is to be done with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// It is new: execute it.
    Execute,
    /// It was executed, with this reply.
    Executed(History, Payload),
    /// It is older than one that was executed, and its reply is gone.
    Stale,
}

impl ClientTable {
    /// What is to be done with a request.
    pub(crate) fn turn(&self, id: &RequestId) -> Turn {
        let Some(book) = self.clients.get(&id.client) else { return Turn::Execute };
        match book.get(id.session) {
            Some(kept) if id.sequence > kept.sequence => Turn::Execute,
            Some(kept) if id.sequence == kept.sequence => Turn::Executed(kept.history, kept.reply.clone()),
            Some(_) => Turn::Stale,
            None if book.forgotten.is_some_and(|forgotten| id.session <= forgotten) => Turn::Stale,
            None => Turn::Execute,
        }
    }

    /// Executes a request, if it is new, as a part of a batch, and keeps the reply.
    pub(crate) fn execute(
        &mut self,
        id: &RequestId,
        history: History,
        sessions_max: usize,
        run: impl FnOnce() -> Payload,
    ) -> Outcome {
        let book = self.clients.entry(id.client).or_default();
        let place = book.find(id.session);
        match place.ok().and_then(|at| book.sessions.get(at)).map(|(_, kept)| kept) {
            Some(kept) if id.sequence == kept.sequence => return Outcome::Executed(kept.history, kept.reply.clone()),
            Some(kept) if id.sequence < kept.sequence => return Outcome::Stale,
            None if book.forgotten.is_some_and(|forgotten| id.session <= forgotten) => return Outcome::Stale,
            Some(_) | None => {}
        }
        let reply = run();
        self.executed += 1;
        let session = Session { sequence: id.sequence, reply: reply.clone(), history, used: self.executed };
        match place {
            Ok(at) => book.sessions[at].1 = session,
            Err(at) => book.sessions.insert(at, (id.session, session)),
        }
        if book.sessions.len() > sessions_max {
            book.forget_one();
        }
        assert!(book.sessions.len() <= sessions_max, "SMR-17: a client's sessions outgrew their bound");
        Outcome::Executed(history, reply)
    }
}

impl Book {
    fn find(&self, number: u64) -> Result<usize, usize> {
        self.sessions.binary_search_by_key(&number, |(number, _)| *number)
    }

    fn get(&self, number: u64) -> Option<&Session> {
        self.find(number).ok().and_then(|at| self.sessions.get(at)).map(|(_, session)| session)
    }

    fn forget_one(&mut self) {
        let quietest = self.sessions.iter().enumerate().min_by_key(|(_, (_, session))| session.used).map(|(at, _)| at);
        if let Some(at) = quietest {
            let (number, _) = self.sessions.remove(at);
            self.forgotten = self.forgotten.max(Some(number));
        }
    }
}
