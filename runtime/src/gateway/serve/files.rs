//! The limit of open files: raised as far as it goes, and what it leaves for sockets.

use super::slots::RESERVE;
use crate::gateway::config::Limits;

/// Raises the limit of open files to the most that the process may have, and returns what it is then. `None` if there is
/// none, or none that is known.
#[cfg(unix)]
#[must_use]
pub fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum;
    }
    current
}

/// Such a limit is not known here.
#[cfg(not(unix))]
#[must_use]
pub fn raise() -> Option<u64> {
    None
}

/// Lowers `limits.sockets` to what so many open files leave for sockets.
///
/// # Errors
///
/// That it was lowered: a sentence for the operator, to what, and what to do.
pub fn fit(limits: &mut Limits, files: Option<u64>) -> Result<(), String> {
    let Some(files) = files else { return Ok(()) };
    let others = u64::from(limits.other_files) + u64::from(RESERVE);
    // A limit that is smaller than what should be kept free is shared equally.
    let fits = files.saturating_sub(others.min(files / 2)).max(1);
    if u64::from(limits.sockets) <= fits {
        return Ok(());
    }
    let (wanted, needed) = (limits.sockets, u64::from(limits.sockets) + others);
    limits.sockets = u32::try_from(fits).unwrap_or(u32::MAX);
    Err(format!(
        "the process may have {files} open files, so {fits} sockets fit, not the {wanted} of `limits.sockets`; raise the \
         hard limit to {needed}: `ulimit -Hn`, systemd's LimitNOFILE, a container's --ulimit nofile"
    ))
}
