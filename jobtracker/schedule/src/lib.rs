//! The scheduler: jobs, attempts, votes, verdicts and blame, as a pure state machine.
