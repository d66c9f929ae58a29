//! The wall around user code: Landlock, by which a process gives up access for good.
//!
//! It is put up by the launcher before it becomes the job's program. On a kernel without Landlock, or with an old one,
//! what can be taken away is taken away and the attempt's log says so.

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use std::path::{Path, PathBuf};

/// What programs need of the system: libraries, time zones, and the number of cores.
const SYSTEM: [&str; 10] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/meminfo",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/urandom",
];
/// The newest rules that this code knows of.
const RULES: ABI = ABI::V6;

/// Leaves this thread, and all that it starts from now on, with `readable` and the system's libraries to read,
/// `writable` to write, and no network. Tells how much of that the kernel could do.
///
/// # Errors
/// When the kernel knows Landlock and refuses.
pub fn put_up(readable: &[PathBuf], writable: &Path) -> Result<RulesetStatus, RulesetError> {
    let read = SYSTEM.iter().map(Path::new).chain(readable.iter().map(PathBuf::as_path));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(RULES)))?
        .add_rules(path_beneath_rules([writable, Path::new("/dev/null")], AccessFs::from_all(RULES)))?
        .restrict_self()?;
    Ok(status.ruleset)
}
