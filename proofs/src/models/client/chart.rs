//! The client's model as the checker sees it: steps, properties and names.

use lockstep_model::client::{Input, State as Stage};
use lockstep_model::{Code, ConnectionId, Control, Frame, Handled, MessageId, SocketId, Timer, TokenRequestId};
use stateright::{Model, Property};

use super::{Action, Alone, State, unbroken};
use crate::engine::proof::{Lifecycle, Outcome, Promise, Proof};
use crate::models::harness::survives;
use crate::properties::client::Observed;
use crate::properties::client::link::{Stage as Phase, away};
use crate::properties::client::messages::Settled;

/// Close codes on both sides of each border of the table, and those that a client distinguishes.
const CODES: [u16; 15] = [1000, 1002, 1003, 1006, 1007, 1008, 1009, 1010, 1011, 4000, 4499, 4500, 4501, 4506, 4999];

impl State {
    /// Whether the last step settled a message in this way.
    fn has_settled(&self, how: Settled) -> bool {
        self.observed.messages.last == how
    }
}

impl Model for Alone {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let fresh = |input| Action::Hear(input, false);
        actions.extend([Input::Connect, Input::Disconnect].map(fresh));
        for message in 1..=self.messages {
            let message = MessageId(message);
            actions.extend([1, 2].map(|size| fresh(Input::Send { message, payload: 6, size })));
            actions.push(fresh(Input::Withdraw { message }));
        }
        let link = &state.observed.link;
        let newest = link.asked().0;
        for asked in 0..=newest + 1 {
            let late = asked != newest;
            actions
                .extend([7, 8].map(|token| Action::Hear(Input::Token { asked: TokenRequestId(asked), token }, late)));
        }
        actions.push(fresh(Input::Present { token: 9 }));
        let newest = link.newest().0;
        for socket in (newest.saturating_sub(1)..=newest + 1).map(SocketId) {
            let late = !link.is_current(socket);
            if state.dead && !late {
                continue;
            }
            actions.push(Action::Hear(Input::Opened { socket }, late));
            actions.extend([1, u32::MAX].map(|longest| Action::Hear(Input::Limits { socket, longest }, late)));
            actions.extend(CODES.map(|code| Action::Hear(Input::Closed { socket, code }, late)));
            for frame in self.frames(state.client.position()) {
                let connection = ConnectionId(u64::from(socket.0) + 20);
                actions.push(Action::Hear(Input::Frame { socket, connection, frame }, late));
            }
        }
        if !state.dead {
            actions.push(Action::Die);
        }
        actions.extend(Timer::ALL.map(|timer| Action::Hear(Input::Expired(timer), !state.armed.has(timer))));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Hear(input, late) => {
                let _ = next.feed(&self.bounds, &input);
                // A stale input was checked above. If it changed nothing, it is no step.
                if late && next == *last {
                    return None;
                }
            }
            Action::Die => next.dead = true,
        }
        Some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        let offset = state.client.position().map_or(0, |position| position.offset.0);
        let link = &state.observed.link;
        let within = link.newest().0 <= self.sockets && link.asked().0 <= self.asked && offset <= self.offsets;
        // A violation is never cut off by the bounds.
        within || state.broken.is_some()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("CLIENT-1.again", |model: &Self, state: &State| {
                let link = &state.observed.link;
                link.newest() == SocketId(model.sockets) && link.failures > 1
            }),
            Property::sometimes("CLIENT-1.away", |_, state: &State| {
                state.client.state() == (Stage::Stopped { code: 4500 })
            }),
            Property::sometimes("RUN-2.repeated", |_, state: &State| {
                let Observed { link, messages, .. } = &state.observed;
                link.stage == Phase::Authenticating && messages.queue.iter().any(|queued| queued.times > 0)
            }),
            Property::sometimes("RUN-2.unknown", |_, state: &State| state.has_settled(Settled::Unknown)),
            Property::sometimes("CLIENT-1.leaving", |_, state: &State| state.observed.link.going),
            Property::sometimes("CLIENT-2.held", |_, state: &State| {
                let messages = &state.observed.messages;
                messages.held && messages.queue.iter().any(|queued| queued.times == 0)
            }),
            Property::sometimes("CLIENT-1.proven", |_, state: &State| {
                state.observed.link.is_ready() && !state.observed.link.unproven
            }),
            Property::sometimes("CLIENT-2.answered", |_, state: &State| state.has_settled(Settled::Answered)),
            Property::sometimes("CLIENT-2.refused", |_, state: &State| state.has_settled(Settled::Refused)),
            Property::sometimes("CLIENT-2.returned", |_, state: &State| state.has_settled(Settled::TooLong)),
            Property::sometimes("CLIENT-2.given_back", |_, state: &State| {
                state.has_settled(Settled::Unknown) && state.observed.link.stage == Phase::Pausing
            }),
            Property::sometimes("STR-1.read", |_, state: &State| {
                state.client.position().is_some_and(|position| position.offset.0 > 0)
            }),
            Property::sometimes("AUTH-3.asked", |_, state: &State| state.observed.link.asked().0 > 1),
            Property::sometimes("LIVE-4.waiting", |_, state: &State| state.observed.link.probing),
        ]);
        all
    }
}

