//! The bridge: everything that threads observe of the core, one thread could have observed of the sequential gateway
//! machine.
//!
//! Threads act on one user's session and record each call, its return, and which came before which. stateright's tester
//! then looks for one order of all calls that respects this and in which `Gateway`, stepped alone, gives every recorded
//! answer. A look returns the whole session machine, so an order that explains the answers also explains the state.
//!
//! A change of the node's mode is not among the calls, because it reaches the sessions one by one. SH-4 covers it.

use std::marker::PhantomData;

use lockstep_model::connection;
use lockstep_model::frame::Request;
use lockstep_model::session;
use lockstep_model::stream::Snapshot;
use lockstep_model::timer::Owner;
use lockstep_model::{
    BatchId, Bounds, Cause, ConnectionId, CredentialId, Epoch, FencingToken, Handled, MessageId, Offset, RunId, Tenure,
    ThreadId, Timer, run,
};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

mod sequential;

pub use sequential::{Answer, BUDGET, Call, Seen, Sequential};

use super::fixture::{Client, Fixture, USER, verdict};
use super::sync::{self, Arc, Mutex, lock, thread};
use super::{Scenario, Size, finish};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-2",
        name: "bridge-retire",
        about: "a connection joins while its session retires: linearizable",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: retire,
    },
    Scenario {
        obligation: "SH-2",
        name: "bridge-look",
        about: "a thread looks while a session retires and the next one opens: linearizable",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: look::<Fresh>,
    },
    Scenario {
        obligation: "SH-2",
        name: "bridge-emit",
        about: "an agent emits, the log confirms and a connection pulls: linearizable",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: emit,
    },
    Scenario {
        obligation: "SH-2",
        name: "bridge-revoke",
        about: "a connection joins and pulls while its credential is revoked: linearizable",
        exhaustible: Some(Size::ONE),
        scales: false,
        run: revoke,
    },
    Scenario {
        obligation: "SH-2",
        name: "bridge-random",
        about: "threads take random steps: linearizable",
        exhaustible: None,
        scales: true,
        run: random,
    },
];

/// How a session is read.
pub trait Looking: Send + Sync + 'static {
    /// Returns the session and its generation.
    fn look(fixture: &Fixture) -> Option<Seen>;
}

/// Production's implementation.
#[derive(Debug)]
pub struct Fresh;

impl Looking for Fresh {
    fn look(fixture: &Fixture) -> Option<Seen> {
        fixture.look(|generation, session| (generation, Box::new(session.clone())))
    }
}

/// A thread's next step. Everything that it needs to know comes from the thread's last look.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The thread's own credential is verified.
    Join,
    /// The thread's own peer leaves.
    Leave,
    /// The thread's own peer sends a message.
    Message,
    /// The thread's own socket can take frames.
    Pull,
    Look,
    /// The agent of the first open run emits a thought.
    Think,
    /// The log confirms the oldest pending event.
    Persist,
    Linger,
    /// The credential with this number is revoked.
    Revoke(u64),
}

const STEPS: [Step; 9] = [
    Step::Join,
    Step::Leave,
    Step::Message,
    Step::Pull,
    Step::Look,
    Step::Think,
    Step::Persist,
    Step::Linger,
    Step::Revoke(1),
];

/// The calls and returns so far. It uses the scheduler's lock: the tester needs to know which returns came before which
/// calls, so every order of calls and returns must be run.
#[derive(Clone)]
struct History(Arc<Mutex<LinearizabilityTester<u64, Sequential>>>);

impl History {
    fn with<R>(&self, f: impl FnOnce(&mut LinearizabilityTester<u64, Sequential>) -> R) -> R {
        f(&mut lock(&self.0))
    }
}

/// One thread, with its own connection.
struct Actor<L> {
    id: u64,
    fixture: Fixture,
    client: Option<Client>,
    last: Option<Seen>,
    history: History,
    looking: PhantomData<L>,
}

impl<L: Looking> Actor<L> {
    fn new(id: u64, fixture: &Fixture, history: &History) -> Self {
        let (fixture, history) = (fixture.clone(), history.clone());
        let mut actor = Self { id, fixture, client: None, last: None, history, looking: PhantomData };
        actor.call(Call::Connect(ConnectionId(id)));
        actor
    }

    fn call(&mut self, call: Call) -> Answer {
        let invoked = self.history.with(|history| history.on_invoke(self.id, call.clone()).map(|_| ()));
        assert_eq!(invoked, Ok(()), "one call at a time");
        let answer = self.answer(call);
        let returned = self.history.with(|history| history.on_return(self.id, answer.clone()).map(|_| ()));
        assert_eq!(returned, Ok(()), "a call was made");
        answer
    }

    fn answer(&mut self, call: Call) -> Answer {
        match (call, &mut self.client) {
            (Call::Connect(id), _) => {
                self.client = self.fixture.connect(id.0);
                Answer::Done
            }
            (Call::Connection(_, input), Some(client)) => Answer::Handled(client.step(input)),
            (Call::Pull(_), Some(client)) => {
                let mut frames = Vec::new();
                client.pull(BUDGET, &mut frames);
                Answer::Frames(frames)
            }
            (Call::Connection(..) | Call::Pull(_), None) => Answer::Handled(Handled::Ignored),
            (Call::Session(generation, input), _) => Answer::Session(self.fixture.0.session(USER, generation, input)),
            (Call::Revoke(credential), _) => {
                self.fixture.revoke(credential.0);
                Answer::Done
            }
            (Call::Look, _) => {
                let seen = L::look(&self.fixture);
                self.last.clone_from(&seen);
                Answer::Seen(seen)
            }
        }
    }

