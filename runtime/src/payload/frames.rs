//! Frames that were encoded a short while ago. The connections of a user read an event at about the same time, so its
//! frame is encoded once, and need not be kept as long as the event.

use std::collections::VecDeque;
use std::sync::Mutex;

use lockstep_model::Offset;
use tungstenite::Utf8Bytes;

use crate::sync::lock;

/// Parts of the cache, each behind its own lock. Records are spread over them by their number.
const PARTS: usize = 16;
/// Bytes of one part's frames. The newest frame is kept even if it is longer.
const BYTES: usize = 256 * 1024;
/// Frames of one part.
const FRAMES: usize = 512;

static PART: [Mutex<Part>; PARTS] = [const { Mutex::new(Part { first: 1, frames: VecDeque::new(), bytes: 0 }) }; PARTS];

struct Part {
    /// The place of the oldest frame, counted from 1.
    first: u64,
    /// Each frame with the entry before it, which it names.
    frames: VecDeque<(Offset, Utf8Bytes)>,
    bytes: usize,
}

/// A frame of a record with this number. `place` is where it was before, or zero; it is returned as it is now.
///
/// `encode` is called under the part's lock, so two connections do not encode the same event at the same time.
pub(super) fn frame(number: u64, place: u64, previous: Offset, encode: impl FnOnce() -> Utf8Bytes) -> (u64, Utf8Bytes) {
    let mut part = lock(&PART[usize::try_from(number % PARTS as u64).unwrap_or_default()]);
    match part.at(place) {
        Some((of, frame)) if *of == previous => (place, frame.clone()),
        // A reader that has read an entry that was deleted since is alone with that.
        Some(_) => {
            drop(part);
            (place, encode())
        }
        None => {
            let frame = encode();
            (part.push(previous, frame.clone()), frame)
        }
    }
}

impl Part {
    fn at(&self, place: u64) -> Option<&(Offset, Utf8Bytes)> {
        self.frames.get(usize::try_from(place.checked_sub(self.first)?).ok()?)
    }

    fn push(&mut self, previous: Offset, frame: Utf8Bytes) -> u64 {
        self.bytes += frame.len();
        self.frames.push_back((previous, frame));
        while self.frames.len() > FRAMES || (self.bytes > BYTES && self.frames.len() > 1) {
            let oldest = self.frames.pop_front();
            self.bytes -= oldest.map_or(0, |(_, frame)| frame.len());
            self.first += 1;
        }
        self.first + self.frames.len() as u64 - 1
    }
}
