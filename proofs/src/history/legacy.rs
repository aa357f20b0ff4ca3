//! Frames of the older protocol, `jwt-auth`, as the ones of `lockstep.v1` that they stand for.
//!
//! A frame of it has its content in `payload`. An event's place is `message_id`, `<epoch>:<offset>`, and that of its
//! predecessor `previous_id`. Four things differ from v1:
//!
//! * A client names its place in a frame, `session_restore`. If it does so before `connection_established`, its first
//!   event follows that place (STR-1); if later, some event does, or a `stream_reset` says that it cannot.
//! * The gateway adds to an event what it remembers of the run on this connection: execution times, step numbers, tool
//!   names, and the text of a streamed answer. In these, two recordings of one event may differ (STR-2), except that
//!   two texts of one answer may not.
//! * Pauses and replies come as `agent_thinking`, with the `status` `paused` or `resumed`.
//! * Events of the gateway that this one replaces have no place. For each socket on its own, they must follow the
//!   grammar of runs (RUN-1), in which a run begins with `agent_started`, and no event may come twice (STR-1).

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::grammar::{Kind, Runs};
use super::line::{Frame, Text};
use super::{Checker, First, NotAHistory, Reading};

/// A frame that has nothing of a user, and may precede `connection_established`.
pub(super) const HANDSHAKE: &str = "handshake_response";

/// Members that depend on what the gateway has told on the connection.
const DERIVED: [&str; 6] = ["execution_time_ms", "duration_ms", "step_number", "tool_name", "message", "result"];

/// What is known of an older client's socket.
#[derive(Default)]
pub(super) struct Socket {
    /// The place that the client has named, and that was not read from yet.
    sought: Option<Sought>,
    ready: bool,
    /// For events without a place: the runs, and the line of each event by its id.
    loose: Option<Box<Loose>>,
}

/// The runs of a socket, and the line of each event by its id.
type Loose = (Runs, HashMap<u64, u64, RandomState>);

struct Sought {
    epoch: u64,
    offset: u64,
    line: u64,
    /// Whether reading cannot have begun before it.
    first: bool,
}

#[derive(Deserialize)]
struct Restore<'a> {
    #[serde(borrow)]
    r#type: Text<'a>,
    #[serde(borrow, default)]
    payload: Option<Named<'a>>,
    #[serde(borrow, rename = "lastMessageId", default)]
    last: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, rename = "lastMessageId", default)]
    last: Option<Text<'a>>,
}

