//! Which threads a policy of retention deletes. All logs that keep conversations ask here.

use std::sync::Arc;

use super::conversations::Retention;

/// How much a thread has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// When something happened in it last, in milliseconds since the Unix epoch.
    pub(super) updated: u64,
    pub(super) turns: u64,
    pub(super) bytes: u64,
}

/// Before this moment something must have happened last in a thread that is too old.
pub(super) fn since(retention: &Retention, now: u64) -> Option<u64> {
    let age = retention.age?;
    Some(now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}

/// Of all threads of a user, those that are stale, the one in which nothing has happened for longest first: those that are too
/// old, and as many as there must be less for the rest to be within the bounds. Threads that are busy stay.
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
