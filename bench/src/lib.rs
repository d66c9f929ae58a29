//! Benchmarks and their kept results.