impl super::Socket {
    /// The client sent a frame. Only a position that it names is of interest.
    pub(super) fn sent(&mut self, line: u64, frame: Option<&RawValue>) {
        if self.ready.is_none() && self.named.is_none() {
            self.named = super::owners::Named::of(line, frame);
        }
        let restore = frame.and_then(|frame| serde_json::from_str::<Restore<'_>>(frame.get()).ok());
        let Some(restore) = restore.filter(|restore| restore.r#type.0 == "session_restore") else { return };
        let last = restore.payload.and_then(|payload| payload.last).or(restore.last);
        if let Some((epoch, offset)) = last.and_then(|last| place(&last.0)) {
            self.legacy.sought = Some(Sought { epoch, offset, line, first: !self.legacy.ready });
        }
    }
}

impl Socket {
    /// The connection is ready at this place.
    pub(super) fn ready(&mut self, at: (u64, u64)) {
        self.ready = true;
        // If it begins at the place that was named, there is nothing to find.
        self.sought.take_if(|sought| (sought.epoch, sought.offset) == at);
    }

    /// Whether reading goes on at this place because the client has named it.
    pub(super) fn seeks(&mut self, at: (u64, u64)) -> bool {
        self.sought.take_if(|sought| (sought.epoch, sought.offset) == at).is_some()
    }

    /// Whether a gap from this offset is the answer to a place that the client has named.
    pub(super) fn reset(&mut self, from: u64) -> bool {
        self.sought.take_if(|sought| sought.offset == from).is_some()
    }

    /// The line of the place that the client has named, if this event should have followed it and does not.
    fn missed(&mut self, (epoch, previous): (u64, u64)) -> Option<(u64, u64)> {
        let sought = self.sought.as_ref()?;
        let missed = sought.first && (sought.epoch, sought.offset) != (epoch, previous);
        missed.then_some((sought.line, sought.offset))
    }
}

/// `<epoch>:<offset>`.
fn place(text: &str) -> Option<(u64, u64)> {
    let (epoch, offset) = text.split_once(':')?;
    Some((epoch.parse().ok()?, offset.parse().ok()?))
}

type Members = BTreeMap<String, Box<RawValue>>;

/// A frame of the older protocol.
pub(super) struct Translated<'a> {
    frame: &'a Frame<'a>,
    members: Members,
    /// The name of the frame in v1.
    name: &'static str,
    /// The data of the event in v1, without what depends on the connection.
    data: Option<Box<RawValue>>,
}

impl<'a> Translated<'a> {
    /// `None` if it is not a frame of the older protocol.
    pub(super) fn of(frame: &'a Frame<'a>) -> Option<Self> {
        let kind = &*frame.r#type.0;
        if frame.payload.is_none() && !["connection_established", "system_message"].contains(&kind) {
            return None;
        }
        let members: Members = serde_json::from_str(frame.payload.or(frame.data)?.get()).unwrap_or_default();
        let said = |name: &str| members.get(name).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let established = kind == "connection_established"
            || kind == "system_message" && said("event").as_deref() == Some("connection_established");
        let grows = members.contains_key("part");
        let turns = |status: &str, member: &str| {
            said("status").as_deref() == Some(status) && members.contains_key("pause") && members.contains_key(member)
        };
        let name = match kind {
            _ if established => "connection_ready",
            "partial_result" => "agent_delta",
            "agent_thinking" if grows => "agent_delta",
            "agent_thinking" if turns("paused", "request") => "agent_paused",
            "agent_thinking" if turns("resumed", "reply") => "agent_resumed",
            "agent_failed" => "agent_error",
            "message_received" => "message_received",
            "agent_started" => "agent_started",
            "agent_thinking" => "agent_thinking",
            "tool_executing" => "tool_executing",
            "tool_completed" => "tool_completed",
            "agent_completed" => "agent_completed",
            "agent_error" => "agent_error",
            "notice" => "notice",
            "thread_deleted" => "thread_deleted",
            "stream_reset" => "stream_reset",
            "message_known" => "message_known",
            HANDSHAKE => HANDSHAKE,
            // Other frames are not checked, beyond that they come after `connection_established`.
            _ => "control",
        };
        let text = said("content").or_else(|| said("reasoning"));
        let data = data(name, &members, text);
        Some(Self { frame, members, name, data })
    }

    fn read<T: for<'b> Deserialize<'b>>(&self, name: &str) -> Option<T> {
        self.members.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    fn text(&self, name: &str) -> Option<Text<'_>> {
        self.read::<String>(name).map(|text| Text(text.into()))
    }

    /// The frame of v1 that it stands for.
    fn v1(&self) -> Frame<'_> {
        let id = |text: &Option<Text<'a>>| text.as_ref().and_then(|text| place(&text.0));
        let copied = |text: &'a Option<Text<'a>>| text.as_ref().map(|text| Text((&*text.0).into()));
        let (at, previous) = (id(&self.frame.message_id), id(&self.frame.previous_id));
        let is_ready = self.name == "connection_ready";
        let number = |name: &str| self.read(name).or(is_ready.then_some(0));
        Frame {
            r#type: Text(self.name.into()),
            offset: if is_ready { number("offset") } else { at.map(|at| at.1) },
            head: self.read("head"),
            previous: previous.map(|previous| previous.1),
            epoch: number("epoch"),
            from: self.read("from"),
            to: self.read("to"),
            resumed: self.read("resumed"),
            run_id: copied(&self.frame.run_id).or_else(|| self.text("run_id")),
            thread_id: copied(&self.frame.thread_id),
            limits: self.members.get("limits").map(|limits| &**limits),
            user_id: copied(&self.frame.user_id).or_else(|| self.text("user_id")),
            message_id: self.text("message_id"),
            data: self.data.as_deref(),
            payload: None,
            previous_id: None,
            legacy: true,
        }
    }
}

