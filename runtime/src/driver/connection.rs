//! One task a connection: read, step, apply, pull and write in batches, wait.
//!
//! The task owns the socket, the codec's state and the connection's [`ConnectionHandle`]. A turn of it does what can be done without
//! waiting, in this order: flush what was written; if that has left, pull the next batch and write it; handle what others
//! have for the connection; read. So a peer that does not read costs its own batch and nothing more: it is still heard,
//! its deadlines still count, and nobody waits for it.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::time::Duration;

use lockstep_model::connection::Input;
use lockstep_model::{Cause, ConnectionId, Control, Frame, Request, Resume};
use metrics::Histogram;
use tracing::Instrument;

use super::{Core, Shared};
use crate::core::{ConnectionHandle, NotAdmitted};
use crate::payload::{Payload, Token};
use crate::transport::{Incoming, Outgoing, Socket};
use crate::wire::{Codec, Peer, hex};

/// Frames that are pulled at a time: what is buffered for a peer that does not read.
const FRAMES: usize = 32;

/// Messages that are read between two looks at what there is to write.
const MESSAGES: usize = 32;

/// Turns of a task before it lets others run.
const ROUNDS: usize = 8;

/// How a connection begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// How its frames are written.
    pub codec: Codec,
    /// The credential that came with the upgrade.
    pub credential: Option<Token>,
    /// Where the address of the upgrade wants to begin reading; a credential in a frame may say something else.
    pub resume: Resume,
}

/// Serves a connection from its admission to its close. `socket` is the upgrade under way; `None` if it fails.
///
/// Dropping the future closes the connection as lost.
pub(crate) async fn serve<S: Socket>(core: Arc<Core>, opening: Opening, socket: impl Future<Output = Option<S>>) {
    let Ok(id) = crate::random().map(ConnectionId) else { return };
    let span = tracing::info_span!("connection", connection = %hex(id.0), user = tracing::field::Empty);
    let shared = core.effects().meet(id);
    let forget = Forget { core: &core, id, shared: Arc::clone(&shared) };
    let instruments = &core.effects().instruments;
    match ConnectionHandle::accept(&core, id) {
        Ok(handle) => {
            instruments.admitted.increment(1);
            converse(handle, &core, shared, opening, socket).instrument(span).await;
        }
        Err(NotAdmitted::Refused(cause)) => {
            // Why a connection ended that was never admitted is counted like any other.
            instruments.refused.of(cause).increment(1);
            // There is no machine to say how long the peer may take, so the time for closing is taken from the bounds.
            let _ = tokio::time::timeout(core.bounds().close, turn_away(socket, cause)).await;
        }
        Err(NotAdmitted::InUse) => {}
    }
    drop(forget);
}

/// Takes a connection's entry out of the driver's map and says how it ended, also when its task is dropped.
struct Forget<'a> {
    core: &'a Arc<Core>,
    id: ConnectionId,
    shared: Arc<Shared>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.core.effects().forget(self.id);
        if let Some(cause) = self.shared.closed.get() {
            tracing::debug!(connection = %hex(self.id.0), code = cause.code(), "closed");
        }
    }
}

/// Tells a peer that is not admitted why, and waits for it to go.
async fn turn_away<S: Socket>(socket: impl Future<Output = Option<S>>, cause: Cause) {
    let Some(mut socket) = socket.await else { return };
    if socket.send(Outgoing::Close(cause)).is_ok()
        && core::future::poll_fn(|context| socket.poll_flush(context)).await.is_ok()
    {
        while !matches!(core::future::poll_fn(|context| socket.poll_receive(context)).await, Incoming::Gone(_)) {}
    }
}

