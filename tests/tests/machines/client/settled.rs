//! CLIENT-2: every message is settled: answered, refused, unknown, or back with its user.
#![expect(clippy::wildcard_enum_match_arm, reason = "what settles a message is looked for among all")]

use lockstep_model::client::{Heartbeat, Input, MAX_WRITES, Output, State};
use lockstep_model::frame::Control;
use lockstep_model::{Code, Handled, MessageId, Offset, Request, RunId, ThreadId, Timer};

use super::*;
use crate::support::violates;

fn unknown(number: u64) -> Output<Tag> {
    Output::Unknown { message: MessageId(number) }
}

fn too_long(number: u64) -> Output<Tag> {
    Output::TooLong { message: MessageId(number) }
}

fn kept(client: &Client<Tag>) -> Vec<u64> {
    client.outgoing().iter().map(|outgoing| outgoing.message.0).collect()
}

fn written(out: &[Output<Tag>]) -> Vec<u64> {
    let message = |output: &Output<Tag>| match output {
        Output::Write(Request::Message { message, .. }) => Some(message.0),
        _ => None,
    };
    out.iter().filter_map(message).collect()
}

/// Live, with a limit of 10 bytes per message.
fn limited() -> Client<Tag> {
    then(then(authenticating(), limits(1, 10)), control(1, ready(6, true)))
}

#[test]
fn a_message_that_is_too_long_goes_back_to_its_user_at_once() {
    let mut client = limited();
    assert_eq!(client.longest(), 10);
    let before = client.clone();
    assert_eq!(step(&mut client, sized(1, 11)), done(vec![too_long(1)]));
    assert_eq!(client, before, "and is not kept");
    assert_eq!(written(&step(&mut client, sized(2, 10)).1), [2], "none waits behind it");
    let mut offline = then(limited(), closed(1, 1006));
    assert_eq!(step(&mut offline, sized(1, 11)), done(vec![too_long(1)]), "the limit is remembered");
    // Before the gateway's limit is known, every size is accepted.
    assert_eq!(kept(&then(idle(), sized(1, u32::MAX))), [1]);
}

#[test]
fn what_turns_out_to_be_too_long_goes_back_and_the_rest_is_written() {
    let client = then(then(then(authenticating(), sized(1, 5)), sized(2, 11)), sized(3, 10));
    let mut client = client;
    assert_eq!(step(&mut client, limits(1, 10)), done(vec![too_long(2)]));
    assert_eq!(written(&step(&mut client, control(1, ready(6, true))).1), [1, 3]);
}

/// Another gateway took it, or has lost it: it may have run.
#[test]
fn what_was_written_to_a_gateway_with_another_limit_is_unknown() {
    let client = then(then(live(), sized(1, 11)), closed(1, 1006));
    let mut client = then(then(client, Input::Expired(Timer::Backoff)), opened(2));
    assert_eq!(step(&mut client, limits(2, 10)), done(vec![unknown(1)]));
    assert_eq!(kept(&client), [] as [u64; 0]);
}

/// A message for which a socket was closed is not repeated, so the next connection differs.
#[test]
fn a_message_that_a_close_refuses_is_not_repeated() {
    for code in [1002, 1003, 1007, 1009] {
        let mut client = then(then(live(), send(1)), send(2));
        let out = [vec![unknown(1), unknown(2)], pauses(Some(1), 2).1].concat();
        assert_eq!(step(&mut client, closed(1, code)), done(out), "{code}");
        client = then(client, send(3));
        let mut next = then(then(client, Input::Expired(Timer::Backoff)), opened(2));
        assert_eq!(written(&step(&mut next, control(2, ready(6, true))).1), [3], "later messages do not wait");
        // No message is left to drop.
        let mut blamed = then(live(), closed(1, 1006));
        blamed = then(then(blamed, send(4)), Input::Expired(Timer::Backoff));
        assert_eq!(step(&mut blamed, closed(2, code)).0, Ok(Handled::Done));
        assert_eq!((blamed.state(), kept(&blamed)), (State::Stopped { code }, vec![4]));
    }
    for code in [1000, 1006, 1008, 1010, 1011, 4000, 4505, 4508] {
        let mut client = then(live(), send(1));
        assert!(!step(&mut client, closed(1, code)).1.contains(&unknown(1)));
        assert_eq!(kept(&client), [1], "{code}");
    }
}

