//! One run ([`lockstep_model::run`]), alone.
//!
//! Explores every input in every state: the agent emits in any order, before its start and after its end, with tools
//! that it has opened, closed or never named; it pauses, and the user replies to this pause, an earlier or a later one;
//! the user cancels, the agent dies, the process goes down, any timer fires. The run begins at once, or is queued, and its turn comes at any moment or never.
//!
//! The oracle sees only the emitted events and checks them against the grammar
//! ([`properties::run`](crate::properties::run)). It accepts an emit exactly if the grammar and the bounds allow it
//! next.

use lockstep_model::run::{Ending, Input, Kind, Output, Reason, Received, Run, Schedule, State as Stage, ToolEnd};
use lockstep_model::{Bounds, Handled, MessageId, PartId, PauseId, Refusal, ThreadId, Timer, ToolId};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::{Lifecycle, Outcome, Promise, Proof};
use crate::models::harness::{Armed, checked, deadline, small, survives};
use crate::properties::run::{Grammar, Wrong};

/// The model.
#[derive(Clone, Debug)]
pub struct Request {
    bounds: Bounds,
    tools: u32,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Request {
    let (tools, events) = match profile {
        Profile::Quick => (3, 6),
        Profile::Ci => (5, 12),
        Profile::Deep => (9, 40),
    };
    Request { bounds: Bounds { tools: tools as usize - 1, events, ..small() }, tools }
}

/// What was observed of a run: its events, read by the grammar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Observed {
    grammar: Grammar<ToolId>,
    /// Whether it was queued.
    queued: bool,
    ended: Option<Kind>,
    /// Events that count towards the bound: all except the first and the closing ones.
    events: u32,
    pauses: u32,
}

impl Observed {
    fn is_open(&self) -> bool {
        !self.grammar.has_ended()
    }

    /// Whether it waits for its turn.
    fn is_waiting(&self) -> bool {
        self.queued && !self.grammar.has_started() && self.is_open()
    }

    /// Whether an agent has it, or is about to get it.
    fn has_agent(&self) -> bool {
        self.is_open() && !self.is_waiting() && self.grammar.paused().is_none()
    }

    /// Reads an event. Returns whether it may come now. A run's machine emits no event that belongs to no run.
    fn take(&mut self, kind: Kind) -> bool {
        if let Kind::Received(received) = kind {
            self.queued = received.schedule == Schedule::Queued;
        }
        if kind.is_terminal() {
            self.ended = Some(kind);
        }
        self.pauses += u32::from(matches!(kind, Kind::Paused(_)));
        !matches!(kind, Kind::Notice | Kind::Deleted) && self.grammar.take(kind.into()).is_ok()
    }

    /// The required answer to an input: the events to emit, a refusal, or `None` for a late input. An agent's event is
    /// emitted if the grammar and the bounds allow it next. Otherwise the agent is told which of them forbids it.
    fn answer(&self, bounds: &Bounds, input: Input) -> Option<Result<Vec<Kind>, Refusal>> {
        let started = self.grammar.has_started();
        let late = if self.is_open() { Refusal::OutOfOrder } else { Refusal::RunEnded };
        if input == Input::Dequeue {
            return self.is_waiting().then(|| Ok(vec![Kind::Started]));
        }
        let is_late = match (self.grammar.paused(), input) {
            (_, Input::Cancel | Input::Interrupt) => false,
            (Some(pause), Input::Resume(named)) => pause != named,
            (Some(_), Input::Expired(timer)) => timer != Timer::Pause,
            (Some(_), _) | (None, Input::Resume(_) | Input::Expired(Timer::Pause)) => true,
            (None, _) => self.is_waiting(),
        };
        if is_late || !self.is_open() {
            return is_agents(input).then_some(Err(late));
        }
        let Some(kind) = event_of(input) else {
            return is_agents(input).then_some(if started { Ok(Vec::new()) } else { Err(late) });
        };
        if kind.is_terminal() {
            let end = if let Kind::Error(reason) = kind { Ending::Error(reason) } else { Ending::Completed };
            let open = self.grammar.tools().iter().map(|tool| Kind::ToolCompleted(*tool, ToolEnd::Abandoned(end)));
            let right = kind != Kind::Completed || started;
            return Some(if right { Ok(open.chain([kind]).collect()) } else { Err(late) });
        }
        let kind = if input == Input::Pause { Kind::Paused(PauseId(self.pauses + 1)) } else { kind };
        let grows = matches!(kind, Kind::Thinking | Kind::Delta(_) | Kind::ToolExecuting(_) | Kind::Paused(_));
        let opens = matches!(kind, Kind::ToolExecuting(_));
        Some(match self.grammar.allows(kind.into()) {
            Ok(()) | Err(Wrong::ToolOpen) if grows && self.events >= bounds.events => Err(Refusal::TooManyEvents),
            Ok(()) if opens && self.grammar.tools().len() == bounds.tools => Err(Refusal::TooManyTools),
            Ok(()) => Ok(vec![kind]),
            Err(Wrong::ToolOpen) => Err(Refusal::ToolOpen),
            Err(Wrong::ToolNotOpen) => Err(Refusal::ToolNotOpen),
            Err(_) => Err(late),
        })
    }
}

