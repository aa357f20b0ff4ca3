//! The cost of the core: steady-state emits through registry and slot, compared with a plain sharded map of sessions.
//!
//! One emit is three steps: the agent thinks, the log confirms, the connection pulls. The plain map takes the same
//! steps, dispatches the same outputs and wakes through the same inbox. It has one lock per shard, held for the whole
//! step, no checks, and no way to retire. Both run in turn, and the ratio of their best times counts, because any other
//! time on a shared machine depends on its other load. A ratio above the goal is exit code 1.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lockstep::core::{ConnectionHandle, ConnectionInbox, Core, Effects, Fault, SHARDS};
use lockstep_model::connection;
use lockstep_model::frame::{Request, Resume};
use lockstep_model::gateway::routing::{self, FromSession};
use lockstep_model::session::{self, Outputs};
use lockstep_model::stream::Snapshot;
use lockstep_model::{
    AcquisitionId, BatchId, Bounds, Connection, ConnectionId, CredentialId, Epoch, FencingToken, Frame, Generation,
    Grant, Handled, Lifetime, MessageId, Mode, Offset, Refusal, RevocationGeneration, RunId, Session, Tenure, ThreadId,
    UserId, Verdict, VerificationId, gateway, node, run,
};

const GOAL: f64 = 1.3;
/// Emits per round: few enough that two threads often complete a round without a third one interrupting them.
const EMITS: u64 = 500;
/// Rounds per run, limited by the bound on a run's events.
const ROUNDS: usize = 30;
const RUNS: usize = 8;
const USERS: u64 = 1_000;
const BUDGET: usize = 16;

type Payload = Arc<[u8]>;

/// Accepts every output and does nothing with it.
#[derive(Debug, Default)]
struct Sink(AtomicU64);

impl Effects<Payload> for Sink {
    fn apply(&self, output: gateway::Output<Payload>) {
        // A driver does the same on both sides; this keeps the output from being optimised away.
        if matches!(output, gateway::Output::Stopped) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn quiet(&self) {}

    fn fault(&self, user: UserId, _: Generation, fault: Fault) {
        panic!("{user:?} broke: {fault:?}");
    }
}

/// The code under measurement: emits of one user's run, as seen by one of that user's connections.
trait Subject: Send + Sync + 'static {
    /// One connection.
    type Reader: Send;
    fn new() -> Self;
    /// Registers a connection of the user, which starts a run of the same number.
    fn join(&self, user: UserId, number: u64) -> Self::Reader;
    /// The generation of the user's current session.
    fn generation(&self, user: UserId) -> Generation;
    fn step(&self, user: UserId, generation: Generation, input: session::Input<Payload>) -> Result<Handled, Refusal>;
    fn pull(&self, reader: &mut Self::Reader, frames: &mut Vec<Frame<Payload>>);
}

struct Production(Arc<Core<Payload, Sink>>);

impl Subject for Production {
    type Reader = ConnectionHandle<Payload, Sink>;

    fn new() -> Self {
        let core = Core::new(Bounds::DEFAULT, Sink::default());
        assert!(core.steer(node::Input::Started).is_ok());
        Self(Arc::new(core))
    }

    fn join(&self, user: UserId, number: u64) -> Self::Reader {
        let mut handle = ConnectionHandle::accept(&self.0, ConnectionId(number)).expect("the node admits");
        for input in joining(user) {
            let _ = handle.step(input);
        }
        let generation = self.generation(user);
        start(|input| self.step(user, generation, input), number, |input| handle.step(input));
        handle
    }

    fn generation(&self, user: UserId) -> Generation {
        self.0.look(user, |generation, _| generation).expect("the user has a session")
    }

    fn step(&self, user: UserId, generation: Generation, input: session::Input<Payload>) -> Result<Handled, Refusal> {
        self.0.session(user, generation, input)
    }

    fn pull(&self, reader: &mut Self::Reader, frames: &mut Vec<Frame<Payload>>) {
        reader.pull(BUDGET, frames);
    }
}

/// A map of sessions with one lock per shard.
struct Plain {
    shards: Vec<Shard>,
    sink: Sink,
}

#[repr(align(64))]
#[derive(Default)]
struct Shard(Mutex<BTreeMap<UserId, Tenant>>);