#[test]
fn a_message_is_not_written_for_ever() {
    let mut client = then(live(), send(1));
    for socket in 2..=u32::from(MAX_WRITES) {
        client = then(then(then(client, closed(socket - 1, 1011)), Input::Expired(Timer::Backoff)), opened(socket));
        assert_eq!(written(&step(&mut client, control(socket, ready(6, true))).1), [1]);
    }
    let last = u32::from(MAX_WRITES);
    let (_, out) = step(&mut client, send(2));
    assert!(written(&out) == [2] && !out.contains(&unknown(1)), "the last socket may still answer: {out:?}");
    client = then(then(then(client, closed(last, 1011)), Input::Expired(Timer::Backoff)), opened(last + 1));
    let (_, out) = step(&mut client, control(last + 1, ready(6, true)));
    assert!(out.contains(&unknown(1)) && written(&out) == [2] && kept(&client) == [2]);
}

/// A gateway that is connected but does not answer, which the heartbeat alone would not detect.
#[test]
fn the_oldest_message_is_given_up_when_no_answer_comes() {
    let mut client = then(then(live(), send(1)), send(2));
    let next = Output::Arm(Timer::Answer, SMALL.answer);
    assert_eq!(step(&mut client, Input::Expired(Timer::Answer)), done(vec![unknown(1), next]));
    let out = vec![unknown(2), Output::Disarm(Timer::Answer)];
    assert_eq!(step(&mut client, Input::Expired(Timer::Answer)), done(out));
    // A late answer may still arrive.
    let late = Control::Known { message: MessageId(1), run: RunId(4), offset: Offset(5) };
    assert_eq!(step(&mut client, control(1, late)), done(vec![]));
}

#[test]
fn each_answer_starts_the_wait_for_the_next() {
    let arm = Output::Arm(Timer::Answer, SMALL.answer);
    let client = then(then(live(), send(1)), send(2));
    let refused = |number| Control::Refused { message: MessageId(number), code: Code::InvalidField };
    let told = |number| Output::Refused { message: MessageId(number), code: Code::InvalidField };
    let mut first = client.clone();
    assert_eq!(step(&mut first, control(1, refused(1))), done(vec![told(1), arm]));
    assert_eq!(step(&mut first, control(1, refused(2))), done(vec![told(2), Output::Disarm(Timer::Answer)]));
    let mut second = client;
    assert_eq!(step(&mut second, control(1, refused(2))), done(vec![told(2)]), "the first still waits");
}

/// NODE-2: a message that a gateway sends back before it goes away is kept, and written on the next connection as if
/// for the first time: it did not run, so it is not a repetition.
#[test]
fn a_message_that_is_sent_back_waits_for_the_next_connection() {
    let write = |number, repeat| {
        let message = MessageId(number);
        Output::Write(Request::Message {
            message,
            thread: ThreadId(0),
            run: RunId(0),
            payload: 0,
            repeat,
            replaces: None,
        })
    };
    let arm = Output::Arm(Timer::Answer, SMALL.answer);
    let mut client = then(then(live(), send(1)), send(2));
    assert_eq!(step(&mut client, sent_back(1, 1)), done(vec![arm.clone()]), "the other still waits for its answer");
    assert_eq!(client.state(), State::Holding { heartbeat: Heartbeat::Answered });
    assert_eq!(step(&mut client, sent_back(1, 2)), done(vec![arm]), "its user is not told");
    assert_eq!(step(&mut client, send(3)), done(vec![]), "nothing more is asked of it");
    assert_eq!((kept(&client), client.outgoing()[1].writes), (vec![1, 2, 3], 0));
    let read = step(&mut client, thought(1, 6, 7)).1;
    assert!(matches!(read[0], Output::Deliver(_)), "what it says is read");
    for end in [control(1, Control::GoingAway(Successor::Waiting)), closed(1, 4000), closed(1, 1006)] {
        let mut client = then(client.clone(), end.clone());
        if let State::Leaving { .. } = client.state() {
            client = then(client, closed(1, 4000));
        }
        client = then(then(client, Input::Expired(Timer::Backoff)), opened(2));
        // A gap drops messages that may have run, and these have not.
        let (_, out) = step(&mut client, control(2, ready(0, false)));
        let writes: Vec<_> = out.into_iter().filter(|output| matches!(output, Output::Write(_))).collect();
        assert_eq!(writes, [write(1, false), write(2, false), write(3, false)], "{end:?}");
    }
}

