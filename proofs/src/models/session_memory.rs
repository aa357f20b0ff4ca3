//! One session ([`lockstep_model::session`]) and its memory of revocations, failures and messages.
//!
//! Explores revocations of all credentials and of single ones, while old and new credentials join, are renewed and
//! leave; runs that end in every possible way, one after the other; modes and a drain; the timers of breaker and
//! lingering at any moment, and the end of all verifications that began before any of the revocations. A grant may be
//! of any generation up to the present one, because its verification may have begun that long ago. A message may be
//! repeated, even while nothing is admitted: by then its run may be open, over, or out of the stream.
//!
//! The environment is restricted as follows. The log answers a restore late, or fails it and is asked again. It answers
//! a write at once; the worlds cover late answers. Every frame is read at once. A connection that joins names no
//! position, and may replace the first. A session does not check runs against a fence or grants against its breaker, so
//! messages come while nothing is revoked, and revocations come before the first message. Meanwhile the node may refuse
//! new connections.
//!
//! The log has one message at first, which ran twice and was interrupted twice by crashes. Nothing of its first run can
//! still be read. A log that failed the first restore has lost even that. Run ids decrease from message to message, so
//! that no result depends on ids being in order.
//!
//! The oracle keeps the revocations since the fence was last lowered, the failures since the last success, and the
//! number of events, as lists and numbers. It derives from them which members are admitted, what each is told, and
//! which timers are armed again.

mod chart;
mod environment;
mod step;

use lockstep_model::auth::{Grant, Verdict};
use lockstep_model::session::{Outputs, Session, State as Phase};
use lockstep_model::tenure::Request;
use lockstep_model::{
    AcquisitionId, Bounds, Cause, Code, ConnectionId, CredentialId, Mode, Offset, RevocationGeneration, RunId, Scope,
    Timer, UserId,
};

use crate::engine::profile::Profile;
use crate::models::harness::{Armed, checked, lifetime, small};

/// The model.
#[derive(Clone, Debug)]
pub struct SessionMemory {
    bounds: Bounds,
    joins: u64,
    renewals: u8,
    generations: u32,
    messages: u64,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> SessionMemory {
    let (joins, renewals, generations, messages) = match profile {
        Profile::Quick => (2, 1, 2, 3),
        Profile::Ci => (2, 1, 2, 4),
        Profile::Deep => (3, 1, 2, 5),
    };
    let bounds = Bounds { connections: 3, runs: 2, pending: 6, retained: 2, outbox: 4, requests: 0, ..small() };
    SessionMemory { bounds, joins, renewals, generations, messages }
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The agent completes it.
    Completed,
    /// The agent gives up.
    Failed,
    /// The agent's handle is dropped.
    Abandoned,
    /// The agent is silent for too long.
    Silent,
    /// The user cancels.
    Cancelled,
}

/// An action of the adversary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The log restores the stream.
    Restored,
    /// The log fails to.
    NotRestored,
    /// A connection with this grant joins.
    Join(u64, u32),
    /// A connection presents another credential, with this verdict.
    Renew(ConnectionId, u64, u32),
    /// A connection is gone.
    Leave(ConnectionId),
    /// The user sends a message.
    Send,
    /// A message is repeated.
    Repeat(u64),
    /// A message's run is cancelled, after its end.
    Cancel(u64),
    /// The node admits no runs, or does again.
    Mode(Mode),
    /// A run ends.
    End(RunId, End),
    /// Credentials are revoked.
    Revoke(Scope),
    /// All verifications that began before this generation have ended.
    Verified(u32),
    /// A timer of the session fires.
    Expired(Timer),
}

