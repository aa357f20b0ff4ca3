use std::borrow::Cow;

use lockstep_model::frame::ReadFrom;
use lockstep_model::stream::{Cursor, Input, Output, Read, Snapshot, Writer};
use lockstep_model::{Bounds, Epoch, Handled, Offset, Position, Stream, Timer};

use super::{EPOCH, TENURE, append, entry, event, persisted, restored, step, write};
use crate::support::{SMALL, Tag, no_trace, survives_json, tampered, violates};

/// A batch is under way, with this deadline.
const ASKED: Output<Tag> = Output::Arm(Timer::LogAnswer, SMALL.log_answer);
/// No batch is under way.
const ANSWERED: Output<Tag> = Output::Disarm(Timer::LogAnswer);

/// Entries at 3, 5 and 9 after a tail of 2: offsets with holes.
fn holed() -> Stream<Tag> {
    restored(2, &[entry(2, 3, 1), entry(3, 5, 2), entry(5, 9, 3)])
}

fn cursor(stream: &Stream<Tag>, offset: u64) -> Cursor {
    let place = ReadFrom::After(Position { epoch: EPOCH, offset: Offset(offset) });
    let (cursor, gap) = stream.seek(place, Offset(0));
    assert_eq!((cursor.at(), gap), (Offset(offset), None));
    cursor
}

#[test]
fn a_restored_stream_is_what_the_log_gave_back() {
    let stream = holed();
    assert_eq!((stream.epoch(), stream.tail(), stream.head()), (EPOCH, Offset(2), Offset(9)));
    assert_eq!(stream.entries(), &[entry(2, 3, 1), entry(3, 5, 2), entry(5, 9, 3)]);
    assert!(stream.pending().is_empty());
    assert_eq!(stream.writer(), Writer::Idle);

    let empty = restored(7, &[]);
    assert_eq!((empty.tail(), empty.head()), (Offset(7), Offset(7)), "an empty log's head is its tail");
}

/// LIM-1: no more is readable than is retained (5), and the rest is trimmed, oldest first.
#[test]
fn a_restored_stream_retains_no_more_than_the_bound() {
    let entries: Vec<_> = (1..=7).map(|offset| entry(offset - 1, offset, 0)).collect();
    let snapshot = |count: usize| Snapshot { entries: entries[..count].to_vec(), ..Snapshot::empty(TENURE) };
    let mut out = Vec::new();
    let full = Stream::restore(&SMALL, snapshot(5), &mut out);
    assert_eq!((full.tail(), full.entries().len(), &out), (Offset(0), 5, &vec![]));

    let over = Stream::restore(&SMALL, snapshot(7), &mut out);
    assert_eq!(out, [Output::Trimmed(entries[0].clone()), Output::Trimmed(entries[1].clone())]);
    assert_eq!((over.tail(), over.head(), over.entries().len()), (Offset(2), Offset(7), 5));
}

/// STR-2: every reader gets the record that the log confirmed, not the appended one.
#[test]
fn what_the_log_has_made_of_an_event_is_what_readers_get() {
    let mut stream = holed();
    let _ = step(&mut stream, append(7));
    let input = Input::Persisted { batch: stream.batch(), offset: Offset(12), record: Some(8) };
    assert_eq!(step(&mut stream, input), (Handled::Done, vec![Output::Readable(entry(9, 12, 8)), ANSWERED]));
    let mut reader = cursor(&stream, 9);
    assert_eq!(stream.read(&SMALL, &mut reader), Read::Entry(Cow::Owned(entry(9, 12, 8))));
}

