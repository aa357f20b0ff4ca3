//! A step of a world as arrows between lifelines. The step is repeated on a copy, and the gateway's inputs and outputs
//! are drawn.

use lockstep_model::auth::Verdict;
use lockstep_model::gateway::{Input, Output, SessionOutput};
use lockstep_model::run::{Kind, Received, Schedule};
use lockstep_model::session::Lookup;
use lockstep_model::{Cancel, ConnectionId, Control, Frame, Request, Successor, connection, node, session};

use super::action::{Action, AgentStep, Early};
use super::setup::Setup;
use super::state::{Payload, Scratch, World};
use crate::engine::phrase::phrase;
use crate::engine::proof::{Drawing, Lifeline};

/// The arrows of one step.
pub fn depict(setup: &Setup, before: &World, action: &Action, after: &World) -> Vec<Drawing> {
    let mut scratch = Scratch { drawings: Some(Vec::new()), ..Scratch::default() };
    let mut drawings = prelude(before, *action);
    before.clone().act(setup, *action, &mut scratch);
    drawings.extend(scratch.drawings.unwrap_or_default());
    if drawings.is_empty() && before != after {
        drawings.push(note(Lifeline::Node, phrase(&format!("{action:?}"))));
    }
    drawings
}

fn note(on: Lifeline, text: String) -> Drawing {
    Drawing::Note { on, text }
}

fn arrow(from: Lifeline, to: Lifeline, label: impl Into<String>) -> Drawing {
    Drawing::Arrow { from, to, label: label.into(), lost: false }
}

/// Draws the parts of an action that the gateway does not see.
fn prelude(world: &World, action: Action) -> Vec<Drawing> {
    match action {
        Action::Open(peer) => vec![arrow(Lifeline::Client, Lifeline::Socket, format!("client {peer} opens a socket"))],
        Action::Send(peer) => vec![note(Lifeline::Client, format!("user of client {peer} sends a message"))],
        Action::Backoff(peer) => vec![note(Lifeline::Client, format!("client {peer}'s pause is over"))],
        Action::Token(peer) => vec![note(Lifeline::Client, format!("client {peer} gets a new token"))],
        Action::Cut(id) => vec![note(Lifeline::Socket, format!("{} is cut; neither side has noticed", name(id)))],
        Action::ClientNotices(id) => vec![note(Lifeline::Client, format!("notices that {} is gone", name(id)))],
        Action::Cancel(id, run) => {
            vec![arrow(Lifeline::Client, Lifeline::Socket, format!("{}: cancel run {}", name(id), run.0))]
        }
        Action::Reply(id, run, pause) => {
            let label = format!("{}: reply {} to run {}", name(id), pause.0, run.0);
            vec![arrow(Lifeline::Client, Lifeline::Socket, label)]
        }
        Action::Eager(id, request) => {
            let what = match request {
                Early::Token => "the token, again",
                Early::Stranger => "a token of another user",
                Early::Ping => "ping, before the verdict",
            };
            vec![arrow(Lifeline::Client, Lifeline::Socket, format!("{}: {what}", name(id)))]
        }
        Action::Garbage(id) => vec![arrow(Lifeline::Client, Lifeline::Socket, format!("{}: garbage", name(id)))],
        Action::Down(id) => {
            let frame = world.sockets.get(&id).and_then(|socket| socket.down.front());
            let label = frame.map_or_else(String::new, frame_label);
            vec![arrow(Lifeline::Socket, Lifeline::Client, format!("{}: {label}", name(id)))]
        }
        Action::Agent(run, AgentStep::Hang) => vec![note(Lifeline::Agent, format!("run {} falls silent", run.0))],
        Action::Crash(kept) => {
            vec![note(Lifeline::Node, format!("crash with {kept} of each user's pending writes durable; restart"))]
        }
        Action::Fence(user) => vec![note(Lifeline::Log, format!("grants user {user} to another owner"))],
        Action::Late(user) => vec![note(Lifeline::Log, format!("executes an abandoned request of user {user} late"))],
        Action::Breach(user) => vec![note(Lifeline::Log, format!("breaks its contract for user {user}"))],
        Action::Query(id) => vec![arrow(Lifeline::Client, Lifeline::Socket, format!("{}: query", name(id)))],
        Action::Find { outdated: true, .. } => vec![note(Lifeline::Log, "read before the deletion".into())],
        Action::Find { outdated: false, .. }
        | Action::NotFound { .. }
        | Action::Up(_)
        | Action::Pull(_)
        | Action::Verify(..)
        | Action::ServerNotices(_)
        | Action::Agent(..)
        | Action::Persist(_)
        | Action::Refuse(..)
        | Action::Restore(..)
        | Action::FailRestore(_)
        | Action::Confirm(_)
        | Action::Expire(..)
        | Action::Revoke
        | Action::Notice
        | Action::Delete(..)
        | Action::Pin(_)
        | Action::Drain(_)
        | Action::Abort => Vec::new(),
    }
}

