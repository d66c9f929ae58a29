//! The shared inputs of tests.

use std::path::PathBuf;

/// A file of the shared test data; `None`, with a message, when this checkout has none beside it. In CI it must be there.
#[allow(clippy::allow_attributes, dead_code, reason = "not every test that includes this file reads data")]
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{} is missing", path.display());
    eprintln!("skipped: {} is not there", path.display());
    None
}
