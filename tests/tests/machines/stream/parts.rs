//! STR-3: a part is the sequence of its pieces, however the stream joins them and wherever a reader begins.

use std::sync::Arc;

use lockstep_model::frame::ReadFrom;
use lockstep_model::run::Kind;
use lockstep_model::stream::{Input, Read, Snapshot};
use lockstep_model::{Bounds, Entry, Event, Offset, PartId, Piece, Position, RunId, Stream, ThreadId};
use proptest::prelude::*;

use super::{EPOCH, TENURE};
use crate::support::{SMALL, cases};

type Bytes = Arc<[u8]>;

/// One event: a piece of a run's part, or another event of that run.
#[derive(Clone, Debug)]
enum Said {
    Piece(u64, u32, Vec<u8>),
    Other(u64),
    /// The run's thread is deleted.
    Delete(u64),
}

fn said() -> impl Strategy<Value = Said> {
    let piece = (0..2_u64, 0..2_u32, prop::collection::vec(any::<u8>(), 0..4));
    prop_oneof![
        12 => piece.prop_map(|(run, part, text)| Said::Piece(run, part, text)),
        1 => (0..2_u64).prop_map(Said::Other),
        1 => (0..2_u64).prop_map(Said::Delete),
    ]
}

fn event(said: &Said) -> Event<Bytes> {
    let (run, kind, text) = match said {
        Said::Piece(run, part, text) => (RunId(*run), Kind::Delta(PartId(*part)), &text[..]),
        Said::Other(run) => (RunId(*run), Kind::Thinking, &b"."[..]),
        Said::Delete(_) => (RunId(9), Kind::Deleted, &b""[..]),
    };
    Event { run, thread: Some(thread(said)), kind, payload: Some(Arc::from(text)) }
}

/// Each run has its own thread.
fn thread(said: &Said) -> ThreadId {
    let (Said::Piece(run, ..) | Said::Other(run) | Said::Delete(run)) = said;
    ThreadId(*run)
}

/// The events that remain after all deletions.
fn left(all: &[(Said, u64)]) -> Vec<(Said, u64)> {
    let deleted = |said: &Said, offset: u64| {
        let mut later = all.iter().filter(|(_, at)| *at > offset);
        later.any(|(later, _)| matches!(later, Said::Delete(_)) && thread(later) == thread(said))
    };
    all.iter().filter(|(said, offset)| !deleted(said, *offset)).cloned().collect()
}

fn bounds(joined: usize, apart: usize, retained: usize) -> Bounds {
    Bounds { joined, apart, retained, ..SMALL }
}

/// The stream after these events, at these offsets.
fn grown(bounds: &Bounds, all: &[(Said, u64)]) -> Stream<Bytes> {
    let snapshot = Snapshot::empty(TENURE);
    let mut stream = Stream::restore(bounds, snapshot, &mut Vec::new());
    for (said, offset) in all {
        let _ = stream.step(bounds, Input::Append(event(said)), &mut Vec::new());
        let batch = stream.batch();
        let persisted = Input::Persisted { batch, offset: Offset(*offset), record: None };
        let _ = stream.step(bounds, persisted, &mut Vec::new());
        assert_eq!(stream.check(bounds), Ok(()));
    }
    stream
}

/// The same stream, restored from a log.
fn restored(bounds: &Bounds, all: &[(Said, u64)]) -> Stream<Bytes> {
    let mut previous = Offset(0);
    let entries = all.iter().map(|(said, offset)| {
        let offset = Offset(*offset);
        Entry { offset, previous: core::mem::replace(&mut previous, offset), event: event(said) }
    });
    let entries = entries.collect();
    let snapshot = Snapshot { entries, ..Snapshot::empty(TENURE) };
    Stream::restore(bounds, snapshot, &mut Vec::new())
}

