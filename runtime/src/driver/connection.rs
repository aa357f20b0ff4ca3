//! One task per connection: read, step, dispatch, pull and write in batches, wait.
//!
//! The task owns the socket, the codec's state and the connection's [`ConnectionHandle`]. A poll does everything that
//! needs no waiting, in this order: flush what was written; once that has left, pull the next batch and write it;
//! handle the items in the inbox; read. A peer that does not read therefore costs its own batch and nothing more: its
//! messages are still read, its deadlines still count, and no task waits for it.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lockstep_model::connection::{Input, Origin};
use lockstep_model::{Cause, ConnectionId, Control, Frame, Request, Resume};
use metrics::Histogram;
use tracing::Instrument;
use tungstenite::Utf8Bytes;

use super::relay::{self, Progress, Relay, Target};
use super::{Core, Shared};
use crate::core::{ConnectionHandle, NotAdmitted};
use crate::payload::{Payload, Token};
use crate::transport::{Incoming, Outgoing, Socket};
use crate::wire::{Codec, CodecState, hex};

/// How many frames are pulled at a time. It bounds what is buffered for a peer that does not read.
const FRAMES: usize = 32;

/// How many messages are read before the task tries to write again.
const MESSAGES: usize = 32;

/// How many rounds a task makes before it yields.
const ROUNDS: usize = 8;

/// How a connection begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opening {
    /// How its frames are written.
    pub codec: Codec,
    /// The credential that came with the upgrade.
    pub credential: Option<Token>,
    /// Where the upgrade's URL asks to start reading. A credential in a frame may name another position.
    pub resume: Resume,
    /// The agent's name in legacy frames; `None` for the manager's.
    pub agent_name: Option<Arc<str>>,
    /// Whether a client has connected, or another process relays a client's connection.
    pub origin: Origin,
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
}

impl Opening {
    /// Frames of this codec, no credential, and the default place to start reading.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            credential: None,
            resume: Resume::default(),
            agent_name: None,
            origin: Origin::Client,
            client: None,
        }
    }
}

/// Serves a connection from its admission to its close. `socket` is the upgrade in progress; it resolves to `None` if
/// the upgrade fails.
///
/// Dropping the future closes the connection as lost.
pub(crate) async fn serve<S, F>(core: Arc<Core>, opening: Opening, socket: F)
where
    S: Socket,
    F: Future<Output = Option<S>> + Send,
{
    let Ok(id) = crate::random().map(ConnectionId) else { return };
    let client = opening.client.map(tracing::field::display);
    let span = tracing::info_span!("connection", connection = %hex(id.0), user = tracing::field::Empty, client);
    let forget = Forget { shared: core.effects().register(id, opening.client), core, id };
    // What opening needs is freed before the connection is served, because most connections are idle most of the time.
    let opened = open(&forget, opening, socket).boxed().instrument(span.clone()).await;
    if let Some(mut task) = opened {
        core::future::poll_fn(|context| task.poll(context)).instrument(span).await;
    }
    drop(forget);
}

/// Asks the node to admit a connection, and waits for its socket. `None` if there is nothing to serve.
async fn open<S: Socket>(
    Forget { core, id, shared }: &Forget,
    opening: Opening,
    socket: impl Future<Output = Option<S>>,
) -> Option<Box<ConnectionTask<S>>> {
    let instruments = &core.effects().instruments;
    match ConnectionHandle::accept(core, *id) {
        Ok(handle) => {
            instruments.admitted.increment(1);
            open_admitted(handle, core, Arc::clone(shared), opening, socket).await
        }
        Err(NotAdmitted::Refused(cause)) => {
            // The cause is counted as for a connection that was admitted.
            instruments.refused.of(cause).increment(1);
            // No machine bounds how long the peer may take, so the time for closing is taken from the bounds.
            let close = close(opening.codec, opening.origin, cause);
            let _ = tokio::time::timeout(core.bounds().close, refuse(socket, close)).await;
            None
        }
        Err(NotAdmitted::InUse) => None,
    }
}

/// Removes a connection's entry from the driver's map and logs how it ended, even if its task is dropped.
struct Forget {
    core: Arc<Core>,
    id: ConnectionId,
    shared: Arc<Shared>,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.core.effects().forget(self.id);
        if let Some(cause) = self.shared.closed.get() {
            tracing::debug!(connection = %hex(self.id.0), code = cause.code(), "closed");
        }
    }
}

