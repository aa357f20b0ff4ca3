//! The stream's model as the checker sees it: steps, properties and names.

use lockstep_model::stream::{Snapshot, Stream, Writer};
use lockstep_model::{BatchId, Bounds, Epoch, FencingToken, Handled, Offset, Tenure, Timer};
use stateright::{Model, Property};

use super::{Action, Log, Reader, State, unbroken};
use crate::engine::proof::{Lifecycle, Outcome, Promise, Proof};
use crate::models::harness::{Armed, survives};

impl Model for Log {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let snapshot = Snapshot::empty(Tenure { epoch: Epoch(1), token: FencingToken(1) });
        let mut state = State {
            stream: Stream::restore(&self.bounds, snapshot, &mut Vec::new()),
            epoch: 1,
            durable: Vec::new(),
            told: 0,
            trimmed: 0,
            waiting: Vec::new(),
            writes: Vec::new(),
            writing: false,
            asked: 0,
            refused: false,
            armed: Armed::default(),
            next: 0,
            failures: 0,
            crashes: 0,
            readers: vec![Reader::default(); self.readers],
            reset: false,
            broken: None,
        };
        state.check_batches(&Bounds::DEFAULT);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        if state.next < self.appends && state.waiting.len() < self.bounds.pending {
            actions.push(Action::Append);
        }
        let taken = state.durable.len() - state.told;
        if taken < state.asked {
            actions.extend([0, 1].map(Action::Take));
        }
        if taken > 0 && state.writing {
            actions.push(Action::Confirm);
        }
        if state.writing && state.failures < self.failures {
            actions.push(Action::Fail);
        }
        let batch = state.stream.batch();
        let older = BatchId(batch.0.wrapping_sub(1));
        let newer = BatchId(batch.0 + 1);
        for offset in 0..=state.offset(state.durable.len()) + 1 {
            actions.extend([older, newer].map(|batch| Action::Late(batch, Offset(offset))));
            if offset <= state.head() || !state.writing {
                actions.push(Action::Late(batch, Offset(offset)));
            }
        }
        actions.extend([older, newer].map(Action::Refuse));
        if !state.writing {
            actions.push(Action::Refuse(batch));
        }
        let answers = !state.writing || state.failures < self.failures;
        let timers = Timer::ALL.iter().copied().filter(|timer| *timer != Timer::LogAnswer || answers);
        actions.extend(timers.map(Action::Expired));
        if state.crashes < self.crashes {
            actions.extend([Action::Crash(true), Action::Crash(false), Action::Lose]);
        }
        for (index, reader) in (0..).zip(&state.readers) {
            if reader.seeks < self.seeks {
                actions.extend([0, 1, 2].map(|from| Action::Seek(index, from)));
                if self.claims {
                    actions.extend((0..=state.head() + 1).map(|offset| Action::Claim(index, Offset(offset))));
                }
            }
            if reader.cursor.is_some() {
                actions.push(Action::Read(index));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let _ = next.act(self, &last.stream, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("STR-1.gap", |_, state: &State| state.reset),
            Property::sometimes("STR-1.hole", |_, state: &State| state.head() > state.told as u64),
            Property::sometimes("STR-2.late", |_, state: &State| {
                state.refused && state.writing && state.durable.len() > state.told
            }),
            Property::sometimes("STR-2.torn", |_, state: &State| !state.writing && state.durable.len() > state.told),
            Property::sometimes("STR-2.restored", |_, state: &State| state.crashes > 0 && state.told > 0),
            Property::sometimes("STR-2.epoch", |_, state: &State| state.epoch > 1 && state.told > 0),
            Property::sometimes("LIM-1.trimmed", |_, state: &State| state.trimmed > 0),
            Property::sometimes("LIM-1.pending", |model: &Self, state: &State| {
                state.waiting.len() == model.bounds.pending
            }),
        ]);
        all
    }
}

impl Proof for Log {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn about(&self) -> &'static str {
        "one stream, a log that is late, refuses, writes batches in part and forgets, and readers anywhere"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("appends", self.appends.to_string()),
            ("refusals and silences", self.failures.to_string()),
            ("crashes", self.crashes.to_string()),
            ("readers", self.readers.to_string()),
            ("seeks of each reader", self.seeks.to_string()),
            ("retained", self.bounds.retained.to_string()),
            ("pending", self.bounds.pending.to_string()),
            ("hole before an entry", "0 or 1 offset".into()),
        ]
    }

    fn weight(&self, action: &Action) -> u32 {
        match action {
            // There is one such action for each offset.
            Action::Late(..) | Action::Claim(..) | Action::Refuse(_) | Action::Crash(_) | Action::Lose => 1,
            Action::Append | Action::Confirm => 200,
            Action::Take(_) => 100,
            Action::Read(_) => 50,
            Action::Expired(Timer::Retry) => 40,
            Action::Expired(_) | Action::Fail | Action::Seek(..) => 4,
        }
    }

    fn survives(&self, state: &State) -> bool {
        survives(&state.stream)
    }

    fn fairness(&self, action: &Action) -> Option<u8> {
        match action {
            Action::Read(reader) => Some(*reader),
            Action::Append
            | Action::Take(_)
            | Action::Confirm
            | Action::Fail
            | Action::Late(..)
            | Action::Refuse(_)
            | Action::Expired(_)
            | Action::Crash(_)
            | Action::Lose
            | Action::Seek(..)
            | Action::Claim(..) => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        let pending = |_: &Self, state: &State| {
            let behind = |reader: &Reader| {
                reader.cursor.is_some() && reader.seen.is_some_and(|(_, offset)| offset < state.head())
            };
            state.broken.is_none() && state.readers.iter().any(behind)
        };
        vec![Promise { id: "LIVE-3", pending }]
    }
}

impl Lifecycle for Log {
    fn phases(&self) -> &'static [&'static str] {
        &["idle", "writing", "waiting", "retrying"]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[
            "append",
            "persisted",
            "failed",
            "late persisted",
            "late failed",
            "retry expired",
            "log answer expired",
            "another timer",
            "restored",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.stream.writer() {
            Writer::Idle => "idle",
            Writer::Writing { .. } => "writing",
            Writer::Waiting => "waiting",
            Writer::Retrying { .. } => "retrying",
        }
    }

    fn input(&self, action: &Action) -> Option<&'static str> {
        Some(match action {
            Action::Append => "append",
            Action::Confirm => "persisted",
            Action::Fail => "failed",
            Action::Late(..) => "late persisted",
            Action::Refuse(_) => "late failed",
            Action::Expired(Timer::Retry) => "retry expired",
            Action::Expired(Timer::LogAnswer) => "log answer expired",
            Action::Expired(_) => "another timer",
            Action::Crash(_) | Action::Lose => "restored",
            Action::Take(_) | Action::Seek(..) | Action::Claim(..) | Action::Read(_) => return None,
        })
    }

    fn outcome(&self, before: &State, action: &Action) -> Outcome {
        let mut after = before.clone();
        match after.act(self, &before.stream, *action) {
            Handled::Ignored => Outcome::Ignored,
            Handled::Done if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Handled::Done => Outcome::Moved,
        }
    }
}
