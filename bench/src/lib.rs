//! Benchmarks and their kept results.
//!
//! `overhead` (in `src/bin`) tells what tolerating liars costs. Figures are ratios within one run: absolute times drift from
//! machine to machine. Results that were kept are in `results/`.

pub mod figures;
pub mod kept;
pub mod text;
