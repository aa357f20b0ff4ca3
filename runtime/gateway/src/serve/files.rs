//! The limit of open files: raises it as far as possible, and computes how many sockets it allows.

use super::permits::RESERVE;
use crate::config::Limits;

/// Raises the limit of open files to the process's hard limit, and returns the new value. `None` if there is no limit,
/// or it is unknown.
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

/// The limit is unknown on this platform.
#[cfg(not(unix))]
#[must_use]
pub fn raise() -> Option<u64> {
    None
}

lockstep::internal::sentence! {
    /// A limit was lowered: the new value, and advice for the operator.
    Lowered
}

/// Lowers `limits.sockets` to what the limit of open files allows.
///
/// # Errors
///
/// [`Lowered`].
pub fn fit(limits: &mut Limits, files: Option<u64>) -> Result<(), Lowered> {
    let Some(files) = files else { return Ok(()) };
    let others = u64::from(limits.other_files) + u64::from(RESERVE);
    // If the limit is smaller than the reserve, half of it is for sockets.
    let fits = files.saturating_sub(others.min(files / 2)).max(1);
    if u64::from(limits.sockets) <= fits {
        return Ok(());
    }
    let (wanted, needed) = (limits.sockets, u64::from(limits.sockets) + others);
    limits.sockets = u32::try_from(fits).unwrap_or(u32::MAX);
    Err(Lowered::new(format!(
        "the process may have {files} open files, so {fits} sockets fit, not the {wanted} of `limits.sockets`; raise the \
         hard limit to {needed}: `ulimit -Hn`, systemd's LimitNOFILE, a container's --ulimit nofile"
    )))
}