/// Draws an input of the gateway.
pub fn input(input: &Input<Payload>) -> Drawing {
    match input {
        Input::Accept { connection } => {
            arrow(Lifeline::Socket, Lifeline::Connection, format!("accept {}", name(*connection)))
        }
        Input::Connection { connection, input } => connection_input(*connection, input),
        Input::Pull { connection, .. } => {
            arrow(Lifeline::Socket, Lifeline::Session, format!("{} can take frames", name(*connection)))
        }
        Input::Session { input, .. } => session_input(input),
        Input::Revoke { user, .. } => {
            arrow(Lifeline::Operator, Lifeline::Session, format!("revoke the credentials of user {}", user.0))
        }
        Input::Delete { user, thread, .. } => {
            arrow(Lifeline::Operator, Lifeline::Session, format!("delete thread {} of user {}", thread.0, user.0))
        }
        Input::Notice { user, .. } => {
            arrow(Lifeline::Operator, Lifeline::Session, format!("a notice for user {}", user.0))
        }
        Input::Node(node::Input::Drain { successor: Successor::Absent }) => {
            arrow(Lifeline::Operator, Lifeline::Node, "drain")
        }
        Input::Node(node::Input::Drain { successor: Successor::Waiting }) => {
            arrow(Lifeline::Operator, Lifeline::Node, "hand over: a successor waits")
        }
        Input::Node(node::Input::HandoverAborted) => arrow(Lifeline::Operator, Lifeline::Node, "the successor is gone"),
        Input::Node(input) => note(Lifeline::Node, format!("{input:?}")),
    }
}

fn connection_input(id: ConnectionId, input: &connection::Input<Payload>) -> Drawing {
    let id = name(id);
    match input {
        connection::Input::Received(request) => {
            arrow(Lifeline::Client, Lifeline::Connection, format!("{id}: {}", request_label(request)))
        }
        connection::Input::Verdict { attempt, verdict } => {
            let verdict = match verdict {
                Verdict::Valid { grant, .. } => format!("valid, user {}", grant.user.0),
                Verdict::Rejected => "rejected".into(),
                Verdict::Unavailable => "unavailable".into(),
            };
            arrow(Lifeline::Verifier, Lifeline::Connection, format!("{id}: attempt {} {verdict}", attempt.0))
        }
        connection::Input::Gone(cause) => {
            arrow(Lifeline::Socket, Lifeline::Connection, format!("{id} gone: {}", cause.reason()))
        }
        connection::Input::Expired(timer) => note(Lifeline::Connection, format!("{id}: {timer:?} expires")),
        other => note(Lifeline::Connection, format!("{id}: {other:?}")),
    }
}

