//! Between `connection_ready` and the choice of a cause.

use lockstep_model::connection::{Input, Liveness, Output, State};
use lockstep_model::frame::Control;
use lockstep_model::{Bounds, Cause, Code, Frame, Handled, Mode, Request, Timer};

use super::*;

const IDLE: Output<Tag> = Output::Arm(Timer::Idle, SMALL.idle);

/// LIM-1: three requests per allowance; a new allowance starts with the first of them.
#[test]
fn requests_are_counted_and_the_fourth_floods() {
    let mut connection = live();
    let allowance = Output::Arm(Timer::Allowance, SMALL.allowance);
    let first = step(&mut connection, Input::Received(message(1)));
    assert_eq!(first, done(vec![allowance, IDLE, Output::Handle(message(1))]));
    assert_eq!(connection.state(), &State::Live { liveness: Liveness::Heard, allowance: 2 });
    assert_eq!(step(&mut connection, Input::Received(cancel(2))), done(vec![IDLE, Output::Handle(cancel(2))]));
    assert_eq!(step(&mut connection, Input::Received(Request::Ping)), done(vec![IDLE, Output::Wake]));
    assert_eq!(connection.state(), &State::Live { liveness: Liveness::Heard, allowance: 0 });

    for request in [message(4), cancel(4), Request::Ping, INVALID] {
        let mut flooded = connection.clone();
        assert_eq!(step(&mut flooded, Input::Received(request)), done(closes(Cause::Flooding)));
    }
    assert_eq!(step(&mut connection, Input::Received(Request::Pong)), done(vec![IDLE]));
    assert_eq!(step(&mut connection, auth(2, Resume::default())).0, Handled::Done);
    assert!(!connection.is_closing(), "signs of life and credentials are not counted");

    assert_eq!(step(&mut connection, Input::Expired(Timer::Allowance)), done(vec![]));
    assert_eq!(connection.state(), &State::Live { liveness: Liveness::Heard, allowance: SMALL.requests });
}

#[test]
fn an_allowance_of_one_is_timed_and_of_zero_is_none() {
    let one = Bounds { requests: 1, ..SMALL };
    let mut connection = attaching();
    let _ = step_within(&one, &mut connection, Input::Ready { ready: READY, reset: None });
    let (_, out) = step_within(&one, &mut connection, Input::Received(cancel(1)));
    assert_eq!(out[0], Output::Arm(Timer::Allowance, SMALL.allowance));
    let (_, out) = step_within(&one, &mut connection, Input::Received(cancel(1)));
    assert!(out.contains(&Output::Closing(Cause::Flooding)));

    let free = Bounds { requests: 0, ..SMALL };
    let mut connection = attaching();
    let _ = step_within(&free, &mut connection, Input::Ready { ready: READY, reset: None });
    for number in 0..10 {
        let (_, out) = step_within(&free, &mut connection, Input::Received(message(number)));
        assert_eq!(out, [IDLE, Output::Handle(message(number))]);
    }
}

#[test]
fn requests_that_no_session_needs_are_answered_here() {
    let mut connection = live();
    assert_eq!(step(&mut connection, Input::Received(INVALID)).1.last(), Some(&Output::Wake));
    assert_eq!(step(&mut connection, Input::Received(Request::Ping)).1.last(), Some(&Output::Wake));
    assert_eq!(step(&mut connection, Input::Received(Request::Pong)).1, [IDLE]);
    assert_eq!(pulled(&mut connection), [Control::Error(Code::UnknownType), Control::Pong]);

    let mut connection = draining();
    assert_eq!(step(&mut connection, Input::Received(INVALID)), done(vec![Output::Wake]));
    assert_eq!(step(&mut connection, Input::Received(Request::Ping)), done(vec![Output::Wake]));
    assert_eq!(step(&mut connection, Input::Received(Request::Pong)), done(vec![]));
    assert_eq!(step(&mut connection, Input::Received(message(1))), done(vec![Output::Handle(message(1))]));
    assert_eq!(step(&mut connection, Input::Received(cancel(1))), done(vec![Output::Handle(cancel(1))]));
    assert_eq!(pulled(&mut connection), [Control::Error(Code::UnknownType), Control::Pong]);
    assert_eq!(connection.state(), &State::Draining);
}

/// The machine forwards an error code without reading it. The model has two codes; this test has all of them.
#[test]
fn every_code_reaches_the_client_as_it_was_given() {
    for code in Code::ALL {
        let mut connection = live();
        let refused = Control::Refused { message: MessageId(3), code };
        for message in [None, Some(MessageId(3))] {
            let _ = step(&mut connection, Input::Received(Request::Invalid { code, message }));
        }
        let _ = step(&mut connection, Input::Tell(refused.clone()));
        assert_eq!(pulled(&mut connection), [Control::Error(code), refused.clone(), refused]);
    }
}

/// A half-open socket: the first silence sends a ping, the second closes, and a sign of life in between resets it.
#[test]
fn silence_is_probed_once_and_then_closed() {
    let mut connection = live();
    assert_eq!(step(&mut connection, Input::Expired(Timer::Idle)), done(vec![IDLE, Output::Wake]));
    assert_eq!(connection.state(), &State::Live { liveness: Liveness::Probed, allowance: 3 });
    assert_eq!(pulled(&mut connection), [Control::Probe]);
    let mut lost = connection.clone();
    assert_eq!(step(&mut lost, Input::Expired(Timer::Idle)), done(closes(Cause::HeartbeatLost)));

    for sign in [Input::Received(Request::Pong), Input::Received(message(1)), auth(2, Resume::default())] {
        let mut alive = connection.clone();
        let (_, out) = step(&mut alive, sign);
        assert!(out.contains(&IDLE));
        assert!(matches!(alive.state(), State::Live { liveness: Liveness::Heard, .. }));
        assert_eq!(step(&mut alive, Input::Expired(Timer::Idle)), done(vec![IDLE, Output::Wake]));
    }
    assert_eq!(step(&mut connection, Input::Tell(Control::Pong)).0, Handled::Done);
    assert!(
        matches!(connection.state(), State::Live { liveness: Liveness::Probed, .. }),
        "what we say is no sign of life"
    );
}