struct Tenant {
    session: Session<Payload>,
    outputs: Outputs<Payload>,
    inboxes: BTreeMap<ConnectionId, Arc<ConnectionInbox<Payload>>>,
}

impl Plain {
    fn with<R>(&self, user: UserId, visit: impl FnOnce(&mut Tenant) -> R) -> R {
        let shard = &self.shards[user.0 as usize % self.shards.len()].0;
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        visit(shard.entry(user).or_insert_with(|| {
            let mut outputs = Outputs::new();
            let session = Session::open(&Bounds::DEFAULT, user, Mode::Ready, &mut outputs);
            outputs.list.clear();
            Tenant { session, outputs, inboxes: BTreeMap::new() }
        }))
    }

    fn visit(
        &self,
        user: UserId,
        input: session::Input<Payload>,
        frames: Option<&mut Vec<Frame<Payload>>>,
    ) -> Result<Handled, Refusal> {
        self.with(user, |tenant| {
            let mut frames = frames;
            let handled = tenant.session.step(&Bounds::DEFAULT, input, &mut tenant.outputs);
            for output in tenant.outputs.list.drain(..) {
                match routing::session(user, Generation(1), output) {
                    FromSession::Driver(output) => self.sink.apply(output),
                    FromSession::Frame(_, frame) => frames.iter_mut().for_each(|frames| frames.push(frame.clone())),
                    FromSession::Wake(connection) => {
                        if let Some(inbox) = tenant.inboxes.get(&connection) {
                            inbox.signal();
                        }
                    }
                    FromSession::Node(_) | FromSession::Release(_) | FromSession::Verify(..) => {
                        panic!("not in a steady state");
                    }
                }
            }
            handled
        })
    }
}

impl Subject for Plain {
    type Reader = (UserId, ConnectionId);

    fn new() -> Self {
        Self { shards: (0..SHARDS.get()).map(|_| Shard::default()).collect(), sink: Sink::default() }
    }

    fn join(&self, user: UserId, number: u64) -> Self::Reader {
        let id = ConnectionId(number);
        let mut outputs = Vec::new();
        let mut connection = Connection::accept(&Bounds::DEFAULT, id, &mut outputs);
        for input in joining(user) {
            let _ = connection.step(&Bounds::DEFAULT, input, &mut outputs);
        }
        let inbox = Arc::new(ConnectionInbox::new(lockstep::core::handle::MAX_ITEMS));
        self.with(user, |tenant| tenant.inboxes.insert(id, inbox));
        let join = session::Input::Join { connection: Box::new(connection), mode: Mode::Ready };
        assert!(self.visit(user, join, None).is_ok());
        let to_connection = |input| {
            let input = session::Input::Connection { connection: id, input };
            self.visit(user, input, None).unwrap_or(Handled::Ignored)
        };
        start(|input| self.visit(user, input, None), number, to_connection);
        (user, id)
    }

    fn generation(&self, _: UserId) -> Generation {
        Generation(1)
    }

    fn step(&self, user: UserId, _: Generation, input: session::Input<Payload>) -> Result<Handled, Refusal> {
        self.visit(user, input, None)
    }

    fn pull(&self, reader: &mut Self::Reader, frames: &mut Vec<Frame<Payload>>) {
        let _ = self.visit(reader.0, session::Input::Pull { connection: reader.1, budget: BUDGET }, Some(frames));
    }
}

fn joining(user: UserId) -> [connection::Input<Payload>; 3] {
    let grant = Grant { user, credential: CredentialId(1), generation: RevocationGeneration(0) };
    let lifetime = Lifetime::new(Duration::from_secs(60)).expect("not zero");
    [
        connection::Input::Opened,
        connection::Input::Received(Request::Auth { token: Arc::from([]), resume: Resume::default() }),
        connection::Input::Verdict { attempt: VerificationId(1), verdict: Verdict::Valid { grant, lifetime } },
    ]
}

/// Restores the stream if necessary, and starts a run.
fn start(
    step: impl Fn(session::Input<Payload>) -> Result<Handled, Refusal>,
    number: u64,
    mut to_connection: impl FnMut(connection::Input<Payload>) -> Handled,
) {
    let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
    let _ = step(session::Input::Restored { attempt: AcquisitionId(1), snapshot });
    let (message, run) = (MessageId(number), RunId(number));
    let message = Request::Message {
        message,
        thread: ThreadId(message.0),
        run,
        payload: Arc::from([]),
        repeat: false,
        replaces: None,
    };
    let _ = to_connection(connection::Input::Received(message));
    confirm(&step);
    assert!(step(session::Input::Run { run, input: run::Input::Start, payload: None }).is_ok());
    confirm(&step);
}

