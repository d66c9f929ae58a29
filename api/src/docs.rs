//! The project's pages, kept beside the code in `api/docs`: their examples are compiled and run with the tests.
//!
//! * [`guide`]: writing and running jobs;
//! * [`operating`]: clusters on several machines;
//! * [`configuration`]: settings, and the cluster's configuration;
//! * [`troubleshooting`]: every error by its code;
//! * [`json`]: what commands print for programs;
//! * [`architecture`]: what is built, and what must hold;
//! * [`fault_model`]: who may lie, how it is found out, and what is not protected;
//! * [`rest`]: the page, the HTTP API under it, health and metrics;
//! * [`tpm`]: trusted logs in TPMs, for operators;
//! * [`testing`]: where the tests are, and how to run them;
//! * [`changelog`]: what changed.

#[doc = include_str!("../docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("../docs/changelog.md")]
pub mod changelog {}

#[doc = include_str!("../docs/configuration.md")]
pub mod configuration {}

#[doc = include_str!("../docs/fault-model.md")]
pub mod fault_model {}

#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[doc = include_str!("../docs/json.md")]
pub mod json {}

#[doc = include_str!("../docs/operating.md")]
pub mod operating {}

#[doc = include_str!("../docs/rest.md")]
pub mod rest {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/tpm.md")]
pub mod tpm {}

#[doc = include_str!("../docs/troubleshooting.md")]
pub mod troubleshooting {}

/// The examples of the project's front page.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}