async fn converse<S: Socket>(
    mut handle: ConnectionHandle<Payload, super::Driver>,
    core: &Arc<Core>,
    shared: Arc<Shared>,
    opening: Opening,
    socket: impl Future<Output = Option<S>>,
) {
    let mut socket = pin!(socket);
    let opened = core::future::poll_fn(|context| {
        while handle.closed().is_none() && handle.poll(context).is_ready() {}
        if handle.closed().is_some() {
            return Poll::Ready(None);
        }
        socket.as_mut().poll(context)
    });
    let Some(socket) = opened.await else {
        let _ = handle.step(Input::Gone(Cause::Lost));
        return;
    };
    let mut peer = Peer::new(opening.codec, handle.id(), core.bounds());
    peer.reconnect_within(pause(core.bounds().grace));
    peer.takes(socket.longest());
    peer.resumes(&opening.resume);
    let _ = handle.step(Input::Opened);
    if let Some(token) = opening.credential {
        peer.presents();
        let request = Request::Auth { token: Payload::Token(token), resume: opening.resume };
        let _ = handle.step(Input::Received(request));
    }
    let age = core.effects().instruments.event_age.clone();
    let mut task =
        ConnectionTask { handle, socket, peer, shared, age, frames: Vec::new(), pullable: true, flushing: false };
    core::future::poll_fn(|context| task.poll(context)).await;
}

/// How long a client is to wait for a process that nothing succeeds yet: this one's end, and its own part of as much again, so
/// that clients that are sent away together do not come back together.
fn pause(grace: Duration) -> u64 {
    let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).max(1);
    grace.saturating_add(crate::random().unwrap_or_default() % grace)
}

/// What the task works with.
struct ConnectionTask<S> {
    handle: ConnectionHandle<Payload, super::Driver>,
    socket: S,
    peer: Peer,
    shared: Arc<Shared>,
    /// From the making of an event to its writing.
    age: Histogram,
    frames: Vec<Frame<Payload>>,
    /// There may be something to pull.
    pullable: bool,
    /// A batch was written and has not left.
    flushing: bool,
}

impl<S: Socket> ConnectionTask<S> {
    /// Ready when the connection is closed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let wrote = self.write(context);
            let heard = self.handle.poll(context).is_ready();
            self.pullable |= heard;
            let read = self.read(context);
            if self.handle.closed().is_some() {
                return Poll::Ready(());
            }
            if !(wrote || heard || read) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Flushes, and writes the next batch. True if something came of it.
    fn write(&mut self, context: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.flushing || self.pullable {
            if self.flushing {
                match self.socket.poll_flush(context) {
                    Poll::Pending => return progress,
                    Poll::Ready(Ok(())) => self.flushing = false,
                    Poll::Ready(Err(_)) => {
                        self.lost();
                        return true;
                    }
                }
                progress = true;
            }
            if self.pullable {
                self.pullable = self.handle.pull(FRAMES, &mut self.frames) == FRAMES;
                if self.encode().is_err() {
                    self.lost();
                    return true;
                }
            }
        }
        progress
    }

    fn encode(&mut self) -> Result<(), crate::transport::Broken> {
        for frame in self.frames.drain(..) {
            if let Frame::Control(Control::Ready { user, .. }) = frame
                && let Some(subject) = self.shared.pin(user)
            {
                self.peer.identify(subject);
                tracing::Span::current().record("user", user.0);
                self.shared.arrivals.notify_waiters();
                tracing::debug!("live");
            }
            if let Frame::Event(entry) = &frame
                && let Some(record) = entry.event.payload.as_ref().and_then(Payload::record)
            {
                self.age.record(record.made.elapsed());
            }
            let message = match &frame {
                Frame::Close(cause) => Outgoing::Close(*cause),
                Frame::Control(Control::Probe) => Outgoing::Ping,
                Frame::Control(_) | Frame::Event(_) => match self.peer.encode(&frame) {
                    Some(text) => Outgoing::Text(text),
                    None => continue,
                },
            };
            self.socket.send(message)?;
            self.flushing = true;
        }
        Ok(())
    }

    /// Reads what is there. True if there was something.
    fn read(&mut self, context: &mut Context<'_>) -> bool {
        for message in 0..MESSAGES {
            if self.handle.closed().is_some() {
                return true;
            }
            let Poll::Ready(incoming) = self.socket.poll_receive(context) else { return message > 0 };
            let _ = self.handle.step(match incoming {
                Incoming::Text(text) => Input::Received(self.peer.decode(&text)),
                Incoming::Binary(_) => Input::Received(Request::Violation(Cause::UnsupportedData)),
                Incoming::Alive => Input::Received(Request::Pong),
                Incoming::Violation(cause) => Input::Received(Request::Violation(cause)),
                Incoming::Gone(cause) => Input::Gone(cause),
            });
        }
        true
    }

    fn lost(&mut self) {
        let _ = self.handle.step(Input::Gone(Cause::Lost));
    }
}
