//! Which frames AUTH-1 covers.

use lockstep_model::frame::{Control, Frame, ReadFrom};
use lockstep_model::run::Kind;
use lockstep_model::{Cause, Code, Entry, Event, Offset, Request, Resume, RunId};

use crate::support::{Tag, survives_json};

/// AUTH-1: every frame except the close is an application frame.
#[test]
fn every_frame_but_the_close_needs_a_credential() {
    let event = Event { run: RunId(1), thread: None, kind: Kind::Thinking, payload: Some(1) };
    let entry = Entry { offset: Offset(2), previous: Offset(1), event };
    let frames: [(Frame<Tag>, bool); 4] = [
        (Frame::Control(Control::Pong), true),
        (Frame::Control(Control::Error(Code::Malformed)), true),
        (Frame::Event(entry), true),
        (Frame::Close(Cause::GoingAway), false),
    ];
    for (frame, needs) in frames {
        assert_eq!(frame.is_application(), needs, "{frame:?}");
        survives_json(&frame);
    }
}

#[test]
fn a_connection_that_asks_for_no_place_reads_what_no_reader_has_read() {
    assert_eq!(Resume::default(), Resume { from: ReadFrom::Unread, replaces: None });
    survives_json(&Request::Auth { token: 3u8, resume: Resume::default() });
}
