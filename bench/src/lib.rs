//! Benchmarks and their kept results.
//!
//! `quorate-bench` (in `src/bin`) measures whole jobs. Figures are ratios within one run: absolute times drift from
//! machine to machine. Results that were kept are in `results/`.

pub mod cpu;
pub mod figures;
pub mod kept;
pub mod text;
