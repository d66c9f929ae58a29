//! A task tracker: runs attempts, votes, and serves segments and chunks.