/// STR-2: nothing is readable before the log has it.
#[test]
fn an_event_is_written_when_it_is_appended_and_readable_when_it_is_persisted() {
    let mut stream = holed();
    let (handled, out) = step(&mut stream, append(7));
    let batch = stream.batch();
    assert_eq!((handled, out), (Handled::Done, vec![write(batch, 9, 7), ASKED]));
    assert_eq!((stream.writer(), stream.head()), (Writer::Writing { left: 1 }, Offset(9)));
    assert_eq!(stream.pending(), &[event(7)]);
    let mut reader = cursor(&stream, 9);
    assert!(!stream.is_behind(reader));
    assert_eq!(stream.read(&SMALL, &mut reader), Read::Head);

    let input = persisted(&stream, 12);
    assert_eq!(step(&mut stream, input), (Handled::Done, vec![Output::Readable(entry(9, 12, 7)), ANSWERED]));
    assert_eq!((stream.writer(), stream.head(), stream.pending().len()), (Writer::Idle, Offset(12), 0));
    assert!(stream.is_behind(reader));
    assert_eq!(stream.read(&SMALL, &mut reader), Read::Entry(Cow::Owned(entry(9, 12, 7))));
    assert_eq!((reader.at(), stream.is_behind(reader)), (Offset(12), false));
}

#[test]
fn what_is_appended_while_a_batch_is_under_way_goes_into_the_next() {
    let mut stream = restored(0, &[]);
    let first = step(&mut stream, append(1)).1;
    assert_eq!(first, [write(stream.batch(), 0, 1), ASKED]);
    for tag in [2, 3] {
        assert_eq!(step(&mut stream, append(tag)), (Handled::Done, vec![]));
        assert_eq!(stream.writer(), Writer::Writing { left: 1 });
    }
    let input = persisted(&stream, 1);
    let (_, out) = step(&mut stream, input);
    let batch = stream.batch();
    assert_eq!(out, [Output::Readable(entry(0, 1, 1)), write(batch, 1, 2), write(batch, 1, 3), ASKED]);
    assert_eq!(stream.writer(), Writer::Writing { left: 2 });

    assert_eq!(step(&mut stream, append(4)).1, []);
    let input = persisted(&stream, 2);
    assert_eq!(step(&mut stream, input).1, [Output::Readable(entry(1, 2, 2))], "a batch is confirmed one by one");
    assert_eq!(stream.writer(), Writer::Writing { left: 1 });
    let input = persisted(&stream, 3);
    let (_, out) = step(&mut stream, input);
    assert_eq!(out, [Output::Readable(entry(2, 3, 3)), write(stream.batch(), 3, 4), ASKED]);
}

/// STR-2: a refused batch is written again, completely, in order, after what the log has by then.
#[test]
fn a_refused_batch_waits_and_is_written_again_with_what_came_since() {
    let mut stream = restored(0, &[]);
    for tag in 1..=3 {
        let _ = step(&mut stream, append(tag));
    }
    let input = persisted(&stream, 1);
    let _ = step(&mut stream, input);
    let input = persisted(&stream, 2);
    let _ = step(&mut stream, input);
    let old = stream.batch();
    let failed = step(&mut stream, Input::Failed { batch: old });
    assert_eq!(failed, (Handled::Done, vec![ANSWERED, Output::Arm(Timer::Retry, SMALL.retry)]));
    assert_eq!(stream.writer(), Writer::Waiting);
    assert_eq!(step(&mut stream, append(4)), (Handled::Done, vec![]));

    let (handled, out) = step(&mut stream, Input::Expired(Timer::Retry));
    let batch = stream.batch();
    assert_ne!(batch, old, "an answer to the refused batch is late");
    assert_eq!((handled, out), (Handled::Done, vec![write(batch, 2, 3), write(batch, 2, 4), ASKED]));
    assert_eq!(stream.writer(), Writer::Retrying { left: 2 });
    for late in [Input::Persisted { batch: old, offset: Offset(9), record: None }, Input::Failed { batch: old }] {
        let before = stream.clone();
        let (handled, out) = step(&mut stream, late);
        assert_eq!(handled, Handled::Ignored);
        no_trace(&before, &stream, &out);
    }
}

#[test]
fn an_offset_that_does_not_increase_is_ignored() {
    let mut stream = holed();
    let _ = step(&mut stream, append(1));
    let before = stream.clone();
    for offset in [0, 5, 8, 9] {
        let input = persisted(&stream, offset);
        let (handled, out) = step(&mut stream, input);
        assert_eq!(handled, Handled::Ignored, "{offset}");
        no_trace(&before, &stream, &out);
    }
    let input = persisted(&stream, 10);
    assert_eq!(step(&mut stream, input).0, Handled::Done);
}

