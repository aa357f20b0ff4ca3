//! The inbox: what others have for a connection's task, and how that task is woken.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the items: bounded, in the order of sending | anybody posts; the owner takes |
//! | a place for each [`Item::slot`], beside the bound | the same |
//! | what was handed over: the connection that its session released | the session, once; the owner takes |
//! | the signal and the notices: level, not a queue | anybody raises them; the owner takes |
//! | the waker | the owner leaves it when it finds nothing; who brings something takes it and wakes |
//!
//! The *owner* is the one task that serves the connection. All of it is behind one lock, and no other lock is taken under
//! it. There is no queue of frames: the signal says that there is something to pull, and where to read is the cursor in
//! the session. So a slow reader costs one flag, and nobody ever waits for it.
//!
//! * **SH-3** The look that finds nothing and the leaving of the waker are one critical section, and so are bringing
//!   something and waking. Nobody is woken after [`Inbox::close`] has returned.
//! * **SH-6** At most [`Inbox::bound`] items wait, and one more for each slot, so that an open inbox has room for what
//!   must not be lost, whatever others have posted. Closing returns those that were accepted, and accepts no more.

use core::fmt;
use core::num::NonZeroUsize;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;

use lockstep_model::gateway::routing::ToConnections;

use super::sync::{Mutex, MutexGuard, lock};

/// What can wait in a inbox.
pub trait Item {
    /// The place that is kept for items of this kind, of which one waits at a time; `None` for those that share the bound.
    fn reserved(&self) -> Option<u8> {
        None
    }

    /// Whether the owner needs this item and not the one that waits in its slot. Otherwise it needs the waiting one alone.
    fn supersedes(&self, _waiting: &Self) -> bool {
        false
    }
}

/// What others have for the owner of a inbox: items of type `L`, and something of type `H` that is handed over once.
pub struct Inbox<L, H> {
    bound: NonZeroUsize,
    state: Mutex<State<L, H>>,
}

struct State<L, H> {
    contents: Contents<L, H>,
    /// Items that have no slot.
    sharing: usize,
    closed: bool,
    waker: Option<Waker>,
}

/// What the owner finds.
#[derive(Debug)]
pub struct Contents<L, H> {
    /// Items, in the order of sending.
    pub items: VecDeque<L>,
    /// What was handed over.
    pub handed: Option<H>,
    /// Whether there is something to pull.
    pub signal: bool,
    /// The gravest thing that the node has to say since the last look.
    pub notice: Option<ToConnections>,
}

/// Why an item was not accepted. It comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered<L> {
    /// As many items without a slot wait as may.
    Full(L),
    /// The inbox is closed.
    Closed(L),
}

impl<L: Item, H> Inbox<L, H> {
    /// An open, empty inbox in which at most `bound` items wait.
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

    /// Leaves an item and wakes the owner.
    ///
    /// # Errors
    ///
    /// The item, if the inbox is closed, or full and the item has no slot.
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

    /// Says that there is something to pull, and wakes the owner. Nothing happens if the inbox is closed.
    pub fn signal(&self) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.contents.signal = true;
            wake(state);
        }
    }

    /// Says what the node has to say, and wakes the owner. Nothing happens if the inbox is closed.
    pub fn notify(&self, notice: ToConnections) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.contents.notice = state.contents.notice.max(Some(notice));
            wake(state);
        }
    }

    /// Hands something over for good, and wakes the owner. A closed inbox drops it.
    pub fn hand_over(&self, thing: H) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.contents.handed = Some(thing);
            wake(state);
        }
    }

    /// Takes what was handed over. For the owner, when it knows that something was.
    pub fn take_handed(&self) -> Option<H> {
        lock(&self.state).contents.handed.take()
    }

    /// Takes all that is there into `contents`, which must be empty; if nothing is, leaves the owner's waker. For the owner.
    ///
    /// A closed inbox stays empty and wakes nobody.
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

    /// Accepts nothing any more, and returns all that was accepted and not taken. For the owner.
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

/// Wakes the owner if it waits. The waker is called under the lock, so that closing is a point after which none is
/// called; it must therefore not look into this inbox. It is dropped after the lock, for that may drop a whole task.
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
