//! One session, a publisher and two readers, of which one may stop reading. Each takes the locks that it needs.
//!
//! The sound lock order is the hub's, then the buffer's. Neither is held while a socket is awaited.

use lockstep_model::{
    BatchId, Bounds, ConnectionId, Frame, MessageId, Mode, Offset, Request, RunId, Session, ThreadId, session,
};
use lockstep_model::{connection, run};
use stateright::{Model, Property};

use super::parts::{restored, verified};
use crate::engine::proof::{Drawing, Lifeline, Promise, Proof};
use crate::models::world::setup;
use crate::races::{Row, alone};

pub(super) fn rows() -> Vec<Row> {
    vec![
        alone!(
            "A26",
            "awaited under the lock",
            "a blocked socket is awaited while the user's lock is held",
            ["LIVE-3", "SH-3"],
            Hub { mistake: Some(Mistake::AwaitUnderLock) },
            Hub { mistake: None }
        ),
        alone!(
            "B11",
            "two lock orders",
            "publishing locks the hub and then the buffer, and a recovering reader locks them in the other order",
            ["LIVE-3", "SH-3"],
            Hub { mistake: Some(Mistake::TwoOrders) },
            Hub { mistake: None }
        ),
        alone!(
            "B21",
            "one full buffer stops all",
            "publishing waits until there is room in every reader's buffer",
            ["LIVE-3", "SH-3"],
            Hub { mistake: Some(Mistake::WaitForRoom) },
            Hub { mistake: None }
        ),
        alone!(
            "X104",
            "step within a step",
            "what handles an event under the hub's lock publishes again, and waits for the lock that it holds",
            ["LIVE-3", "SH-3"],
            Hub { mistake: Some(Mistake::StepWithin) },
            Hub { mistake: None }
        ),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    AwaitUnderLock,
    TwoOrders,
    WaitForRoom,
    StepWithin,
}

/// The model.
#[derive(Clone, Debug)]
struct Hub {
    mistake: Option<Mistake>,
}

/// How far a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Holds its first lock.
    First,
    /// Holds both.
    Second,
    /// A reader waits for its socket to take what it has pulled.
    Sending,
}

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A participant takes its next lock, or, with both locks, does its work.
    Go(Who),
    /// A reader's socket takes what was pulled.
    Take(Who),
}

/// A participant. The first reader's socket may stop taking frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Publisher,
    Slow,
    Reader,
}

const ALL: [Who; 3] = [Who::Publisher, Who::Slow, Who::Reader];
/// Events that are published.
const EVENTS: u64 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HubState {
    session: Session<u8>,
    at: [At; 3],
    hub: Option<Who>,
    buffer: Option<Who>,
    /// What each reader has pulled, and what its socket has taken.
    pulled: [u64; 3],
    seen: [u64; 3],
}

impl HubState {
    fn lock(&mut self, who: Who, hub: bool) -> &mut Option<Who> {
        let lock = if hub { &mut self.hub } else { &mut self.buffer };
        debug_assert!(lock.is_none_or(|holder| holder == who), "taken only when free");
        lock
    }

    fn release(&mut self, who: Who) {
        for lock in [&mut self.hub, &mut self.buffer] {
            *lock = lock.filter(|holder| *holder != who);
        }
    }

    fn head(&self) -> u64 {
        self.session.stream().map_or(0, |stream| stream.head().0)
    }
}

impl Hub {
    /// Whether `who` takes the hub's lock first.
    fn hub_first(&self, who: Who) -> bool {
        who != Who::Reader || self.mistake != Some(Mistake::TwoOrders)
    }

    fn may(&self, state: &HubState, who: Who) -> bool {
        let free = |hub: bool| if hub { state.hub.is_none() } else { state.buffer.is_none() };
        let needed = match who {
            Who::Publisher => state.head() < EVENTS,
            Who::Slow | Who::Reader => state.seen[who as usize] < state.head(),
        };
        match state.at[who as usize] {
            At::Idle => needed && free(self.hub_first(who)),
            At::First => free(!self.hub_first(who)),
            At::Second => {
                let room = state.seen[Who::Slow as usize] == state.head();
                who != Who::Publisher
                    || match self.mistake {
                        Some(Mistake::WaitForRoom) => room,
                        // It needs the hub's lock again, which it holds itself.
                        Some(Mistake::StepWithin) => free(true),
                        Some(Mistake::AwaitUnderLock | Mistake::TwoOrders) | None => true,
                    }
            }
            At::Sending => true,
        }
    }
}

impl Model for Hub {
    type State = HubState;
    type Action = Step;

