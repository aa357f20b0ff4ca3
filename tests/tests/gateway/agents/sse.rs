//! The parser of server-sent events against a reference that sees the whole stream at once.

use lockstep::agent::sse::{Event, MAX_EVENT, Parser, TooLong};
use proptest::prelude::*;

/// The grammar's result for a whole stream.
fn events(stream: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(stream).into_owned();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop();
    let (mut found, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
    for line in lines {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        if line.is_empty() {
            if !data.is_empty() {
                found.push(Event { name: name.clone(), data: data.join("\n") });
            }
            name.clear();
            data.clear();
        } else if field == "data" {
            data.push(value);
        } else if field == "event" {
            value.clone_into(&mut name);
        }
    }
    found
}

fn parse(stream: &[u8], cuts: &[usize]) -> Vec<Event> {
    let (mut parser, mut found, mut begin) = (Parser::default(), Vec::new(), 0);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([stream.len()]).collect();
    cuts.sort_unstable();
    for cut in cuts {
        parser.feed(&stream[begin..cut], &mut found).expect("short events");
        begin = cut;
    }
    found
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"data: one",
        b"data:two",
        b"data",
        b"data:  3",
        b"datum: x",
        b": comment",
        b"event: named",
        b"event",
        b"id: 1",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\xef\xbb\xbf",
        "d\u{e4}ta: \u{1f600}".as_bytes(),
        b"data: \xff\xc3",
        b":",
        b" ",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut(
        stream in streams(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        prop_assert_eq!(parse(&stream, &cuts), events(&stream));
    }

    #[test]
    fn byte_by_byte_too(stream in streams()) {
        let every: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(parse(&stream, &every), events(&stream));
    }
}

#[test]
fn a_line_and_an_event_have_their_bound() {
    let mut found = Vec::new();
    let mut parser = Parser::default();
    let block = vec![b'x'; 64 << 10];
    let refused = (0..=MAX_EVENT / block.len()).find_map(|_| parser.feed(&block, &mut found).err());
    assert_eq!(refused, Some(TooLong), "a line without end");

    let mut parser = Parser::default();
    let line = [b"data:".as_slice(), &block, b"\n"].concat();
    let refused = (0..=MAX_EVENT / block.len()).find_map(|_| parser.feed(&line, &mut found).err());
    assert_eq!(refused, Some(TooLong), "an event without end");
    assert_eq!(found, []);
}