fn session_input(input: &session::Input<Payload>) -> Drawing {
    match input {
        session::Input::Restored { snapshot, .. } => {
            arrow(Lifeline::Log, Lifeline::Session, format!("restored, {} entries", snapshot.entries.len()))
        }
        session::Input::NotRestored { .. } => arrow(Lifeline::Log, Lifeline::Session, "not restored"),
        session::Input::Run { run, input, .. } => {
            arrow(Lifeline::Agent, Lifeline::Session, format!("run {}: {input:?}", run.0))
        }
        session::Input::Persisted { offset, .. } => {
            arrow(Lifeline::Log, Lifeline::Session, format!("offset {} is durable", offset.0))
        }
        session::Input::Failed { .. } => arrow(Lifeline::Log, Lifeline::Session, "batch refused"),
        session::Input::Elsewhere { .. } => arrow(Lifeline::Log, Lifeline::Session, "owned elsewhere"),
        session::Input::Fenced => arrow(Lifeline::Log, Lifeline::Session, "fenced"),
        session::Input::Lost => arrow(Lifeline::Node, Lifeline::Session, "the lease has ended"),
        session::Input::Found { found: session::Found::Page(page), .. } => arrow(
            Lifeline::Log,
            Lifeline::Session,
            format!("a page of {}, through {}", page.entries.len(), page.through.0),
        ),
        session::Input::Found { .. } => arrow(Lifeline::Log, Lifeline::Session, "an answer"),
        session::Input::NotFound { .. } => arrow(Lifeline::Log, Lifeline::Session, "cannot be looked up"),
        session::Input::Broken => arrow(Lifeline::Log, Lifeline::Session, "broken"),
        session::Input::Expired(_, timer) => note(Lifeline::Session, format!("{timer:?} expires")),
        other => note(Lifeline::Session, format!("{other:?}")),
    }
}

/// Draws an output of the gateway; `None` if it is not worth an arrow.
pub fn output(world: &World, output: &Output<Payload>) -> Option<Drawing> {
    match output {
        Output::Refused { connection, cause } => Some(arrow(
            Lifeline::Node,
            Lifeline::Client,
            format!("{} refused: {} {}", name(*connection), cause.code(), cause.reason()),
        )),
        Output::Verify { connection, attempt, .. } => Some(arrow(
            Lifeline::Connection,
            Lifeline::Verifier,
            format!("{}: verify, attempt {}", name(*connection), attempt.0),
        )),
        Output::Send { connection, frame } => {
            let lost = world.sockets.get(connection).is_none_or(|socket| socket.cut || socket.client_gone);
            Some(Drawing::Arrow {
                from: Lifeline::Session,
                to: Lifeline::Client,
                label: format!("{}: {}", name(*connection), frame_label(frame)),
                lost,
            })
        }
        Output::Closed { connection, cause } => Some(arrow(
            Lifeline::Connection,
            Lifeline::Socket,
            format!("{} closed: {} {}", name(*connection), cause.code(), cause.reason()),
        )),
        Output::Session { output: SessionOutput::Restore { .. }, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Log, "restore the stream"))
        }
        Output::Session { output: SessionOutput::Confirm { .. }, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Log, "confirm the owner"))
        }
        Output::Relay { connection, owner } => Some(arrow(
            Lifeline::Session,
            Lifeline::Connection,
            format!("{} is served by process {:x}", name(*connection), owner.0),
        )),
        Output::Session { output: SessionOutput::Write { event, .. }, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Log, format!("write {}", kind_label(event.kind))))
        }
        Output::Session { output: SessionOutput::Read { .. }, .. } => None,
        Output::Session { output: SessionOutput::Lookup { lookup, .. }, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Log, lookup_label(lookup)))
        }
        Output::Session { output: SessionOutput::Trim { through, .. }, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Log, format!("forget through {}", through.0)))
        }
        Output::Session { output: SessionOutput::Launch { run, .. }, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Agent, format!("launch run {}", run.0)))
        }
        Output::Session { output: SessionOutput::Halt { run }, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Agent, format!("halt run {}", run.0)))
        }
        Output::Session { output: SessionOutput::Lose, .. } => {
            Some(arrow(Lifeline::Session, Lifeline::Agent, "pending events are lost"))
        }
        Output::Session {
            output:
                SessionOutput::Durable { .. }
                | SessionOutput::Relinquish { .. }
                | SessionOutput::Elsewhere { .. }
                | SessionOutput::Room,
            ..
        }
        | Output::Wake { .. }
        | Output::Probe
        | Output::Leaving
        | Output::Released
        | Output::Stopped
        | Output::Arm(..)
        | Output::Disarm(..) => None,
    }
}

