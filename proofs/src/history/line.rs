//! One line of a history.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::NotAHistory;

/// Text that is copied only if it was written with escapes. Inside an `Option`, serde always copies a plain `Cow`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) client: Text<'a>,
    #[serde(borrow, default)]
    pub(super) user: Option<Text<'a>>,
    #[serde(default)]
    pub(super) socket: u64,
    pub(super) fact: Fact,
    /// Parsed only when it is checked, because a client may send anything.
    #[serde(borrow, default)]
    pub(super) frame: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fact {
    Open,
    Sent,
    Received,
    Closed,
    Acked,
}

#[derive(Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(borrow)]
    pub(super) r#type: Text<'a>,
    #[serde(default)]
    pub(super) offset: Option<u64>,
    #[serde(default)]
    pub(super) head: Option<u64>,
    #[serde(default)]
    pub(super) previous: Option<u64>,
    #[serde(default)]
    pub(super) epoch: Option<u64>,
    #[serde(default)]
    pub(super) from: Option<u64>,
    #[serde(default)]
    pub(super) to: Option<u64>,
    #[serde(default)]
    pub(super) resumed: Option<bool>,
    #[serde(borrow, default)]
    pub(super) run_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) thread_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) limits: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) user_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) message_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
    /// Only in frames of the older protocol.
    #[serde(borrow, default)]
    pub(super) payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) previous_id: Option<Text<'a>>,
    /// Whether it stands for a frame of the older protocol.
    #[serde(skip)]
    pub(super) legacy: bool,
}

impl<'a> Frame<'a> {
    pub(super) fn parse(number: u64, frame: Option<&'a RawValue>) -> Result<Option<Self>, NotAHistory> {
        let parsed = frame.map(|frame| serde_json::from_str(frame.get())).transpose();
        parsed.map_err(|error| NotAHistory::NotAFact(number, format!("`frame`: {error}")))
    }
}
