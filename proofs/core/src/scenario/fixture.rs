//! The complete core with the real machines, at a small size.

use std::num::NonZeroUsize;
use std::time::Duration;

use lockstep_model::connection::{self, State};
use lockstep_model::fence::Scope;
use lockstep_model::frame::{Request, Resume};
use lockstep_model::run;
use lockstep_model::session;
use lockstep_model::stream::Snapshot;
use lockstep_model::timer::Owner;
use lockstep_model::{
    BatchId, Bounds, ConnectionId, CredentialId, Epoch, FencingToken, Frame, Generation, Grant, Handled, Lifetime,
    MessageId, Mode, Offset, Refusal, RevocationGeneration, RunId, Session, Tenure, ThreadId, Timer, UserId, Verdict,
    VerificationId, gateway, node,
};

use super::core::{ConnectionHandle, Core, Effects, Fault};
use super::park::Parker;
use super::sync::{Arc, Mutex, lock};

/// The only user of a small fixture.
pub const USER: UserId = UserId(7);

/// Records writes to the log, closed connections, and that the node has released the log and stopped. Scenarios do
/// everything else themselves, because every lock that is not needed would multiply the interleavings.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<gateway::Output<u8>>>, Mutex<usize>);

impl Recorder {
    /// Returns the recorded outputs, in order.
    pub fn outputs(&self) -> Vec<gateway::Output<u8>> {
        lock(&self.0).clone()
    }

    /// Returns how many sessions have become quiet since the last call.
    pub fn quiet_sessions(&self) -> usize {
        core::mem::take(&mut *lock(&self.1))
    }
}

impl Effects<u8> for Recorder {
    fn apply(&self, output: gateway::Output<u8>) {
        match output {
            gateway::Output::Session { output: gateway::SessionOutput::Write { .. }, .. }
            | gateway::Output::Closed { .. }
            | gateway::Output::Released
            | gateway::Output::Stopped => {
                lock(&self.0).push(output);
            }
            gateway::Output::Session { .. }
            | gateway::Output::Relay { .. }
            | gateway::Output::Leaving
            | gateway::Output::Arm(..)
            | gateway::Output::Disarm(..)
            | gateway::Output::Verify { .. } => {}
            gateway::Output::Refused { .. }
            | gateway::Output::Wake { .. }
            | gateway::Output::Send { .. }
            | gateway::Output::Probe => panic!("not for a driver: {output:?}"),
        }
    }

    fn quiet(&self) {
        *lock(&self.1) += 1;
    }

    fn fault(&self, _: UserId, _: Generation, fault: Fault) {
        // The panic is a scenario's assertion, and is propagating.
        assert_eq!(fault, Fault::Panicked, "a session broke");
    }
}

/// A core, with helpers that act as the gateway around it.
#[derive(Clone, Debug)]
pub struct Fixture(pub Arc<Core<u8, Recorder>>);

/// The handle of a connection of a fixture.
pub type Client = ConnectionHandle<u8, Recorder>;

impl Fixture {
    /// Opens a node that is ready, with one shard.
    #[must_use]
    pub fn open(bounds: Bounds) -> Self {
        let core = Core::with_shards(bounds, Recorder::default(), NonZeroUsize::MIN);
        let fixture = Self(Arc::new(core));
        fixture.steer(node::Input::Started);
        fixture
    }

    /// Steers the node.
    pub fn steer(&self, input: node::Input) {
        assert!(self.0.steer(input).is_ok(), "not the core's own: {input:?}");
    }

    /// Opens a connection that presents a credential, if the node admits it.
    #[must_use]
    pub fn connect(&self, id: u64) -> Option<Client> {
        let mut handle = ConnectionHandle::accept(&self.0, ConnectionId(id)).ok()?;
        let _ = handle.step(connection::Input::Opened);
        let auth = Request::Auth { token: 0, resume: Resume::default() };
        let _ = handle.step(connection::Input::Received(auth));
        Some(handle)
    }

    /// Opens a connection whose credential is verified. The credential has the connection's number.
    #[must_use]
    pub fn join(&self, id: u64) -> Option<Client> {
        let mut handle = self.connect(id)?;
        let _ = handle.step(verdict(id));
        Some(handle)
    }

    /// Reads the user's session and its generation, after checking the session's invariants.
    pub fn look<R>(&self, look: impl FnOnce(Generation, &Session<u8>) -> R) -> Option<R> {
        self.0.look(USER, |generation, session| {
            assert_eq!(session.check(self.0.bounds()), Ok(()), "a session is not sound");
            look(generation, session)
        })
    }

