//! Conversation queries and the pages that answer them, the same on the socket and over HTTP.

use lockstep_model::{Code, Offset};
use serde::Serialize;
use tungstenite::Utf8Bytes;

use super::members::Members;
use super::notice::sentence;
use super::{Past, message, text};
use crate::log::conversations::{Thread, Threads, Turns};
use crate::payload::{Query, ThreadPlace, Wanted};

/// The most threads or turns of one page.
pub const MAX_PAGE: usize = 200;
/// Threads or turns of a page if the query does not say.
const PAGE: usize = 50;
/// The most characters of a title, before trimming.
pub const MAX_TITLE: usize = 200;
/// The most characters of a `request_id`.
const MAX_REQUEST: usize = 128;
/// The most digits of a number in `before`: no offset or time that JSON can represent has more.
const MAX_DIGITS: usize = 16;

impl Query {
    /// Decodes a frame of one of the three types.
    pub(super) fn decode(kind: &str, members: &Members<'_>) -> Result<Self, Code> {
        let request = members.text("request_id")?;
        if request.chars().count() > MAX_REQUEST {
            return Err(Code::InvalidField);
        }
        Ok(Self { request: request.into(), wanted: Wanted::decode(kind, members) })
    }

    /// The frame that answers the query with a page of threads.
    #[must_use]
    pub fn threads(&self, found: &Threads) -> Utf8Bytes {
        self.answer(&Answer::threads(found))
    }

    /// The frame that answers the query with a page of turns.
    #[must_use]
    pub fn turns(&self, found: &Turns) -> Utf8Bytes {
        self.answer(&Answer::turns(found))
    }

    /// The frame that confirms a thread's new title.
    #[must_use]
    pub fn renamed(&self) -> Utf8Bytes {
        self.answer(&Answer::Renamed {})
    }

    /// The frame that refuses the query with a code.
    #[must_use]
    pub fn refused(&self, code: Code) -> Utf8Bytes {
        text(&Refused { r#type: "error", request_id: &self.request, code, message: sentence(code) })
    }

    fn answer(&self, answer: &Answer<'_>) -> Utf8Bytes {
        text(&Answered { r#type: answer.name(), request_id: &self.request, answer })
    }
}

impl Wanted {
    fn decode(kind: &str, members: &Members<'_>) -> Result<Self, Code> {
        let limit = || limit(members.optional_integer("limit")?).ok_or(Code::InvalidField);
        let before = || members.optional_string("before");
        match kind {
            "list_threads" => {
                let before = before()?.map(|before| place(&before).ok_or(Code::InvalidField)).transpose()?;
                Ok(Self::Threads { before, limit: limit()? })
            }
            "read_turns" => {
                let before = before()?.map(|before| offset_of(&before).ok_or(Code::InvalidField)).transpose()?;
                Ok(Self::Turns { thread: message::thread(members)?, before, limit: limit()? })
            }
            _ => {
                let title = members.optional_string("title")?;
                let title = title.map(|text| title_of(&text).ok_or(Code::InvalidField)).transpose()?;
                Ok(Self::Rename { thread: message::thread(members)?, title })
            }
        }
    }
}

/// Returns the size of a page, if it is valid.
pub fn limit(limit: Option<u64>) -> Option<usize> {
    let limit = limit.map_or(Some(PAGE), |limit| usize::try_from(limit).ok())?;
    (1..=MAX_PAGE).contains(&limit).then_some(limit)
}

/// Parses where a page of threads begins, from the `next` of the page before it.
pub fn place(before: &str) -> Option<ThreadPlace> {
    let (updated, name) = before.split_once('.')?;
    Some(ThreadPlace { updated: number(updated)?, name: name.to_owned() })
}

/// Parses where a page of turns ends, from the `next` of the page before it.
pub fn offset_of(before: &str) -> Option<Offset> {
    number(before).map(Offset)
}

fn number(digits: &str) -> Option<u64> {
    let is_number = digits.len() <= MAX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// Returns the trimmed title, if it is valid.
pub fn title_of(text: &str) -> Option<String> {
    let title = text.trim();
    (!title.is_empty() && text.chars().count() <= MAX_TITLE).then(|| title.to_owned())
}

/// The log's answer to a query.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Answer<'a> {
    Threads { threads: Vec<Listed<'a>>, next: Option<String> },
    Turns { events: Vec<Past<'a>>, next: Option<String> },
    Renamed {},
}

#[derive(Serialize)]
pub(crate) struct Listed<'a> {
    thread_id: Option<&'a str>,
    title: Option<&'a str>,
    updated_at: u64,
    open: bool,
}

impl<'a> Answer<'a> {
    pub(crate) fn threads(found: &'a Threads) -> Self {
        let threads = found.threads.iter().map(|Thread { name, title, updated, open }| Listed {
            thread_id: name.as_deref(),
            title: title.as_deref(),
            updated_at: *updated,
            open: *open,
        });
        let next = found.next.as_ref().map(|ThreadPlace { updated, name }| format!("{updated}.{name}"));
        Self::Threads { threads: threads.collect(), next }
    }

    pub(crate) fn turns(found: &'a Turns) -> Self {
        let events = found.entries.iter().map(|(offset, entry)| Past::of(*offset, entry)).collect();
        Self::Turns { events, next: found.next.map(|next| next.0.to_string()) }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Threads { .. } => "threads",
            Self::Turns { .. } => "turns",
            Self::Renamed {} => "thread_renamed",
        }
    }
}

#[derive(Serialize)]
struct Answered<'a> {
    r#type: &'static str,
    request_id: &'a str,
    #[serde(flatten)]
    answer: &'a Answer<'a>,
}

#[derive(Serialize)]
struct Refused<'a> {
    r#type: &'static str,
    request_id: &'a str,
    code: Code,
    message: &'static str,
}