    fn act(&mut self, step: Step) {
        let connection = ConnectionId(self.id);
        let call = match (step, &self.last) {
            (Step::Join, _) => Call::Connection(connection, verdict(self.id)),
            (Step::Leave, _) => Call::Connection(connection, connection::Input::Gone(Cause::PeerClosed)),
            (Step::Message, _) => {
                let (message, run) = (MessageId(self.id), RunId(self.id));
                let message =
                    Request::Message { message, thread: ThreadId(0), run, payload: 0, repeat: false, replaces: None };
                Call::Connection(connection, connection::Input::Received(message))
            }
            (Step::Pull, _) => Call::Pull(connection),
            (Step::Revoke(credential), _) => Call::Revoke(CredentialId(credential)),
            (Step::Think, Some((generation, session))) => {
                let run = session.runs().keys().next().copied().unwrap_or(RunId(self.id));
                let input = session::Input::Run { run, input: run::Input::Think, payload: Some(1) };
                Call::Session(*generation, input)
            }
            (Step::Persist, Some((generation, session))) => {
                let (batch, head) =
                    session.stream().map_or((BatchId(0), Offset(0)), |stream| (stream.batch(), stream.head()));
                Call::Session(
                    *generation,
                    session::Input::Persisted { batch, offset: Offset(head.0 + 1), record: None },
                )
            }
            (Step::Linger, Some((generation, _))) => {
                Call::Session(*generation, session::Input::Expired(Owner::Session, Timer::Linger))
            }
            (Step::Look, _) | (Step::Think | Step::Persist | Step::Linger, None) => Call::Look,
        };
        self.call(call);
    }

    /// The log returns an empty stream to a session that is restoring.
    fn restore(&mut self) {
        if let Answer::Seen(Some((generation, session))) = self.call(Call::Look)
            && let Some((attempt, _)) = session.ownership().seeking()
        {
            let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
            self.call(Call::Session(generation, session::Input::Restored { attempt, snapshot }));
        }
    }

    /// Leaves a session without connections.
    fn vacate(&mut self) {
        self.act(Step::Join);
        self.restore();
        self.act(Step::Leave);
        self.act(Step::Look);
    }

    /// Joins, and starts a run.
    fn settle_in(&mut self) {
        self.act(Step::Join);
        self.restore();
        self.act(Step::Message);
        for _ in 0..2 {
            self.act(Step::Look);
            self.act(Step::Persist);
            if let Some((generation, _)) = self.last {
                let input = session::Input::Run { run: RunId(self.id), input: run::Input::Start, payload: None };
                self.call(Call::Session(generation, input));
            }
        }
        self.act(Step::Look);
    }
}

/// Prepares with a host, runs one more actor for each further plan, and looks for a sequential order. The host follows
/// the first plan on this thread; all plans run concurrently.
fn play<L: Looking>(prepare: impl FnOnce(&mut Actor<L>), plans: Vec<Vec<Step>>) {
    let fixture = Fixture::open(Bounds::DEFAULT);
    let history = History(Arc::new(Mutex::new(LinearizabilityTester::new(Sequential::ready()))));
    let mut host = Actor::<L>::new(0, &fixture, &history);
    prepare(&mut host);
    let mut plans = plans.into_iter();
    let own = plans.next().unwrap_or_default();
    let others: Vec<_> = plans
        .enumerate()
        .map(|(index, plan)| {
            let mut actor = Actor::<L>::new(index as u64 + 1, &fixture, &history);
            actor.last.clone_from(&host.last);
            (actor, plan)
        })
        .collect();
    let others: Vec<_> = others
        .into_iter()
        .map(|(mut actor, plan)| {
            thread::spawn(move || {
                plan.into_iter().for_each(|step| actor.act(step));
                actor
            })
        })
        .collect();
    own.into_iter().for_each(|step| host.act(step));
    let others: Vec<_> = others.into_iter().map(finish).collect();
    host.act(Step::Look);
    let output = history.with(|history| history.serialized_history());
    assert!(output.is_some(), "SH-2: not linearizable: {:?}", history.with(|history| history.clone()));
    drop(others);
}

/// A connection joins while the vacant session retires.
fn retire(_: Size) {
    play::<Fresh>(Actor::vacate, vec![vec![Step::Linger], vec![Step::Join]]);
}

/// One thread looks while the vacant session retires and a connection opens the next.
pub fn look<L: Looking>(_: Size) {
    play(Actor::<L>::vacate, vec![vec![Step::Look], vec![Step::Linger, Step::Join]]);
}

/// An agent emits, the log confirms, and a connection pulls.
fn emit(_: Size) {
    let plans = vec![vec![Step::Pull], vec![Step::Think], vec![Step::Persist]];
    play::<Fresh>(Actor::settle_in, plans);
}

/// A connection joins while its credential is revoked.
fn revoke(_: Size) {
    let plans = vec![vec![Step::Revoke(1), Step::Look], vec![Step::Join, Step::Pull]];
    play::<Fresh>(Actor::settle_in, plans);
}

/// The number of calls in a random history, over all threads. If all of them overlap, the tester may have to try every
/// order that keeps each thread's own.
const CALLS: usize = 12;

/// Every actor takes random steps.
fn random(size: Size) {
    for _ in 0..size.rounds {
        let plan = |_| (0..CALLS / size.actors.max(1)).map(|_| STEPS[sync::random() % STEPS.len()]).collect();
        play::<Fresh>(Actor::settle_in, (0..size.actors).map(plan).collect());
    }
}
