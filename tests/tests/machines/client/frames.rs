//! What each of the gateway's frames does to a client.

use lockstep_model::client::{Heartbeat, Input, Output, State};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::Received;
use lockstep_model::{
    Cause, Code, Epoch, Frame, Handled, MessageId, Mode, Offset, RunId, Successor, ThreadId, Timer, TokenRequestId,
    UserId,
};

use super::*;
use crate::support::no_trace;

fn unknown(number: u64) -> Output<Tag> {
    Output::Unknown { message: MessageId(number) }
}

fn asked(client: &Client<Tag>) -> Vec<u64> {
    client.outgoing().iter().map(|outgoing| outgoing.message.0).collect()
}

/// STR-1: the next entry is shown and the position moves with it, across holes in the numbering.
#[test]
fn the_next_entry_is_delivered() {
    let mut client = live();
    for (previous, offset) in [(6, 7), (7, 12)] {
        let entry = entry(previous, offset, Kind::Thinking);
        let (handled, out) = step(&mut client, on(1, Frame::Event(entry.clone())));
        assert_eq!((handled, &out[..1]), (Ok(Handled::Done), &[Output::Deliver(entry)][..]));
        assert_eq!(client.position(), Some(position(offset)));
    }
}

/// STR-1: an entry that was seen is not shown again.
#[test]
fn an_entry_that_was_delivered_is_ignored() {
    let client = then(live(), thought(1, 6, 9));
    for (previous, offset) in [(6, 9), (6, 8), (0, 1)] {
        let mut same = client.clone();
        let (handled, out) = step(&mut same, thought(1, previous, offset));
        assert_eq!(handled, Ok(Handled::Ignored), "{offset}");
        no_trace(&client, &same, &out);
    }
}

/// STR-1: an entry whose predecessor was not seen reveals an unreported gap: reconnect from the last known position.
#[test]
fn a_gap_that_was_not_told_drops_the_socket() {
    let mut client = live();
    assert_eq!(step(&mut client, thought(1, 7, 8)), pauses(Some(1), 2));
    assert_eq!((client.state(), client.position()), (State::Backoff, Some(position(6))));
}

#[test]
fn a_reset_moves_the_place_and_gives_up_what_was_written() {
    let mut client = then(then(live(), send(1)), send(2));
    let reset = Control::StreamReset { from: Offset(6), to: Offset(20) };
    let reset_to = Output::Reset { from: Offset(6), to: Offset(20) };
    let out = vec![unknown(1), unknown(2), reset_to, Output::Disarm(Timer::Answer)];
    assert_eq!(step(&mut client, control(1, reset)), done(out));
    assert_eq!((client.position(), asked(&client)), (Some(position(20)), vec![]));
    let next = step(&mut client, thought(1, 20, 21)).1;
    assert!(matches!(next[..], [Output::Deliver(_), ..]), "reading goes on behind the gap");
}

/// STR-1: a reset to an earlier position reports a gap and does not show earlier entries again. RUN-2: messages that
/// were written beyond the gap are still to be answered.
#[test]
fn a_reset_to_a_place_that_was_passed_does_not_move_back() {
    for to in [0, 5, 6] {
        let mut client = then(live(), send(1));
        let reset = Control::StreamReset { from: Offset(0), to: Offset(to) };
        let out = vec![Output::Reset { from: Offset(0), to: Offset(to) }];
        assert_eq!(step(&mut client, control(1, reset)), done(out));
        assert_eq!((client.position(), asked(&client)), (Some(position(6)), vec![1]), "{to}");
        assert_eq!(step(&mut client, thought(1, to, 6)), (Ok(Handled::Ignored), vec![]), "{to}");
        let next = entry(6, 7, Kind::Thinking);
        assert_eq!(step(&mut client, on(1, Frame::Event(next.clone()))), done(vec![Output::Deliver(next)]));
    }
}

/// The position is gone: a message that was ever written cannot be repeated, any other is written now.
#[test]
fn a_connection_that_is_not_resumed_gives_up_what_an_earlier_one_wrote() {
    let client = then(then(then(live(), send(1)), closed(1, 1006)), send(2));
    let mut client = then(then(client, Input::Expired(Timer::Backoff)), opened(2));
    let elsewhere = Control::Ready {
        user: UserId(1),
        epoch: Epoch(9),
        offset: Offset(2),
        head: Offset(2),
        resumed: false,
        mode: Mode::Degraded,
    };
    let (handled, out) = step(&mut client, control(2, elsewhere));
    assert_eq!((handled, &out[0]), (Ok(Handled::Done), &unknown(1)));
    assert!(matches!(
        out[1..],
        [
            Output::Disarm(Timer::Connect),
            Output::Arm(Timer::Stable, _),
            Output::Write(lockstep_model::Request::Message { message: MessageId(2), repeat: false, .. }),
            Output::Arm(Timer::Answer, _),
            Output::Arm(Timer::Heartbeat, _),
        ]
    ));
    // The gap is also sent as a frame. It predates the message.
    let reset = Control::StreamReset { from: Offset(6), to: Offset(2) };
    let out = vec![Output::Reset { from: Offset(6), to: Offset(2) }];
    assert_eq!(step(&mut client, control(2, reset)), done(out));
    assert_eq!(asked(&client), [2]);
    assert_eq!(client.position(), Some(Position { epoch: Epoch(9), offset: Offset(2) }));
}