/// RUN-2: the message may have arrived on an earlier socket, whatever this one says.
#[test]
fn a_message_written_to_an_earlier_socket_stays_a_repetition() {
    let client = then(again(then(then(live(), send(1)), closed(1, 1006)), 2, ready(6, true)), sent_back(2, 1));
    assert_eq!(client.outgoing()[0].writes, 1);
    let mut same = client.clone();
    assert_eq!(step(&mut same, Input::Withdraw { message: MessageId(1) }).0, Ok(Handled::Ignored), "it may run");
    let (_, out) = step(
        &mut then(then(then(client, closed(2, 4000)), Input::Expired(Timer::Backoff)), opened(3)),
        control(3, ready(6, true)),
    );
    assert!(out.iter().any(|output| matches!(output, Output::Write(Request::Message { repeat: true, .. }))), "{out:?}");
}

/// A gateway whose successor failed announces that it stays. One that announces nothing is retried after a while.
#[test]
fn what_waits_for_a_gateway_that_stays_after_all_is_written_there() {
    for stays in [Mode::Ready, Mode::Degraded, Mode::Emergency] {
        let mut client = then(holding(), send(2));
        for goes in [Mode::HandingOver, Mode::Draining] {
            assert_eq!(step(&mut client, control(1, Control::Mode(goes))), done(vec![]));
        }
        let (_, out) = step(&mut client, control(1, Control::Mode(stays)));
        assert_eq!((written(&out), client.state()), (vec![1, 2], State::Live { heartbeat: Heartbeat::Answered }));
    }
    let mut client = holding();
    let (_, out) = step(&mut client, Input::Expired(Timer::Answer));
    assert_eq!((written(&out), client.state()), (vec![1], State::Live { heartbeat: Heartbeat::Answered }));
    assert!(out.contains(&Output::Arm(Timer::Answer, SMALL.answer)));
    // A message that is awaited there is given up first.
    let mut client = then(then(then(live(), send(1)), send(2)), sent_back(1, 2));
    let out = vec![unknown(1), Output::Arm(Timer::Answer, SMALL.answer)];
    assert_eq!(step(&mut client, Input::Expired(Timer::Answer)), done(out));
    assert_eq!(client.state(), State::Holding { heartbeat: Heartbeat::Answered });
}

/// A message that was taken back is not awaited, and the user is told when an unknown message is refused.
#[test]
fn what_is_sent_back_can_be_taken_back() {
    let mut client = holding();
    let out = vec![Output::Disarm(Timer::Answer)];
    assert_eq!(step(&mut client, Input::Withdraw { message: MessageId(1) }), done(out));
    let told = Output::Refused { message: MessageId(1), code: Code::Draining };
    assert_eq!(step(&mut client, sent_back(1, 1)), done(vec![told]));
    // A close that refuses what was written does not concern it.
    let mut client = holding();
    let stops = step(&mut client, closed(1, 1009)).1;
    assert!(!stops.contains(&unknown(1)) && kept(&client) == [1]);
    // A gateway that has announced its departure is not waited for either.
    let client = then(then(then(live(), send(1)), control(1, Control::GoingAway(Successor::Absent))), sent_back(1, 1));
    assert_eq!((client.state(), kept(&client)), (State::Leaving { heartbeat: Heartbeat::Answered }, vec![1]));
}

#[test]
fn a_message_that_was_never_written_can_be_taken_back() {
    for mut client in [idle(), connecting(), authenticating(), leaving(), backoff(), stopped()] {
        client = then(client, send(1));
        assert_eq!(step(&mut client, Input::Withdraw { message: MessageId(1) }), done(vec![]));
        assert_eq!(kept(&client), [] as [u64; 0]);
    }
    let client = then(live(), send(1));
    for message in [1, 2] {
        let mut same = client.clone();
        let answer = step(&mut same, Input::Withdraw { message: MessageId(message) });
        assert_eq!((answer, same), ((Ok(Handled::Ignored), vec![]), client.clone()), "it may run");
    }
}

#[test]
fn a_sound_client_breaks_nothing_and_a_broken_one_is_found() {
    let client = then(then(limited(), sized(1, 10)), sized(2, 3));
    assert_eq!(client.check(), Ok(()));
    let mut value = serde_json::to_value(&client).unwrap();
    for (path, broken, property) in [
        ("/longest", serde_json::json!(9), "CLIENT-2"),
        ("/outgoing/0/writes", serde_json::json!(MAX_WRITES + 1), "CLIENT-2"),
        ("/outgoing/0/socket", serde_json::json!(7), "CLIENT-1"),
    ] {
        let sound = core::mem::replace(value.pointer_mut(path).unwrap(), broken);
        let client: Client<Tag> = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(client.check(), violates(property), "{path}");
        *value.pointer_mut(path).unwrap() = sound;
    }
}
