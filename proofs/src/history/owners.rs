//! OWN-2 and OWN-3 from what the sockets of one user are told, whichever gateway they reach.
//!
//! `connection_ready` names the newest entry of the stream, its `head`. It was sent after its socket's `open`, and what
//! any socket had read before that line was in the stream already. So within an epoch the head is not below any of it
//! (OWN-2): entries leave a stream at its beginning alone, and a deletion is an entry too. A gateway whose lease has
//! ended shows nothing more (OWN-5), so there is no older owner whose head could be behind.
//!
//! A client that names its position is told `resumed: false` if the position is gone, and then reads on from the first
//! retained entry. In the same epoch a position from there up to the head is not gone, and no owner has an older epoch
//! than the one that the client has seen (OWN-3).
//!
//! Gateways that do not tell their head are not judged. Who comes back under the name of an erased user is another user,
//! which a history cannot know: what was recorded before the erasure and after it must be judged apart.

use std::collections::HashMap;

use ahash::RandomState;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Checker;
use super::line::{Frame, Text};

/// A position that a client named, and the line in which it did.
#[derive(Clone, Copy)]
pub(super) struct Named {
    epoch: u64,
    offset: u64,
    line: u64,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(borrow, default)]
    resume: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Position {
    epoch: u64,
    offset: u64,
}

impl Named {
    /// The position in a frame that a client sent, if it is an `auth` with one.
    pub(super) fn of(line: u64, frame: Option<&RawValue>) -> Option<Self> {
        let auth: Auth<'_> = serde_json::from_str(frame?.get()).ok()?;
        let resume = auth.resume.filter(|_| auth.r#type.0 == "auth")?;
        let Position { epoch, offset } = serde_json::from_str(resume.get()).ok()?;
        Some(Self { epoch, offset, line })
    }
}

/// The newest offset that sockets of a user were shown in an epoch: each line that raised it, in order.
pub(super) struct Shown(HashMap<(usize, u64), Vec<(u64, u64)>, RandomState>);

impl Shown {
    pub(super) fn new(hasher: &RandomState) -> Self {
        Self(HashMap::with_hasher(hasher.clone()))
    }

    /// Records that a socket was shown this offset.
    pub(super) fn take(&mut self, stream: (usize, u64), offset: u64, line: u64) {
        let raised = self.0.entry(stream).or_default();
        if raised.last().is_none_or(|(_, newest)| *newest < offset) {
            raised.push((line, offset));
        }
    }

    /// The newest offset that was shown before this line, and the line in which it was.
    fn before(&self, stream: (usize, u64), line: u64) -> Option<(u64, u64)> {
        let raised = self.0.get(&stream)?;
        raised.get(raised.partition_point(|(at, _)| *at < line).checked_sub(1)?).copied()
    }
}

impl Checker {
    /// Compares what a socket is told when it is ready with what its user was told before it was opened.
    pub(super) fn owned(&mut self, number: u64, user: usize, place: (u64, u64), frame: &Frame<'_>) {
        let (Some(epoch), Some(offset), Some(head)) = (frame.epoch, frame.offset, frame.head) else { return };
        let socket = self.sockets.entry(place).or_default();
        let (opened, named) = (socket.opened, socket.named.take());
        if let Some((line, seen)) = self.shown.before((user, epoch), opened)
            && head < seen
        {
            self.refuse("OWN-2", line, number, format!("offset {seen} was read before, and the head is now {head}"));
        }
        self.shown.take((user, epoch), head, number);
        let Some(named) = named.filter(|_| frame.resumed == Some(false)) else { return };
        let why = if epoch < named.epoch {
            format!("epoch {epoch} is older than the client's {}", named.epoch)
        } else if epoch == named.epoch && (offset..=head).contains(&named.offset) {
            format!("offset {} is called gone, and {offset} to {head} are retained", named.offset)
        } else {
            return;
        };
        self.refuse("OWN-3", named.line, number, why);
    }
}