/// The event that an input asks for, or causes.
const fn event_of(input: Input) -> Option<Kind> {
    Some(match input {
        Input::Start | Input::Dequeue => Kind::Started,
        Input::Think => Kind::Thinking,
        Input::Say(part) => Kind::Delta(part),
        Input::OpenTool(tool) => Kind::ToolExecuting(tool),
        Input::CloseTool(tool, end) => Kind::ToolCompleted(tool, end),
        Input::Pause => Kind::Paused(PauseId(0)),
        Input::Resume(pause) => Kind::Resumed(pause),
        Input::Complete => Kind::Completed,
        Input::Fail => Kind::Error(Reason::Failed),
        Input::Abandon => Kind::Error(Reason::Abandoned),
        Input::Cancel => Kind::Error(Reason::Cancelled),
        Input::Interrupt => Kind::Error(Reason::Interrupted),
        Input::Expired(Timer::Silence) => Kind::Error(Reason::Silent),
        Input::Expired(Timer::Deadline) => Kind::Error(Reason::TimedOut),
        Input::Expired(Timer::Pause) => Kind::Error(Reason::NoReply),
        Input::Alive | Input::Expired(_) => return None,
    })
}

/// Whether the input is an agent's, which learns of a refusal.
const fn is_agents(input: Input) -> bool {
    match input {
        Input::Start
        | Input::Think
        | Input::Say(_)
        | Input::Alive
        | Input::OpenTool(_)
        | Input::CloseTool(..)
        | Input::Pause
        | Input::Complete
        | Input::Fail => true,
        Input::Dequeue | Input::Resume(_) | Input::Abandon | Input::Cancel | Input::Interrupt | Input::Expired(_) => {
            false
        }
    }
}

/// A run and its oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    run: Run,
    /// The run that a restart would recover from the events so far.
    recalled: Run,
    observed: Observed,
    armed: Armed,
    broken: Option<&'static str>,
}

const MESSAGE: MessageId = MessageId(7);
const THREAD: ThreadId = ThreadId(3);

checked![Request, State; "RUN-1", "RUN-3", "RUN-4", "RUN-5", "LIM-1", "LIVE-2"];

impl State {
    fn new(bounds: &Bounds, schedule: Schedule) -> Self {
        let mut out = Vec::new();
        let received = Received { message: MESSAGE, thread: THREAD, schedule, replaces: None };
        let run = Run::accept(bounds, received, &mut out);
        let (observed, armed) = (Observed::default(), Armed::default());
        let mut state = Self { run, recalled: Run::recall(received), observed, armed, broken: None };
        state.dispatch(bounds, &out);
        state.expect(out.first() == Some(&Output::Emit(Kind::Received(received))), "RUN-1");
        let timers = if schedule == Schedule::Immediate { 2 } else { 0 };
        state.expect(out.len() == 1 + timers, "LIVE-2");
        state.check(bounds);
        state
    }

