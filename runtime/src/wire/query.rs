//! The starting place in the query of the upgrade request.

use core::fmt;

use lockstep_model::{ConnectionId, Epoch, Offset, Position, Resume, frame};

use super::message::from_word;
use super::{Hex, MAX_INTEGER};

/// Why a query names no place to start from: a sentence that names the parameter, for the response to the upgrade
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidQuery(&'static str);

impl InvalidQuery {
    /// The sentence.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for InvalidQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for InvalidQuery {}

/// Parses `epoch` and `offset` (from `connection_ready` and the last event), or `from` (`unread`, `latest` or
/// `earliest`), and `replaces` (the `connection_id` of the connection that was lost). None of their values needs
/// percent-encoding, and none is decoded. Other parameters are ignored.
///
/// ```
/// use lockstep::wire::resume_from_query;
/// use lockstep_model::frame::ReadFrom;
///
/// assert_eq!(resume_from_query("ticket=x").map(|resume| resume.from), Ok(ReadFrom::Unread));
/// assert_eq!(resume_from_query("from=earliest").map(|resume| resume.from), Ok(ReadFrom::Earliest));
/// assert!(resume_from_query("epoch=7").is_err());
/// ```
///
/// # Errors
///
/// [`InvalidQuery`].
pub fn resume_from_query(query: &str) -> Result<Resume, InvalidQuery> {
    resume(query).map_err(InvalidQuery)
}

/// Writes the query that names this starting place. A place that the first frame names is not in it.
pub(crate) fn query_of(resume: &Resume) -> String {
    let mut query = match resume.from {
        frame::ReadFrom::Unread | frame::ReadFrom::Deferred => "from=unread".to_owned(),
        frame::ReadFrom::Latest => "from=latest".to_owned(),
        frame::ReadFrom::Earliest => "from=earliest".to_owned(),
        frame::ReadFrom::After(Position { epoch, offset }) => format!("epoch={}&offset={}", epoch.0, offset.0),
    };
    if let Some(replaces) = resume.replaces {
        query.push_str(&format!("&replaces={}", super::hex(replaces.0)));
    }
    query
}

fn resume(query: &str) -> Result<Resume, &'static str> {
    let (mut epoch, mut offset, mut from, mut replaces) = (None, None, None, None);
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let slot = match name {
            "epoch" => &mut epoch,
            "offset" => &mut offset,
            "from" => &mut from,
            "replaces" => &mut replaces,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err("`epoch`, `offset`, `from` and `replaces` must each be given only once");
        }
    }
    let from = match (from, epoch, offset) {
        (None, None, None) => frame::ReadFrom::default(),
        (Some(word), None, None) => from_word(word).ok_or("`from` must be `unread`, `latest` or `earliest`")?,
        (None, Some(epoch), Some(offset)) => frame::ReadFrom::After(Position {
            epoch: Epoch(integer(epoch).ok_or("`epoch` must be an integer from 0 to 2^53 − 1")?),
            offset: Offset(integer(offset).ok_or("`offset` must be an integer from 0 to 2^53 − 1")?),
        }),
        (None, Some(_), None) | (None, None, Some(_)) => return Err("`epoch` and `offset` must be given together"),
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err("`from` cannot be combined with `epoch` and `offset`");
        }
    };
    let replaces = replaces.map(|id| id.parse::<Hex>().map(ConnectionId::from)).transpose();
    Ok(Resume { from, replaces: replaces.map_err(|_| "`replaces` must be 16 lower-case hexadecimal digits")? })
}

/// Parses decimal digits, and nothing else.
pub(super) fn integer(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|integer| digits && *integer <= MAX_INTEGER)
}
