//! The admission admission: the node's machine, and the inbox of each connection that it admitted.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the node and its order buffer | whoever holds the admission's lock, for one step and its orders |
//! | the inboxes of the admitted, from admission to close | the same |
//!
//! **Lock order.** The admission's lock may be taken under a slot's, never the other way round: under it only inboxes are
//! locked. So what the node orders for sessions is done after the admission's lock is released, by whoever steered it:
//! [`Told`].
//!
//! * **SH-4** Admission is a step of the node, and who is admitted is on the list before the lock is released. Draining
//!   is a step too, and tells everybody on the list in the same critical section. So who came before is told, and who
//!   comes after is refused.

use core::fmt;
use std::collections::BTreeMap;

use lockstep_model::gateway::routing::{self, FromNode, ToSessions};
use lockstep_model::node::{Input, Output};
use lockstep_model::{Bounds, Cause, ConnectionId, Handled, Mode, Node, gateway};

use super::Effects;
use super::handle::ConnectionInbox;
use super::sync::{Arc, Mutex, lock};
use super::watch::{Step, Taken};

/// Admits connections, and knows the admitted until they are closed.
pub struct Admission<P> {
    inside: Mutex<Inside<P>>,
}

struct Inside<P> {
    node: Node,
    orders: Vec<Output>,
    admitted: BTreeMap<ConnectionId, Arc<ConnectionInbox<P>>>,
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

/// What every session must still be told after a step of the node, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "sessions that are not told stay in the old mode"]
pub struct Told(pub Vec<ToSessions>);

impl<P> Admission<P> {
    /// The admission of a node that does not serve yet.
    #[must_use]
    pub fn new() -> Self {
        let inside = Inside { node: Node::new(), orders: Vec::new(), admitted: BTreeMap::new(), mark: 0 };
        Self { inside: Mutex::new(inside) }
    }

    /// Admits a connection and keeps its inbox, or says why not.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`]; nothing has changed then.
    pub fn admit(
        &self,
        bounds: &Bounds,
        id: ConnectionId,
        inbox: Arc<ConnectionInbox<P>>,
        effects: &impl Effects<P>,
    ) -> Result<(), NotAdmitted> {
        let mut inside = lock(&self.inside);
        if inside.admitted.contains_key(&id) {
            return Err(NotAdmitted::InUse);
        }
        let _ = inside.take(bounds, Input::Accept, effects);
        let Inside { orders, admitted, .. } = &mut *inside;
        routing::admission(orders.drain(..)).map_err(NotAdmitted::Refused)?;
        admitted.insert(id, inbox);
        Ok(())
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

    /// A session opens: it is counted, and told what the node admits. Called under the lock of the session's slot.
    pub fn session_opens(&self, bounds: &Bounds, effects: &impl Effects<P>) -> Mode {
        let mut inside = lock(&self.inside);
        inside.count(bounds, Input::SessionOpened, effects);
        inside.node.mode()
    }

    /// A session retires, was abandoned, or has an open run that the node must await. Called while its slot's lock is held.
    pub fn count(&self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) {
        lock(&self.inside).count(bounds, input, effects);
    }

    /// Takes an input of the node that is none of the above, and tells the admitted what they must know. What is left to
    /// be told to the sessions is the caller's to do.
    pub fn steer(&self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) -> (Handled, Told) {
        lock(&self.inside).step(bounds, input, effects)
    }

    /// What the node admits. Read under a slot's lock, it is never older than what that slot was told.
    #[must_use]
    pub fn mode(&self) -> Mode {
        lock(&self.inside).node.mode()
    }

    /// A copy of the node's machine, to be looked at.
    #[must_use]
    pub fn node(&self) -> Node {
        lock(&self.inside).node.clone()
    }

    /// The inbox of an admitted connection.
    #[must_use]
    pub fn inbox(&self, id: ConnectionId) -> Option<Arc<ConnectionInbox<P>>> {
        lock(&self.inside).admitted.get(&id).cloned()
    }
}

impl<P> Inside<P> {
    fn count(&mut self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) {
        let (_, told) = self.step(bounds, input, effects);
        debug_assert_eq!(told, Told::default(), "a count changes no mode");
    }

    /// Takes the node's step; its orders are the caller's to dispatch out.
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
        for output in orders.drain(..) {
            let FromNode { driver, connections, sessions } = routing::node(output);
            if let Some(output) = driver {
                effects.apply(output);
            }
            if let Some(notice) = connections {
                admitted.values().for_each(|inbox| inbox.notify(notice));
            }
            if let Some(sessions) = sessions {
                told.0.push(sessions);
            }
        }
        (handled, told)
    }
}

impl<P> Default for Admission<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> fmt::Debug for Admission<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}
