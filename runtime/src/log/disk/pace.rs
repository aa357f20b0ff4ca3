//! When a commit may begin, if each is synced.
//!
//! A commit costs a sync and at least one page, however few events it has. While many users write, one that begins at
//! once holds a few events, and the next ones wait for it anyway. So commits then begin [`COMMIT_DELAY`] apart, which
//! writes half the bytes and adds less than that to an event's latency. While few users write, their agents are often all
//! waiting for the commit, and a delay would only slow them down.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use lockstep_model::UserId;

/// How long after a commit the next one begins.
const COMMIT_DELAY: Duration = Duration::from_millis(2);

/// Commits are delayed while more users than this write.
const MANY: usize = 64;

/// Users write if they have within this time.
const RECENT: Duration = Duration::from_millis(100);

/// Whether many users write.
pub(super) struct Pace {
    /// The users who have written in the current period of [`RECENT`].
    users: HashSet<UserId>,
    began: Instant,
    /// Whether they were many in the period before.
    many: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { users: HashSet::new(), began: now, many: false }
    }

    /// Counts the users of a commit.
    pub(super) fn count(&mut self, users: impl IntoIterator<Item = UserId>, now: Instant) {
        let passed = now.saturating_duration_since(self.began);
        if passed >= RECENT {
            self.many = passed < 2 * RECENT && self.users.len() > MANY;
            self.users.clear();
            self.began = now;
        }
        self.users.extend(users);
    }

    /// How long the next commit waits. `committed` is when the last one ended.
    pub(super) fn delay(&self, committed: Option<Instant>, now: Instant) -> Duration {
        if !self.many || now.saturating_duration_since(self.began) >= 2 * RECENT {
            return Duration::ZERO;
        }
        committed.map_or(Duration::ZERO, |at| COMMIT_DELAY.saturating_sub(now.saturating_duration_since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The delay of a commit right after another, once this many users have each written in every commit of a second.
    fn delay(users: u64, pause: Duration) -> (Duration, Duration) {
        let begin = Instant::now();
        let (mut pace, mut now) = (Pace::new(begin), begin);
        for _ in 0..20 {
            now += Duration::from_millis(50);
            pace.count((0..users).map(UserId), now);
        }
        let now = now + pause;
        (pace.delay(Some(now), now), pace.delay(Some(now), now + COMMIT_DELAY))
    }

    #[test]
    fn commits_are_delayed_while_many_users_write() {
        assert_eq!(delay(64, Duration::ZERO), (Duration::ZERO, Duration::ZERO));
        assert_eq!(delay(65, Duration::ZERO), (COMMIT_DELAY, Duration::ZERO));
    }

    #[test]
    fn the_first_commit_after_a_pause_is_not_delayed() {
        assert_eq!(delay(1_000, 2 * RECENT), (Duration::ZERO, Duration::ZERO));
    }
}
