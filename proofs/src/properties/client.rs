//! CLIENT-1, CLIENT-2 and what a client contributes to STR-1, RUN-2, AUTH-3 and LIVE-4, from its inputs and outputs.
//!
//! Three observers share the inputs. Each knows one thing that its user could write down, and says which outputs an
//! input must have. They agree on no more than what one must know of another:
//!
//! | observer | properties | knows |
//! | --- | --- | --- |
//! | [`link`] | CLIENT-1, AUTH-3 | the socket, the attempts and pauses before it, the newest credential |
//! | [`messages`] | CLIENT-2, RUN-2 | the messages that are not settled, and where each was written |
//! | [`reading`] | STR-1 | the position, and the runs whose end is not shown |
//!
//! This module states LIVE-4: what a client waits for has a deadline, which starts when the wait does.

pub(crate) mod link;
pub(crate) mod messages;
pub(crate) mod reading;

use core::time::Duration;

use lockstep_model::client::{Input, Output};
use lockstep_model::frame::ReadFrom;
use lockstep_model::{Bounds, Control, Frame, Handled, MessageId, Refusal, Request, Timer};

use self::link::{Link, Stage};
use self::messages::Messages;
use self::reading::{Heard, Reading};

/// What was observed of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Observed {
    pub(crate) link: Link,
    pub(crate) messages: Messages,
    pub(crate) reading: Reading,
}

/// What a step brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Whether the input is taken, ignored because it is stale, or refused.
    handled: Result<Handled, Refusal>,
    /// The outputs that each observer judges, in order.
    link: Vec<Output<u8>>,
    messages: Vec<Output<u8>>,
    reading: Vec<Output<u8>>,
    /// The deadlines that are started, sorted.
    arms: Vec<(Timer, Duration)>,
}

/// What a client waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Awaited {
    /// The message whose answer is due next, or the departure of a gateway that takes no messages.
    answer: Option<Option<MessageId>>,
    /// An answer, or the rest of a run.
    gateway: bool,
    /// The heartbeat is due, and was not sent.
    quiet: bool,
}

impl Observed {
    /// A client that will start reading at `begin`.
    pub(crate) const fn new(begin: ReadFrom) -> Self {
        Self { link: Link::new(), messages: Messages::new(), reading: Reading::new(begin) }
    }

    /// Whether the client may write messages: the gateway is ready, and has not said that it takes none.
    pub(crate) const fn takes_messages(&self) -> bool {
        self.link.is_ready() && !self.link.going && !self.messages.held
    }

    /// Takes an input.
    pub(crate) fn feed(&mut self, bounds: &Bounds, input: &Input<u8>) -> Effects {
        let before = self.awaited();
        let mut effects = Effects::nothing();
        self.messages.begin_step();
        if let Err(refusal) = self.messages.admits(input) {
            effects.handled = Err(refusal);
            return effects;
        }
        let heard = self.reading.hears(&self.link, input);
        if self.counts(input, heard) {
            effects.handled = Ok(Handled::Done);
            self.take(bounds, input, heard, &mut effects);
        }
        effects.arms.extend(self.begins_to_wait(bounds, before));
        effects.arms.sort_unstable();
        effects
    }

    fn take(&mut self, bounds: &Bounds, input: &Input<u8>, heard: Heard, effects: &mut Effects) {
        let gap = self.reading.take(&self.link, input, heard, &mut effects.reading);
        let before = self.messages.queue.len();
        self.messages.settle(&self.link, input, heard, gap, &mut effects.messages);
        let fewer = self.messages.queue.len() < before;
        let from = self.reading.from();
        self.link.take(bounds, input, heard, fewer, from, effects);
        if self.link.has_left(&effects.link) {
            self.messages.lose_socket();
        }
        if self.takes_messages() {
            self.messages.write(&mut effects.messages);
        }
    }

    /// Whether an input is of the newest socket, request or wait, so that it is taken. (CLIENT-1: inputs of an older
    /// socket are stale. AUTH-3: so are credentials that were asked for earlier.)
    fn counts(&self, input: &Input<u8>, heard: Heard) -> bool {
        let (link, stage) = (&self.link, self.link.stage);
        match input {
            Input::Send { .. } | Input::Present { .. } => true,
            Input::Withdraw { message } => self.messages.is_unwritten(*message),
            Input::Token { asked, .. } => *asked == link.asked(),
            Input::Connect => matches!(stage, Stage::Idle | Stage::Stopped),
            Input::Disconnect => stage != Stage::Idle,
            Input::Opened { socket } => link.is_current(*socket) && stage == Stage::Opening,
            Input::Limits { socket, .. } => link.is_current(*socket) && stage == Stage::Authenticating,
            Input::Closed { socket, .. } => link.is_current(*socket),
            Input::Frame { socket, frame, .. } => {
                let opens = matches!(frame, Frame::Close(_) | Frame::Control(Control::Ready { .. }));
                let reads = link.is_ready() && (heard != Heard::Again || link.probing);
                link.is_current(*socket) && (reads || (stage == Stage::Authenticating && opens))
            }
            Input::Expired(Timer::Backoff) => stage == Stage::Pausing,
            Input::Expired(Timer::Connect) => matches!(stage, Stage::Opening | Stage::Authenticating),
            Input::Expired(Timer::Heartbeat | Timer::Stable | Timer::Answer) => link.is_ready(),
            Input::Expired(Timer::Leave) => link.going,
            Input::Expired(_) => false,
        }
    }