    fn dispatch(&mut self, bounds: &Bounds, out: &[Output]) {
        for output in out {
            match output {
                Output::Emit(kind) => {
                    let right = self.observed.take(*kind);
                    self.expect(right, "RUN-1");
                    self.recalled.replay(*kind);
                }
                Output::Arm(timer, after) => {
                    self.armed.arm(*timer);
                    let executing = *timer == Timer::Silence && !self.observed.grammar.tools().is_empty();
                    let right = if executing { Some(bounds.execution) } else { deadline(bounds, *timer) };
                    self.expect(right == Some(*after), "LIVE-2");
                }
                Output::Disarm(timer) => self.armed.disarm(*timer),
                Output::Stop => {}
            }
        }
    }

    fn feed(&mut self, bounds: &Bounds, input: Input) -> Result<Handled, Refusal> {
        let before = self.run.clone();
        let (had_agent, waiting) = (self.observed.has_agent(), self.observed.is_waiting());
        let paused = self.observed.grammar.paused();
        let room = self.run.reserve() + Run::needs(&input);
        if let Input::Expired(timer) = input {
            self.armed.disarm(timer);
        }
        let answer = self.observed.answer(bounds, input);
        let mut out = Vec::new();
        let handled = self.run.step(bounds, input, &mut out);
        let emitted: Vec<Kind> = out
            .iter()
            .filter_map(|output| match output {
                Output::Emit(kind) => Some(*kind),
                Output::Stop | Output::Arm(..) | Output::Disarm(_) => None,
            })
            .collect();
        self.dispatch(bounds, &out);
        match answer {
            None => {
                let broken = if matches!(input, Input::Resume(_)) { "RUN-5" } else { "RUN-1" };
                self.expect(handled == Ok(Handled::Ignored), broken);
            }
            Some(Err(refusal)) => self.expect(handled == Err(refusal), "RUN-3"),
            Some(Ok(events)) => {
                self.expect(handled == Ok(Handled::Done), "RUN-3");
                self.expect(emitted == events, "RUN-1");
                // A run that is taken back does not need the room reserved for its beginning. A paused run that ends
                // does not need the room for its `agent_resumed`.
                let spare = usize::from((waiting || paused.is_some()) && !self.observed.is_open());
                self.expect(emitted.len() + self.run.reserve() + spare == room, "RUN-3");
                if self.observed.is_open() && !emitted.is_empty() {
                    self.observed.events += 1;
                }
            }
        }
        if handled != Ok(Handled::Done) {
            self.expect(self.run == before && out.is_empty(), "RUN-3");
        }
        let renewed = out.iter().filter(|output| matches!(output, Output::Arm(Timer::Silence, _))).count();
        let heard = handled == Ok(Handled::Done) && self.observed.has_agent();
        self.expect(renewed == usize::from(heard), "LIVE-2");
        // Nothing extends a run's deadline, which is armed when the run begins or resumes.
        let begins = (waiting || paused.is_some()) && self.observed.has_agent();
        self.expect(out.iter().any(|output| matches!(output, Output::Arm(Timer::Deadline, _))) == begins, "LIVE-2");
        let stops = out.iter().filter(|output| **output == Output::Stop).count();
        let ended = (had_agent || waiting || paused.is_some()) && !self.observed.is_open();
        let stopped = ended || (had_agent && !self.observed.has_agent());
        self.expect(stops == usize::from(stopped), "RUN-1");
        self.check(bounds);
        handled
    }

