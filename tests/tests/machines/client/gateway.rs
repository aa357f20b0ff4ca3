//! A simple model of the gateway for one client: a plain log, and the newest socket's position in it.

use std::collections::{BTreeMap, VecDeque};

use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::{Kind, Received};
use lockstep_model::{
    Code, Entry, Epoch, Event, Frame, MessageId, Mode, Offset, Position, Request, Resume, RunId, ThreadId, UserId,
};

use crate::support::Tag;

#[derive(Debug, Default)]
pub(super) struct Gateway {
    pub(super) epoch: u64,
    /// Every entry of the epoch, trimmed or not.
    pub(super) log: Vec<Entry<Tag>>,
    pub(super) tail: u64,
    /// Requests on the newest socket that are not read yet.
    wire: VecDeque<Request<Tag>>,
    /// Messages that were read and are not answered.
    inbox: VecDeque<MessageId>,
    accepted: BTreeMap<MessageId, (RunId, Offset)>,
    /// Control frames for the newest socket; they are sent before any entry.
    controls: VecDeque<Control<Tag>>,
    /// The newest socket's position, once it is ready.
    at: Option<u64>,
}

impl Gateway {
    pub(super) fn head(&self) -> u64 {
        self.log.last().map_or(0, |entry| entry.offset.0)
    }

    /// The first entry after an offset.
    pub(super) fn after(&self, offset: u64) -> Option<&Entry<Tag>> {
        self.log.iter().find(|entry| entry.offset.0 > offset)
    }

    pub(super) fn append(&mut self, hole: u64, kind: Kind) -> RunId {
        let (previous, run) = (self.head(), RunId(self.log.len() as u64));
        let event = Event { run, thread: Some(ThreadId(0)), kind, payload: None };
        self.log.push(Entry { offset: Offset(previous + hole), previous: Offset(previous), event });
        run
    }

    /// Trims all but the newest `keep` entries, and forgets the messages among the others.
    pub(super) fn trim(&mut self, keep: usize) {
        let trimmed = self.log.len().saturating_sub(keep);
        self.tail = self.tail.max(if trimmed == 0 { 0 } else { self.log[trimmed - 1].offset.0 });
        let tail = self.tail;
        self.accepted.retain(|_, (_, offset)| offset.0 > tail);
    }

    /// Loses the log and begins a new epoch.
    pub(super) fn begin_epoch(&mut self) {
        let epoch = self.epoch + 1;
        *self = Self { epoch, ..Self::default() };
    }

    pub(super) fn open(&mut self) {
        (self.at, self.wire, self.controls) = (None, VecDeque::new(), VecDeque::new());
    }

    pub(super) fn written(&mut self, request: Request<Tag>) {
        self.wire.push_back(request);
    }

    /// Answers the credential with ready, if one was written.
    pub(super) fn ready(&mut self) -> Option<Control<Tag>> {
        let Some(Request::Auth { resume: Resume { from, .. }, .. }) = self.wire.pop_front() else { return None };
        let (at, gap) = match from {
            // This client is the only reader, and it names its position once it has one.
            ReadFrom::Unread | ReadFrom::Latest | ReadFrom::Deferred => (self.head(), None),
            ReadFrom::Earliest => (self.tail, None),
            ReadFrom::After(Position { epoch, offset }) => {
                let kept = epoch == Epoch(self.epoch) && (self.tail..=self.head()).contains(&offset.0);
                if kept { (offset.0, None) } else { (self.tail, Some(offset)) }
            }
        };
        self.at = Some(at);
        self.controls.extend(gap.map(|from| Control::StreamReset { from, to: Offset(at) }));
        let (epoch, offset, head) = (Epoch(self.epoch), Offset(at), self.head());
        Some(Control::Ready {
            user: UserId(1),
            epoch,
            offset,
            head: Offset(head),
            resumed: gap.is_none(),
            mode: Mode::Ready,
        })
    }

    /// Reads one request, once ready was sent.
    pub(super) fn hear(&mut self) {
        if self.at.is_none() {
            return;
        }
        match self.wire.pop_front() {
            Some(Request::Message { message, .. }) => match self.accepted.get(&message) {
                Some((run, offset)) => {
                    self.controls.push_back(Control::Known { message, run: *run, offset: *offset });
                }
                None if !self.inbox.contains(&message) => self.inbox.push_back(message),
                None => {}
            },
            Some(Request::Ping) => self.controls.push_back(Control::Pong),
            Some(Request::Auth { .. }) => self.controls.push_back(Control::AuthOk),
            Some(
                Request::Cancel { .. }
                | Request::Reply { .. }
                | Request::Seek { .. }
                | Request::Delete { .. }
                | Request::Query { .. }
                | Request::Pong
                | Request::Invalid { .. }
                | Request::Violation(_),
            )
            | None => {}
        }
    }

    /// Answers one message, with an event or a refusal.
    pub(super) fn answer(&mut self, accept: bool) {
        let Some(message) = self.inbox.pop_front() else { return };
        if accept {
            let run = self.append(1, Kind::Received(Received::immediate(message, ThreadId(0))));
            self.accepted.insert(message, (run, Offset(self.head())));
        } else {
            self.controls.push_back(Control::Refused { message, code: Code::Busy });
        }
    }

    /// Refuses a message because the gateway is about to go away.
    pub(super) fn send_back(&mut self) {
        let Some(message) = self.inbox.pop_front() else { return };
        self.controls.push_back(Control::Refused { message, code: Code::Draining });
    }

    /// The next frame on a ready socket: control frames first, then a gap, then the next entry.
    pub(super) fn next(&mut self) -> Option<Frame<Tag>> {
        let at = self.at?;
        if let Some(control) = self.controls.pop_front() {
            return Some(Frame::Control(control));
        }
        if at < self.tail {
            self.at = Some(self.tail);
            return Some(Frame::Control(Control::StreamReset { from: Offset(at), to: Offset(self.tail) }));
        }
        let entry = self.after(at)?.clone();
        self.at = Some(entry.offset.0);
        Some(Frame::Event(entry))
    }

    /// A fault: skips one entry.
    pub(super) fn skip(&mut self) {
        if let Some(at) = self.at
            && self.controls.is_empty()
            && at >= self.tail
            && let Some(entry) = self.after(at)
        {
            self.at = Some(entry.offset.0);
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.wire.is_empty() && self.inbox.is_empty() && self.controls.is_empty() && self.at == Some(self.head())
    }
}