/// The data of an event in v1, without what depends on the connection.
fn data(name: &str, members: &Members, text: Option<String>) -> Option<Box<RawValue>> {
    let mut kept = BTreeMap::new();
    for (name, value) in members {
        if !DERIVED.contains(&&**name) {
            kept.insert(name.as_str(), value.clone());
        }
    }
    match name {
        "agent_delta" => {
            kept.retain(|name, _| *name == "part");
            kept.insert("text", to_raw_value(&text.unwrap_or_default()).ok()?);
        }
        // Without an id, a tool is known by its name.
        "tool_executing" | "tool_completed" if !kept.contains_key("tool_id") => {
            kept.insert("tool_id", members.get("tool_name")?.clone());
        }
        _ => {}
    }
    to_raw_value(&kept).ok()
}

impl Checker {
    /// Checks a frame of the older protocol that a client received.
    pub(super) fn receive_legacy(
        &mut self,
        number: u64,
        user: Option<usize>,
        place: (u64, u64),
        translated: &Translated<'_>,
    ) -> Result<(), NotAHistory> {
        let frame = translated.v1();
        self.of_user(number, place, &frame);
        let kind = Kind::of(translated.name, frame.data, &self.hasher);
        if let (Some(kind), Some(run), None) = (kind, frame.run_id.as_ref(), frame.previous) {
            let run = self.hasher.hash_one(&*run.0);
            let id = translated.frame.message_id.as_ref().map(|id| self.hasher.hash_one(&*id.0));
            self.loose(number, place, (run, kind), id);
        }
        if let (Some(offset), Some(previous)) = (frame.offset, frame.previous) {
            let socket = self.sockets.entry(place).or_default();
            let epoch = socket.ready.as_ref().map(|reading| reading.epoch).unwrap_or_default();
            if let Some((line, sought)) = socket.legacy.missed((epoch, previous)) {
                socket.legacy.sought = None;
                let why = format!("the client asked to read on after {sought}, and offset {offset} follows {previous}");
                self.refuse("STR-1", line, number, why);
            }
            if translated.name == "agent_completed"
                && let (Some(user), Some(result)) = (self.user_of(place), translated.read::<String>("result"))
                && !result.is_empty()
            {
                let result = self.hasher.hash_one(result);
                let (first, line) = *self.results.entry((user, epoch, offset)).or_insert((result, number));
                if first != result {
                    self.refuse("STR-2", line, number, format!("offset {offset} has two results in epoch {epoch}"));
                }
            }
        }
        self.receive(number, user, place, Some(frame))
    }

    fn user_of(&self, place: (u64, u64)) -> Option<usize> {
        self.sockets.get(&place)?.user.map(|First { user, .. }| user)
    }

    /// An event names its user, who must be the socket's.
    fn of_user(&mut self, number: u64, place: (u64, u64), frame: &Frame<'_>) {
        let Some(named) = frame.user_id.as_ref().filter(|_| frame.r#type.0 != "connection_ready") else { return };
        let named_user = self.user(&named.0);
        let Some(First { user, line }) = self.sockets.get(&place).and_then(|socket| socket.user) else { return };
        if user != named_user {
            self.refuse("ISO-1", line, number, format!("`{}` is for {}", frame.r#type.0, named.0));
        }
    }

    /// An event without a place.
    fn loose(&mut self, number: u64, place: (u64, u64), (run, kind): (u64, Kind), id: Option<u64>) {
        let hasher = self.hasher.clone();
        let socket = self.sockets.entry(place).or_default();
        let Some(Reading { .. }) = &socket.ready else { return };
        let loose = || Box::new((Runs::new(&hasher), HashMap::with_hasher(hasher.clone())));
        let (runs, seen) = &mut **socket.legacy.loose.get_or_insert_with(loose);
        self.findings.events += 1;
        if let Some(line) = id.and_then(|id| seen.insert(id, number)) {
            self.refuse("STR-1", line, number, "an event came twice".to_owned());
            return;
        }
        if kind == Kind::Started {
            // That a run has begun before, or has ended, is found below.
            let _ = runs.take(run, Kind::Received(run), number);
        }
        if let Err((line, why)) = runs.take(run, kind, number) {
            self.refuse("RUN-1", line, number, why);
        }
    }
}