    fn check(&mut self, bounds: &Bounds) {
        self.expect(self.run.check(bounds).is_ok() && self.observed.grammar.tools().len() <= bounds.tools, "LIM-1");
        self.expect(self.observed.events <= bounds.events + 1 + bounds.tools as u32, "LIM-1");
        let open = self.observed.is_open();
        self.expect(self.run.is_open() == open, "RUN-1");
        let waiting = self.observed.is_waiting();
        self.expect(self.run.is_queued() == waiting, "RUN-4");
        let (has_agent, paused) = (self.observed.has_agent(), self.observed.grammar.paused());
        self.expect(self.run.has_agent() == has_agent && self.run.paused() == paused, "RUN-5");
        self.expect(self.armed.has(Timer::Silence) == has_agent, "LIVE-2");
        self.expect(self.armed.has(Timer::Deadline) == has_agent, "LIVE-2");
        self.expect(self.armed.has(Timer::Pause) == paused.is_some(), "LIVE-2");
        let ending = self.observed.answer(bounds, Input::Cancel).and_then(Result::ok).map_or(0, |events| events.len());
        self.expect(self.run.reserve() == ending + usize::from(waiting || paused.is_some()), "RUN-3");
        let stage = match (self.observed.ended, self.run.state()) {
            (None, Stage::Queued) => waiting,
            (None, Stage::Accepted) => !self.observed.grammar.has_started() && !waiting,
            (None, Stage::Started) => self.observed.grammar.has_started() && self.observed.grammar.tools().is_empty(),
            (None, Stage::Working { tools }) => {
                self.observed.grammar.has_started() && tools == self.observed.grammar.tools()
            }
            (None, Stage::Paused { pause, tools }) => paused == Some(*pause) && tools == self.observed.grammar.tools(),
            (Some(Kind::Completed), Stage::Completed)
            | (Some(Kind::Error(Reason::Cancelled | Reason::NoReply)), Stage::Cancelled)
            | (Some(Kind::Error(Reason::Interrupted)), Stage::Interrupted) => true,
            (Some(Kind::Error(reason)), Stage::Failed) => {
                matches!(reason, Reason::Failed | Reason::Abandoned | Reason::Silent | Reason::TimedOut)
            }
            (
                _,
                Stage::Queued
                | Stage::Accepted
                | Stage::Started
                | Stage::Working { .. }
                | Stage::Paused { .. }
                | Stage::Completed
                | Stage::Failed
                | Stage::Cancelled
                | Stage::Interrupted,
            ) => false,
        };
        self.expect(stage && self.run.message() == MESSAGE && self.run.thread() == THREAD, "RUN-1");
        let recalled = self.recalled.state() == self.run.state() && self.recalled.message() == MESSAGE;
        self.expect(recalled, "RUN-1");
    }
}

impl Model for Request {
    type State = State;
    type Action = Input;

    fn init_states(&self) -> Vec<State> {
        [Schedule::Immediate, Schedule::Queued].map(|schedule| State::new(&self.bounds, schedule)).to_vec()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Input>) {
        if state.broken.is_some() {
            return;
        }
        actions.extend([Input::Start, Input::Think, Input::Say(PartId(0)), Input::Alive, Input::Complete, Input::Fail]);
        actions.extend([Input::Dequeue, Input::Abandon, Input::Cancel, Input::Interrupt, Input::Pause]);
        let newest = state.observed.pauses;
        actions.extend((newest.saturating_sub(1)..=newest + 1).map(|pause| Input::Resume(PauseId(pause))));
        for tool in (0..self.tools).map(ToolId) {
            actions.push(Input::OpenTool(tool));
            let ends = [ToolEnd::Success, ToolEnd::Failure, ToolEnd::Abandoned(Ending::Completed)];
            actions.extend(ends.map(|end| Input::CloseTool(tool, end)));
        }
        actions.extend(Timer::ALL.map(Input::Expired));
    }

    fn next_state(&self, last: &State, input: Input) -> Option<State> {
        let mut next = last.clone();
        let _ = next.feed(&self.bounds, input);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("RUN-1.completed", |_, state: &State| state.observed.ended == Some(Kind::Completed)),
            Property::sometimes("RUN-1.cancelled", |_, state: &State| {
                state.observed.ended == Some(Kind::Error(Reason::Cancelled))
            }),
            Property::sometimes("RUN-4.begun", |_, state: &State| {
                state.observed.queued && state.observed.grammar.has_started()
            }),
            Property::sometimes("RUN-4.taken back", |_, state: &State| {
                let observed = &state.observed;
                let cancelled = observed.ended == Some(Kind::Error(Reason::Cancelled));
                observed.queued && !observed.grammar.has_started() && cancelled
            }),
            Property::sometimes("RUN-3.reserved", |_, state: &State| state.run.reserve() > 2),
            Property::sometimes("LIM-1.tools", |model: &Self, state: &State| {
                state.observed.grammar.tools().len() == model.bounds.tools
            }),
            Property::sometimes("LIM-1.events", |model: &Self, state: &State| {
                state.observed.is_open() && state.observed.events >= model.bounds.events
            }),
            Property::sometimes("RUN-5.resumed", |_, state: &State| {
                state.observed.pauses > 1 && state.observed.has_agent() && !state.observed.grammar.tools().is_empty()
            }),
            Property::sometimes("RUN-5.no reply", |_, state: &State| {
                state.observed.ended == Some(Kind::Error(Reason::NoReply))
            }),
            Property::sometimes("LIVE-2.silent", |_, state: &State| {
                state.observed.ended == Some(Kind::Error(Reason::Silent))
            }),
            Property::sometimes("LIVE-2.overdue", |_, state: &State| {
                state.observed.ended == Some(Kind::Error(Reason::TimedOut))
            }),
        ]);
        all
    }
}

