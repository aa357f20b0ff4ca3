//! The mailbox: what others have for a connection's task, and how that task is woken.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the items: bounded, in the order of posting | anybody posts; the owner takes |
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
//!   something and waking. Nobody is woken after [`Mailbox::close`] has returned.
//! * **SH-6** At most [`Mailbox::bound`] items wait, and one more for each slot, so that an open mailbox has room for what
//!   must not be lost, whatever others have posted. Closing returns those that were accepted, and accepts no more.

use core::fmt;
use core::num::NonZeroUsize;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;

use super::sync::{Mutex, MutexGuard, lock};

/// What can wait in a mailbox.
pub trait Item {
    /// The place that is kept for items of this kind, of which one waits at a time; `None` for those that share the bound.
    fn slot(&self) -> Option<u8> {
        None
    }

    /// Whether the owner needs this item and not the one that waits in its slot. Otherwise it needs the waiting one alone.
    fn supersedes(&self, _waiting: &Self) -> bool {
        false
    }
}

/// What others have for the owner of a mailbox: items of type `L`, and something of type `H` that is handed over once.
pub struct Mailbox<L, H> {
    bound: NonZeroUsize,
    state: Mutex<State<L, H>>,
}

struct State<L, H> {
    mail: Mail<L, H>,
    /// Items that have no slot.
    sharing: usize,
    closed: bool,
    waker: Option<Waker>,
}

/// What the owner finds.
#[derive(Debug)]
pub struct Mail<L, H> {
    /// Items, in the order of posting.
    pub items: VecDeque<L>,
    /// What was handed over.
    pub handed: Option<H>,
    /// Whether there is something to pull.
    pub signal: bool,
    /// The gravest thing that the node has to say since the last look.
    pub notice: Option<Notice>,
}

/// What a node tells each connection that it admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// It is draining.
    Drain,
    /// The time for draining is over.
    Stop,
}

/// Why an item was not accepted. It comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered<L> {
    /// As many items without a slot wait as may.
    Full(L),
    /// The mailbox is closed.
    Closed(L),
}

impl<L: Item, H> Mailbox<L, H> {
    /// An open, empty mailbox in which at most `bound` items wait.
    #[must_use]
    pub fn new(bound: NonZeroUsize) -> Self {
        Self { bound, state: Mutex::new(State { mail: Mail::default(), sharing: 0, closed: false, waker: None }) }
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
    /// The item, if the mailbox is closed, or full and the item has no slot.
    pub fn post(&self, item: L) -> Result<(), Undelivered<L>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Undelivered::Closed(item));
        }
        let slot = item.slot();
        if slot.is_some() {
            let waiting = state.mail.items.iter().position(|waiting| waiting.slot() == slot);
            if let Some(waiting) = waiting {
                if !item.supersedes(&state.mail.items[waiting]) {
                    return Ok(());
                }
                state.mail.items.remove(waiting);
            }
        } else if state.sharing >= self.bound.get() {
            return Err(Undelivered::Full(item));
        } else {
            state.sharing += 1;
        }
        state.mail.items.push_back(item);
        wake(state);
        Ok(())
    }

    /// Says that there is something to pull, and wakes the owner. Nothing happens if the mailbox is closed.
    pub fn signal(&self) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.mail.signal = true;
            wake(state);
        }
    }

    /// Says what the node has to say, and wakes the owner. Nothing happens if the mailbox is closed.
    pub fn notify(&self, notice: Notice) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.mail.notice = state.mail.notice.max(Some(notice));
            wake(state);
        }
    }

    /// Hands something over for good, and wakes the owner. A closed mailbox drops it.
    pub fn hand_over(&self, thing: H) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.mail.handed = Some(thing);
            wake(state);
        }
    }

    /// Takes what was handed over. For the owner, when it knows that something was.
    pub fn take_handed(&self) -> Option<H> {
        lock(&self.state).mail.handed.take()
    }

    /// Takes all that is there into `mail`, which must be empty; if nothing is, leaves the owner's waker. For the owner.
    ///
    /// A closed mailbox stays empty and wakes nobody.
    pub fn poll(&self, context: &Context<'_>, mail: &mut Mail<L, H>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.mail.is_empty() {
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
        core::mem::swap(&mut state.mail, mail);
        state.sharing = 0;
        Poll::Ready(())
    }

    /// Accepts nothing any more, and returns all that was accepted and not taken. For the owner.
    pub fn close(&self) -> Mail<L, H> {
        let mut state = lock(&self.state);
        state.closed = true;
        let waker = state.waker.take();
        let rest = core::mem::take(&mut state.mail);
        drop(state);
        drop(waker);
        rest
    }
}

/// Wakes the owner if it waits. The waker is called under the lock, so that closing is a point after which none is
/// called; it must therefore not look into this mailbox. It is dropped after the lock, for that may drop a whole task.
fn wake<L, H>(mut state: MutexGuard<'_, State<L, H>>) {
    let waker = state.waker.take();
    if let Some(waker) = &waker {
        waker.wake_by_ref();
    }
    drop(state);
    drop(waker);
}

impl<L, H> Mail<L, H> {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.handed.is_none() && !self.signal && self.notice.is_none()
    }
}

impl<L, H> Default for Mail<L, H> {
    fn default() -> Self {
        Self { items: VecDeque::new(), handed: None, signal: false, notice: None }
    }
}

impl<L, H> fmt::Debug for Mailbox<L, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("bound", &self.bound).finish_non_exhaustive()
    }
}
