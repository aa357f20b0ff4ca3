//! The driver's interface to the core, and the state that all slots of a process share.

use lockstep_model::fence::Verifications;
use lockstep_model::{Bounds, ConnectionId, Generation, UserId, VerificationId, gateway};

use super::admission::Admission;
use super::slot::Fault;
use super::sync::{Mutex, lock};
use super::watch;

/// How the driver executes outputs. Called under locks of the core, so implementations must not block and must not call
/// the core. They push into bounded queues for the log, the verifier, the timers and the agents, whose tasks do the
/// work.
///
/// The outputs of one session, one connection or the node arrive in the order of the steps that emitted them (SH-2).
pub trait Effects<P> {
    /// Executes one output. [`gateway::Output::Wake`], [`gateway::Output::Send`] and [`gateway::Output::Refused`] never
    /// occur: the first two go through a connection's inbox and its handle, the third is returned by
    /// [`ConnectionHandle::accept`](super::ConnectionHandle::accept).
    fn apply(&self, output: gateway::Output<P>);

    /// A session's runs have ended in a node that awaits them. The driver must call
    /// [`Core::settle_quiet`](super::Core::settle_quiet) soon, from outside the core.
    fn quiet(&self);

    /// A session broke an invariant or panicked, which is our bug and must be reported. Its connections are closing
    /// with 1011. Its next generation starts from the log.
    fn fault(&self, user: UserId, generation: Generation, fault: Fault);

    /// A step is about to be taken; for traces. See [`watch`].
    fn before(&self, _: watch::Step<'_, P>) {}

    /// The step was taken, and none of its outputs has been dispatched yet.
    fn after(&self, _: watch::Taken<'_, P>) {}
}

/// The state that all slots of a process share.
pub(crate) struct Shared<P, E> {
    pub(super) bounds: Bounds,
    pub(super) admission: Admission<P>,
    pub(super) verifications: Mutex<Verifications>,
    pub(super) effects: E,
}

impl<P, E: Effects<P>> Shared<P, E> {
    /// Starts the verification of a credential. Called after the step of the connection's machine that asked for it,
    /// before the next step of that machine.
    pub(super) fn verify(&self, connection: ConnectionId, attempt: VerificationId, token: P) {
        let generation = lock(&self.verifications).begin(connection);
        self.effects.apply(gateway::Output::Verify { connection, attempt, token, generation });
    }
}
