//! Commands that a session has refused for lack of room, and that wait until there is room: emits of agents, notices
//! and deletions. If the user turns out to have another owner, they learn that instead.
//!
//! A session says in which step a refused command may be accepted: [`SessionOutput::Room`]. A command registers before
//! the attempt that it waits for, so it misses no such step.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the users for whom commands wait | the driver and waiting commands, for a moment |
//!
//! No task is woken under the lock, and no other lock is taken under it.
//!
//! [`SessionOutput::Room`]: lockstep_model::gateway::SessionOutput::Room

use std::sync::Arc;

use lockstep_model::{Incarnation, UserId};
use tokio::sync::Notify;

use crate::support::sharded::Sharded;

/// The users for whom commands wait.
pub(super) struct Backpressure(Sharded<UserId, Waiters>);

struct Waiters {
    /// How many commands wait. The last one removes the entry.
    waiting: usize,
    notify: Arc<Notify>,
    /// The user's owner, if it was another process when it was last asked for.
    owner: Option<Incarnation>,
}

/// Why a waiting command is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// There may be room.
    Room,
    /// The user is owned by another process.
    Elsewhere(Incarnation),
}

/// A waiting command. Dropping it removes it from the count.
struct Waiting {
    backpressure: Arc<Backpressure>,
    user: UserId,
    notify: Arc<Notify>,
}

impl Backpressure {
    pub(super) fn new(shards: usize) -> Self {
        Self(Sharded::new(shards))
    }

    /// Wakes the commands that wait for room in the user's stream.
    pub(super) fn notify(&self, user: UserId) {
        self.tell(user, None);
    }

    /// Tells the commands that wait that the user is owned by another process.
    pub(super) fn elsewhere(&self, user: UserId, owner: Incarnation) {
        self.tell(user, Some(owner));
    }

    fn tell(&self, user: UserId, owner: Option<Incarnation>) {
        let notify = self.0.lock(&user).get_mut(&user).map(|entry| {
            // Room that a session makes when it ends does not take this back.
            entry.owner = owner.or(entry.owner);
            Arc::clone(&entry.notify)
        });
        if let Some(notify) = notify {
            notify.notify_waiters();
        }
    }

    /// Registers a command. The future completes when there is room in the user's stream, or the user has another
    /// owner, even if that was before the first poll. Cancel safe.
    pub(super) fn wait(self: &Arc<Self>, user: UserId) -> impl Future<Output = Answered> + Send + use<> {
        let notify = {
            let mut users = self.0.lock(&user);
            let entry =
                users.entry(user).or_insert_with(|| Waiters { waiting: 0, notify: Arc::default(), owner: None });
            entry.waiting += 1;
            Arc::clone(&entry.notify)
        };
        let waiting = Waiting { backpressure: Arc::clone(self), user, notify };
        let room = Arc::clone(&waiting.notify).notified_owned();
        async move {
            room.await;
            let owner = waiting.backpressure.0.lock(&user).get(&user).and_then(|entry| entry.owner);
            drop(waiting);
            owner.map_or(Answered::Room, Answered::Elsewhere)
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut users = self.backpressure.0.lock(&self.user);
        if let Some(entry) = users.get_mut(&self.user) {
            entry.waiting -= 1;
            if entry.waiting == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    use super::*;

    fn poll(future: core::pin::Pin<&mut impl Future<Output = Answered>>) -> Poll<Answered> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn users(backpressure: &Backpressure) -> usize {
        let mut users = 0;
        backpressure.0.each(|shard| users += shard.len());
        users
    }

    #[test]
    fn room_wakes_every_command_that_registered_before_and_no_other() {
        let backpressure = Arc::new(Backpressure::new(2));
        let (mut first, mut second) = (pin!(backpressure.wait(UserId(1))), pin!(backpressure.wait(UserId(1))));
        let mut other = pin!(backpressure.wait(UserId(2)));
        assert!(poll(second.as_mut()).is_pending());
        backpressure.notify(UserId(1));
        let mut later = pin!(backpressure.wait(UserId(1)));
        assert!(poll(first.as_mut()).is_ready(), "it was not polled before");
        assert!(poll(second.as_mut()).is_ready());
        assert!(poll(later.as_mut()).is_pending() && poll(other.as_mut()).is_pending());
        backpressure.notify(UserId(1));
        assert!(poll(later.as_mut()).is_ready());
    }

    #[test]
    fn who_owns_the_user_elsewhere_is_told_whatever_follows() {
        let backpressure = Arc::new(Backpressure::new(2));
        let mut waiting = pin!(backpressure.wait(UserId(1)));
        backpressure.elsewhere(UserId(1), Incarnation(7));
        backpressure.notify(UserId(1));
        assert_eq!(poll(waiting.as_mut()), Poll::Ready(Answered::Elsewhere(Incarnation(7))));
        let mut next = pin!(backpressure.wait(UserId(1)));
        backpressure.notify(UserId(1));
        assert_eq!(poll(next.as_mut()), Poll::Ready(Answered::Room));
    }

    #[test]
    fn nothing_is_kept_of_commands_that_no_longer_wait() {
        let backpressure = Arc::new(Backpressure::new(2));
        let (first, mut second) = (backpressure.wait(UserId(1)), Box::pin(backpressure.wait(UserId(1))));
        assert!(poll(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(users(&backpressure), 1);
        drop(second);
        assert_eq!(users(&backpressure), 0);
        backpressure.notify(UserId(1));
        let mut third = pin!(backpressure.wait(UserId(1)));
        backpressure.notify(UserId(1));
        assert!(poll(third.as_mut()).is_ready());
        assert_eq!(users(&backpressure), 0);
    }
}
