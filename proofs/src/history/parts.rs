//! STR-3: what readers have assembled of a part of an answer, from frames that were cut and joined in different ways.
//!
//! A frame of a part says what follows an offset up to another. Two readers who know where the same offset lies in the part
//! must have the same text around it. Where a reader began inside a part, all that is known is that what it got ends like
//! what others have.

use std::collections::HashMap;

use ahash::RandomState;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The part that a frame is about: the user, the epoch, the run, and the part's number.
pub(super) type Part = (usize, u64, u64, u64);

/// `data` of `agent_delta`.
#[derive(Deserialize)]
struct Data<'a> {
    part: u64,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// What one frame says.
struct Piece {
    previous: u64,
    offset: u64,
    line: u64,
    text: Box<str>,
}

/// What all frames say, part by part.
#[derive(Default)]
pub(super) struct Parts {
    pieces: HashMap<Part, Vec<Piece>, RandomState>,
}

impl Parts {
    /// Takes a frame, or says that it is none of a part.
    pub(super) fn take(
        &mut self,
        (user, epoch, run): (usize, u64, u64),
        (previous, offset, line): (u64, u64, u64),
        data: Option<&RawValue>,
    ) -> bool {
        let Some(data) = data.and_then(|data| serde_json::from_str::<Data<'_>>(data.get()).ok()) else { return false };
        let piece = Piece { previous, offset, line, text: data.text.into() };
        self.pieces.entry((user, epoch, run, data.part)).or_default().push(piece);
        true
    }

    /// The contradictions: two lines, and what is wrong.
    pub(super) fn finish(&mut self) -> Vec<([u64; 2], String)> {
        let mut found = Vec::new();
        for pieces in self.pieces.values_mut() {
            pieces.sort_unstable_by_key(|piece| (piece.previous, piece.offset));
            found.extend(judge(pieces));
        }
        found
    }
}

/// Puts the pieces of a part together, in the order in which they begin.
fn judge(pieces: &[Piece]) -> Vec<([u64; 2], String)> {
    let (mut text, mut found) = (String::new(), Vec::new());
    // Where an offset lies in the text, and the line that said so.
    let mut ends: HashMap<u64, (usize, u64)> = HashMap::new();
    let mut newest = None;
    for piece in pieces {
        if newest.is_none_or(|newest| newest < piece.previous) {
            // What lies before was not seen: what follows stands for itself.
            ends.insert(piece.previous, (text.len(), piece.line));
        }
        newest = newest.max(Some(piece.offset));
        let begin = ends.get(&piece.previous).copied();
        let end = ends.get(&piece.offset).copied();
        let (right, other) = match (begin, end) {
            (Some((begin, line)), None) => {
                let known = text.get(begin..).unwrap_or_default();
                let shared = known.len().min(piece.text.len());
                let right = known.as_bytes()[..shared] == piece.text.as_bytes()[..shared];
                if right && piece.text.len() > shared {
                    text.push_str(&piece.text[shared..]);
                }
                if right {
                    ends.insert(piece.offset, (begin + piece.text.len(), piece.line));
                }
                (right, line)
            }
            (Some((begin, _)), Some((end, line))) => (text.get(begin..end) == Some(&*piece.text), line),
            (None, Some((end, line))) => (text[..end].ends_with(&*piece.text), line),
            (None, None) => (true, piece.line),
        };
        if !right {
            let (from, to) = (piece.previous, piece.offset);
            found.push(([other, piece.line], format!("a part has two contents between offsets {from} and {to}")));
        }
    }
    found
}
