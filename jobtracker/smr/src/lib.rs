//! Byzantine-fault-tolerant state machine replication, with 2f + 1 replicas that have trusted logs or with 3f + 1 that have
//! none: a pure core.
//!
//! The message pattern is that of MinBFT (Veronese, Correia, Bessani, Lung, Veríssimo, *Efficient Byzantine
//! Fault-Tolerance*, IEEE TC 62(1), 2013): PREPARE and COMMIT, because a trusted log (`quorate-counter`) stops a replica
//! from saying two things. The paper leaves holes that implementations fell into; the rules below close them, and code and
//! tests quote them by name.
//!
//! [`Core`] is a value: inputs and the time go in, actions come out. It knows no socket, thread, file, clock, randomness or
//! hash map, so that a simulator can drive whole clusters of it and repeat every run.
//!
//! # Two ways to keep a replica from saying two things
//!
//! With a trusted device in each replica n = 2f + 1 of them bear f liars. Without any, the replicas witness each other's logs
//! (`quorate_counter::Witness`): a head of a log counts when 2f + 1 of n = 3f + 1 have signed it, and two heads that
//! count lie on one chain. The core cannot tell the one log from the other, so all rules are the same. [`Config::agreement`] follows from
//! what the logs are checked with. Two numbers are meant by it below:
//!
//! * A *quorum* is n - f replicas, f + 1 or 2f + 1: no more can be waited for, and any two quorums share a replica. Votes,
//!   VIEW-CHANGEs and admissions need one, since one log must show to the second quorum what it said to the first.
//! * *f + 1* replicas vouch for what everybody honest would say alike, for one of them is honest: that some replica waits
//!   in vain, what was executed, which state that gave, what a log has shown, what to answer a client.
//!
//! # One chain of batches, one log for each replica
//!
//! A batch's [`message::Header`] has its place, its ordered time and the digest of its requests. Each header makes a new
//! [`History`]: `H(history before ‖ header)`. Two replicas with one history have executed the same.
//!
//! Each replica speaks in its trusted log: PREPARE, COMMIT, VIEW-CHANGE and NEW-VIEW ([`message::Statement`]) take the next
//! position each; nothing else does. Everybody reads everybody's log in order, without gaps, and draws the same
//! conclusions from it ([`message::Standing`]): which views the speaker has left, in which it voted last, and for what.
//!
//! # Rules
//!
//! | name | rule |
//! |---|---|
//! | SMR-1 | A log is read in the order of positions, in one epoch, within a bounded window. A gap is fetched from anybody. |
//! | SMR-2 | After VIEW-CHANGE(t) nothing of a view before t counts; saying it is proof of a fault. |
//! | SMR-3 | Within a view votes are gap-free. COMMIT is cumulative and carries a history, never a batch. |
//! | SMR-4 | A place is committed with a quorum of votes of distinct replicas, the primary's among them. Execution is in order. |
//! | SMR-5 | Who votes for a batch has it, and serves it until a stable checkpoint has passed it. |
//! | SMR-6 | Whether a statement is accepted depends on its speaker's log and the logs that it names, so all accept alike. |
//! | SMR-7 | REQ-VIEW-CHANGE names the wanted view only. VIEW-CHANGE carries f + 1 of them. |
//! | SMR-8 | A VIEW-CHANGE counts once its speaker's whole log before it was read: nothing can be left out. |
//! | SMR-9 | NEW-VIEW(t) names a quorum of VIEW-CHANGEs for exactly t; it starts with the most that was voted for in the latest view that any of them voted in. Everybody computes it. |
//! | SMR-10 | Backups vote for NEW-VIEW with their first COMMIT. What waits is proposed again; the client table removes doubles. |
//! | SMR-11 | A signed CHECKPOINT every K batches, over pages of application, client table and membership; f + 1 equal ones are stable, and at most 3 K batches are kept. |
//! | SMR-12 | Who lags learns from f + 1 signed DECIDED and checked state pages, goes on with logs at f + 1 signed positions, and, when it may have forgotten what it said, votes again only in a later view. |
//! | SMR-13 | An own statement is on disk before it is attested, and attested before it is sent. On start, disk and device are compared; what does not fit gives the epoch up. |
//! | SMR-14 | A new epoch is admitted by a batch of its own, with a fresh attestation, with a quorum of votes without its owner's. Votes count by the epoch that is admitted before their place. |
//! | SMR-15 | The primary's time is the ordered time: monotone, and not voted for when it is too far ahead. Deadlines follow it alone. |
//! | SMR-16 | A client believes f + 1 equal replies; each request is executed once. |
//! | SMR-17 | Everything that is kept has a bound ([`Limits`]). |
//!
//! # Why it is safe
//!
//! Say that a place s was committed in view w: a quorum voted for it. Any quorum of VIEW-CHANGEs shares one of them, r. Its
//! vote came before its VIEW-CHANGE, otherwise no correct replica counted it (SMR-2). Whoever reads the VIEW-CHANGE has read
//! all of r's log before it (SMR-1), the vote included; so every NEW-VIEW that a correct replica accepts starts from a view
//! not before w, and by induction with a history that contains s.
//!
//! A replica that lost its memory comes back with a new epoch, and only by a place a in the order that a quorum of others
//! voted for. Votes that it cast before do not count for places after a, and NEW-VIEW takes VIEW-CHANGEs and primaries only of
//! the epochs that are admitted in what the view starts with. Take the last admission among those who forgot: of the
//! others that voted for it, one is in any quorum of VIEW-CHANGEs, remembers its vote, and that vote covers everything
//! before a.
//!
//! # What differs from the paper
//!
//! * VIEW-CHANGE does not carry its speaker's log: by SMR-1 it has been read. It is of constant size.
//! * COMMIT is cumulative, so one vote covers all batches that were sound meanwhile, and one attestation all statements
//!   that waited for a slow device.
//! * No replica needs another's batches to read its log: batches travel beside PREPARE and are fetched when missing.
//! * Gaps that nobody can fill any more are passed by f + 1 signed claims of what the log had shown up to a later position.
//!
//! # What is weaker than the rules sound
//!
//! A COMMIT for a place that a replica has forgotten cannot be compared there (SMR-6). A liar that votes for something else so
//! late is proven to lie at some correct replicas and not at others. Its vote adds nothing anywhere, but those that have the
//! proof wait in vain for a NEW-VIEW that names a later VIEW-CHANGE of it, until a primary's turn comes that has the proof
//! too or need not name the liar: with three replicas, within three views.

pub mod action;
pub mod config;
pub mod core;
pub mod invariants;
pub mod machine;
pub mod message;
pub mod types;
pub mod verify;

mod ledger;
mod pending;
mod stream;
mod table;

pub use action::{Action, Compaction, Fault, FaultKind, Fork, Input, Outcome, Record};
pub use config::{Config, Identify, Keys, Limits, Mutant, PAGE_BYTES};
pub use core::{Core, PeerReport, Report, RestoreError};
pub use machine::{StateMachine, Unreadable};
pub use types::{ClientId, History, Payload, RequestId, Seq, View};
pub use verify::{Rejection, Verified, Verifier};
