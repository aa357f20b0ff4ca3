//! Admission: the node's machine, and the inbox of each admitted connection.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the node and its output buffer | the holder of the admission lock, for one step and its outputs |
//! | the inboxes of admitted connections, from admission to close | the same |
//!
//! **Lock order.** The admission lock may be taken while a slot's lock is held, never the other way round. Under the
//! admission lock, only inboxes are locked. The node's outputs for sessions are therefore dispatched after the
//! admission lock is released, by the caller of [`Admission::steer`]: see [`Undelivered`].
//!
//! * **SH-4** Admission is a step of the node, and an admitted connection is on the list before the lock is released.
//!   Draining is also a step, and it notifies every connection on the list in the same critical section. So earlier
//!   connections are notified, and later ones are refused.

use core::fmt;
use std::collections::BTreeMap;

use lockstep_model::gateway::routing::{self, FromNode, ToSessions};
use lockstep_model::node::{Input, Output};
use lockstep_model::{Bounds, Cause, ConnectionId, Handled, Mode, Node, gateway};

use super::Effects;
use super::handle::ConnectionInbox;
use super::sync::{Arc, Mutex, lock};
use super::watch::{Step, Taken};

/// Admits connections and tracks the admitted ones until they are closed.
pub struct Admission<P> {
    state: Mutex<State<P>>,
}

struct State<P> {
    node: Node,
    outputs: Vec<Output>,
    admitted: BTreeMap<ConnectionId, Arc<ConnectionInbox<P>>>,
    mark: u32,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The node refuses the connection with this cause.
    Refused(Cause),
    /// The id is in use, which is the caller's mistake.
    InUse,
}

/// What every session must still be told after a step of the node, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "sessions that are not told stay in the old mode"]
pub struct Undelivered(pub Vec<ToSessions>);

impl<P> Admission<P> {
    /// Creates the admission of a node that does not serve yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State { node: Node::new(), outputs: Vec::new(), admitted: BTreeMap::new(), mark: 0 };
        Self { state: Mutex::new(state) }
    }

    /// Admits a connection and keeps its inbox.
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
        let mut state = lock(&self.state);
        if state.admitted.contains_key(&id) {
            return Err(NotAdmitted::InUse);
        }
        let _ = state.take(bounds, Input::Accept, effects);
        let State { outputs, admitted, .. } = &mut *state;
        routing::admission(outputs.drain(..)).map_err(NotAdmitted::Refused)?;
        admitted.insert(id, inbox);
        Ok(())
    }

    /// Removes a closed connection. By the time the driver receives [`gateway::Output::Closed`], the connection can no
    /// longer be found and its id is free.
    pub fn leave(&self, bounds: &Bounds, id: ConnectionId, cause: Cause, effects: &impl Effects<P>) {
        let mut state = lock(&self.state);
        if state.admitted.remove(&id).is_some() {
            effects.apply(gateway::Output::Closed { connection: id, cause });
            state.count(bounds, Input::Closed, effects);
        }
    }

    /// Counts a session that opens, and returns the node's mode. Called while the lock of the session's slot is held.
    pub fn session_opens(&self, bounds: &Bounds, effects: &impl Effects<P>) -> Mode {
        let mut state = lock(&self.state);
        state.count(bounds, Input::SessionOpened, effects);
        state.node.mode()
    }

    /// Counts a session that retires, was abandoned, or has an open run that the node must await. Called while the lock
    /// of the session's slot is held.
    pub fn count(&self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) {
        lock(&self.state).count(bounds, input, effects);
    }

    /// Takes any other input of the node, and notifies the admitted connections. The caller must pass the returned
    /// notices to the sessions.
    pub fn steer(&self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) -> (Handled, Undelivered) {
        lock(&self.state).step(bounds, input, effects)
    }

    /// Returns the node's mode. Read while a slot's lock is held, it is never older than the mode that the slot was
    /// told.
    #[must_use]
    pub fn mode(&self) -> Mode {
        lock(&self.state).node.mode()
    }

    /// Returns a copy of the node's machine.
    #[must_use]
    pub fn node(&self) -> Node {
        lock(&self.state).node.clone()
    }

    /// Returns the inbox of an admitted connection.
    #[must_use]
    pub fn inbox(&self, id: ConnectionId) -> Option<Arc<ConnectionInbox<P>>> {
        lock(&self.state).admitted.get(&id).cloned()
    }
}

impl<P> State<P> {
    fn count(&mut self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) {
        let (_, undelivered) = self.step(bounds, input, effects);
        debug_assert_eq!(undelivered, Undelivered::default(), "a count changes no mode");
    }

    /// Steps the node. The caller dispatches the outputs.
    fn take(&mut self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) -> Handled {
        let Self { node, outputs, mark, .. } = self;
        effects.before(Step::Node { input, node, mark });
        let handled = node.step(bounds, input, outputs);
        effects.after(Taken::Node { handled, outputs, node });
        handled
    }

    fn step(&mut self, bounds: &Bounds, input: Input, effects: &impl Effects<P>) -> (Handled, Undelivered) {
        let mut undelivered = Undelivered::default();
        let handled = self.take(bounds, input, effects);
        let Self { outputs, admitted, .. } = self;
        for output in outputs.drain(..) {
            let FromNode { driver, connections, sessions } = routing::node(output);
            if let Some(output) = driver {
                effects.apply(output);
            }
            if let Some(notice) = connections {
                admitted.values().for_each(|inbox| inbox.notify(notice));
            }
            if let Some(sessions) = sessions {
                undelivered.0.push(sessions);
            }
        }
        (handled, undelivered)
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
