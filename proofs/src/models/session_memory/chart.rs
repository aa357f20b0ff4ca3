//! A session and its memory as a model, named `memory` on the command line.

use lockstep_model::tenure::Request;
use lockstep_model::{CredentialId, Mode, RevocationGeneration, Scope, Timer};
use stateright::{Model, Property};

use super::environment::run_of;
use super::{Action, End, SessionMemory, State, unbroken};
use crate::engine::proof::Proof;

impl Model for SessionMemory {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() || state.retired {
            return;
        }
        // The third credential is never revoked: it is excluded only by a revocation of everything older.
        let grants = |most| (1..=most).flat_map(|credential| (0..=state.generation).map(move |g| (credential, g)));
        if state.joins < self.joins {
            actions.extend(grants(3).map(|(credential, generation)| Action::Join(credential, generation)));
        }
        actions.extend(state.members.iter().map(|member| Action::Leave(member.id)));
        if let Some((_, request)) = state.session.ownership().seeking() {
            if request == Request::Requested {
                actions.extend([Action::Restored, Action::NotRestored]);
            } else {
                actions.extend((state.asked == 1).then_some(Action::Expired(Timer::Restore)));
            }
        } else {
            if state.renewals < self.renewals {
                for member in &state.members {
                    let renew = |(credential, generation)| Action::Renew(member.id, credential, generation);
                    actions.extend(grants(2).map(renew));
                }
            }
            let quiet = state.generation == 0 && !state.is_up();
            if quiet && !state.members.is_empty() {
                actions.extend((state.messages < self.messages).then_some(Action::Send));
                actions.extend((1..=state.messages).map(Action::Repeat));
                let over = |message: &u64| !state.runs.contains(&run_of(*message));
                actions.extend((1..=state.messages).filter(over).map(Action::Cancel));
            }
            if state.is_up() && state.mode == Mode::Ready {
                actions.push(Action::Mode(Mode::Emergency));
            }
            if state.messages > 1 && state.mode != Mode::Draining {
                actions.push(Action::Mode(Mode::Draining));
                actions.push(Action::Mode(match state.mode {
                    Mode::Ready => Mode::Degraded,
                    Mode::Degraded => Mode::Emergency,
                    Mode::Emergency => Mode::HandingOver,
                    Mode::HandingOver | Mode::Draining => Mode::Ready,
                }));
            }
        }
        for run in &state.runs {
            let ends = [End::Completed, End::Failed, End::Abandoned, End::Silent];
            actions.extend(ends.map(|end| Action::End(*run, end)));
            if !state.members.is_empty() {
                actions.push(Action::End(*run, End::Cancelled));
            }
        }
        // The edge has raised the generation before it notifies the session, and two notifications may arrive in either
        // order.
        let newest = (state.generation + 1).min(self.generations);
        if state.messages == 1 {
            actions.extend((1..=newest).map(|oldest| Action::Revoke(Scope::All(RevocationGeneration(oldest)))));
            let one = |credential| Action::Revoke(Scope::One(CredentialId(credential), RevocationGeneration(newest)));
            actions.extend([1, 2].map(one));
        }
        actions.extend((0..=state.generation).filter(|_| state.is_up()).map(Action::Verified));
        let timers = [Timer::Breaker, Timer::Linger];
        actions.extend(timers.into_iter().filter(|timer| state.armed.has(*timer)).map(Action::Expired));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(&self.bounds, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("AUTH-1.fenced", |_, state: &State| state.is_up() && !state.members.is_empty()),
            Property::sometimes("AUTH-1.sealed", |model: &Self, state: &State| {
                state.single.len() == model.bounds.revoked && state.oldest.is_some()
            }),
            Property::sometimes("LIM-1.breaker", |_, state: &State| state.open && !state.members.is_empty()),
            Property::sometimes("LIM-1.again", |_, state: &State| {
                !state.open && state.failures > 0 && state.messages > 1
            }),
            Property::sometimes("LIM-1.full", |model: &Self, state: &State| state.runs.len() == model.bounds.runs),
            Property::sometimes("RUN-2.forgotten", |model: &Self, state: &State| {
                let forgotten = |message| state.known(&model.bounds, message).is_none();
                state.open && state.mode != Mode::Ready && (1..=state.messages).any(forgotten)
            }),
            Property::sometimes("SES-1.retired", |_, state: &State| state.retired && state.generation > 0),
        ]);
        all
    }
}

impl Proof for SessionMemory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn about(&self) -> &'static str {
        "one session: revocations of one and of all, joins, renewals, runs that fail in a row, and their timers"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("joins", self.joins.to_string()),
            ("renewals", self.renewals.to_string()),
            ("generations", self.generations.to_string()),
            ("messages", self.messages.to_string()),
            ("failures", self.bounds.failures.to_string()),
            ("revoked", self.bounds.revoked.to_string()),
        ]
    }

    fn is_short(&self) -> bool {
        true
    }
}