impl Proof for Alone {
    fn name(&self) -> &'static str {
        "client"
    }

    fn about(&self) -> &'static str {
        "one client: sockets, frames, credentials and timers of any age at any moment"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sockets", self.sockets.to_string()),
            ("credentials asked for", self.asked.to_string()),
            ("offsets", self.offsets.to_string()),
            ("messages at a time", self.messages.to_string()),
        ]
    }

    fn weight(&self, action: &Action) -> u32 {
        match action {
            Action::Die | Action::Hear(Input::Disconnect, _) => 1,
            Action::Hear(Input::Closed { .. }, false) => 1,
            Action::Hear(_, true) => 1,
            Action::Hear(Input::Frame { frame: Frame::Close(_), .. }, false) => 1,
            // Nothing else makes a client ready, and later ones change nothing.
            Action::Hear(
                Input::Opened { .. } | Input::Frame { frame: Frame::Control(Control::Ready { .. }), .. },
                false,
            ) => 100,
            Action::Hear(Input::Connect | Input::Expired(Timer::Backoff), false) => 100,
            Action::Hear(Input::Frame { frame: Frame::Event(_), .. } | Input::Token { .. }, false) => 20,
            Action::Hear(_, false) => 10,
        }
    }

    fn survives(&self, state: &State) -> bool {
        survives(&state.client)
    }

    fn fairness(&self, action: &Action) -> Option<u8> {
        match action {
            Action::Hear(Input::Expired(timer), false) => Some(*timer as u8),
            Action::Hear(..) | Action::Die => None,
        }
    }

    fn promises(&self) -> Vec<Promise<Self>> {
        let pending =
            |_: &Self, state: &State| state.broken.is_none() && state.dead && state.observed.link.has_socket();
        // For each message separately, because while messages are resent, some message is always unanswered.
        let unanswered = |_: &Self, state: &State| {
            let Observed { link, messages, .. } = &state.observed;
            let first = messages.queue.iter().find(|queued| queued.message.0 == 1);
            state.broken.is_none() && link.is_ready() && first.is_some_and(|queued| queued.here)
        };
        vec![Promise { id: "LIVE-4", pending }, Promise { id: "CLIENT-2", pending: unanswered }]
    }
}

impl Lifecycle for Alone {
    fn phases(&self) -> &'static [&'static str] {
        &["idle", "connecting", "authenticating", "live", "holding", "leaving", "backoff", "stopped"]
    }

    fn inputs(&self) -> &'static [&'static str] {
        &[
            "connect",
            "disconnect",
            "send",
            "withdraw",
            "token",
            "stale token",
            "opened",
            "limits",
            "ready",
            "event",
            "going away",
            "sent back",
            "mode",
            "other control",
            "close: come back",
            "close: stay away",
            "closed: come back",
            "closed: stay away",
            "stale socket",
            "backoff expired",
            "connect expired",
            "heartbeat expired",
            "stable expired",
            "leave expired",
            "answer expired",
            "another timer",
        ]
    }

    fn phase(&self, state: &State) -> &'static str {
        match state.client.state() {
            Stage::Idle => "idle",
            Stage::Backoff => "backoff",
            Stage::Connecting => "connecting",
            Stage::Authenticating => "authenticating",
            Stage::Live { .. } => "live",
            Stage::Holding { .. } => "holding",
            Stage::Leaving { .. } => "leaving",
            Stage::Stopped { .. } => "stopped",
        }
    }

    fn input(&self, action: &Action) -> Option<&'static str> {
        let Action::Hear(input, late) = action else { return None };
        Some(match input {
            Input::Connect => "connect",
            Input::Disconnect => "disconnect",
            Input::Send { .. } => "send",
            Input::Withdraw { .. } => "withdraw",
            Input::Token { .. } if *late => "stale token",
            Input::Token { .. } | Input::Present { .. } => "token",
            Input::Opened { .. } | Input::Limits { .. } | Input::Frame { .. } | Input::Closed { .. } if *late => {
                "stale socket"
            }
            Input::Opened { .. } => "opened",
            Input::Limits { .. } => "limits",
            Input::Frame { frame: Frame::Control(Control::Ready { .. }), .. } => "ready",
            Input::Frame { frame: Frame::Control(Control::GoingAway(_)), .. } => "going away",
            Input::Frame { frame: Frame::Control(Control::Refused { code: Code::Draining, .. }), .. } => "sent back",
            Input::Frame { frame: Frame::Control(Control::Mode(_)), .. } => "mode",
            Input::Frame { frame: Frame::Control(_), .. } => "other control",
            Input::Frame { frame: Frame::Event(_), .. } => "event",
            Input::Frame { frame: Frame::Close(cause), .. } if away(cause.code()) => "close: stay away",
            Input::Frame { frame: Frame::Close(_), .. } => "close: come back",
            Input::Closed { code, .. } if away(*code) => "closed: stay away",
            Input::Closed { .. } => "closed: come back",
            Input::Expired(Timer::Backoff) => "backoff expired",
            Input::Expired(Timer::Connect) => "connect expired",
            Input::Expired(Timer::Heartbeat) => "heartbeat expired",
            Input::Expired(Timer::Stable) => "stable expired",
            Input::Expired(Timer::Leave) => "leave expired",
            Input::Expired(Timer::Answer) => "answer expired",
            Input::Expired(_) => "another timer",
        })
    }

    fn outcome(&self, before: &State, action: &Action) -> Outcome {
        let mut after = before.clone();
        let Action::Hear(input, _) = action else { return Outcome::Stayed };
        match after.feed(&self.bounds, input) {
            Err(_) => Outcome::Refused,
            Ok(Handled::Ignored) => Outcome::Ignored,
            Ok(Handled::Done) if self.phase(before) == self.phase(&after) => Outcome::Stayed,
            Ok(Handled::Done) => Outcome::Moved,
        }
    }
}
