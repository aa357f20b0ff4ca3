//! The inbox: messages from other tasks to a connection's task, and the means to wake that task.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the items: bounded, in the order of sending | any thread sends; the owner takes |
//! | a place for each value of [`Item::reserved`], outside the bound | the same |
//! | what was handed over: the connection that its session released | the session, once; the owner takes |
//! | the signal and the notices: levels, not queues | any thread sets them; the owner takes |
//! | the waker | the owner registers it when it finds nothing; a sender takes it and wakes |
//!
//! The *owner* is the one task that serves the connection. One lock guards everything, and no other lock is taken under
//! it. There is no queue of frames. The signal says that there is something to pull, and the cursor in the session says
//! where to read. A slow reader therefore costs one flag, and no sender ever waits for it.
//!
//! * **SH-3** Finding nothing and registering the waker are one critical section, and so are sending and waking. No
//!   task is woken after [`Inbox::close`] has returned.
//! * **SH-6** At most [`Inbox::bound`] items wait, plus one for each reserved place, so an open inbox always has room
//!   for items that must not be lost. Closing returns the accepted items, and accepts no more.

use core::fmt;
use core::num::NonZeroUsize;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;

use lockstep_model::gateway::routing::ToConnections;

use super::sync::{Mutex, MutexGuard, lock};

/// What can wait in an inbox.
pub trait Item {
    /// The place that is reserved for items of this kind, where at most one waits. `None` for items that share the
    /// bound.
    fn reserved(&self) -> Option<u8> {
        None
    }

    /// Whether this item replaces the one that waits in its reserved place. If not, this item is dropped.
    fn supersedes(&self, _waiting: &Self) -> bool {
        false
    }
}

/// The inbox of one owner: items of type `L`, and one value of type `H` that is handed over once.
pub struct Inbox<L, H> {
    bound: NonZeroUsize,
    state: Mutex<State<L, H>>,
}

struct State<L, H> {
    contents: Contents<L, H>,
    /// How many waiting items share the bound.
    sharing: usize,
    closed: bool,
    waker: Option<Waker>,
}

/// What the owner takes.
#[derive(Debug)]
pub struct Contents<L, H> {
    /// The items, in the order of sending.
    pub items: VecDeque<L>,
    /// What was handed over.
    pub handed: Option<H>,
    /// Whether there is something to pull.
    pub signal: bool,
    /// The gravest notice from the node since the last poll.
    pub notice: Option<ToConnections>,
}

/// Why an item was not accepted. Contains the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered<L> {
    /// The inbox is full, and the item has no reserved place.
    Full(L),
    /// The inbox is closed.
    Closed(L),
}

impl<L: Item, H> Inbox<L, H> {
    /// Creates an open, empty inbox in which at most `bound` items wait.
    #[must_use]
    pub fn new(bound: NonZeroUsize) -> Self {
        Self {
            bound,
            state: Mutex::new(State { contents: Contents::default(), sharing: 0, closed: false, waker: None }),
        }
    }

    /// How many items may wait.
    #[must_use]
    pub const fn bound(&self) -> NonZeroUsize {
        self.bound
    }

    /// Sends an item and wakes the owner.
    ///
    /// # Errors
    ///
    /// The item, if the inbox is closed, or if it is full and the item has no reserved place.
    pub fn send(&self, item: L) -> Result<(), Undelivered<L>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Undelivered::Closed(item));
        }
        let reserved = item.reserved();
        if reserved.is_some() {
            let waiting = state.contents.items.iter().position(|waiting| waiting.reserved() == reserved);
            if let Some(waiting) = waiting {
                if !item.supersedes(&state.contents.items[waiting]) {
                    return Ok(());
                }
                state.contents.items.remove(waiting);
            }
        } else if state.sharing >= self.bound.get() {
            return Err(Undelivered::Full(item));
        } else {
            state.sharing += 1;
        }
        state.contents.items.push_back(item);
        wake(state);
        Ok(())
    }

    /// Signals that there is something to pull, and wakes the owner. A closed inbox ignores this.
    pub fn signal(&self) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.contents.signal = true;
            wake(state);
        }
    }

    /// Delivers a notice from the node, and wakes the owner. A closed inbox ignores this.
    pub fn notify(&self, notice: ToConnections) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.contents.notice = state.contents.notice.max(Some(notice));
            wake(state);
        }
    }

    /// Hands over a value, and wakes the owner. A closed inbox drops it.
    pub fn hand_over(&self, thing: H) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.contents.handed = Some(thing);
            wake(state);
        }
    }

    /// Takes what was handed over. The owner calls this once it knows that there is something.
    pub fn take_handed(&self) -> Option<H> {
        lock(&self.state).contents.handed.take()
    }

    /// Takes everything into `contents`, which must be empty. If there is nothing, registers the owner's waker. For the
    /// owner.
    ///
    /// A closed inbox stays empty and wakes no task.
    pub fn poll(&self, context: &Context<'_>, contents: &mut Contents<L, H>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.contents.is_empty() {
            let replaced = if state.closed {
                None
            } else {
                match &mut state.waker {
                    Some(waker) if waker.will_wake(context.waker()) => None,
                    waker => waker.replace(context.waker().clone()),
                }
            };
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        core::mem::swap(&mut state.contents, contents);
        state.sharing = 0;
        Poll::Ready(())
    }

    /// Closes the inbox and returns what was accepted and not taken. For the owner.
    pub fn close(&self) -> Contents<L, H> {
        let mut state = lock(&self.state);
        state.closed = true;
        let waker = state.waker.take();
        let rest = core::mem::take(&mut state.contents);
        drop(state);
        drop(waker);
        rest
    }
}

/// Wakes the owner if it waits. The waker is called under the lock, so that none is called after the inbox is closed;
/// it must therefore not access this inbox. It is dropped after the lock, because that may drop a whole task.
fn wake<L, H>(mut state: MutexGuard<'_, State<L, H>>) {
    let waker = state.waker.take();
    if let Some(waker) = &waker {
        waker.wake_by_ref();
    }
    drop(state);
    drop(waker);
}

impl<L, H> Contents<L, H> {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.handed.is_none() && !self.signal && self.notice.is_none()
    }
}

impl<L, H> Default for Contents<L, H> {
    fn default() -> Self {
        Self { items: VecDeque::new(), handed: None, signal: false, notice: None }
    }
}

impl<L, H> fmt::Debug for Inbox<L, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("bound", &self.bound).finish_non_exhaustive()
    }
}