/// The close frame, as clients of the codec know it. A member translates it for its client.
const fn close(codec: Codec, origin: Origin, cause: Cause) -> Outgoing {
    match (codec, origin) {
        (Codec::V1, _) | (Codec::Legacy, Origin::Member) => Outgoing::Close(cause),
        (Codec::Legacy, Origin::Client) => Outgoing::LegacyClose(cause),
    }
}

/// Tells a refused peer the cause, and waits for it to leave.
async fn refuse<S: Socket>(socket: impl Future<Output = Option<S>>, close: Outgoing) {
    let Some(mut socket) = socket.await else { return };
    if socket.send(close).is_ok() && core::future::poll_fn(|context| socket.poll_flush(context)).await.is_ok() {
        while !matches!(core::future::poll_fn(|context| socket.poll_receive(context)).await, Incoming::Gone(_)) {}
    }
}

async fn open_admitted<S: Socket>(
    mut handle: ConnectionHandle<Payload, super::Driver>,
    core: &Arc<Core>,
    shared: Arc<Shared>,
    opening: Opening,
    socket: impl Future<Output = Option<S>>,
) -> Option<Box<ConnectionTask<S>>> {
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
        return None;
    };
    let mut peer = CodecState::new(opening.codec, handle.id(), core.bounds());
    peer.reconnect_within(reconnect_pause(core.bounds().grace));
    peer.takes(socket.longest());
    if let Some(name) = opening.agent_name {
        peer.names_agent(name);
    }
    peer.resumes(&opening.resume);
    let _ = handle.step(match opening.origin {
        Origin::Client => Input::Opened,
        Origin::Member => Input::OpenedByMember,
    });
    if let Some(token) = opening.credential {
        let request = Request::Auth { token: Payload::Token(token), resume: peer.presents() };
        let _ = handle.step(Input::Received(request));
    }
    let age = core.effects().instruments.event_age.clone();
    let driver = core.effects();
    let relay = driver.membership.is_some().then(|| Box::new(Relay::new(driver.instruments.relays.clone())));
    Some(Box::new(ConnectionTask {
        core: Arc::clone(core),
        origin: opening.origin,
        relay,
        handle,
        socket,
        peer,
        shared,
        age,
        frames: Vec::new(),
        pullable: true,
        flushing: false,
        drained: false,
    }))
}

/// How long, in milliseconds, a client should wait before it reconnects if no successor has taken over yet: this
/// process's grace, plus a random part of as much again, so that clients that are told to leave together do not return
/// together.
fn reconnect_pause(grace: Duration) -> u64 {
    let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).max(1);
    grace.saturating_add(crate::random().unwrap_or_default() % grace)
}

/// The state of a connection's task.
struct ConnectionTask<S> {
    core: Arc<Core>,
    origin: Origin,
    /// `None` for a connection that is live, or of a process that has its log to itself.
    relay: Option<Box<Relay>>,
    handle: ConnectionHandle<Payload, super::Driver>,
    socket: S,
    peer: CodecState,
    shared: Arc<Shared>,
    /// The time from the creation of an event to its writing.
    age: Histogram,
    frames: Vec<Frame<Payload>>,
    /// Whether there may be something to pull.
    pullable: bool,
    /// Whether a batch was written and not flushed yet.
    flushing: bool,
    /// Whether the socket has nothing to read, and will wake the task when it has.
    drained: bool,
}

