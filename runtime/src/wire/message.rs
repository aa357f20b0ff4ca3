//! How both codecs decode messages and credentials, and the names that clients give their messages.

use std::collections::VecDeque;
use std::sync::Arc;

use lockstep_model::run::Kind;
use lockstep_model::{Cause, Code, MessageId, Offset, PauseId, Request, Resume, RunId, ThreadId, frame};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::members::{Members, WordOrObject, message_id};
use super::{CodecState, Decoded};
use crate::payload::{Payload, Record, Token, data_of, data_of_reply, thread_id};
use crate::support::digest64;

/// The longest `message_id` and `thread_id`, in characters.
pub const MAX_NAME: usize = 128;

/// How many unanswered messages a connection's codec remembers by name. The answer to an older message carries its run,
/// but not the client's name for the message.
pub const MAX_NAMES: usize = 256;

/// The longest `message_id`, in bytes, that a refusal repeats. It may exceed [`MAX_NAME`]: that is then the frame's
/// error.
pub const MAX_ECHO: usize = 1024;

/// The names of messages that no control frame has answered.
#[derive(Debug, Default)]
pub(super) struct Names(VecDeque<(MessageId, Box<str>)>);

impl Names {
    fn remember(&mut self, message: MessageId, name: &str) {
        if self.0.len() == MAX_NAMES {
            self.0.pop_front();
        }
        self.0.push_back((message, name.into()));
    }

    /// Removes and returns the name: a message that was sent twice is remembered twice.
    pub(super) fn answer(&mut self, message: MessageId) -> Option<Box<str>> {
        let index = self.0.iter().position(|(known, _)| *known == message)?;
        self.0.remove(index).map(|(_, name)| name)
    }
}

/// The `data` of `message_received`.
#[derive(Serialize)]
struct Received<'a> {
    message_id: &'a str,
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<u64>,
}

/// Returns a `message_id` or `thread_id`, if its length is valid.
pub(super) fn name(text: String) -> Result<String, Code> {
    if (1..=MAX_NAME).contains(&text.chars().count()) { Ok(text) } else { Err(Code::InvalidField) }
}

/// The optional `thread_id`.
pub(super) fn thread(members: &Members<'_>) -> Result<Option<Arc<str>>, Code> {
    Ok(members.optional_string("thread_id")?.map(name).transpose()?.map(Arc::from))
}

/// Builds a message request from valid members.
pub(super) fn message(
    peer: &mut CodecState,
    name: &str,
    (thread, replaces): (Option<Arc<str>>, Option<Offset>),
    payload: &RawValue,
    repeat: bool,
) -> Decoded {
    let message = MessageId(digest64(name.as_bytes()));
    let data = to_raw_value(&Received { message_id: name, payload, replaces: replaces.map(|from| from.0) });
    let (Ok(data), Ok(run)) = (data, crate::random()) else { return Ok(Request::Violation(Cause::Fault)) };
    peer.names.remember(message, name);
    let thread_id = thread_id(thread.as_deref());
    let payload = Payload::Record(Arc::new(Record::new(thread, data)));
    Ok(Request::Message { message, thread: thread_id, run: RunId(run), payload, repeat, replaces })
}

/// Decodes a reply to a paused run.
pub(super) fn reply(members: &Members<'_>) -> Decoded {
    let run = members.id("run_id")?.into();
    let pause = members.optional_integer("pause")?.and_then(|pause| u32::try_from(pause).ok());
    let pause = PauseId(pause.ok_or(Code::InvalidField)?);
    let data = data_of_reply(pause, members.any("payload")?);
    Ok(Request::Reply { run, pause, payload: Payload::Record(Arc::new(Record::new(None, data))) })
}

/// Builds a request to delete a thread.
pub(super) fn deletion(thread: Option<Arc<str>>) -> Decoded {
    let Ok(deletion) = crate::random() else { return Ok(Request::Violation(Cause::Fault)) };
    let (id, payload) = deleted(thread);
    Ok(Request::Delete { thread: id, deletion: RunId(deletion), payload })
}

/// The thread's id, and the payload of its `thread_deleted`.
pub(crate) fn deleted(thread: Option<Arc<str>>) -> (ThreadId, Payload) {
    let id = thread_id(thread.as_deref());
    (id, Payload::Record(Arc::new(Record::new(thread, data_of(Kind::Deleted)))))
}

/// The message that a refused frame names, if it can be read.
pub(super) fn refused(peer: &mut CodecState, frame: &str) -> Option<MessageId> {
    let name = message_id(frame).filter(|name| name.len() <= MAX_ECHO)?;
    let message = MessageId(digest64(name.as_bytes()));
    peer.names.remember(message, &name);
    Some(message)
}

/// Decodes a credential and the starting place. What the frame omits is taken from the URL of the upgrade request. The
/// starting place is set once, by the first credential. A later credential that names another place is refused, because
/// reading would continue from the first place.
pub(super) fn auth(peer: &mut CodecState, members: &Members<'_>) -> Decoded {
    let token = members.text("token")?;
    let from = match members.word_or_object("resume")? {
        None => None,
        Some(WordOrObject::Object(place)) => Some(frame::ReadFrom::After(place.position()?)),
        Some(WordOrObject::Word(word)) => Some(from_word(&word).ok_or(Code::InvalidField)?),
    };
    let replaces = members.optional_id("replaces")?.map(Into::into);
    let said = peer.asked.unwrap_or(peer.address);
    let resume = Resume { from: from.unwrap_or(said.from), replaces: replaces.or(said.replaces) };
    if *peer.asked.get_or_insert(resume) != resume {
        return Err(Code::InvalidField);
    }
    Ok(Request::Auth { token: Payload::Token(Token::new(&token)), resume })
}

/// Parses a named starting place.
pub(super) fn from_word(word: &str) -> Option<frame::ReadFrom> {
    match word {
        "unread" => Some(frame::ReadFrom::Unread),
        "latest" => Some(frame::ReadFrom::Latest),
        "earliest" => Some(frame::ReadFrom::Earliest),
        _ => None,
    }
}