/// Reads from an offset on, and checks that each frame names the end of the one before, and has all of one part up to
/// its offset.
fn reads(bounds: &Bounds, stream: &Stream<Bytes>, all: &[(Said, u64)], from: u64) -> Result<usize, TestCaseError> {
    let place = ReadFrom::After(Position { epoch: EPOCH, offset: Offset(from) });
    let (mut cursor, gap) = stream.seek(place, Offset(0));
    prop_assert_eq!(gap, None);
    let (all, mut at, mut frames) = (left(all), from, 0);
    while let Read::Entry(entry) = stream.read(bounds, &mut cursor) {
        prop_assert_eq!(entry.previous, Offset(at));
        let covered = all.iter().filter(|(_, offset)| (at + 1..=entry.offset.0).contains(offset));
        let mut content: Option<Event<Bytes>> = None;
        for (said, _) in covered {
            let next = event(said);
            content = Some(match content {
                None => next,
                Some(before) => {
                    prop_assert_eq!((before.run, before.kind), (next.run, next.kind), "one part");
                    let payload = before.payload.zip(next.payload).map(|(first, second)| first.join(&second));
                    Event { payload, ..before }
                }
            });
        }
        prop_assert_eq!(content.as_ref(), Some(&entry.event));
        let size = content.and_then(|event| event.payload).map_or(0, |payload| payload.size());
        prop_assert!(size <= bounds.joined.max(3), "LIM-1: no frame is longer than may be, or than its only piece");
        (at, frames) = (entry.offset.0, frames + 1);
    }
    prop_assert_eq!(at, stream.head().0, "LIVE-3");
    Ok(frames)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_reader_assembles_the_same_from_wherever_it_begins(
        all in prop::collection::vec((said(), 1..3_u64), 1..60),
        joined in 1..12_usize,
        apart in 1..4_usize,
    ) {
        let mut offset = 0;
        let all: Vec<_> = all.into_iter().map(|(said, hole)| { offset += hole; (said, offset) }).collect();
        let bounds = bounds(joined, apart, 100);
        for stream in [grown(&bounds, &all), restored(&bounds, &all)] {
            for from in [0].into_iter().chain(all.iter().map(|(_, offset)| *offset)) {
                reads(&bounds, &stream, &all, from)?;
            }
        }
    }
}

#[test]
fn a_part_counts_once_however_many_pieces_it_came_in() {
    let bounds = bounds(1_000, 2, 6);
    let piece = |run, offset| (Said::Piece(run, 0, b"piece".to_vec()), offset);
    let mut all: Vec<_> = (1..=100).map(|offset| piece(1, offset)).collect();
    all.push((Said::Other(1), 101));
    all.extend((102..=201).map(|offset| piece(2, offset)));
    let stream = grown(&bounds, &all);
    assert_eq!(stream.tail(), Offset(0), "nothing of the first part had to go");
    assert!(stream.entries().len() <= 6);
    assert_eq!(reads(&bounds, &stream, &all, 0).expect("sound"), 3);
    assert_eq!(reads(&bounds, &stream, &all, 57).expect("sound"), 3, "the rest of the first part");
    assert_eq!(reads(&bounds, &stream, &all, 199).expect("sound"), 1);
    assert_eq!(restored(&bounds, &all).entries().len(), stream.entries().len());
}

/// All readers that keep up share the same frame.
#[test]
fn a_reader_that_keeps_up_borrows_each_piece() {
    let bounds = bounds(1_000, 2, 50);
    let all: Vec<_> = (1..=40).map(|offset| (Said::Piece(1, 0, b"x".to_vec()), offset)).collect();
    for count in 1..=all.len() {
        let stream = grown(&bounds, &all[..count]);
        let behind = ReadFrom::After(Position { epoch: EPOCH, offset: Offset(count as u64 - 1) });
        let (mut cursor, _) = stream.seek(behind, Offset(0));
        assert!(matches!(stream.read(&bounds, &mut cursor), Read::Entry(std::borrow::Cow::Borrowed(_))), "{count}");
    }
}