#[test]
fn a_message_is_answered_by_its_event_or_by_being_known() {
    let client = then(then(live(), send(1)), send(2));
    let received = entry(6, 7, Kind::Received(Received::immediate(MessageId(2), ThreadId(2))));
    let mut answered = client.clone();
    let accepted = |run| Output::Accepted { message: MessageId(2), run: RunId(run) };
    let out = vec![accepted(47), Output::Deliver(received.clone())];
    assert_eq!(step(&mut answered, on(1, Frame::Event(received))), done(out));
    assert_eq!(asked(&answered), [1]);

    let known = Control::Known { message: MessageId(2), run: RunId(8), offset: Offset(3) };
    let mut answered = client.clone();
    assert_eq!(step(&mut answered, control(1, known.clone())), done(vec![accepted(8)]));
    assert_eq!(asked(&answered), [1]);
    assert_eq!(step(&mut answered, control(1, known)), done(vec![]), "and only once");

    let foreign = entry(6, 7, Kind::Received(Received::immediate(MessageId(3), ThreadId(3))));
    let mut other = client;
    assert_eq!(step(&mut other, on(1, Frame::Event(foreign.clone()))), done(vec![Output::Deliver(foreign)]));
    assert_eq!(asked(&other), [1, 2]);
}

#[test]
fn a_refused_message_is_over_and_a_forgotten_one_is_unknown() {
    let message = MessageId(2);
    for code in Code::ALL.into_iter().filter(|code| !matches!(code, Code::Forgotten | Code::Draining)) {
        let mut client = then(then(live(), send(1)), send(2));
        let out = vec![Output::Refused { message, code }];
        assert_eq!(step(&mut client, control(1, Control::Refused { message, code })), done(out));
        assert_eq!(asked(&client), [1]);
    }
    let mut client = then(then(live(), send(1)), send(2));
    let forgotten = Control::Refused { message, code: Code::Forgotten };
    assert_eq!(step(&mut client, control(1, forgotten)), done(vec![unknown(2)]));
    assert_eq!(asked(&client), [1]);
}

#[test]
fn an_error_is_shown_and_an_expiring_credential_is_renewed() {
    let mut client = live();
    let error = control(1, Control::Error(Code::UnknownRun));
    assert_eq!(step(&mut client, error), done(vec![Output::Error(Code::UnknownRun)]));
    for number in 1..=2 {
        let out = vec![Output::NeedToken { asked: TokenRequestId(number) }];
        assert_eq!(step(&mut client, control(1, Control::AuthExpiring)), done(out));
        assert_eq!(client.asked(), TokenRequestId(number));
    }
}

/// NODE-2: a gateway that goes away is read until its announced time is over.
#[test]
fn going_away_is_followed() {
    let mut client = live();
    let leave = Output::Arm(Timer::Leave, SMALL.backoff);
    assert_eq!(step(&mut client, control(1, Control::GoingAway(Successor::Absent))), done(vec![leave]));
    assert_eq!(client.state(), State::Leaving { heartbeat: Heartbeat::Answered });
}

#[test]
fn frames_that_ask_for_nothing_change_nothing() {
    let modes = Mode::ALL.into_iter().map(Control::Mode);
    let frames = [ready(9, false), Control::AuthOk, Control::Pong, Control::Probe];
    let frames = frames.into_iter().chain(modes);
    for frame in frames {
        let mut client = then(live(), send(1));
        let before = client.clone();
        assert_eq!(step(&mut client, control(1, frame)), done(vec![]));
        assert_eq!(client, before);
    }
}

#[test]
fn a_connection_notice_is_shown_and_moves_no_position() {
    let mut client = live();
    let before = client.clone();
    assert_eq!(step(&mut client, control(1, Control::Notice(7))), done(vec![Output::Notice(7)]));
    assert_eq!(client, before);
}

/// Before `connection_ready`, only that frame and a close have a meaning.
#[test]
fn a_client_that_is_not_ready_takes_nothing_else() {
    let before = then(authenticating(), send(1));
    let frames = [
        Frame::Control(Control::Pong),
        Frame::Control(Control::GoingAway(Successor::Absent)),
        Frame::Control(Control::StreamReset { from: Offset(0), to: Offset(9) }),
        Frame::Event(entry(0, 1, Kind::Received(Received::immediate(MessageId(1), ThreadId(1))))),
    ];
    for frame in frames {
        let mut client = before.clone();
        let (handled, out) = step(&mut client, on(1, frame));
        assert_eq!(handled, Ok(Handled::Ignored));
        no_trace(&before, &client, &out);
    }
    assert!(is_live(&then(before, control(1, ready(0, true)))));
}

#[test]
fn the_place_is_unknown_until_ready() {
    for begin in [ReadFrom::Latest, ReadFrom::Earliest] {
        assert_eq!(Client::<Tag>::new(begin).position(), None);
    }
    let mut client = connecting();
    assert_eq!(step(&mut client, closed(1, Cause::Overloaded.code())).0, Ok(Handled::Done));
    assert_eq!(client.position(), None);
}
