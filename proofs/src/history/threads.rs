//! RUN-4 as observed in one stream: in a thread that queues, a run begins when the earlier ones have ended.

use std::collections::HashMap;

use ahash::RandomState;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::grammar::Kind;
use super::line::Text;

/// A gateway's limits, as far as they concern threads.
#[derive(Deserialize)]
struct Announced<'a> {
    #[serde(borrow, default)]
    concurrency: Option<Text<'a>>,
}

/// Whether the limits say that runs of a thread do not overlap; `None` if they do not mention it.
pub(super) fn queues(limits: Option<&RawValue>) -> Option<bool> {
    let limits: Announced<'_> = serde_json::from_str(limits?.get()).ok()?;
    Some(matches!(&*limits.concurrency?.0, "queue" | "reject" | "interrupt"))
}

/// The open runs of one stream, by thread, in the order of their messages. A run whose beginning was not seen is in no
/// thread.
pub(super) struct Threads(HashMap<u64, Vec<(u64, u64)>, RandomState>);

impl Threads {
    pub(super) fn new(hasher: &RandomState) -> Self {
        Self(HashMap::with_hasher(hasher.clone()))
    }

    /// Records that a part of the stream was not seen. Open runs may have ended in it.
    pub(super) fn gap(&mut self) {
        self.0.clear();
    }

    /// Takes the next event. An error names the line that it contradicts: the last line of a run that has not ended.
    pub(super) fn take(&mut self, thread: u64, run: u64, kind: Kind, line: u64) -> Result<(), (u64, String)> {
        let open = self.0.entry(thread).or_default();
        let place = open.iter().position(|(of, _)| *of == run);
        match (kind, place) {
            (Kind::Received(_), None) => open.push((run, line)),
            (Kind::End | Kind::Failed, Some(place)) => drop(open.remove(place)),
            (Kind::Started, Some(place)) if place > 0 => {
                return Err((
                    open[0].1,
                    "a run begins before the one in front of it in its thread has ended".to_owned(),
                ));
            }
            (_, Some(place)) => open[place].1 = line,
            (_, None) => {}
        }
        Ok(())
    }
}
