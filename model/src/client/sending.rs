//! How a client writes, repeats and settles its messages (CLIENT-2).

use alloc::vec::Vec;

use super::io::{Outgoing, Output, State};
use super::{Client, MAX_OUTGOING, MAX_WRITES};
use crate::frame::{Code, Request};
use crate::id::{MessageId, RunId, SocketId, ThreadId};
use crate::{Handled, Refusal};

impl<P: Clone> Client<P> {
    pub(super) fn send(
        &mut self,
        message: MessageId,
        payload: P,
        size: u32,
        out: &mut Vec<Output<P>>,
    ) -> Result<Handled, Refusal> {
        if self.outgoing.iter().any(|outgoing| outgoing.message == message) {
            return Err(Refusal::Misuse);
        }
        if size > self.longest {
            out.push(Output::TooLong { message });
            return Ok(Handled::Done);
        }
        if self.outgoing.len() >= MAX_OUTGOING {
            return Err(Refusal::Backpressure);
        }
        self.outgoing.push_back(Outgoing { message, payload, size, socket: SocketId(0), writes: 0 });
        self.flush(out);
        Ok(Handled::Done)
    }

    pub(super) fn withdraw(&mut self, message: MessageId) -> Handled {
        let before = self.outgoing.len();
        self.outgoing.retain(|outgoing| outgoing.message != message || outgoing.writes > 0);
        if self.outgoing.len() < before { Handled::Done } else { Handled::Ignored }
    }

    /// Applies the gateway's limit, and gives back the messages that are longer.
    pub(super) fn limit(&mut self, longest: u32, out: &mut Vec<Output<P>>) {
        self.longest = longest;
        self.settle(
            |outgoing| outgoing.size > longest,
            // A gateway with another limit may have run the message.
            |outgoing| match outgoing.writes {
                0 => Output::TooLong { message: outgoing.message },
                _ => Output::Unknown { message: outgoing.message },
            },
            out,
        );
    }

    /// Writes the messages that were not written to this socket yet.
    pub(super) fn flush(&mut self, out: &mut Vec<Output<P>>) {
        if !matches!(self.state, State::Live { .. }) {
            return;
        }
        let socket = self.socket;
        // The gateway may still answer a message that was written to this socket.
        self.settle(|outgoing| outgoing.writes == MAX_WRITES && outgoing.socket != socket, unknown, out);
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.socket != socket) {
            let repeat = outgoing.writes > 0;
            (outgoing.socket, outgoing.writes) = (socket, outgoing.writes + 1);
            let (message, payload) = (outgoing.message, outgoing.payload.clone());
            let (thread, run) = (ThreadId(0), RunId(0));
            out.push(Output::Write(Request::Message { message, thread, run, payload, repeat, replaces: None }));
        }
    }

    /// The gateway refused the message with this code.
    pub(super) fn refused(&mut self, message: MessageId, code: Code, out: &mut Vec<Output<P>>) {
        let known = self.outgoing.iter().position(|outgoing| outgoing.message == message);
        let answer = match (code, known) {
            (Code::Draining, Some(place)) => return self.hold(place),
            (Code::Forgotten, _) => Output::Unknown { message },
            (
                Code::Malformed
                | Code::UnknownType
                | Code::InvalidField
                | Code::Degraded
                | Code::Draining
                | Code::TooManyRuns
                | Code::QueueFull
                | Code::ThreadBusy
                | Code::BreakerOpen
                | Code::Busy
                | Code::UnknownRun
                | Code::NotPaused
                | Code::UnknownThread
                | Code::NotKept
                | Code::VerifierUnavailable,
                _,
            ) => Output::Refused { message, code },
        };
        self.outgoing.retain(|outgoing| outgoing.message != message);
        out.push(answer);
    }

    /// The gateway does not run the message because it is about to go away. The message counts as not written to this
    /// socket.
    fn hold(&mut self, place: usize) {
        let outgoing = &mut self.outgoing[place];
        if outgoing.socket == self.socket {
            (outgoing.socket, outgoing.writes) = (SocketId(0), outgoing.writes - 1);
        }
        if let State::Live { heartbeat } = self.state {
            self.state = State::Holding { heartbeat };
        }
    }

    /// The gateway seems to take messages again: writes the waiting ones.
    pub(super) fn release(&mut self, out: &mut Vec<Output<P>>) {
        if let State::Holding { heartbeat } = self.state {
            self.state = State::Live { heartbeat };
            self.flush(out);
        }
    }

    pub(super) fn answered(&mut self, message: MessageId, run: RunId, out: &mut Vec<Output<P>>) {
        self.settle(|outgoing| outgoing.message == message, |_| Output::Accepted { message, run }, out);
    }

    /// Gives up every message that was ever written, because the client can no longer find out whether it ran.
    pub(super) fn give_up(&mut self, out: &mut Vec<Output<P>>) {
        self.settle(|outgoing| outgoing.writes > 0, unknown, out);
    }

    /// The time for an answer is over: the gateway has not answered the oldest message, or has announced that it goes
    /// away and is still there.
    pub(super) fn overdue(&mut self, out: &mut Vec<Output<P>>) {
        let oldest = self.oldest();
        if oldest.is_none() {
            return self.release(out);
        }
        self.settle(|outgoing| Some(outgoing.message) == oldest, unknown, out);
    }

    /// The socket was closed because of the frames that it carried, so its messages are not repeated. Returns whether
    /// there were any.
    pub(super) fn give_back(&mut self, out: &mut Vec<Output<P>>) -> bool {
        let (before, socket) = (self.outgoing.len(), self.socket);
        self.settle(|outgoing| outgoing.socket == socket, unknown, out);
        self.outgoing.len() < before
    }

    /// Settles the matching messages. Each is reported once, because it is then removed.
    fn settle(
        &mut self,
        is_meant: impl Fn(&Outgoing<P>) -> bool,
        tell: impl Fn(&Outgoing<P>) -> Output<P>,
        out: &mut Vec<Output<P>>,
    ) {
        out.extend(self.outgoing.iter().filter(|outgoing| is_meant(outgoing)).map(tell));
        self.outgoing.retain(|outgoing| !is_meant(outgoing));
    }
}

fn unknown<P>(outgoing: &Outgoing<P>) -> Output<P> {
    Output::Unknown { message: outgoing.message }
}
