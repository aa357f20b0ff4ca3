//! The users' replies to runs that wait for one. A reply may be lost with its socket, so it is repeated while the run
//! still waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockstep_model::{PauseId, RunId};
use serde_json::{Value, json};

/// How long a user thinks, and how long it waits before it repeats a reply.
const THINKS: Duration = Duration::from_millis(600);
const REPEATS: Duration = Duration::from_secs(2);

/// The most replies to one pause. What is read of an earlier epoch may seem to wait forever.
const MOST: u32 = 40;

/// A run that waits for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// The user's number.
    pub user: usize,
    /// The run.
    pub run: RunId,
    /// The pause that the reply must name.
    pub pause: PauseId,
}

impl Waiting {
    /// The reply: most users approve what the built-in agent would do.
    pub(super) fn reply(self) -> Value {
        json!({ "answers": { "0": { "approved": !self.run.0.is_multiple_of(3) } } })
    }
}

/// When which reply is due.
#[derive(Debug, Default)]
pub(super) struct Replies(BTreeMap<Waiting, (Instant, u32)>);

impl Replies {
    /// Returns what is due a reply now, each with the number of its earlier replies.
    pub(super) fn due(&mut self, waiting: impl IntoIterator<Item = Waiting>) -> Vec<(Waiting, u32)> {
        let now = Instant::now();
        let mut due = Vec::new();
        for one in waiting {
            let (at, replies) = self.0.entry(one).or_insert((now + THINKS, 0));
            if *at <= now && *replies < MOST {
                due.push((one, *replies));
                (*at, *replies) = (now + REPEATS, *replies + 1);
            }
        }
        due
    }
}