    fn awaited(&self) -> Awaited {
        let ready = self.link.is_ready();
        let oldest = self.messages.oldest().filter(|_| ready);
        let departs = ready && self.messages.held && !self.messages.queue.is_empty();
        Awaited {
            answer: if oldest.is_some() || departs { Some(oldest) } else { None },
            gateway: oldest.is_some() || self.reading.awaits_runs(),
            quiet: ready && !self.link.probing,
        }
    }

    /// LIVE-4: the deadlines of a client that is ready. An answer has its time from when it is awaited. The heartbeat
    /// comes early while something is awaited, and starts over with each sign of life.
    fn begins_to_wait(&self, bounds: &Bounds, before: Awaited) -> impl Iterator<Item = (Timer, Duration)> {
        let now = self.awaited();
        let answer = self.link.is_ready() && now.answer.is_some() && now.answer != before.answer;
        let beats = now.quiet && (!before.quiet || (now.gateway && !before.gateway));
        let beat = if now.gateway { bounds.pong / 2 } else { bounds.heartbeat };
        let answer = answer.then_some((Timer::Answer, bounds.answer));
        answer.into_iter().chain(beats.then_some((Timer::Heartbeat, beat)))
    }

    /// LIVE-4: the timers that must be armed.
    pub(crate) fn deadlines(&self) -> Vec<Timer> {
        let link = &self.link;
        let all = [
            (link.stage == Stage::Pausing, Timer::Backoff),
            (matches!(link.stage, Stage::Opening | Stage::Authenticating), Timer::Connect),
            (link.is_ready(), Timer::Heartbeat),
            (link.is_ready() && link.unproven, Timer::Stable),
            (link.going, Timer::Leave),
            (self.awaited().answer.is_some(), Timer::Answer),
        ];
        all.into_iter().filter(|(waits, _)| *waits).map(|(_, timer)| timer).collect()
    }
}

impl Effects {
    const fn nothing() -> Self {
        Self {
            handled: Ok(Handled::Ignored),
            link: Vec::new(),
            messages: Vec::new(),
            reading: Vec::new(),
            arms: Vec::new(),
        }
    }

    /// What this answer and these outputs bring about.
    pub(crate) fn of(handled: Result<Handled, Refusal>, out: &[Output<u8>]) -> Self {
        let mut seen = Self { handled, ..Self::nothing() };
        for output in out {
            match output {
                Output::Arm(timer, after) => {
                    seen.arms.push((*timer, *after));
                    continue;
                }
                Output::Disarm(_) => continue,
                Output::Open { .. } | Output::Close { .. } | Output::Pause(_) | Output::NeedToken { .. } => {
                    &mut seen.link
                }
                Output::Write(Request::Message { .. }) => &mut seen.messages,
                Output::Write(_) => &mut seen.link,
                Output::Accepted { .. }
                | Output::Refused { .. }
                | Output::TooLong { .. }
                | Output::Unknown { .. }
                | Output::Error(_) => &mut seen.messages,
                Output::Deliver(_) | Output::Reset { .. } | Output::Notice(_) => &mut seen.reading,
            }
            .push(output.clone());
        }
        seen.arms.sort_unstable();
        seen
    }

    /// The property that is violated if this was required and a step brings about `seen`.
    pub(crate) fn violated_by(&self, input: &Input<u8>, seen: &Self) -> Option<&'static str> {
        type Kind = fn(&&Output<u8>) -> bool;
        let differ = |ours: &[Output<u8>], theirs: &[Output<u8>], kind: Kind| {
            !ours.iter().filter(kind).eq(theirs.iter().filter(kind))
        };
        let is_message = |output: &&Output<u8>| matches!(output, Output::Write(Request::Message { .. }));
        let is_ping = |output: &&Output<u8>| matches!(output, Output::Write(Request::Ping));
        let is_credential = |output: &&Output<u8>| matches!(output, Output::Write(Request::Auth { .. }));
        let checks = [
            (differ(&self.messages, &seen.messages, is_message), "RUN-2"),
            (self.messages != seen.messages, "CLIENT-2"),
            (self.reading != seen.reading, "STR-1"),
            (differ(&self.link, &seen.link, is_ping), "LIVE-4"),
            (differ(&self.link, &seen.link, is_credential), "AUTH-3"),
            (self.link != seen.link, "CLIENT-1"),
            (self.arms != seen.arms, "LIVE-4"),
            (self.handled != seen.handled, counts(input)),
        ];
        checks.into_iter().find(|(wrong, _)| *wrong).map(|(_, property)| property)
    }
}

/// The property that is violated if a stale input is taken, or one that counts is not.
pub(crate) const fn counts(input: &Input<u8>) -> &'static str {
    match input {
        Input::Send { .. } => "RUN-2",
        Input::Withdraw { .. } | Input::Limits { .. } | Input::Expired(Timer::Answer) => "CLIENT-2",
        Input::Token { .. } | Input::Present { .. } => "AUTH-3",
        Input::Frame { frame: Frame::Event(_), .. } => "STR-1",
        Input::Expired(Timer::Heartbeat) => "LIVE-4",
        Input::Connect
        | Input::Disconnect
        | Input::Opened { .. }
        | Input::Frame { .. }
        | Input::Closed { .. }
        | Input::Expired(_) => "CLIENT-1",
    }
}