/// `c1.2` is the second socket of client 1.
fn name(id: ConnectionId) -> String {
    format!("c{}.{}", id.0 / 16, id.0 % 16)
}

fn request_label(request: &Request<Payload>) -> String {
    match request {
        Request::Auth { .. } => "auth".into(),
        Request::Message { message, repeat, .. } => {
            format!("user_message {}{}", message.0, if *repeat { ", again" } else { "" })
        }
        Request::Cancel { runs: Cancel::Run(run) } => format!("cancel run {}", run.0),
        Request::Cancel { runs: Cancel::Thread(thread) } => format!("cancel thread {}", thread.0),
        Request::Cancel { runs: Cancel::All } => "cancel all runs".into(),
        Request::Reply { run, pause, .. } => format!("reply {} to run {}", pause.0, run.0),
        Request::Seek { from } => format!("read on after {}", from.offset.0),
        Request::Delete { thread, .. } => format!("delete_thread {}", thread.0),
        Request::Query { .. } => "query".into(),
        Request::Ping => "ping".into(),
        Request::Pong => "pong".into(),
        Request::Invalid { code, .. } => format!("invalid: {code:?}"),
        Request::Violation(cause) => format!("violation: {}", cause.reason()),
    }
}

fn lookup_label(lookup: &Lookup<Payload>) -> String {
    match lookup {
        Lookup::Page { after, through } => format!("look up entries after {}, through {}", after.0, through.0),
        Lookup::Query(_) => "look up the answer to a query".into(),
    }
}

fn frame_label(frame: &Frame<Payload>) -> String {
    match frame {
        Frame::Control(Control::Ready { offset, resumed, .. }) => {
            format!("connection_ready, {} {}", if *resumed { "from" } else { "not resumed, from" }, offset.0)
        }
        Frame::Control(Control::StreamReset { from, to }) => format!("stream_reset {}..{}", from.0, to.0),
        Frame::Control(control) => format!("{control:?}"),
        Frame::Event(entry) => format!("{}@{}", kind_label(entry.event.kind), entry.offset.0),
        Frame::Close(cause) => format!("close {} {}", cause.code(), cause.reason()),
    }
}

fn kind_label(kind: Kind) -> String {
    match kind {
        Kind::Received(Received { message, schedule: Schedule::Immediate, .. }) => {
            format!("message_received({})", message.0)
        }
        Kind::Received(Received { message, schedule: Schedule::Queued, .. }) => {
            format!("message_received({}, queued)", message.0)
        }
        Kind::Started => "agent_started".into(),
        Kind::Thinking => "agent_thinking".into(),
        Kind::Delta(_) => "agent_delta".into(),
        Kind::ToolExecuting(tool) => format!("tool_executing({})", tool.0),
        Kind::ToolCompleted(tool, end) => format!("tool_completed({}, {end:?})", tool.0),
        Kind::Paused(pause) => format!("agent_paused({})", pause.0),
        Kind::Resumed(pause) => format!("agent_resumed({})", pause.0),
        Kind::Completed => "agent_completed".into(),
        Kind::Error(reason) => format!("agent_error({reason:?})"),
        Kind::Notice => "notice".into(),
        Kind::Deleted => "thread_deleted".into(),
    }
}