#[test]
fn what_means_nothing_to_the_writer_is_ignored() {
    let idle = holed();
    let mut writing = holed();
    let _ = step(&mut writing, append(1));
    let mut waiting = writing.clone();
    let input = Input::Failed { batch: waiting.batch() };
    let _ = step(&mut waiting, input);
    let answers = |stream: &Stream<Tag>| [persisted(stream, 99), Input::Failed { batch: stream.batch() }];
    let timers = [Timer::Idle, Timer::Linger, Timer::Restore].map(Input::Expired);
    let (retry, answer) = ([Input::Expired(Timer::Retry)], [Input::Expired(Timer::LogAnswer)]);
    let cases = [
        (&idle, [&answers(&idle)[..], &timers, &retry, &answer].concat()),
        (&writing, [&timers[..], &retry].concat()),
        (&waiting, [&answers(&waiting)[..], &timers, &answer].concat()),
    ];
    for (before, inputs) in cases {
        for input in inputs {
            let mut stream = before.clone();
            let (handled, out) = step(&mut stream, input.clone());
            assert_eq!(handled, Handled::Ignored, "{input:?} in {before:?}");
            no_trace(before, &stream, &out);
        }
    }
}

/// LIM-1: the sixth readable entry trims the first, in the step that made it readable.
#[test]
fn retention_trims_the_oldest_when_one_more_is_readable() {
    let mut stream = restored(0, &[]);
    for offset in 1..=5 {
        let _ = step(&mut stream, append(0));
        let input = persisted(&stream, offset);
        assert_eq!(step(&mut stream, input).1, [Output::Readable(entry(offset - 1, offset, 0)), ANSWERED]);
        assert_eq!((stream.tail(), stream.entries().len()), (Offset(0), offset as usize));
    }
    let _ = step(&mut stream, append(6));
    let input = persisted(&stream, 6);
    let out = [Output::Readable(entry(5, 6, 6)), Output::Trimmed(entry(0, 1, 0)), ANSWERED];
    assert_eq!(step(&mut stream, input).1, out);
    assert_eq!((stream.tail(), stream.entries().len()), (Offset(1), 5));
}

#[test]
fn a_cursor_reads_each_entry_once_over_the_holes() {
    let stream = holed();
    // An offset without an entry is as valid a position as one with an entry.
    for (from, first) in [(2, entry(2, 3, 1)), (3, entry(3, 5, 2)), (4, entry(4, 5, 2)), (8, entry(8, 9, 3))] {
        let mut reader = cursor(&stream, from);
        assert!(stream.is_behind(reader));
        assert_eq!(stream.read(&SMALL, &mut reader), Read::Entry(Cow::Borrowed(&first)), "from {from}");
        assert_eq!(reader.at(), first.offset);
    }
    let mut reader = cursor(&stream, 2);
    for offset in [3, 5, 9] {
        assert!(matches!(stream.read(&SMALL, &mut reader), Read::Entry(found) if found.offset == Offset(offset)));
    }
    assert_eq!(stream.read(&SMALL, &mut reader), Read::Head);
    assert_eq!(reader.at(), Offset(9));
    survives_json(&reader);
}

/// STR-1: a cursor that the tail has overtaken is told the gap, once, and goes on after it.
#[test]
fn an_overtaken_cursor_is_told_the_gap() {
    let mut stream = restored(0, &[entry(0, 3, 1)]);
    let mut reader = cursor(&stream, 0);
    for offset in 4..=8 {
        let _ = step(&mut stream, append(0));
        let input = persisted(&stream, offset);
        let _ = step(&mut stream, input);
    }
    assert_eq!(stream.tail(), Offset(3));
    assert!(stream.is_behind(reader));
    let mut late = reader;
    assert_eq!(stream.read(&SMALL, &mut reader), Read::Gap { from: Offset(0), to: Offset(3) });
    assert_eq!(reader.at(), Offset(3));
    assert_eq!(stream.read(&SMALL, &mut reader), Read::Entry(Cow::Owned(entry(3, 4, 0))));

    late = tampered(&tampered(&late, "/at", &3), "/passed", &3);
    assert_eq!(
        stream.read(&SMALL, &mut late),
        Read::Entry(Cow::Owned(entry(3, 4, 0))),
        "at the tail nothing is missing"
    );
}

