//! STR-3: what readers have assembled of a part of an answer, from frames that were cut and joined in different ways.
//!
//! A frame of a part contains the text between two offsets. Two readers that know the position of the same offset in
//! the part must have the same text around it. If a reader began inside a part, it is only known that its text ends
//! like that of other readers.

use std::collections::HashMap;

use ahash::RandomState;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A part: the user, the epoch, the run, and the part's number.
pub(super) type Part = (usize, u64, u64, u64);

/// `data` of `agent_delta`.
#[derive(Deserialize)]
struct Data<'a> {
    part: u64,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// The content of one frame.
struct Piece {
    previous: u64,
    offset: u64,
    line: u64,
    text: Box<str>,
}

/// The contents of all frames, by part.
#[derive(Default)]
pub(super) struct Parts {
    pieces: HashMap<Part, Vec<Piece>, RandomState>,
}

impl Parts {
    /// Takes a frame. Returns false if it is not a frame of a part.
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

    /// Returns the contradictions: two lines, and what is wrong.
    pub(super) fn finish(&mut self) -> Vec<([u64; 2], String)> {
        let mut found = Vec::new();
        for pieces in self.pieces.values_mut() {
            pieces.sort_unstable_by_key(|piece| (piece.previous, piece.offset));
            found.extend(contradictions(pieces));
        }
        found
    }
}

/// Assembles the pieces of a part, in the order in which they begin.
fn contradictions(pieces: &[Piece]) -> Vec<([u64; 2], String)> {
    let (mut text, mut found) = (String::new(), Vec::new());
    // The position of an offset in the text, and the line that determined it.
    let mut ends: HashMap<u64, (usize, u64)> = HashMap::new();
    let mut newest = None;
    for piece in pieces {
        if newest.is_none_or(|newest| newest < piece.previous) {
            // The text before it was not seen, so the piece starts a text of its own.
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
