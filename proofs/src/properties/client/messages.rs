//! CLIENT-2 and RUN-2: the messages of a client that are not settled.
//!
//! A message is settled by the first of these, and its user is told once:
//!
//! | input | the message | is |
//! | --- | --- | --- |
//! | its `message_received` is shown, or the gateway knows its run | | answered |
//! | the gateway refuses it (as forgotten) | | refused (unknown) |
//! | it is longer than the gateway takes | was not written (was) | returned (unknown) |
//! | entries are gone | was written | unknown |
//! | a close code blames frames | was written to this socket | unknown |
//! | its answer is overdue | is the oldest on this socket | unknown |
//!
//! Until then it is written once to each socket, marked as a repetition after the first. A refusal because the gateway
//! is about to go away settles nothing: the message counts as not written to this socket, and messages are held until
//! the gateway stays after all.
#![expect(clippy::wildcard_enum_match_arm, reason = "one input is selected among all")]

use lockstep_model::client::{Input, MAX_WRITES, Output};
use lockstep_model::run::Kind;
use lockstep_model::{Code, Control, Frame, MessageId, Mode, Refusal, Request, RunId, ThreadId, Timer};

use super::link::{Link, code};
use super::reading::Heard;

/// A message that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unsettled {
    pub(crate) message: MessageId,
    pub(crate) payload: u8,
    pub(crate) size: u32,
    /// Whether it was written to the current socket.
    pub(crate) here: bool,
    /// The number of sockets to which it was written.
    pub(crate) times: u8,
}

/// How a message was settled in the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Settled {
    No,
    Answered,
    Refused,
    TooLong,
    Unknown,
}

/// What was observed of a client's messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Messages {
    pub(crate) queue: Vec<Unsettled>,
    /// The longest that the gateway takes.
    pub(crate) longest: u32,
    /// Whether the gateway takes none for now.
    pub(crate) held: bool,
    pub(crate) last: Settled,
}

impl Messages {
    pub(crate) const fn new() -> Self {
        Self { queue: Vec::new(), longest: u32::MAX, held: false, last: Settled::No }
    }

    pub(super) const fn begin_step(&mut self) {
        self.last = Settled::No;
    }

    /// The message that has waited longest for an answer on the current socket.
    pub(super) fn oldest(&self) -> Option<MessageId> {
        self.queue.iter().find(|queued| queued.here).map(|queued| queued.message)
    }

    pub(super) fn is_unwritten(&self, message: MessageId) -> bool {
        self.queue.iter().any(|queued| queued.message == message && queued.times == 0)
    }

    /// RUN-2: no two messages of a client have one id.
    pub(super) fn admits(&self, input: &Input<u8>) -> Result<(), Refusal> {
        let taken = |id: MessageId| self.queue.iter().any(|queued| queued.message == id);
        match input {
            Input::Send { message, .. } if taken(*message) => Err(Refusal::Misuse),
            _ => Ok(()),
        }
    }

    /// The current socket is gone, or another one.
    pub(super) fn lose_socket(&mut self) {
        self.held = false;
        self.queue.iter_mut().for_each(|queued| queued.here = false);
    }

    /// Takes an input that counts, with what it is to the reader and whether it names a gap.
    pub(super) fn settle(
        &mut self,
        link: &Link,
        input: &Input<u8>,
        heard: Heard,
        gap: bool,
        out: &mut Vec<Output<u8>>,
    ) {
        let oldest = self.oldest();
        match input {
            Input::Send { message, payload, size } => {
                let (message, payload, size) = (*message, *payload, *size);
                self.queue.push(Unsettled { message, payload, size, here: false, times: 0 });
            }
            Input::Withdraw { message } => self.queue.retain(|queued| queued.message != *message),
            Input::Limits { longest, .. } => self.longest = *longest,
            Input::Expired(Timer::Answer) if oldest.is_none() => self.held = false,
            Input::Expired(Timer::Answer) => self.unknown(|queued| Some(queued.message) == oldest, out),
            Input::Frame { frame: Frame::Event(entry), .. } if heard == Heard::Next => {
                if let Kind::Received(received) = entry.event.kind {
                    self.answered(received.message, entry.event.run, out);
                }
            }
            Input::Frame { frame: Frame::Control(control), .. } => self.told(link, control, out),
            Input::Frame { .. }
            | Input::Closed { .. }
            | Input::Connect
            | Input::Disconnect
            | Input::Token { .. }
            | Input::Present { .. }
            | Input::Opened { .. }
            | Input::Expired(_) => {}
        }
        if gap {
            self.unknown(|queued| queued.times > 0, out);
        }
        if matches!(code(input), Some(1002 | 1003 | 1007 | 1009)) {
            self.unknown(|queued| queued.here, out);
        }
        let longest = self.longest;
        self.settled(
            |queued| queued.size > longest,
            |queued| match queued.times {
                0 => (Settled::TooLong, Output::TooLong { message: queued.message }),
                _ => (Settled::Unknown, Output::Unknown { message: queued.message }),
            },
            out,
        );
    }

