//! Which threads a retention policy deletes. All logs that keep conversations use this.

use std::sync::Arc;

use super::conversations::Retention;

/// The size of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// The time of its newest entry, in milliseconds since the Unix epoch.
    pub(super) updated: u64,
    pub(super) turns: u64,
    pub(super) bytes: u64,
}

/// A thread whose newest entry is from before this time is too old.
pub(super) fn since(retention: &Retention, now: u64) -> Option<u64> {
    let age = retention.age?;
    Some(now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}

/// Selects the stale ones among all threads of a user, least recently active first: those that are too old, and as many
/// more as must go for the rest to be within the bounds. Busy threads stay.
pub(super) fn stale(
    mut threads: Vec<(Option<Arc<str>>, Sizes)>,
    is_busy: impl Fn(&Option<Arc<str>>) -> bool,
    retention: &Retention,
    now: u64,
) -> Vec<Option<Arc<str>>> {
    threads.sort_by(|(a, one), (b, other)| (one.updated, a).cmp(&(other.updated, b)));
    let sum = |size: fn(&Sizes) -> u64| threads.iter().map(|(_, sizes)| size(sizes)).fold(0, u64::saturating_add);
    let (mut turns, mut bytes) = (sum(|sizes| sizes.turns), sum(|sizes| sizes.bytes));
    let since = since(retention, now);
    let mut stale = Vec::new();
    for (thread, sizes) in threads {
        let is_old = since.is_some_and(|since| sizes.updated < since);
        let is_over =
            retention.turns.is_some_and(|most| turns > most) || retention.bytes.is_some_and(|most| bytes > most);
        if (is_old || is_over) && !is_busy(&thread) {
            (turns, bytes) = (turns.saturating_sub(sizes.turns), bytes.saturating_sub(sizes.bytes));
            stale.push(thread);
        }
    }
    stale
}
