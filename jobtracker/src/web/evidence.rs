//! Evidence in words, with what was signed beside it.

use super::answers::{self, SignedStatement, blame, task_name};
use quorate_protocol::{
    cluster::Cluster,
    command::{Request, Sender},
    evidence::Evidence,
    query::Blame,
    sign::Signed,
    vote::{Ballot, Counters, Served, Subject, Vote},
};
use std::fmt::Write;

/// Counters that are shown of a ballot.
const COUNTERS_SHOWN_MAX: usize = 8;
/// Signed bytes that are shown of one statement.
const SIGNED_BYTES_SHOWN: usize = 4 << 10;

/// A piece of evidence for people, checked here and now. Takes as long as checking its signatures does.
pub(crate) fn show(cluster: &Cluster, evidence: &Evidence) -> answers::Evidence {
    let checked = evidence.check(cluster);
    let attempt = evidence.attempt();
    answers::Evidence {
        kind: evidence.kind(),
        blame: blame(checked.as_ref().map_or(Blame::None, |(_, blame)| *blame)),
        valid: checked.is_ok(),
        job: attempt.map(|attempt| attempt.task.job.number()),
        task: attempt.map(|attempt| task_name(attempt.task)),
        attempt: attempt.map(|attempt| attempt.attempt),
        text: text(evidence),
        statements: statements(evidence),
    }
}

/// Says of each ballot what it says, as far as votes for it are there.
pub(crate) fn describe_ballots(ballots: &mut [answers::Ballot], votes: &[Signed<Vote>]) {
    for vote in votes.iter().filter_map(|vote| vote.peek().ok()) {
        let digest = vote.ballot.digest().to_string();
        if let Some(shown) = ballots.iter_mut().find(|ballot| ballot.digest == digest) {
            let (kind, summary) = describe(&vote.ballot);
            (shown.kind, shown.summary) = (Some(kind), Some(summary));
        }
    }
}

fn describe(ballot: &Ballot) -> (&'static str, String) {
    let counted = |counters: &Counters| {
        let some = counters.iter().take(COUNTERS_SHOWN_MAX);
        some.map(|(name, value)| format!(", {name} = {value}")).collect::<String>()
    };
    match ballot {
        Ballot::Map { segments, counters } => ("map", format!("segments {}{}", segments.short(), counted(counters))),
        Ballot::Reduce { manifest, counters } => {
            let (chunks, bytes) = (manifest.chunks.len(), manifest.length());
            ("reduce", format!("{bytes} bytes in {chunks} chunks{}", counted(counters)))
        }
        Ballot::Failed { kind, record } => {
            let at = record.map_or(String::new(), |record| format!(" at record {record}"));
            ("failed", format!("the program failed: {kind:?}{at}"))
        }
    }
}

fn ballot(vote: &Signed<Vote>) -> String {
    vote.peek().map_or("something unreadable".to_owned(), |vote| vote.ballot.digest().short())
}

fn text(evidence: &Evidence) -> String {
    match evidence {
        Evidence::TwoVotes(first, second) => {
            format!("it signed two votes for one attempt: {} and {}", ballot(first), ballot(second))
        }
        Evidence::WrongSegment { served, .. } => match served.peek() {
            Ok(Served { sent: None, .. }) => "it did not serve a segment that it voted".to_owned(),
            Ok(_) | Err(_) => "it served a segment unlike its own vote".to_owned(),
        },
        Evidence::WrongChunk(_) => "it served other bytes than the chunk's name says".to_owned(),
        Evidence::Outvoted { vote, majority } => {
            let agreed = majority.first().map_or(String::new(), ballot);
            let count = majority.len();
            format!("it voted {}, and f + 1 = {count} trackers of other domains voted {agreed}", ballot(vote))
        }
        Evidence::Garbled { .. } => "it signed a command that nobody can read".to_owned(),
        Evidence::Complaints { reports, .. } => {
            format!("{} trackers of distinct domains say that it did not serve what it voted", reports.len())
        }
    }
}

fn statements(evidence: &Evidence) -> Vec<SignedStatement> {
    match evidence {
        Evidence::TwoVotes(first, second) => vec![vote("accused", first), vote("accused", second)],
        Evidence::WrongSegment { vote: voted, served, .. } => vec![vote("accused", voted), self::served(served)],
        Evidence::WrongChunk(served) => vec![self::served(served)],
        Evidence::Outvoted { vote: voted, majority } => {
            let others = majority.iter().map(|other| vote("majority", other));
            [vote("accused", voted)].into_iter().chain(others).collect()
        }
        Evidence::Garbled { tracker, request } => {
            vec![statement(tracker.to_string(), "accused", "unreadable bytes".to_owned(), request)]
        }
        Evidence::Complaints { vote: voted, reports } => {
            [vote("accused", voted)].into_iter().chain(reports.iter().map(report)).collect()
        }
    }
}

fn vote(role: &'static str, signed: &Signed<Vote>) -> SignedStatement {
    match signed.peek() {
        Ok(vote) => {
            let text = format!("vote of {}: {}", vote.attempt, vote.ballot.digest());
            statement(vote.tracker.to_string(), role, text, signed)
        }
        Err(error) => statement("unknown".to_owned(), role, format!("unreadable: {error}"), signed),
    }
}

fn served(signed: &Signed<Served>) -> SignedStatement {
    let Ok(served) = signed.peek() else {
        return statement("unknown".to_owned(), "accused", "unreadable".to_owned(), signed);
    };
    let what = match served.subject {
        Subject::Segment { attempt, partition } => format!("segment {partition} of {attempt}"),
        Subject::Chunk(chunk) => format!("chunk {chunk}"),
    };
    let text = match served.sent {
        Some((digest, length)) => format!("served as {what}: {length} bytes with the digest {digest}"),
        None => format!("has nothing to serve as {what}"),
    };
    statement(served.tracker.to_string(), "accused", text, signed)
}

fn report(signed: &Signed<Request>) -> SignedStatement {
    let signer = match signed.peek().map(|request| request.sender) {
        Ok(Sender::Tracker(tracker)) => tracker.to_string(),
        Ok(Sender::Client(_) | Sender::Replica(_)) | Err(_) => "unknown".to_owned(),
    };
    statement(signer, "accuser", "a report that complains".to_owned(), signed)
}

fn statement<T: quorate_protocol::sign::Statement>(
    signer: String,
    role: &'static str,
    text: String,
    signed: &Signed<T>,
) -> SignedStatement {
    let bytes = signed.bytes();
    let shown = hex(bytes.iter().take(SIGNED_BYTES_SHOWN));
    SignedStatement { signer, role, text, signed: shown, bytes: bytes.len(), signature: hex(&signed.signature()) }
}

fn hex<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> String {
    bytes.into_iter().fold(String::new(), |mut text, byte| {
        // Writing to text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