    fn init_states(&self) -> Vec<HubState> {
        let bounds = setup::small();
        let mut session = restored(&bounds);
        for id in [Who::Slow, Who::Reader].map(|who| who as u64) {
            let join = session::Input::Join { connection: verified(&bounds, id), mode: Mode::Ready };
            step(&mut session, &bounds, join);
            // Pulls `connection_ready` and parks.
            step(&mut session, &bounds, session::Input::Pull { connection: ConnectionId(id), budget: 8 });
        }
        let message = Request::Message {
            message: MessageId(1),
            thread: ThreadId(0),
            run: RunId(1),
            payload: 0,
            repeat: false,
            replaces: None,
        };
        let input = connection::Input::Received(message);
        step(&mut session, &bounds, session::Input::Connection { connection: ConnectionId(2), input });
        let start = session::Input::Run { run: RunId(1), input: run::Input::Start, payload: None };
        step(&mut session, &bounds, start);
        vec![HubState { session, at: [At::Idle; 3], hub: None, buffer: None, pulled: [0; 3], seen: [0; 3] }]
    }

    fn actions(&self, state: &HubState, steps: &mut Vec<Step>) {
        steps.extend(ALL.into_iter().filter(|who| self.may(state, *who)).map(|who| match state.at[who as usize] {
            At::Idle | At::First | At::Second => Step::Go(who),
            At::Sending => Step::Take(who),
        }));
    }

    fn next_state(&self, last: &HubState, action: Step) -> Option<HubState> {
        let mut state = last.clone();
        let (Step::Go(who) | Step::Take(who)) = action;
        let index = who as usize;
        state.at[index] = match state.at[index] {
            At::Idle => {
                *state.lock(who, self.hub_first(who)) = Some(who);
                At::First
            }
            At::First => {
                *state.lock(who, !self.hub_first(who)) = Some(who);
                At::Second
            }
            At::Second if who == Who::Publisher => {
                let persisted =
                    session::Input::Persisted { batch: BatchId(0), offset: Offset(state.head() + 1), record: None };
                step(&mut state.session, &setup::small(), persisted);
                state.release(who);
                At::Idle
            }
            At::Second => {
                let pull = session::Input::Pull { connection: ConnectionId(index as u64), budget: 8 };
                for output in step(&mut state.session, &setup::small(), pull) {
                    if let session::Output::Send { frame: Frame::Event(entry), .. } = output {
                        state.pulled[index] = entry.offset.0;
                    }
                }
                if self.mistake != Some(Mistake::AwaitUnderLock) {
                    state.release(who);
                }
                At::Sending
            }
            At::Sending => {
                state.seen[index] = state.pulled[index];
                state.release(who);
                At::Idle
            }
        };
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("STR-1", |_: &Self, state: &HubState| state.session.check(&setup::small()).is_ok()),
            Property::sometimes("LIVE-3.slow", |_: &Self, state: &HubState| {
                state.seen[Who::Reader as usize] == EVENTS && state.seen[Who::Slow as usize] == 0
            }),
        ]
    }
}

fn step(session: &mut Session<u8>, bounds: &Bounds, input: session::Input<u8>) -> Vec<session::Output<u8>> {
    let mut outputs = session::Outputs::new();
    let _ = session.step(bounds, input, &mut outputs);
    outputs.list
}

impl Proof for Hub {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn about(&self) -> &'static str {
        "one publishes and two read, of whom one may stop"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("events", EVENTS.to_string()), ("readers", "2".into())]
    }

    fn depict(&self, before: &HubState, step: &Step, _: &HubState) -> Vec<Drawing> {
        let name = |who: Who| match who {
            Who::Publisher => "the publisher",
            Who::Slow => "the slow reader",
            Who::Reader => "the other reader",
        };
        let (who, text) = match step {
            Step::Go(who) => match before.at[*who as usize] {
                At::Idle => (who, "takes its first lock"),
                At::First => (who, "takes its second lock"),
                At::Second => (who, "does its work and releases both locks"),
                At::Sending => (who, "goes on"),
            },
            Step::Take(who) => (who, "writes to its socket, which takes all"),
        };
        vec![Drawing::note(Lifeline::Session, format!("{} {text}", name(*who)))]
    }

    fn fairness(&self, action: &Step) -> Option<u8> {
        match action {
            Step::Take(Who::Slow) => None,
            Step::Go(who) | Step::Take(who) => Some(*who as u8),
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise { id: "LIVE-3", pending: |_, state| state.seen[Who::Reader as usize] < EVENTS }]
    }
}