/// LIM-1: five control frames may wait; one more means that the peer does not read its answers.
#[test]
fn control_frames_are_pulled_in_order_and_bounded() {
    for start in [live(), draining()] {
        let mut connection = start;
        let frames = [Control::Pong, Control::AuthOk, RESET, Control::Error(Code::Busy), Control::Pong];
        for control in &frames {
            assert_eq!(step(&mut connection, Input::Tell(control.clone())), done(vec![Output::Wake]));
        }
        let mut slow = connection.clone();
        assert_eq!(step(&mut slow, Input::Tell(Control::Pong)), done(closes(Cause::Slow)));
        assert_eq!(slow.pull(), Some(Frame::Close(Cause::Slow)));
        assert_eq!(pulled(&mut connection), frames);
        assert_eq!(step(&mut connection, Input::Tell(Control::Pong)), done(vec![Output::Wake]));
    }
}

#[test]
fn a_notice_takes_the_place_of_its_older_self_and_of_nothing_else() {
    let pairs = [
        (Control::Mode(Mode::Degraded), Control::Mode(Mode::Ready)),
        (Control::Probe, Control::Probe),
        (Control::AuthExpiring, Control::AuthExpiring),
        (Control::GoingAway(Successor::Absent), Control::GoingAway(Successor::Absent)),
    ];
    for (older, newer) in &pairs {
        let mut connection = live();
        for control in [Control::Pong, older.clone(), Control::AuthOk] {
            assert_eq!(step(&mut connection, Input::Tell(control)).1, [Output::Wake]);
        }
        assert_eq!(step(&mut connection, Input::Tell(newer.clone())), done(vec![]));
        assert_eq!(pulled(&mut connection), [Control::Pong, newer.clone(), Control::AuthOk]);
    }
    let notices = pairs.map(|(older, _)| older);
    let mut connection = live();
    for notice in &notices {
        assert_eq!(step(&mut connection, Input::Tell(notice.clone())), done(vec![Output::Wake]));
    }
    assert_eq!(pulled(&mut connection), notices);
    let mut connection = live();
    for answer in [Control::Pong, Control::Pong, READY, READY] {
        assert_eq!(step(&mut connection, Input::Tell(answer)), done(vec![Output::Wake]));
    }
    assert_eq!(pulled(&mut connection), [Control::Pong, Control::Pong, READY, READY]);
}

/// A full outbox still takes a notice that replaces an older one of its kind.
#[test]
fn a_replaced_notice_needs_no_room() {
    let mut connection = live();
    for control in [Control::Probe, Control::Pong, Control::Pong, Control::Pong, Control::Pong] {
        assert_eq!(step(&mut connection, Input::Tell(control)).0, Handled::Done);
    }
    assert_eq!(step(&mut connection, Input::Tell(Control::Probe)), done(vec![]));
    assert!(!connection.is_closing());
}

/// NODE-2: draining is announced, gives time, and then closes.
#[test]
fn a_live_connection_is_given_time_to_go() {
    let mut connection = live();
    let out = vec![
        Output::Disarm(Timer::Idle),
        Output::Disarm(Timer::Allowance),
        Output::Arm(Timer::Grace, SMALL.grace),
        Output::Wake,
    ];
    assert_eq!(step(&mut connection, DRAIN), done(out));
    assert_eq!(connection.state(), &State::Draining);
    assert_eq!(pulled(&mut connection), [Control::GoingAway(Successor::Absent)]);
    assert_eq!(step(&mut connection, Input::Expired(Timer::Grace)), done(closes(Cause::GoingAway)));
}

/// NODE-2: whatever a live connection waits for, it is told, after all that it was to be told before.
#[test]
fn a_drain_reaches_a_probed_connection_after_what_waits() {
    let mut connection = live();
    while connection.pull().is_some() {}
    assert_eq!(step(&mut connection, Input::Expired(Timer::Idle)).0, Handled::Done);
    assert_eq!(step(&mut connection, DRAIN).0, Handled::Done);
    assert_eq!(connection.state(), &State::Draining);
    let left: Vec<_> = core::iter::from_fn(|| connection.pull()).collect();
    let going = Control::GoingAway(Successor::Absent);
    assert_eq!(left, [Control::Probe, going].map(Frame::Control));
}

/// LIM-1: unsolicited frames take half of the outbox and leave the other half for answers.
#[test]
fn notices_take_half_of_the_outbox_and_close_nothing() {
    let mut connection = live();
    let _ = pulled(&mut connection);
    let (half, rest) = (SMALL.outbox / 2, SMALL.outbox - SMALL.outbox / 2);
    for number in 0..half {
        assert_eq!(step(&mut connection, Input::Notify(number as Tag)).0, Handled::Done);
    }
    assert_eq!(step(&mut connection, Input::Notify(9)), (Handled::Ignored, vec![]));
    for _ in 0..rest {
        assert_eq!(step(&mut connection, Input::Received(Request::Ping)).0, Handled::Done);
    }
    assert!(!connection.is_closing());
    let notices = (0..half).map(|number| Control::Notice(number as Tag));
    let expected: Vec<_> = notices.chain((0..rest).map(|_| Control::Pong)).collect();
    assert_eq!(pulled(&mut connection), expected);
    assert_eq!(step(&mut connection, Input::Notify(9)).0, Handled::Done, "there is room again");
}