/// A session and its oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    session: Session<u8>,
    armed: Armed,
    /// How often the log was asked for the stream.
    asked: u32,
    /// The generation of the newest revocation.
    generation: u32,
    /// Since the fence was last lowered: the newest revocation, the newest one of all credentials, and the single ones.
    raised: Option<u32>,
    oldest: Option<u32>,
    single: Vec<u64>,
    mode: Mode,
    /// The expected members with their grants.
    members: Vec<Member>,
    /// The number of events.
    events: u64,
    /// Where each message's run began.
    begun: Vec<u64>,
    joins: u64,
    renewals: u8,
    messages: u64,
    runs: Vec<RunId>,
    /// Failures since the last success, or since the breaker was open.
    failures: u8,
    open: bool,
    retired: bool,
    broken: Option<&'static str>,
}

/// An expected member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Member {
    id: ConnectionId,
    credential: u64,
    generation: u32,
}

const USER: UserId = UserId(7);

const fn grant(credential: u64, generation: u32) -> Grant {
    Grant { user: USER, credential: CredentialId(credential), generation: RevocationGeneration(generation) }
}

fn valid(credential: u64, generation: u32) -> Verdict {
    Verdict::Valid { grant: grant(credential, generation), lifetime: lifetime() }
}

/// The observed effects of an action, except timers and the log.
#[derive(Debug, Default)]
struct Seen {
    released: Vec<(ConnectionId, Cause)>,
    refused: Vec<Code>,
    errors: Vec<Code>,
    /// Repeated messages whose run was named.
    known: Vec<(RunId, Offset)>,
    /// Timers that were armed again.
    armed: Vec<Timer>,
    /// Restore requests to the log.
    asked: Vec<AcquisitionId>,
    /// Whether it began to hold the node, or ceased to.
    holds: Vec<bool>,
    /// The connections that were told a mode.
    told: Vec<(ConnectionId, Mode)>,
    /// The offset through which the log may trim.
    trimmed: Option<u64>,
}

checked![
    SessionMemory, State;
    "AUTH-1", "AUTH-2", "AUTH-3", "CONN-1", "CONN-2", "STR-1", "STR-2", "RUN-1", "RUN-2", "RUN-3", "LIM-1", "SES-1", "NODE-1",
];

impl State {
    fn new(bounds: &Bounds) -> Self {
        let mut outputs = Outputs::new();
        let session = Session::open(bounds, USER, Mode::Ready, &mut outputs);
        let mut state = Self {
            session,
            armed: Armed::default(),
            asked: 1,
            generation: 0,
            raised: None,
            oldest: None,
            single: Vec::new(),
            mode: Mode::Ready,
            members: Vec::new(),
            events: 0,
            begun: Vec::new(),
            joins: 0,
            renewals: 0,
            messages: 1,
            runs: Vec::new(),
            failures: 0,
            open: false,
            retired: false,
            broken: None,
        };
        let mut seen = Seen::default();
        state.dispatch(bounds, &mut outputs, &mut seen);
        state.expect(seen.asked == [AcquisitionId(1)] && seen.armed.is_empty(), "SES-1");
        state.check(bounds);
        state
    }

    fn check(&mut self, bounds: &Bounds) {
        if let Err(violation) = self.session.check(bounds) {
            self.violated(violation.0);
        }
        let here = |judged: &Member| {
            let member = self.session.members().get(&judged.id);
            member.and_then(|member| member.connection.auth().grant())
                == Some(grant(judged.credential, judged.generation))
        };
        let members = self.session.members().len() == self.members.len() && self.members.iter().all(here);
        let runs = self.session.runs().keys().eq(&self.runs);
        let fence = self.session.fence().is_up() == (self.is_up() && !self.retired);
        let breaker = self.session.breaker().is_open() == self.open;
        let broken = self.retired || self.armed.has(Timer::Breaker) == self.open;
        let waits = matches!(self.session.ownership().seeking(), Some((_, Request::Requested)));
        self.expect(self.armed.has(Timer::LogAnswer) == waits, "SES-1");
        let lingers = self.retired || self.armed.has(Timer::Linger) == (self.session.state() == Phase::Vacant);
        self.expect(members, "AUTH-1");
        self.expect(runs && breaker && broken, "LIM-1");
        self.expect(fence, "AUTH-3");
        self.expect(lingers, "SES-1");
    }
}