/// The log confirms one event. One counter assigns the offsets, so an offset that another thread overtook is retried.
fn confirm(step: impl Fn(session::Input<Payload>) -> Result<Handled, Refusal>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let offset = Offset(NEXT.fetch_add(1, Ordering::Relaxed));
        let confirmed = step(session::Input::Persisted { batch: BatchId(0), offset, record: None });
        if confirmed == Ok(Handled::Done) {
            return;
        }
    }
}

/// The number of threads and users.
#[derive(Clone, Copy)]
enum Load {
    OneThread,
    TwoUsers,
    OneUser,
}

impl Load {
    const ALL: [(Self, &'static str); 3] =
        [(Self::OneThread, "1 thread"), (Self::TwoUsers, "2 threads, 2 users"), (Self::OneUser, "2 threads, 1 user")];

    const fn users(self) -> &'static [u64] {
        match self {
            Self::OneThread => &[500],
            Self::TwoUsers => &[500, 501],
            Self::OneUser => &[500, 500],
        }
    }
}

/// The best time of one emit, in nanoseconds.
struct Measured<S: Subject> {
    subject: Arc<S>,
    readers: Vec<S::Reader>,
}

impl<S: Subject> Measured<S> {
    fn new(load: Load) -> Self {
        let subject = Arc::new(S::new());
        for user in 0..USERS {
            if !load.users().contains(&user) {
                // Other users exist, and their connections stay.
                std::mem::forget(subject.join(UserId(user), 10_000 + user));
            }
        }
        let numbers = 1..;
        let readers = load.users().iter().zip(numbers).map(|(user, number)| subject.join(UserId(*user), number));
        let readers = readers.collect();
        Self { subject, readers }
    }

    fn round(&mut self, load: Load) -> f64 {
        let gate = Barrier::new(load.users().len());
        let (subject, gate) = (&self.subject, &gate);
        let times: Vec<Duration> = thread::scope(|scope| {
            let threads: Vec<_> = load
                .users()
                .iter()
                .zip(&mut self.readers)
                .zip(1..)
                .map(|((user, reader), number)| {
                    scope.spawn(move || emit(&**subject, UserId(*user), number, reader, gate))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("it did not panic")).collect()
        });
        let slowest = times.into_iter().max().unwrap_or_default();
        slowest.as_nanos() as f64 / EMITS as f64
    }
}

fn emit<S: Subject>(subject: &S, user: UserId, number: u64, reader: &mut S::Reader, gate: &Barrier) -> Duration {
    let payload: Payload = Arc::from(*b"a token or two");
    let mut frames = Vec::with_capacity(BUDGET);
    let generation = subject.generation(user);
    gate.wait();
    let began = Instant::now();
    for _ in 0..EMITS {
        let input =
            session::Input::Run { run: RunId(number), input: run::Input::Think, payload: Some(payload.clone()) };
        assert!(subject.step(user, generation, input).is_ok(), "the log is not behind");
        confirm(|input| subject.step(user, generation, input));
        subject.pull(reader, &mut frames);
        frames.clear();
    }
    began.elapsed()
}

fn main() -> ExitCode {
    // `cargo test` runs this too, without measuring.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let mut worst = 0.0_f64;
    let mut text = String::new();
    for (load, name) in Load::ALL {
        let (mut ours, mut plain) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..RUNS {
            // The bound on a run's events ends it.
            let (mut core, mut map) = (Measured::<Production>::new(load), Measured::<Plain>::new(load));
            for round in 0..ROUNDS {
                let (one, other) = (core.round(load), map.round(load));
                // In the first rounds the retained events fill up.
                if round * EMITS as usize >= Bounds::DEFAULT.retained {
                    (ours, plain) = (ours.min(one), plain.min(other));
                }
            }
        }
        let ratio = ours / plain;
        worst = worst.max(ratio);
        text += &format!("{name:20} core {ours:7.0} ns  plain {plain:7.0} ns  ratio {ratio:.2}\n");
    }
    text += &format!("goal: at most {GOAL}\n");
    let written = io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(worst > GOAL || written.is_err()))
}
