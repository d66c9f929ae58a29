//! Lying task trackers, one file per lie, for tests and demonstrations.