impl Proof for Request {
    fn name(&self) -> &'static str {
        "run"
    }

    fn about(&self) -> &'static str {
        "one run: emits in any order, tools, every way to end, any timer at any moment"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("tools named", self.tools.to_string()),
            ("tools open", self.bounds.tools.to_string()),
            ("events", self.bounds.events.to_string()),
        ]
    }

    fn weight(&self, action: &Input) -> u32 {
        match action {
            Input::Complete | Input::Fail | Input::Abandon | Input::Cancel | Input::Interrupt | Input::Expired(_) => 1,
            Input::Start | Input::Dequeue => 16,
            Input::Think | Input::Say(_) | Input::Alive | Input::OpenTool(_) | Input::Resume(_) => 8,
            Input::CloseTool(..) | Input::Pause => 2,
        }
    }

    fn survives(&self, state: &State) -> bool {
        survives(&state.run)
    }

    fn fairness(&self, action: &Input) -> Option<u8> {
        // An agent that keeps reporting that it is alive keeps the other timer from firing.
        let timers = [Timer::Deadline, Timer::Pause];
        (0_u8..).zip(timers).find_map(|(class, timer)| (*action == Input::Expired(timer)).then_some(class))
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        vec![Promise {
            id: "LIVE-2",
            pending: |_, state| state.broken.is_none() && state.observed.is_open() && !state.observed.is_waiting(),
        }]
    }
}

impl Lifecycle for Request {
    fn phases(&self) -> &'static [&'static str] {
        &["queued", "accepted", "started", "working", "paused", "completed", "failed", "cancelled", "interrupted"]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[
            "dequeue",
            "start",
            "think",
            "say",
            "alive",
            "open tool",
            "close tool",
            "pause",
            "resume",
            "complete",
            "fail",
            "abandon",
            "cancel",
            "interrupt",
            "silence expired",
            "deadline expired",
            "pause expired",
            "another timer",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.run.state() {
            Stage::Queued => "queued",
            Stage::Accepted => "accepted",
            Stage::Started => "started",
            Stage::Working { .. } => "working",
            Stage::Paused { .. } => "paused",
            Stage::Completed => "completed",
            Stage::Failed => "failed",
            Stage::Cancelled => "cancelled",
            Stage::Interrupted => "interrupted",
        }
    }

    fn input(&self, action: &Input) -> Option<&'static str> {
        Some(match action {
            Input::Dequeue => "dequeue",
            Input::Start => "start",
            Input::Think => "think",
            Input::Say(_) => "say",
            Input::Alive => "alive",
            Input::OpenTool(_) => "open tool",
            Input::CloseTool(..) => "close tool",
            Input::Pause => "pause",
            Input::Resume(_) => "resume",
            Input::Complete => "complete",
            Input::Fail => "fail",
            Input::Abandon => "abandon",
            Input::Cancel => "cancel",
            Input::Interrupt => "interrupt",
            Input::Expired(Timer::Silence) => "silence expired",
            Input::Expired(Timer::Deadline) => "deadline expired",
            Input::Expired(Timer::Pause) => "pause expired",
            Input::Expired(_) => "another timer",
        })
    }

    fn outcome(&self, before: &State, action: &Input) -> Outcome {
        let mut after = before.clone();
        match after.feed(&self.bounds, *action) {
            Err(_) => Outcome::Refused,
            Ok(Handled::Ignored) => Outcome::Ignored,
            Ok(Handled::Done) if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Ok(Handled::Done) => Outcome::Moved,
        }
    }
}
