//! Example jobs, each a program of its own in `src/bin`: `wordcount`, `terasort`, `grep`, `inverted-index` and
//! `log-report`. Run one with `--help` to see what it does.
