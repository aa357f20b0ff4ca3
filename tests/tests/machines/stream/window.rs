//! What of a stream stays in memory (LIM-1), and what a reader behind that window finds (STR-3).

use std::borrow::Cow;

use lockstep_model::frame::ReadFrom;
use lockstep_model::piece::{pieces, range};
use lockstep_model::run::Received;
use lockstep_model::stream::{Cursor, Read};
use lockstep_model::{Bounds, MessageId, PartId, Piece, Position};
use proptest::prelude::*;

use super::*;

/// A sequence of writes: messages, thoughts, and an answer in pieces.
fn events() -> impl Strategy<Value = Vec<Event<Tag>>> {
    let kind = prop_oneof![Just(0u8), Just(1), Just(2), Just(2), Just(2)];
    prop::collection::vec(kind, 0..40).prop_map(|kinds| {
        let mut said = 0;
        let event = |(run, kind): (u64, u8)| {
            let event =
                |kind, payload| Event { run: RunId(1), thread: Some(ThreadId(1)), kind, payload: Some(payload) };
            match kind {
                0 => event(Kind::Received(Received::immediate(MessageId(run), ThreadId(1))), 1),
                1 => event(Kind::Thinking, 2),
                _ => {
                    said = if said == 6 { 1 } else { said + 1 };
                    event(Kind::Delta(PartId(u32::from(said == 1) + run as u32 / 20)), pieces(said - 1, said))
                }
            }
        };
        (0..).zip(kinds).map(event).collect()
    })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (1..12usize, 1..12usize, 1..4usize, 1..3usize).prop_map(|(retained, retained_bytes, retained_turns, apart)| {
        Bounds { retained, retained_bytes, retained_turns, apart, ..SMALL }
    })
}

/// The stream once the log has these events.
fn filled(bounds: &Bounds, events: &[Event<Tag>], keeps: bool) -> Stream<Tag> {
    let snapshot = Snapshot { keeps, ..Snapshot::empty(TENURE) };
    let mut out = Vec::new();
    let mut stream = Stream::restore(bounds, snapshot, &mut out);
    for (offset, event) in (1..).zip(events) {
        let _ = stream.step(bounds, Input::Append(event.clone()), &mut out);
        let input = persisted(&stream, offset);
        let _ = stream.step(bounds, input, &mut out);
        assert_eq!(stream.check(bounds), Ok(()));
    }
    stream
}

fn at(stream: &Stream<Tag>, offset: u64) -> Cursor {
    let position = Position { epoch: EPOCH, offset: Offset(offset) };
    stream.seek(ReadFrom::After(position), Offset(0)).0
}

/// The content after an offset, as the log has it.
fn content(events: &[Event<Tag>], after: u64) -> Vec<(Kind, Tag)> {
    let mut content: Vec<(Kind, Tag)> = Vec::new();
    for event in events.iter().skip(after as usize) {
        let payload = event.payload.unwrap();
        match content.last_mut() {
            Some((kind, before)) if *kind == event.kind && matches!(event.kind, Kind::Delta(_)) => {
                *before = before.join(&payload);
            }
            _ => content.push((event.kind, payload)),
        }
    }
    content
}

/// The content of the frames, with each part's pieces joined without a bound.
fn assembled(frames: &[Entry<Tag>]) -> Vec<(Kind, Tag)> {
    content(&frames.iter().map(|frame| frame.event.clone()).collect::<Vec<_>>(), 0)
}

proptest! {
    /// LIM-1: as many of the newest stay as fit, and one whatever its size.
    #[test]
    fn the_window_has_what_fits_and_no_more(bounds in bounds(), events in events()) {
        let stream = filled(&bounds, &events, false);
        let entries = stream.entries();
        let bytes: usize = entries.iter().filter_map(|entry| entry.event.payload.as_ref()).map(Piece::size).sum();
        let turns = entries.iter().filter(|entry| matches!(entry.event.kind, Kind::Received(_))).count();
        let fits = entries.len() <= bounds.retained && bytes <= bounds.retained_bytes && turns <= bounds.retained_turns;
        prop_assert!(fits || entries.len() == 1);
        prop_assert!(entries.is_empty() == events.is_empty());
        prop_assert_eq!(stream.head().0, events.len() as u64);
    }

    /// STR-3: from any offset in the window a reader assembles what the log has; from an earlier one it is told the
    /// gap.
    #[test]
    fn a_reader_finds_all_that_follows_or_that_it_is_missing(bounds in bounds(), events in events()) {
        let stream = filled(&bounds, &events, true);
        for after in 0..=events.len() as u64 {
            let mut cursor = at(&stream, after);
            if after < stream.tail().0 {
                prop_assert_eq!(stream.read(&bounds, &mut cursor), Read::Missed);
                prop_assert_eq!(cursor.at().0, after, "it stays where it is");
                continue;
            }
            let mut frames = Vec::new();
            let mut place = Offset(after);
            while let Read::Entry(entry) = stream.read(&bounds, &mut cursor) {
                prop_assert_eq!(entry.previous, place);
                place = entry.offset;
                let size = entry.event.payload.and_then(range).map_or(0, |range| range.len());
                prop_assert!(size <= bounds.joined);
                frames.push(Cow::into_owned(entry));
            }
            prop_assert_eq!(assembled(&frames), content(&events, after));
            prop_assert!(!stream.is_behind(cursor));
        }
    }
}