#[test]
fn seeking_finds_the_place_asked_for_or_says_that_it_is_gone() {
    let stream = holed();
    let seek = |from| {
        let (cursor, gap) = stream.seek(from, Offset(4));
        (cursor.at().0, gap)
    };
    assert_eq!(seek(ReadFrom::Latest), (9, None));
    assert_eq!(seek(ReadFrom::Earliest), (2, None));
    assert_eq!(seek(ReadFrom::Unread), (4, None));
    for offset in [2, 3, 4, 9] {
        assert_eq!(seek(ReadFrom::After(Position { epoch: EPOCH, offset: Offset(offset) })), (offset, None));
    }
    for (epoch, offset) in [(EPOCH, 0), (EPOCH, 1), (EPOCH, 10), (Epoch(3), 5), (Epoch(5), 2)] {
        let position = Position { epoch, offset: Offset(offset) };
        assert_eq!(seek(ReadFrom::After(position)), (2, Some(position)), "{position:?}");
    }
}

#[test]
fn check_names_what_a_broken_stream_breaks() {
    let stream = holed();
    assert_eq!(stream.check(&SMALL), Ok(()));
    for (place, wrong) in
        [("/entries/1/previous", 2), ("/entries/0/previous", 1), ("/tail", 1), ("/entries/2/offset", 5)]
    {
        assert_eq!(tampered(&stream, place, &wrong).check(&SMALL), violates("STR-1"), "{place}");
    }
    let mut writing = holed();
    let _ = step(&mut writing, append(1));
    assert_eq!(writing.check(&SMALL), Ok(()));
    let waiting = tampered(&writing, "/writer", &Writer::Waiting);
    assert_eq!(waiting.check(&SMALL), Ok(()));
    let writers = [
        (&writing, Writer::Idle),
        (&writing, Writer::Writing { left: 0 }),
        (&writing, Writer::Writing { left: 2 }),
        (&stream, Writer::Waiting),
        (&stream, Writer::Writing { left: 0 }),
    ];
    for (stream, writer) in writers {
        assert_eq!(tampered(stream, "/writer", &writer).check(&SMALL), violates("STR-2"), "{writer:?}");
    }
    assert_eq!(stream.check(&Bounds { retained: 3, ..SMALL }), Ok(()));
    assert_eq!(stream.check(&Bounds { retained: 2, ..SMALL }), violates("LIM-1"));
    assert_eq!(writing.check(&Bounds { pending: 1, ..SMALL }), Ok(()));
    assert_eq!(writing.check(&Bounds { pending: 0, ..SMALL }), violates("LIM-1"));
}

/// LIVE-4: an unanswered batch may have been taken: it is written again, and a late answer is stale.
#[test]
fn a_batch_that_is_not_answered_in_time_is_written_again() {
    let mut stream = restored(0, &[]);
    let (_, out) = step(&mut stream, append(1));
    assert_eq!(out, [write(stream.batch(), 0, 1), ASKED]);
    let old = stream.batch();
    let late = step(&mut stream, Input::Expired(Timer::LogAnswer));
    assert_eq!(late, (Handled::Done, vec![Output::Arm(Timer::Retry, SMALL.retry)]));
    assert!(stream.is_refused());
    let stale = Input::Persisted { batch: old, offset: Offset(1), record: None };
    assert_eq!(step(&mut stream, stale), (Handled::Ignored, vec![]));
    let (_, out) = step(&mut stream, Input::Expired(Timer::Retry));
    assert_eq!(stream.writer(), Writer::Retrying { left: 1 });
    assert_eq!(out, [write(stream.batch(), 0, 1), ASKED]);
    let input = persisted(&stream, 1);
    assert_eq!(step(&mut stream, input), (Handled::Done, vec![Output::Readable(entry(0, 1, 1)), ANSWERED]));
    assert!(!stream.is_refused());
    assert_eq!(step(&mut stream, Input::Expired(Timer::LogAnswer)), (Handled::Ignored, vec![]));
}
