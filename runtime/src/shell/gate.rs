//! The admission gate: the node's machine, and the mailbox of each connection that it admitted.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the node and its order buffer | whoever holds the gate's lock, for one step and its orders |
//! | the mailboxes of the admitted, from admission to close | the same |
//!
//! **Lock order.** The gate's lock may be taken under a cell's, never the other way round: under it only mailboxes are
//! locked. So what the node orders for sessions is done after the gate's lock is released, by whoever steered it:
//! [`Told`].
//!
//! * **SH-4** Admission is a step of the node, and who is admitted is on the list before the lock is released. Draining
//!   is a step too, and tells everybody on the list in the same critical section. So who came before is told, and who
//!   comes after is refused.

use core::fmt;
use std::collections::BTreeMap;

use lockstep_model::node::{Input, Output};
use lockstep_model::{Bounds, Cause, ConnectionId, Handled, Mode, Node, Successor, gateway};

use super::Effects;
use super::mailbox::Notice;
use super::port::Inbox;
use super::sync::{Arc, Mutex, lock};
use super::watch::{Step, Taken};

/// Admits connections, and knows the admitted until they are closed.
pub struct Gate<P> {
    inside: Mutex<Inside<P>>,
}

struct Inside<P> {
    node: Node,
    orders: Vec<Output>,
    admitted: BTreeMap<ConnectionId, Arc<Inbox<P>>>,
    mark: u32,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The node does not want it, for this cause.
    Refused(Cause),
    /// The id is in use: the caller is at fault.
    InUse,
}

/// What is left to be told to every session after a step of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "sessions that are not told stay in the old mode"]
pub struct Told {
    /// The mode has changed. When every session knows, the node is told so ([`Input::Announced`]).
    pub mode: bool,
    /// The node leaves.
    pub leave: Option<Successor>,
    /// The time for draining is over.
    pub stop: bool,
}

impl<P> Gate<P> {
    /// The gate of a node that does not serve yet.
    #[must_use]
    pub fn new() -> Self {
        let inside = Inside { node: Node::new(), orders: Vec::new(), admitted: BTreeMap::new(), mark: 0 };
        Self { inside: Mutex::new(inside) }
    }

    /// Admits a connection and keeps its mailbox, or says why not.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`]; nothing has changed then.
    pub fn admit(
        &self,
        bounds: &Bounds,
        id: ConnectionId,
        inbox: Arc<Inbox<P>>,
        effects: &impl Effects<P>,
    ) -> Result<(), NotAdmitted> {
        let mut inside = lock(&self.inside);
        if inside.admitted.contains_key(&id) {
            return Err(NotAdmitted::InUse);
        }
        let _ = inside.take(bounds, Input::Accept, effects);
        let Inside { orders, admitted, .. } = &mut *inside;
        let refused = orders.drain(..).find_map(|order| match order {
            Output::Refuse(cause) => Some(NotAdmitted::Refused(cause)),
            Output::Admit
            | Output::Probe
            | Output::Announce(_)
            | Output::Leave(_)
            | Output::Stop
            | Output::Released
            | Output::Stopped
            | Output::Arm(..)
            | Output::Disarm(_) => None,
        });
        refused.map_or_else(
            || {
                admitted.insert(id, inbox);
                Ok(())
            },
            Err,
        )
    }

    /// A connection is closed. The driver hears of it when the connection is gone: whoever then looks finds nobody, and
    /// the id is free.
    pub fn leave(&self, bounds: &Bounds, id: ConnectionId, cause: Cause, effects: &impl Effects<P>) {
        let mut inside = lock(&self.inside);
        if inside.admitted.remove(&id).is_some() {
            effects.apply(gateway::Output::Closed { connection: id, cause });
            inside.count(bounds, Input::Closed, effects);
        }
    }

    /// A session opens: it is counted, and told what the node admits. Called under the lock of the session's cell.
    pub fn session_opens(&self, bounds: &Bounds, effects: &impl Effects<P>) -> Mode {
        let mut inside = lock(&self.inside);
        inside.count(bounds, Input::SessionOpened, effects);
        inside.node.mode()
    }

    /// A session has an open run, which the node is to await. Called under the lock of its cell.
    pub fn session_busy(&self, bounds: &Bounds, effects: &impl Effects<P>) {
        lock(&self.inside).count(bounds, Input::SessionBusy, effects);
    }

    /// A session has retired, or was abandoned. Called under the lock of its cell.
    pub fn session_ends(&self, bounds: &Bounds, effects: &impl Effects<P>) {
        lock(&self.inside).count(bounds, Input::SessionRetired, effects);
    }

    /// Takes an input of the node that is none of the above, and tells the admitted what they must know. What is left to
    /// be told to the sessions is the caller's to do.
    pub fn steer(&self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) -> (Handled, Told) {
        lock(&self.inside).step(bounds, input, effects)
    }

    /// What the node admits. Read under a cell's lock, it is never older than what that cell was told.
    #[must_use]
    pub fn mode(&self) -> Mode {
        lock(&self.inside).node.mode()
    }

    /// A copy of the node's machine, to be looked at.
    #[must_use]
    pub fn node(&self) -> Node {
        lock(&self.inside).node.clone()
    }

    /// The mailbox of an admitted connection.
    #[must_use]
    pub fn inbox(&self, id: ConnectionId) -> Option<Arc<Inbox<P>>> {
        lock(&self.inside).admitted.get(&id).cloned()
    }
}

impl<P> Inside<P> {
    fn count(&mut self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) {
        let (_, told) = self.step(bounds, input, effects);
        debug_assert_eq!(told, Told::default(), "a count changes no mode");
    }

    /// Takes the node's step; its orders are the caller's to carry out.
    fn take(&mut self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) -> Handled {
        let Self { node, orders, mark, .. } = self;
        effects.before(Step::Node { input, node, mark });
        let handled = node.step(bounds, input, orders);
        effects.after(Taken::Node { handled, orders, node });
        handled
    }

    fn step(&mut self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) -> (Handled, Told) {
        let mut told = Told::default();
        let handled = self.take(bounds, input, effects);
        let Self { orders, admitted, .. } = self;
        let tell = |notice| admitted.values().for_each(|inbox| inbox.notify(notice));
        for order in orders.drain(..) {
            match order {
                Output::Announce(mode) => {
                    told.mode = true;
                    if mode == Mode::Draining {
                        tell(Notice::Drain);
                    }
                }
                Output::Leave(successor) => {
                    told.leave = Some(successor);
                    effects.apply(gateway::Output::Leaving);
                }
                Output::Stop => {
                    told.stop = true;
                    tell(Notice::Stop);
                }
                Output::Probe => effects.apply(gateway::Output::Probe),
                Output::Released => effects.apply(gateway::Output::Released),
                Output::Stopped => effects.apply(gateway::Output::Stopped),
                Output::Arm(timer, after) => effects.apply(gateway::Output::Arm(gateway::Place::Node, timer, after)),
                Output::Disarm(timer) => effects.apply(gateway::Output::Disarm(gateway::Place::Node, timer)),
                Output::Admit | Output::Refuse(_) => debug_assert!(false, "answers to an admission"),
            }
        }
        (handled, told)
    }
}

impl<P> Default for Gate<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> fmt::Debug for Gate<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
