//! Bounds of the scheduler's own state, beside those of the protocol.

/// Tasks looked at for one job, stage and priority before an event's search for work is given up until the next.
pub(crate) const SCAN_MAX: usize = 32;
/// Slots that a tracker may register for one stage.
pub(crate) const SLOTS_MAX: u16 = 1024;
/// A tracker's address, in bytes.
pub(crate) const ADDRESS_BYTES_MAX: usize = 256;
/// A tracker's target, in bytes: as long as a job's may be.
pub(crate) const TARGET_BYTES_MAX: usize = 64;
/// A tracker with so many directives waiting gets no new work.
pub(crate) const DIRECTIVES_CLOGGED: usize = quorate_protocol::limits::DIRECTIVES_MAX / 2;
/// Chunks in one directive to drop them.
pub(crate) const CHUNKS_PER_DIRECTIVE_MAX: usize = 4096;
/// Times that a task may be declined, for each of its 2f + 1 places, before its job is given up.
pub(crate) const DECLINES_PER_PLACE_MAX: usize = 4;
/// Attempts of one task that may be lost before its job is given up: something about the task kills trackers.
pub(crate) const LOSSES_MAX: usize = 64;
/// Attempts of one task, whatever became of them, before its job is given up: no other bound is as large.
pub(crate) const ATTEMPTS_MAX: u16 = 4096;
/// Time by which no deadline is missed while somebody orders commands: when the first one was missed by more, nobody
/// was there to hear those who were in time.
pub(crate) const OUTAGE_MS: u64 = 5000;
/// Accusations of one report whose signatures are checked. Each that an honest tracker makes convicts somebody, and of
/// the convicted no more is heard.
pub(crate) const CHECKS_PER_REPORT_MAX: usize = 32;
/// Times that an agreed map task is run again because its bytes are gone.
pub(crate) const RERUNS_MAX: u16 = 64;
/// Of these, times that mere complaints can cause.
pub(crate) const COMPLAINT_RERUNS_MAX: u16 = 4;
/// Trackers that the readers of one domain may complain about within a job.
pub(crate) const COMPLAINTS_PER_DOMAIN_MAX: usize = 16;
/// A report that is kept because it complains, in bytes.
pub(crate) const COMPLAINT_BYTES_MAX: usize = 64 << 10;
/// All evidence kept against one tracker, in bytes. The first piece, and the first proof, are kept whatever their size.
pub(crate) const EVIDENCE_BYTES_MAX: usize = 4 << 20;
/// Votes kept of one job that failed, in bytes.
pub(crate) const ENDED_VOTES_BYTES_MAX: usize = 1 << 20;
/// Votes kept of an ended job's tasks whose votes differ, in bytes: of some 800 votes on map tasks.
pub(crate) const ENDED_DIFFERING_BYTES_MAX: usize = 256 << 10;
/// What one answer may carry, in bytes, so that a reply has room for its frame.
pub(crate) const ANSWER_BYTES_MAX: usize = quorate_protocol::limits::REPLY_BYTES_MAX / 2;
/// Timeouts for which an overdue attempt is still waited for when its place is needed.
pub(crate) const GRACE_TIMEOUTS: u64 = 3;
/// A copy may take so many times as long as another that voted, before it is overdue whatever progress it claims.
pub(crate) const STRAGGLER_FACTOR: u64 = 4;
/// Attempts of one job that wait at a time to be run again by the trackers that ran them.
pub(crate) const REPEATS_WAITING_MAX: usize = 32;
/// Tasks with known answers that a tracker on probation must answer rightly.
pub(crate) const PROBES: u32 = 3;
/// Tasks up to which debug builds check all of a job's invariants after each command.
pub(crate) const CHECKED_TASKS_MAX: usize = 256;

/// Cuts a peer's text to what is kept of it.
pub(crate) fn cut(text: &str) -> String {
    let mut end = text.len().min(quorate_protocol::limits::TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::cut;
    use quorate_protocol::limits::TEXT_BYTES_MAX;

    #[test]
    fn text_is_cut_at_the_bound_and_between_characters() {
        assert_eq!(cut(&"x".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&"x".repeat(TEXT_BYTES_MAX + 1)).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&"ä".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        assert_eq!(cut(&format!("x{}", "ä".repeat(TEXT_BYTES_MAX))).len(), TEXT_BYTES_MAX - 1);
    }
}