    fn told(&mut self, link: &Link, control: &Control<u8>, out: &mut Vec<Output<u8>>) {
        match control {
            Control::Known { message, run, .. } => self.answered(*message, *run, out),
            Control::Refused { message, code: Code::Draining }
                if self.queue.iter().any(|queued| queued.message == *message) =>
            {
                self.held = !link.going;
                for queued in self.queue.iter_mut().filter(|queued| queued.here && queued.message == *message) {
                    (queued.here, queued.times) = (false, queued.times - 1);
                }
            }
            Control::Refused { message, code } => {
                // The user is told even of a message that is settled: it did not run.
                let (message, code) = (*message, *code);
                self.queue.retain(|queued| queued.message != message);
                let forgotten = code == Code::Forgotten;
                self.last = if forgotten { Settled::Unknown } else { Settled::Refused };
                out.push(if forgotten { Output::Unknown { message } } else { Output::Refused { message, code } });
            }
            Control::Error(code) => out.push(Output::Error(*code)),
            Control::Mode(mode) => self.held &= matches!(mode, Mode::HandingOver | Mode::Draining),
            Control::GoingAway(_) => self.held = false,
            Control::Ready { .. }
            | Control::StreamReset { .. }
            | Control::Answer(_)
            | Control::Unanswered { .. }
            | Control::Notice(_)
            | Control::AuthExpiring
            | Control::AuthOk
            | Control::Pong
            | Control::Probe => {}
        }
    }

    fn answered(&mut self, message: MessageId, run: RunId, out: &mut Vec<Output<u8>>) {
        let accepted = (Settled::Answered, Output::Accepted { message, run });
        self.settled(|queued| queued.message == message, |_| accepted.clone(), out);
    }

    /// It can no longer be determined whether these messages ran.
    fn unknown(&mut self, which: impl Fn(&Unsettled) -> bool, out: &mut Vec<Output<u8>>) {
        self.settled(which, |queued| (Settled::Unknown, Output::Unknown { message: queued.message }), out);
    }

    fn settled(
        &mut self,
        which: impl Fn(&Unsettled) -> bool,
        how: impl Fn(&Unsettled) -> (Settled, Output<u8>),
        out: &mut Vec<Output<u8>>,
    ) {
        for queued in self.queue.extract_if(.., |queued| which(queued)) {
            let (settled, told) = how(&queued);
            self.last = settled;
            out.push(told);
        }
    }

    /// RUN-2: each message is written once to a socket, and says whether another socket had it. CLIENT-2: one that was
    /// written to as many sockets as it may be is given up when messages are written to another.
    pub(super) fn write(&mut self, out: &mut Vec<Output<u8>>) {
        self.unknown(|queued| queued.times == MAX_WRITES && !queued.here, out);
        for Unsettled { message, payload, here, times, .. } in self.queue.iter_mut().filter(|queued| !queued.here) {
            out.push(Output::Write(Request::Message {
                message: *message,
                thread: ThreadId(0),
                run: RunId(0),
                payload: *payload,
                repeat: *times > 0,
                replaces: None,
            }));
            (*here, *times) = (true, *times + 1);
        }
    }
}
