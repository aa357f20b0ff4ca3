//! The gateway machine, called by one thread: the specification of the histories.

use lockstep_model::connection;
use lockstep_model::frame::{Request, Resume};
use lockstep_model::session;
use lockstep_model::{
    Bounds, ConnectionId, CredentialId, Frame, Gateway, Generation, Handled, Refusal, Session, gateway, node,
};
use stateright::semantics::SequentialSpec;

use super::USER;

/// A user's session, as a thread saw it.
pub type Seen = (Generation, Box<Session<u8>>);

/// A call of a gateway.
#[derive(Clone, Debug)]
pub enum Call {
    /// A connection opens and presents its credential.
    Connect(ConnectionId),
    /// An input for a connection.
    Connection(ConnectionId, connection::Input<u8>),
    /// A connection's socket can take frames.
    Pull(ConnectionId),
    /// An input for the session of this generation.
    Session(Generation, session::Input<u8>),
    /// A credential is revoked.
    Revoke(CredentialId),
    /// The session is read.
    Look,
}

/// A gateway's answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Call::Connect`] and [`Call::Revoke`].
    Done,
    /// To [`Call::Connection`].
    Handled(Handled),
    /// To [`Call::Session`].
    Session(Result<Handled, Refusal>),
    /// To [`Call::Pull`].
    Frames(Vec<Frame<u8>>),
    /// To [`Call::Look`].
    Seen(Option<Seen>),
}

/// The fence is not compared: in the core, it falls a moment after the verdict that it waited for, and admits nothing
/// more in between.
impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        let outline = |session: &Session<u8>| {
            let (members, stream) = (session.members().clone(), session.stream().cloned());
            let memory = (session.known().clone(), session.unsettled().clone(), *session.breaker());
            (session.user(), session.state(), session.mode(), members, stream, session.runs().clone(), memory)
        };
        match (self, other) {
            (Self::Done, Self::Done) | (Self::Seen(None), Self::Seen(None)) => true,
            (Self::Handled(one), Self::Handled(other)) => one == other,
            (Self::Session(one), Self::Session(other)) => one == other,
            (Self::Frames(one), Self::Frames(other)) => one == other,
            (Self::Seen(Some((of, one))), Self::Seen(Some((than, other)))) => {
                of == than && outline(one) == outline(other)
            }
            (Self::Done | Self::Handled(_) | Self::Session(_) | Self::Frames(_) | Self::Seen(_), _) => false,
        }
    }
}

/// The maximum number of frames of a pull.
pub const BUDGET: usize = 4;

/// The sequential machine.
#[derive(Clone, Debug)]
pub struct Sequential(Gateway<u8>);

impl Sequential {
    /// Creates a gateway whose node serves.
    #[must_use]
    pub fn ready() -> Self {
        let mut sequential = Self(Gateway::new());
        let _ = sequential.step(gateway::Input::Node(node::Input::Started));
        sequential
    }

    fn step(&mut self, input: gateway::Input<u8>) -> (Result<Handled, Refusal>, Vec<gateway::Output<u8>>) {
        let mut outputs = gateway::Outputs::new();
        let handled = self.0.step(&Bounds::DEFAULT, input, &mut outputs);
        (handled, outputs.list)
    }
}

impl SequentialSpec for Sequential {
    type Op = Call;
    type Ret = Answer;

    fn invoke(&mut self, call: &Call) -> Answer {
        match call.clone() {
            Call::Connect(connection) => {
                let _ = self.step(gateway::Input::Accept { connection });
                for input in connecting() {
                    let _ = self.step(gateway::Input::Connection { connection, input });
                }
                Answer::Done
            }
            Call::Connection(connection, input) => {
                let (handled, _) = self.step(gateway::Input::Connection { connection, input });
                Answer::Handled(handled.unwrap_or(Handled::Ignored))
            }
            Call::Pull(connection) => {
                let (_, outputs) = self.step(gateway::Input::Pull { connection, budget: BUDGET });
                let frames = outputs.into_iter().filter_map(|output| match output {
                    gateway::Output::Send { frame, .. } => Some(frame),
                    gateway::Output::Refused { .. }
                    | gateway::Output::Verify { .. }
                    | gateway::Output::Wake { .. }
                    | gateway::Output::Closed { .. }
                    | gateway::Output::Relay { .. }
                    | gateway::Output::Session { .. }
                    | gateway::Output::Probe
                    | gateway::Output::Leaving
                    | gateway::Output::Released
                    | gateway::Output::Stopped
                    | gateway::Output::Arm(..)
                    | gateway::Output::Disarm(..) => None,
                });
                Answer::Frames(frames.collect())
            }
            Call::Session(generation, input) => {
                Answer::Session(self.step(gateway::Input::Session { user: USER, generation, input }).0)
            }
            Call::Revoke(credential) => {
                let _ = self.step(gateway::Input::Revoke { user: USER, credential: Some(credential) });
                Answer::Done
            }
            Call::Look => {
                Answer::Seen(self.0.slots().get(&USER).map(|slot| (slot.generation, Box::new(slot.session.clone()))))
            }
        }
    }
}

fn connecting() -> [connection::Input<u8>; 2] {
    let auth = Request::Auth { token: 0, resume: Resume::default() };
    [connection::Input::Opened, connection::Input::Received(auth)]
}