impl<S: Socket> ConnectionTask<S> {
    /// Ready when the connection is closed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.drained = false;
        for _ in 0..ROUNDS {
            self.write(context);
            let notified = self.handle.poll(context).is_ready();
            self.pullable |= notified;
            if self.handle.is_closing() {
                self.relay = None;
            }
            let passed = self.pass(context);
            let read = self.read(context);
            if self.handle.closed().is_some() {
                return Poll::Ready(());
            }
            // The inbox and the socket were polled after the last write, so a write leaves nothing to do.
            if !(notified || passed || read) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Flushes, and writes batches until the socket is full or there is nothing to pull.
    fn write(&mut self, context: &mut Context<'_>) {
        if let Some(membership) = &self.core.effects().membership {
            membership.check(&self.core);
        }
        while self.flushing || self.pullable {
            if self.flushing {
                match self.socket.poll_flush(context) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(())) => self.flushing = false,
                    Poll::Ready(Err(_)) => return self.lost(),
                }
            }
            if self.pullable {
                self.pullable = self.handle.pull(FRAMES, &mut self.frames) == FRAMES;
                if self.encode().is_err() {
                    return self.lost();
                }
            }
        }
    }

    fn encode(&mut self) -> Result<(), crate::transport::Broken> {
        for frame in self.frames.drain(..) {
            if let Frame::Control(Control::Ready { user, .. }) = frame
                && let Some(subject) = self.shared.pin(user)
            {
                self.peer.identify(subject);
                tracing::Span::current().record("user", user.0);
                self.shared.arrivals.notify_waiters();
                self.relay = None;
                drop(self.shared.take_credential());
                tracing::debug!("live");
            }
            if let Frame::Event(entry) = &frame
                && let Some(record) = entry.event.payload.as_ref().and_then(Payload::record)
            {
                self.age.record(record.made.elapsed());
            }
            let message = match &frame {
                Frame::Close(cause) => {
                    // A socket ends its side when it is read after this.
                    self.drained = false;
                    close(self.peer.codec(), self.origin, *cause)
                }
                Frame::Control(Control::Probe) => {
                    if let Some(relay) = &mut self.relay {
                        relay.send(Outgoing::Ping);
                    }
                    Outgoing::Ping
                }
                Frame::Control(_) | Frame::Event(_) => match self.peer.encode(&frame) {
                    Some(text) => Outgoing::Text(text),
                    None => continue,
                },
            };
            self.socket.send(message)?;
            if let Some(following) = self.peer.following() {
                self.socket.send(Outgoing::Text(following))?;
            }
            self.flushing = true;
        }
        Ok(())
    }

    /// Reads what has arrived. Returns whether there was something.
    fn read(&mut self, context: &mut Context<'_>) -> bool {
        if self.drained {
            return false;
        }
        for message in 0..MESSAGES {
            if self.handle.closed().is_some() {
                return true;
            }
            if self.relay.as_mut().is_some_and(|relay| relay.is_begun() && !relay.poll_ready(context)) {
                return message > 0;
            }
            let Poll::Ready(incoming) = self.socket.poll_receive(context) else {
                self.drained = true;
                return message > 0;
            };
            let input = match incoming {
                Incoming::Text(text) => self.received(text),
                Incoming::Binary(_) => Input::Received(Request::Violation(Cause::UnsupportedData)),
                Incoming::Alive => Input::Received(Request::Pong),
                Incoming::Violation(cause) => Input::Received(Request::Violation(cause)),
                Incoming::Gone(cause) => Input::Gone(cause),
            };
            let _ = self.handle.step(input);
        }
        true
    }

    /// Decodes a text frame for the machine. The frame is passed on or kept if the connection is relayed or may be.
    fn received(&mut self, text: Utf8Bytes) -> Input<Payload> {
        let Some(relay) = &mut self.relay else { return Input::Received(self.peer.decode(&text)) };
        if relay.is_begun() {
            relay.send(Outgoing::Text(text));
            return Input::Received(Request::Pong);
        }
        let request = self.peer.decode(&text);
        if !matches!(request, Request::Auth { .. }) {
            relay.keep(text);
        }
        Input::Received(request)
    }

    /// Passes on what the owner's process has sent, if the connection is relayed. Returns whether there was something.
    fn pass(&mut self, context: &mut Context<'_>) -> bool {
        let (Some(relay), Some(owner)) = (&mut self.relay, self.shared.relay.get()) else { return false };
        if self.flushing {
            return false;
        }
        if !relay.is_begun() {
            let (codec, resume) = (self.peer.codec(), self.peer.begins());
            let target = Target {
                owner: *owner,
                codec,
                resume,
                credential: self.shared.take_credential(),
                client: self.shared.client,
            };
            let driver = self.core.effects();
            let Some(membership) = &driver.membership else { return false };
            let opening = relay::open(membership.cluster().clone(), Arc::clone(&driver.log), driver.limits, target);
            let (began, took) = (Instant::now(), driver.instruments.relay_open.clone());
            relay.begin(opening.inspect(move |_| took.record(began.elapsed())));
        }
        let mut frames = Vec::new();
        let progress = relay.poll(context, FRAMES, &mut frames);
        for text in frames {
            if self.socket.send(Outgoing::Text(text)).is_err() {
                self.lost();
                return true;
            }
            self.flushing = true;
        }
        let input = match progress {
            Progress::None => return false,
            Progress::Opened => {
                self.core.effects().instruments.relayed.increment(1);
                Input::RelayOpened
            }
            Progress::Heard => Input::RelayHeard,
            Progress::Ended(cause) => Input::Close(cause),
        };
        let _ = self.handle.step(input);
        true
    }

    fn lost(&mut self) {
        let _ = self.handle.step(Input::Gone(Cause::Lost));
    }
}