    /// Returns the user's live connections, and whether each was told to leave.
    #[must_use]
    pub fn members(&self) -> Vec<(ConnectionId, bool)> {
        let draining = |state: &State<u8>| matches!(state, State::Draining);
        self.look(|_, session| {
            session.members().iter().map(|(id, member)| (*id, draining(member.connection.state()))).collect()
        })
        .unwrap_or_default()
    }

    /// Returns the generation of the user's session.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.look(|generation, _| generation).expect("the user has a session")
    }

    /// Steps the user's current session.
    pub fn session(&self, input: session::Input<u8>) -> Result<Handled, Refusal> {
        self.0.session(USER, self.generation(), input)
    }

    /// The log returns an empty stream.
    pub fn restore(&self) {
        let seeking = self.look(|_, session| session.ownership().seeking());
        let Some(Some((attempt, _))) = seeking else { return };
        let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
        let _ = self.session(session::Input::Restored { attempt, snapshot });
    }

    /// Leaves the user with a session that has no connection and may retire.
    pub fn vacate(&self) {
        drop(self.join(99));
        self.restore();
    }

    /// The user's linger timer of this generation fires.
    pub fn linger(&self, generation: Generation) {
        let _ = self.0.session(USER, generation, session::Input::Expired(Owner::Session, Timer::Linger));
    }

    /// The user's credential with this number is revoked.
    pub fn revoke(&self, credential: u64) {
        self.revoke_as(credential, self.0.revokes());
    }

    /// The same, after the revocation has been given its generation.
    pub fn revoke_as(&self, credential: u64, generation: RevocationGeneration) {
        self.0.revoke(USER, Scope::One(CredentialId(credential), generation));
    }

    /// A client sends a message, and the run with this number starts.
    pub fn start(&self, client: &mut Client, run: u64) {
        let message = Request::Message {
            message: MessageId(run),
            thread: ThreadId(run),
            run: RunId(run),
            payload: 0,
            repeat: false,
            replaces: None,
        };
        let _ = client.step(connection::Input::Received(message));
        self.persist();
        let started = session::Input::Run { run: RunId(run), input: run::Input::Start, payload: None };
        assert!(self.session(started).is_ok(), "a run that was just accepted starts");
        self.persist();
    }

    /// The agent of a run emits a thought with this payload.
    pub fn think(&self, generation: Generation, run: u64, payload: u8) {
        let input = session::Input::Run { run: RunId(run), input: run::Input::Think, payload: Some(payload) };
        let emitted = self.0.session(USER, generation, input);
        assert!(emitted.is_ok(), "the run is open, and the log not behind: {emitted:?}");
    }

    /// The log takes all pending events, one after another.
    pub fn persist(&self) {
        while self.look(|_, session| session.stream().is_some_and(|stream| !stream.pending().is_empty())) == Some(true)
        {
            let (batch, head) = self.log();
            self.confirm(self.generation(), batch, Offset(head.0 + 1));
        }
    }

    /// The log confirms one event.
    pub fn confirm(&self, generation: Generation, batch: BatchId, offset: Offset) {
        let _ = self.0.session(USER, generation, session::Input::Persisted { batch, offset, record: None });
    }

    /// Returns the generation that a confirmation must quote, and the log's head.
    #[must_use]
    pub fn log(&self) -> (BatchId, Offset) {
        let log = self.look(|_, session| session.stream().map(|stream| (stream.batch(), stream.head())));
        log.flatten().expect("the stream is there")
    }

    /// Returns the node's mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.node().mode()
    }
}

/// Pulls until the connection has nothing more.
pub fn pull(client: &mut Client, frames: &mut Vec<Frame<u8>>) {
    while client.pull(4, frames) == 4 {}
}

/// Serves a connection until it is closed, or until `done` holds for the frames that it has read. The peer answers our
/// close at once.
pub fn serve(client: &mut Client, parker: &Arc<Parker>, done: impl Fn(&[Frame<u8>]) -> bool) -> Vec<Frame<u8>> {
    let mut frames = Vec::new();
    loop {
        pull(client, &mut frames);
        if let Some(Frame::Close(cause)) = frames.last() {
            let cause = *cause;
            let _ = client.step(connection::Input::Gone(cause));
        }
        if done(&frames) || client.closed().is_some() {
            return frames;
        }
        parker.block_on(|context| client.poll(context));
    }
}

/// The verifier accepts the credential with this number.
#[must_use]
pub fn verdict(credential: u64) -> connection::Input<u8> {
    let credential = CredentialId(credential);
    let grant = Grant { user: USER, credential, generation: RevocationGeneration(0) };
    let lifetime = Lifetime::new(Duration::from_secs(60)).expect("not zero");
    connection::Input::Verdict { attempt: VerificationId(1), verdict: Verdict::Valid { grant, lifetime } }
}
