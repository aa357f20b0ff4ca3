//! A simulated client: the client machine, a socket, its deadlines, and a channel of commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{SinkExt, StreamExt};
use lockstep_model::client::{self, Client, Input, Output};
use lockstep_model::frame::ReadFrom;
use lockstep_model::{
    Bounds, Code, ConnectionId, Entry, MessageId, Offset, PauseId, Position, Refusal, Request, RunId, SocketId,
    ThreadId, Timer,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::frames::{self, Payload};
use crate::history::History;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a write may take before the socket counts as lost.
const WRITE: Duration = Duration::from_secs(5);

/// A client's identity and configuration.
#[derive(Clone)]
pub struct Who {
    /// Its name in the history.
    pub name: String,
    /// The user whose credential it holds.
    pub user: String,
    /// The URL of the gateway's WebSocket endpoint: `ws://…/ws`.
    pub url: String,
    /// Where reading begins.
    pub begin: ReadFrom,
    /// Makes a credential whenever the machine needs one.
    pub token: Arc<dyn Fn() -> String + Send + Sync>,
}

impl core::fmt::Debug for Who {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Who").field("name", &self.name).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A command to a client.
#[derive(Clone, Debug)]
pub enum Command {
    /// Connect and stay connected.
    Connect,
    /// Disconnect and stay away.
    Disconnect,
    /// Send a message with that name and payload.
    Send(String, Value),
    /// Cancel a run.
    Cancel(RunId),
    /// Reply to a run that waits for its user.
    Reply(RunId, PauseId, Value),
    /// Delete the thread of messages without one.
    Delete,
    /// Drop the socket without a close frame.
    Cut,
    /// Take a new credential.
    Refresh,
    /// Read nothing for that long.
    Pause(Duration),
}

/// What a client observes.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The connection is live.
    Ready {
        /// The time since its socket began to open.
        after: Duration,
    },
    /// The connection is live and reads on from there.
    At(Position),
    /// An event.
    Event {
        /// The entry.
        entry: Entry<Payload>,
        /// The event's time on the wire: when the log took it, in milliseconds since the Unix epoch.
        stamp: u64,
        /// When it was read.
        at: SystemTime,
    },
    /// The entries between the two offsets are gone.
    Reset(Offset, Offset),
    /// The message runs or ran.
    Accepted(MessageId, RunId),
    /// The message was not accepted.
    Refused(MessageId, Code),
    /// The message is longer than the gateway takes and was not written.
    TooLong(MessageId),
    /// It is unknown whether the message ran.
    Unknown(MessageId),
    /// The gateway answered with an error.
    Error(Code),
    /// The socket is closed.
    Closed(u16),
    /// The gateway sent a frame that the protocol does not have.
    Foreign(String),
}

/// Starts a client. It ends when the command sender is dropped.
pub fn start(
    who: Who,
    bounds: Bounds,
    history: History,
) -> (mpsc::UnboundedSender<Command>, mpsc::UnboundedReceiver<Seen>, JoinHandle<()>) {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (seen, observed) = mpsc::unbounded_channel();
    let machine = Client::new(who.begin);
    let client = SimulatedClient {
        who,
        bounds,
        history,
        machine,
        out: Vec::new(),
        socket: None,
        opening: None,
        began: Instant::now(),
        connection: ConnectionId(0),
        stamp: 0,
        leave_after: None,
        deadlines: BTreeMap::new(),
        names: BTreeMap::new(),
        seen,
        paused_until: None,
    };
    (commands, observed, tokio::spawn(client.live(receiver)))
}

struct SimulatedClient {
    who: Who,
    bounds: Bounds,
    history: History,
    machine: Client<Payload>,
    out: Vec<Output<Payload>>,
    socket: Option<Socket>,
    opening: Option<JoinHandle<Result<Socket, Error>>>,
    began: Instant,
    connection: ConnectionId,
    stamp: u64,
    /// How long to wait before reconnecting, from the newest `going_away`.
    leave_after: Option<Duration>,
    deadlines: BTreeMap<Timer, tokio::time::Instant>,
    names: BTreeMap<MessageId, String>,
    seen: mpsc::UnboundedSender<Seen>,
    paused_until: Option<tokio::time::Instant>,
}

/// What wakes the client's loop.
enum Event {
    Commanded(Option<Command>),
    Opened(Box<Result<Socket, Error>>),
    Received(Option<Result<Message, Error>>),
    Expired(Timer),
    Resumed,
}

impl SimulatedClient {
    async fn live(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.step(Input::Token { asked: self.machine.asked(), token: Arc::from((self.who.token)()) }).await;
        loop {
            let deadline = self.deadlines.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
            let paused = self.paused_until;
            let event = tokio::select! {
                command = commands.recv() => Event::Commanded(command),
                opened = async { match &mut self.opening {
                    Some(opening) => opening.await,
                    None => core::future::pending().await,
                } } => Event::Opened(Box::new(opened.unwrap_or(Err(Error::ConnectionClosed)))),
                received = async { match &mut self.socket {
                    Some(socket) if paused.is_none() => socket.next().await,
                    Some(_) | None => core::future::pending().await,
                } } => Event::Received(received),
                () = until(deadline.map(|(_, at)| at)) => match deadline {
                    Some((timer, _)) => Event::Expired(timer),
                    None => continue,
                },
                () = until(paused) => Event::Resumed,
            };
            match event {
                Event::Commanded(None) => return,
                Event::Commanded(Some(command)) => self.execute(command).await,
                Event::Resumed => self.paused_until = None,
                Event::Expired(timer) => {
                    self.deadlines.remove(&timer);
                    self.step(Input::Expired(timer)).await;
                }
                Event::Opened(opened) => {
                    self.opening = None;
                    let socket = self.machine.socket();
                    match *opened {
                        Ok(stream) => {
                            self.socket = Some(stream);
                            self.note("open", json!({}));
                            self.step(Input::Opened { socket }).await;
                        }
                        Err(_) => self.step(Input::Closed { socket, code: 1006 }).await,
                    }
                }
                Event::Received(received) => self.receive(received).await,
            }
        }
    }

    async fn execute(&mut self, command: Command) {
        match command {
            Command::Connect => self.step(Input::Connect).await,
            Command::Disconnect => self.step(Input::Disconnect).await,
            Command::Send(name, payload) => {
                let message = frames::message_id(&name);
                self.names.insert(message, name);
                let payload: Payload = Arc::from(payload.to_string());
                let size = self.size(message, &payload);
                self.step(Input::Send { message, payload, size }).await;
            }
            Command::Cancel(run) => {
                let frame = json!({ "type": "cancel", "run_id": format!("{:016x}", run.0) });
                self.write(frame).await;
            }
            Command::Reply(run, pause, payload) => {
                let (run, pause) = (format!("{:016x}", run.0), pause.0);
                self.write(json!({ "type": "reply", "run_id": run, "pause": pause, "payload": payload })).await;
            }
            Command::Delete => self.write(json!({ "type": "delete_thread" })).await,
            Command::Cut => {
                if self.socket.take().is_some() {
                    self.lost(1006).await;
                }
            }
            Command::Refresh => {
                let token = Arc::from((self.who.token)());
                self.step(Input::Present { token }).await;
            }
            Command::Pause(time) => self.paused_until = Some(tokio::time::Instant::now() + time),
        }
    }

    async fn receive(&mut self, received: Option<Result<Message, Error>>) {
        match received {
            Some(Ok(Message::Text(text))) => {
                let Ok(value) = serde_json::from_str::<Value>(&text) else {
                    return self.see(Seen::Foreign(text.to_string()));
                };
                self.note("received", json!({ "frame": value }));
                self.stamp = value["timestamp"].as_u64().unwrap_or_default();
                self.leave_after = value["reconnect_after_ms"].as_u64().map(Duration::from_millis);
                let Some((connection, frame)) = frames::decode(&value) else {
                    return self.see(Seen::Foreign(text.to_string()));
                };
                if let Some(connection) = connection {
                    self.connection = connection;
                    let longest = value["limits"]["message_bytes"]
                        .as_u64()
                        .map_or(u32::MAX, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
                    self.step(Input::Limits { socket: self.machine.socket(), longest }).await;
                    self.see(Seen::Ready { after: self.began.elapsed() });
                }
                let socket = self.machine.socket();
                self.step(Input::Frame { socket, connection: self.connection, frame }).await;
                if let (Some(_), Some(position)) = (connection, self.machine.position()) {
                    self.see(Seen::At(position));
                }
            }
            Some(Ok(Message::Close(close))) => {
                let code = close.map_or(1005, |close| u16::from(close.code));
                self.socket = None;
                self.lost(code).await;
            }
            Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(_)) | None => {
                self.socket = None;
                self.lost(1006).await;
            }
        }
    }

    async fn lost(&mut self, code: u16) {
        self.note("closed", json!({ "code": code }));
        self.see(Seen::Closed(code));
        let socket = self.machine.socket();
        self.step(Input::Closed { socket, code }).await;
    }

    /// Takes a step and dispatches its outputs.
    async fn step(&mut self, input: Input<Payload>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = core::mem::take(&mut self.out);
            let sent = if let Input::Send { message, .. } = &input { Some(*message) } else { None };
            match (self.machine.step(&self.bounds, input, &mut out), sent) {
                (Ok(_), _) => {}
                // It was never sent. A message that is already under way gets its own answer.
                (Err(Refusal::Backpressure), Some(message)) => self.see(Seen::Refused(message, Code::Busy)),
                (Err(Refusal::Misuse), Some(_)) => {}
                (Err(refusal), _) => panic!("{}: {refusal}", self.who.name),
            }
            for output in out.drain(..) {
                match output {
                    Output::Open { .. } => self.open(),
                    Output::Close { .. } => {
                        if let Some(opening) = self.opening.take() {
                            opening.abort();
                        }
                        if let Some(mut socket) = self.socket.take() {
                            self.note("closed", json!({ "code": 1000 }));
                            self.see(Seen::Closed(1000));
                            tokio::spawn(async move { tokio::time::timeout(WRITE, socket.close(None)).await });
                        }
                    }
                    Output::Write(request) => {
                        let name = |message| self.names.get(&message).cloned();
                        if let Some(frame) = frames::encode(&request, name) {
                            self.write(frame).await;
                        }
                    }
                    Output::NeedToken { asked } => {
                        inputs.push(Input::Token { asked, token: Arc::from((self.who.token)()) });
                    }
                    // Notices have no place in the stream, so the history does not record them.
                    Output::Notice(_) => {}
                    Output::Deliver(entry) => {
                        self.see(Seen::Event { entry, stamp: self.stamp, at: SystemTime::now() });
                    }
                    Output::Reset { from, to } => self.see(Seen::Reset(from, to)),
                    Output::Accepted { message, run } => self.see(Seen::Accepted(message, run)),
                    Output::Refused { message, code } => self.see(Seen::Refused(message, code)),
                    Output::Unknown { message } => self.see(Seen::Unknown(message)),
                    Output::TooLong { message } => self.see(Seen::TooLong(message)),
                    Output::Error(code) => self.see(Seen::Error(code)),
                    Output::Arm(Timer::Leave, after) => {
                        self.arm(Timer::Leave, self.leave_after.unwrap_or(after));
                    }
                    Output::Arm(timer, after) => self.arm(timer, after),
                    Output::Pause(most) => {
                        let half = most / 2;
                        let jitter = u128::from(self.began.elapsed().subsec_nanos()) * half.as_micros() / 1_000_000_000;
                        let jitter = Duration::from_micros(u64::try_from(jitter).unwrap_or(0));
                        self.arm(Timer::Backoff, half + jitter);
                    }
                    Output::Disarm(timer) => {
                        self.deadlines.remove(&timer);
                    }
                }
            }
            self.out = out;
        }
    }

    /// The size in bytes of the message's frame, as a repetition.
    fn size(&self, message: MessageId, payload: &Payload) -> u32 {
        let request = Request::Message {
            message,
            thread: ThreadId(message.0),
            run: RunId(0),
            payload: Arc::clone(payload),
            repeat: true,
            replaces: None,
        };
        let frame = frames::encode(&request, |message| self.names.get(&message).cloned());
        frame.map_or(u32::MAX, |frame| u32::try_from(frame.to_string().len()).unwrap_or(u32::MAX))
    }

    fn arm(&mut self, timer: Timer, after: Duration) {
        self.deadlines.insert(timer, tokio::time::Instant::now() + after);
    }

    fn open(&mut self) {
        self.began = Instant::now();
        let url = self.who.url.clone();
        self.opening = Some(tokio::spawn(async move {
            let mut request = url.into_client_request()?;
            let protocol = HeaderValue::from_static("lockstep.v1");
            request.headers_mut().insert("sec-websocket-protocol", protocol);
            let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
            let (stream, _) = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await?;
            Ok(stream)
        }));
    }

    async fn write(&mut self, frame: Value) {
        if self.socket.is_none() {
            return;
        }
        let text = frame.to_string();
        self.note("sent", json!({ "frame": frame }));
        if let Some(socket) = &mut self.socket
            && !matches!(tokio::time::timeout(WRITE, socket.send(Message::text(text))).await, Ok(Ok(())))
        {
            // The reading side reports the cause.
        }
    }

    fn see(&self, seen: Seen) {
        // The observer may have stopped reading.
        let _ = self.seen.send(seen);
    }

    fn note(&self, fact: &str, rest: Value) {
        let SocketId(socket) = self.machine.socket();
        self.history.note(&self.who.name, Some(&self.who.user), socket, fact, rest);
    }
}

impl Drop for SimulatedClient {
    fn drop(&mut self) {
        if self.socket.is_some() && self.machine.state() != client::State::Idle {
            self.note("closed", json!({ "code": 1006 }));
        }
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => core::future::pending().await,
    }
}
