//! The client's side of the wire: requests as JSON, and the gateway's frames as the client machine takes them.

use std::sync::Arc;

use lockstep_model::frame::ReadFrom;
use lockstep_model::node::{Mode, Successor};
use lockstep_model::run::{Ending, Kind, Reason, Received, Schedule, ToolEnd};
use lockstep_model::{
    Cancel, Code, ConnectionId, Control, Entry, Epoch, Event, Frame, MessageId, Offset, PartId, PauseId, Request,
    RunId, ThreadId, ToolId, UserId,
};
use serde_json::{Value, json};

/// What the machine passes through without reading: a token, a message, an event's data.
pub type Payload = Arc<str>;

/// A message's id: the digest of its name, as the gateway computes it.
#[must_use]
pub fn message_id(name: &str) -> MessageId {
    MessageId(lockstep::verify::credential_id(name).0)
}

/// A request as JSON. `name` returns a message's name.
pub fn encode(request: &Request<Payload>, name: impl Fn(MessageId) -> Option<String>) -> Option<Value> {
    Some(match request {
        Request::Auth { token, resume } => {
            let mut frame = json!({ "type": "auth", "token": &**token });
            // A refresh names no position: reading goes on where it is.
            match resume.from {
                ReadFrom::Unread | ReadFrom::Deferred => {}
                ReadFrom::Latest => frame["resume"] = json!("latest"),
                ReadFrom::Earliest => frame["resume"] = json!("earliest"),
                ReadFrom::After(position) => {
                    frame["resume"] = json!({ "epoch": position.epoch.0, "offset": position.offset.0 });
                }
            }
            if let Some(connection) = resume.replaces {
                frame["replaces"] = format!("{:016x}", connection.0).into();
            }
            frame
        }
        Request::Message { message, payload, repeat, .. } => {
            let payload: Value = serde_json::from_str(payload).ok()?;
            let mut frame = json!({ "type": "user_message", "message_id": name(*message)?, "payload": payload });
            if *repeat {
                frame["repeat"] = true.into();
            }
            frame
        }
        Request::Cancel { runs: Cancel::Run(run) } => json!({ "type": "cancel", "run_id": format!("{:016x}", run.0) }),
        Request::Reply { run, pause, payload } => {
            let payload: Value = serde_json::from_str(payload).ok()?;
            json!({ "type": "reply", "run_id": format!("{:016x}", run.0), "pause": pause.0, "payload": payload })
        }
        Request::Delete { payload: thread, .. } => json!({ "type": "delete_thread", "thread_id": &**thread }),
        Request::Ping => json!({ "type": "ping" }),
        // Only clients of the older protocol say these.
        Request::Cancel { runs: Cancel::Thread(_) | Cancel::All } | Request::Seek { .. } => return None,
        Request::Query { .. } | Request::Pong | Request::Invalid { .. } | Request::Violation(_) => return None,
    })
}

/// Decodes a gateway frame: the connection id, if the frame has one, and the frame itself. `None` for anything else.
#[must_use]
pub fn decode(frame: &Value) -> Option<(Option<ConnectionId>, Frame<Payload>)> {
    let number = |field: &str| frame[field].as_u64();
    let control = |control| Some((None, Frame::Control(control)));
    match frame["type"].as_str()? {
        "connection_ready" => {
            let ready = Control::Ready {
                // The wire has the user's name; the number is internal to the gateway.
                user: UserId(0),
                epoch: Epoch(number("epoch")?),
                offset: Offset(number("offset")?),
                head: Offset(number("head")?),
                resumed: frame["resumed"].as_bool()?,
                mode: mode(&frame["mode"])?,
            };
            Some((Some(ConnectionId(hex(&frame["connection_id"])?)), Frame::Control(ready)))
        }
        "auth_ok" => control(Control::AuthOk),
        "auth_expiring" => control(Control::AuthExpiring),
        "stream_reset" => control(Control::StreamReset { from: Offset(number("from")?), to: Offset(number("to")?) }),
        "mode" => control(Control::Mode(mode(&frame["mode"])?)),
        "going_away" => control(Control::GoingAway(Successor::Absent)),
        "pong" => control(Control::Pong),
        "connection_notice" => control(Control::Notice(Arc::from(frame["data"].to_string()))),
        "message_known" => control(Control::Known {
            message: message_id(frame["message_id"].as_str()?),
            run: RunId(hex(&frame["run_id"])?),
            offset: Offset(number("offset")?),
        }),
        "error" => {
            let code = code(&frame["code"])?;
            control(match frame["message_id"].as_str() {
                Some(name) => Control::Refused { message: message_id(name), code },
                None => Control::Error(code),
            })
        }
        _ => {
            let kind = kind(frame)?;
            let event = Event {
                run: RunId(hex(&frame["run_id"])?),
                thread: (kind != Kind::Notice).then(|| thread(frame)),
                kind,
                payload: Some(Arc::from(frame["data"].to_string())),
            };
            let entry = Entry { offset: Offset(number("offset")?), previous: Offset(number("previous")?), event };
            Some((None, Frame::Event(entry)))
        }
    }
}

fn kind(frame: &Value) -> Option<Kind> {
    let data = &frame["data"];
    let tool = || Some(ToolId(data["tool_id"].as_str()?.strip_prefix('t')?.parse().ok()?));
    let pause = || Some(PauseId(u32::try_from(data["pause"].as_u64()?).ok()?));
    Some(match frame["type"].as_str()? {
        "message_received" => Kind::Received(Received {
            message: message_id(data["message_id"].as_str()?),
            thread: thread(frame),
            schedule: if data["queued"] == true { Schedule::Queued } else { Schedule::Immediate },
            replaces: None,
        }),
        "agent_started" => Kind::Started,
        "agent_thinking" => Kind::Thinking,
        "agent_delta" => Kind::Delta(PartId(u32::try_from(data["part"].as_u64()?).ok()?)),
        "tool_executing" => Kind::ToolExecuting(tool()?),
        "tool_completed" => {
            let end = match data["status"].as_str()? {
                // The frame gives the cause of the abandonment only as text.
                "abandoned" => ToolEnd::Abandoned(Ending::Error(Reason::Abandoned)),
                _ => serde_json::from_value(data["status"].clone()).ok()?,
            };
            Kind::ToolCompleted(tool()?, end)
        }
        "agent_paused" => Kind::Paused(pause()?),
        "agent_resumed" => Kind::Resumed(pause()?),
        "agent_completed" => Kind::Completed,
        "agent_error" => Kind::Error(serde_json::from_value::<Reason>(data["reason"].clone()).ok()?),
        "notice" => Kind::Notice,
        "thread_deleted" => Kind::Deleted,
        _ => return None,
    })
}

/// An event's thread: the digest of its name, as the gateway computes it.
fn thread(frame: &Value) -> ThreadId {
    ThreadId(message_id(frame["thread_id"].as_str().unwrap_or_default()).0)
}

fn mode(value: &Value) -> Option<Mode> {
    serde_json::from_value(value.clone()).ok()
}

fn code(value: &Value) -> Option<Code> {
    serde_json::from_value(value.clone()).ok()
}

fn hex(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?, 16).ok()
}
