//! The shared inputs of tests.

use std::path::PathBuf;

/// A file of the shared test data; `None`, with a message, when this checkout has none beside it. In CI it must be there.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, and on CI it must be there", path.display());
    eprintln!("skipped: {} is not there", path.display());
    None
}
