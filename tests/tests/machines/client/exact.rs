//! Sockets, credentials, pauses and heartbeats.

use core::time::Duration;

use lockstep_model::client::{Heartbeat, Input, MAX_OUTGOING, MAX_SHORT, Outgoing, Output, State};
use lockstep_model::frame::{Control, ReadFrom};
use lockstep_model::run::Received;
use lockstep_model::{
    Bounds, Cause, Client, ConnectionId, Frame, Handled, MessageId, Refusal, Request, Resume, RunId, SocketId,
    ThreadId, Timer, TokenRequestId,
};

use super::*;
use crate::support::{no_trace, survives_json};

fn asks(number: u32) -> Output<Tag> {
    Output::NeedToken { asked: TokenRequestId(number) }
}

fn ignores(before: &Client<Tag>, inputs: impl IntoIterator<Item = Input<Tag>>) {
    for input in inputs {
        let mut client = before.clone();
        let (handled, out) = step(&mut client, input.clone());
        assert_eq!(handled, Ok(Handled::Ignored), "{input:?} in {before:?}");
        no_trace(before, &client, &out);
    }
}

fn written(number: u64, repeat: bool) -> Output<Tag> {
    let (message, thread, run) = (MessageId(number), ThreadId(0), RunId(0));
    Output::Write(Request::Message { message, thread, run, payload: 0, repeat, replaces: None })
}

#[test]
fn a_new_client_waits_for_a_command() {
    let client: Client<Tag> = Client::new(ReadFrom::Latest);
    assert_eq!((client.state(), client.socket(), client.asked()), (State::Idle, SocketId(0), TokenRequestId(0)));
    assert_eq!((client.position(), client.outgoing().len(), client.tries()), (None, 0, 0));
    let resumed: Client<Tag> = Client::new(ReadFrom::After(position(4)));
    assert_eq!(resumed.position(), Some(position(4)));
    assert_eq!(live().position(), Some(position(6)));
    survives_json(&live());
}

#[test]
fn connecting_opens_a_socket_against_a_deadline() {
    let mut client = idle();
    let out = vec![Output::Open { socket: SocketId(1) }, Output::Arm(Timer::Connect, SMALL.connect)];
    assert_eq!(step(&mut client, Input::Connect), done(out));
    assert_eq!((client.state(), client.socket()), (State::Connecting, SocketId(1)));
    for client in [connecting(), authenticating(), live(), waiting(), holding(), leaving(), backoff()] {
        ignores(&client, [Input::Connect]);
    }
}

/// B1: a new socket's credential names the connection that it replaces, and where reading goes on.
#[test]
fn an_open_socket_presents_the_credential_the_place_and_the_connection_before() {
    let presents = |from, replaces| Output::Write(Request::Auth { token: 1, resume: Resume { from, replaces } });
    let mut client = connecting();
    assert_eq!(step(&mut client, opened(1)), done(vec![presents(ReadFrom::Earliest, None)]));
    assert_eq!(client.state(), State::Authenticating);

    let mut client = then(backoff(), Input::Expired(Timer::Backoff));
    let resumes = presents(ReadFrom::After(position(6)), Some(ConnectionId(101)));
    assert_eq!(step(&mut client, opened(2)), done(vec![resumes]));
}

/// CLIENT-1: a user who asks twice waits for the newer request, and the first attempt is made without a pause.
#[test]
fn no_socket_is_opened_before_there_is_a_credential_and_then_one_at_once() {
    let mut client: Client<Tag> = Client::new(ReadFrom::Latest);
    for number in [1, 2] {
        assert_eq!(step(&mut client, Input::Connect), done(vec![asks(number)]));
        assert_eq!((client.state(), client.socket()), (State::Stopped { code: 4504 }, SocketId(0)));
    }
    ignores(&client, [token(1, 5)]);
    let out = vec![Output::Open { socket: SocketId(1) }, Output::Arm(Timer::Connect, SMALL.connect)];
    for input in [token(2, 5), Input::Present { token: 5 }] {
        assert_eq!(step(&mut client.clone(), input), done(out.clone()));
    }
}

#[test]
fn ready_makes_it_live_and_starts_its_deadlines() {
    let mut client = then(then(then(backoff(), Input::Expired(Timer::Backoff)), closed(2, 1006)), token(0, 2));
    assert_eq!(client.tries(), 2);
    client = then(then(client, Input::Expired(Timer::Backoff)), opened(3));
    let out = [becomes_live(), vec![beat(false)]].concat();
    assert_eq!(step(&mut client, control(3, ready(9, true))), done(out));
    assert_eq!((client.state(), client.tries()), (State::Live { heartbeat: Heartbeat::Answered }, 2));
    assert_eq!(client.position(), Some(position(9)));
}

/// B22: each failure in a row doubles the pause, up to the longest. Only a connection that lasts resets it; being ready
/// does not.
#[test]
fn pauses_double_up_to_the_longest() {
    let mut client = connecting();
    for (socket, seconds) in (1..).zip([2, 4, 8, 9, 9]) {
        assert_eq!(step(&mut client, closed(socket, 1006)), pauses(Some(socket), seconds));
        assert_eq!((client.state(), u32::from(client.tries())), (State::Backoff, socket));
        let out = vec![Output::Open { socket: SocketId(socket + 1) }, Output::Arm(Timer::Connect, SMALL.connect)];
        assert_eq!(step(&mut client, Input::Expired(Timer::Backoff)), done(out));
    }
    client = then(then(client, opened(6)), control(6, ready(6, true)));
    for (mut client, lasted) in
        [(client.clone(), false), (then(client.clone(), control(6, Control::GoingAway(Successor::Absent))), true)]
    {
        if lasted {
            assert_eq!(step(&mut client, Input::Expired(Timer::Stable)), done(vec![]));
        }
        assert_eq!(client.tries(), if lasted { 0 } else { 5 });
        assert_eq!(step(&mut client, closed(6, 1006)), pauses(Some(6), if lasted { 2 } else { 9 }));
    }
    assert_eq!(step(&mut client, Input::Expired(Timer::Stable)), done(vec![]));
    assert_eq!(step(&mut client, closed(6, 1006)), pauses(Some(6), 2));
}

/// CLIENT-1: a connection that closes right after ready is not a success: pauses grow, whatever the gateway announces.
#[test]
fn a_gateway_that_closes_whatever_it_admits_is_left_alone_for_longer_and_longer() {
    for code in [1000, 1006, 1011, 1012, 4000, 4001, 4004, 4499] {
        for says_so in [false, true] {
            let mut client = live();
            for (socket, seconds) in (1..).zip([2, 4, 8, 9, 9, 9]) {
                if says_so {
                    client = then(client, control(socket, Control::GoingAway(Successor::Absent)));
                }
                assert_eq!(step(&mut client, closed(socket, code)), pauses(Some(socket), seconds), "{code}");
                let offset = 5 + u64::from(socket);
                client = again(client, socket + 1, ready(offset, true));
                // New events are no proof either.
                client = then(client, thought(socket + 1, offset, offset + 1));
            }
            assert_eq!(client.tries(), 6);
        }
    }
    // The same with a close that requires a new credential each time.
    let mut client = live();
    for (socket, seconds) in (1..).zip([2, 4, 8, 9, 9]) {
        client = then(client, closed(socket, 4501));
        assert_eq!(step(&mut client, Input::Present { token: 1 }), pauses(None, seconds));
        client = again(client, socket + 1, ready(6, true));
    }
}

#[test]
fn pauses_stop_doubling_before_they_overflow() {
    let bounds = Bounds { backoff: Duration::from_nanos(1), backoff_most: Duration::MAX, ..SMALL };
    let mut client = connecting();
    for socket in 1..=300 {
        let (_, out) = step_within(&bounds, &mut client, closed(socket, 1006));
        let doublings = (socket - 1).min(16);
        assert_eq!(out.last(), Some(&Output::Pause(Duration::from_nanos(1 << doublings))), "after {socket}");
        let _ = step_within(&bounds, &mut client, Input::Expired(Timer::Backoff));
    }
    assert_eq!(client.tries(), u8::MAX);
    let longest = Bounds { backoff: Duration::MAX, backoff_most: Duration::MAX, ..SMALL };
    let (_, out) = step_within(&longest, &mut client, closed(301, 1006));
    assert_eq!(out.last(), Some(&Output::Pause(Duration::MAX)));
}

/// The close code decides: come back after a pause, or stop until there is a new credential.
#[test]
fn a_closed_socket_is_reopened_after_a_pause_or_not() {
    for before in [connecting(), authenticating(), live(), waiting(), holding(), leaving()] {
        for code in [1000, 1006, 1011, 4000, 4499] {
            let mut client = before.clone();
            assert_eq!(step(&mut client, closed(1, code)), pauses(Some(1), 2), "{code}");
        }
        for code in [1002, 1003, 1007, 1008, 1009, 1010, 4500, 4508, 4999] {
            let mut client = before.clone();
            let out = [drops(Some(1)), vec![asks(1)]].concat();
            assert_eq!(step(&mut client, closed(1, code)), done(out), "{code}");
            assert_eq!((client.state(), client.asked()), (State::Stopped { code }, TokenRequestId(1)));
        }
    }
    for (before, cause) in
        [(authenticating(), Cause::GoingAway), (live(), Cause::GoingAway), (live(), Cause::PeerClosed)]
    {
        let mut client = before;
        assert_eq!(step(&mut client, on(1, Frame::Close(cause))), pauses(Some(1), 2));
    }
    for before in [authenticating(), live()] {
        let mut client = before;
        let out = [drops(Some(1)), vec![asks(1)]].concat();
        assert_eq!(step(&mut client, on(1, Frame::Close(Cause::CredentialRevoked))), done(out));
        assert_eq!(client.state(), State::Stopped { code: 4502 });
    }
}

#[test]
fn a_stopped_client_comes_back_after_a_pause_with_a_new_credential_or_at_the_users_wish() {
    for input in [token(1, 9), Input::Connect] {
        let mut client = stopped();
        assert_eq!(step(&mut client, input), pauses(None, 2));
        assert_eq!(client.state(), State::Backoff);
    }
}

/// B6: only the newest token request is answered.
#[test]
fn a_credential_is_kept_or_presented_if_it_answers_the_newest_request() {
    for asked in [0, 2] {
        ignores(&stopped(), [token(asked, 9)]);
    }
    for before in [idle(), backoff(), connecting(), authenticating()] {
        let mut client = before.clone();
        assert_eq!(step(&mut client, token(0, 9)), done(vec![]));
        assert_eq!(client.state(), before.state());
    }
    let mut client = then(connecting(), token(0, 9));
    let (_, out) = step(&mut client, opened(1));
    assert!(matches!(out[..], [Output::Write(Request::Auth { token: 9, .. })]));

    for before in [live(), waiting(), holding(), leaving()] {
        let mut client = before.clone();
        let refresh = Output::Write(Request::Auth { token: 9, resume: Resume::default() });
        assert_eq!(step(&mut client, token(0, 9)), done(vec![refresh]));
        assert_eq!(client.state(), before.state());
    }
}

/// AUTH-3: a credential that the user presents is newer than the requested one.
#[test]
fn a_presented_credential_outdates_the_requested_one() {
    let mut client = then(live(), control(1, Control::AuthExpiring));
    let refresh = |token| Output::Write(Request::Auth { token, resume: Resume::default() });
    assert_eq!(step(&mut client, Input::Present { token: 9 }), done(vec![refresh(9)]));
    assert_eq!(client.asked(), TokenRequestId(2));
    ignores(&client, [token(1, 8)]);
    for before in [idle(), connecting(), authenticating(), backoff()] {
        let mut client = before.clone();
        assert_eq!(step(&mut client, Input::Present { token: 9 }), done(vec![]));
        assert_eq!(client.state(), before.state());
        ignores(&client, [token(0, 8)]);
    }
    assert_eq!(step(&mut stopped(), Input::Present { token: 9 }), pauses(None, 2));
}

/// B24: the first silence sends a ping, the second drops the socket; any frame in between resets it.
#[test]
fn a_heartbeat_that_is_not_answered_drops_the_socket() {
    let expired = Input::Expired(Timer::Heartbeat);
    let asks = || done(vec![Output::Write(Request::Ping), Output::Arm(Timer::Heartbeat, SMALL.pong)]);
    let held = then(holding(), Input::Withdraw { message: MessageId(1) });
    for (before, waits) in [
        (live(), State::Live { heartbeat: Heartbeat::Awaited }),
        (held, State::Holding { heartbeat: Heartbeat::Awaited }),
        (leaving(), State::Leaving { heartbeat: Heartbeat::Awaited }),
    ] {
        let mut client = before;
        assert_eq!(step(&mut client, expired.clone()), asks());
        assert_eq!(client.state(), waits);
        for (frame, awaited) in
            [(Frame::Control(Control::Pong), false), (Frame::Event(entry(6, 7, Kind::Thinking)), true)]
        {
            let mut heard = client.clone();
            let (handled, out) = step(&mut heard, on(1, frame));
            assert_eq!((handled, out.last()), (Ok(Handled::Done), Some(&beat(awaited))));
            assert_eq!(step(&mut heard, expired.clone()), asks());
        }
        // An entry that was seen before counts too.
        assert_eq!(step(&mut client.clone(), thought(1, 5, 6)), done(vec![beat(false)]));
        let dropped = step(&mut client, expired.clone());
        assert_eq!(dropped, pauses(Some(1), 2));
    }
}

/// LIVE-4: while an answer is awaited, a dead gateway is detected within 1.5 times `pong`.
#[test]
fn the_heart_beats_faster_while_something_is_awaited() {
    let mut client = live();
    let (_, out) = step(&mut client, send(1));
    assert_eq!(out[1..], [Output::Arm(Timer::Answer, SMALL.answer), beat(true)]);
    let (_, out) = step(&mut client, send(2));
    assert_eq!(out.len(), 1, "it does already");
    let (_, out) = step(
        &mut client,
        on(1, Frame::Event(entry(6, 7, Kind::Received(Received::immediate(MessageId(1), ThreadId(1)))))),
    );
    assert_eq!(out.last(), Some(&Output::Arm(Timer::Answer, SMALL.answer)), "of the next");

    // A run that this client may not have started.
    let run = |kind, previous| {
        let mut entry = entry(previous, previous + 1, kind);
        entry.event.run = RunId(7);
        on(1, Frame::Event(entry))
    };
    let mut client = live();
    let (_, out) = step(&mut client, run(Kind::Received(Received::immediate(MessageId(9), ThreadId(9))), 6));
    assert_eq!(out.last(), Some(&beat(true)));
    for (kind, previous) in [(Kind::Started, 7), (Kind::Thinking, 8), (Kind::Completed, 9)] {
        assert_eq!(step(&mut client, run(kind, previous)).1.len(), 1, "{kind:?}");
    }
    client = then(client, Input::Expired(Timer::Heartbeat));
    assert_eq!(step(&mut client, control(1, Control::Pong)), done(vec![beat(false)]), "nothing is awaited any more");
    assert!(lockstep_model::client::found_within(&Bounds::DEFAULT) < Duration::from_secs(5));
}

/// A slow network is not a dead gateway: after failures, the client waits longer.
#[test]
fn patience_grows_with_failures() {
    let mut client = live();
    for (socket, patience) in (2..).zip([2, 4, 8, 8]) {
        client = again(then(client, closed(socket - 1, 1006)), socket, ready(6, true));
        let (_, out) = step(&mut client.clone(), Input::Expired(Timer::Heartbeat));
        assert_eq!(out.last(), Some(&Output::Arm(Timer::Heartbeat, SMALL.pong * patience)));
    }
}

/// NODE-2, CLIENT-1: a gateway that goes away is read until its announced time is over; then the next one is tried at
/// once.
#[test]
fn a_gateway_that_goes_away_is_left_when_it_said() {
    let mut client = then(live(), send(1));
    let leave = Output::Arm(Timer::Leave, SMALL.backoff);
    assert_eq!(step(&mut client, control(1, Control::GoingAway(Successor::Absent))), done(vec![leave]));
    assert_eq!((client.state(), client.awaits_successor()), (State::Leaving { heartbeat: Heartbeat::Answered }, true));
    assert_eq!(step(&mut client, send(2)), done(vec![]), "nothing new is asked of it");
    let (handled, out) = step(
        &mut client,
        on(1, Frame::Event(entry(6, 7, Kind::Received(Received::immediate(MessageId(1), ThreadId(1)))))),
    );
    assert_eq!(
        (handled, &out[..1]),
        (Ok(Handled::Done), &[Output::Accepted { message: MessageId(1), run: RunId(47) }][..])
    );

    let opens = vec![Output::Open { socket: SocketId(2) }, Output::Arm(Timer::Connect, SMALL.connect)];
    assert_eq!(step(&mut client, Input::Expired(Timer::Leave)), done([drops(Some(1)), opens].concat()));
    assert_eq!((client.state(), client.tries()), (State::Connecting, 1));
    client = then(then(client, opened(2)), control(2, ready(7, true)));
    assert_eq!((client.awaits_successor(), client.outgoing()[0].socket), (false, SocketId(2)));

    // If the next one announces it too, it is not tried at once again.
    client = then(client, control(2, Control::GoingAway(Successor::Absent)));
    assert_eq!(step(&mut client, Input::Expired(Timer::Leave)), pauses(Some(2), 4));
}

/// CLIENT-1: short pauses are for the successor of a gateway that has lasted.
#[test]
fn one_that_goes_away_before_it_has_lasted_is_not_about_to_be_succeeded() {
    for told in [false, true] {
        let mut client = again(then(live(), closed(1, 4000)), 2, ready(6, true));
        assert!(!client.awaits_successor(), "this is the successor");
        if told {
            client = then(client, control(2, Control::GoingAway(Successor::Absent)));
        }
        assert!(!then(client.clone(), closed(2, 4000)).awaits_successor());
        client = then(client, Input::Expired(Timer::Stable));
        assert!(then(client, closed(2, 4000)).awaits_successor());
    }
    // While a successor is awaited, a gateway that still answers and goes away changes nothing.
    let client = then(then(then(leaving(), closed(1, 1006)), Input::Expired(Timer::Backoff)), closed(2, 4000));
    assert!(client.awaits_successor());
}

/// CLIENT-1: a client that awaits a successor retries often, but not forever.
#[test]
fn pauses_stay_short_while_a_successor_is_awaited() {
    let bounds = Bounds { backoff_most: Duration::from_secs(1_000), ..SMALL };
    let pause = |client: &mut Client<Tag>, input| match step_within(&bounds, client, input).1.last() {
        Some(Output::Pause(pause)) => pause.as_secs(),
        other => panic!("{other:?}"),
    };
    for mut client in [leaving(), live()] {
        let told = client.awaits_successor();
        let code = if told { 1006 } else { 4000 };
        let mut pauses = vec![pause(&mut client, closed(1, code))];
        for socket in 2..=34 {
            client = then(client, Input::Expired(Timer::Backoff));
            pauses.push(pause(&mut client, closed(socket, 1006)));
        }
        assert_eq!(pauses[..4], [2, 4, 8, 8]);
        assert_eq!(pauses[31..], [8, 1_000, 1_000], "after {MAX_SHORT}");
    }
    // A gateway that refuses for another reason is not about to be succeeded.
    let mut client = then(then(leaving(), closed(1, 4000)), Input::Expired(Timer::Backoff));
    client = then(then(client, closed(2, 4004)), Input::Expired(Timer::Backoff));
    assert!(!client.awaits_successor());
    assert_eq!(pause(&mut client, closed(3, 1006)), 8);
}

#[test]
fn a_connection_that_does_not_come_about_in_time_is_tried_again() {
    for mut client in [connecting(), authenticating()] {
        assert_eq!(step(&mut client, Input::Expired(Timer::Connect)), pauses(Some(1), 2));
        assert_eq!(client.state(), State::Backoff);
    }
}

#[test]
fn the_user_can_leave_in_every_state() {
    let with_socket =
        [connecting(), authenticating(), live(), waiting(), holding(), leaving()].map(|client| (client, Some(1)));
    let without = [backoff(), stopped()].map(|client| (client, None));
    for (mut client, socket) in with_socket.into_iter().chain(without) {
        assert_eq!(step(&mut client, Input::Disconnect), done(drops(socket)));
        assert_eq!(client.state(), State::Idle);
    }
    ignores(&idle(), [Input::Disconnect]);
}

#[test]
fn messages_are_written_when_live_and_kept_otherwise() {
    let write = |number| written(number, false);
    let mut client = live();
    let waits = vec![write(1), Output::Arm(Timer::Answer, SMALL.answer), beat(true)];
    assert_eq!(step(&mut client, send(1)), done(waits));
    assert_eq!(step(&mut client, send(2)), done(vec![write(2)]), "each once on a socket");
    let kept = |message, socket: u32| {
        let (message, writes) = (MessageId(message), u8::from(socket > 0));
        Outgoing { message, payload: 0, size: 1, socket: SocketId(socket), writes }
    };
    assert_eq!(client.outgoing(), &[kept(1, 1), kept(2, 1)]);
    for mut client in [idle(), connecting(), authenticating(), leaving(), backoff(), stopped()] {
        assert_eq!(step(&mut client, send(1)), done(vec![]));
        assert_eq!(client.outgoing(), &[kept(1, 0)]);
    }
}

/// LIM-1, and a message id is in use until it is answered.
#[test]
fn unanswered_messages_are_bounded_and_told_apart() {
    for mut client in [live(), backoff()] {
        let last = MAX_OUTGOING as u64;
        for number in 1..last {
            assert_eq!(step(&mut client, send(number)).0, Ok(Handled::Done));
        }
        let before = client.clone();
        assert_eq!(step(&mut client, send(1)), (Err(Refusal::Misuse), vec![]));
        assert_eq!(client, before);
        assert_eq!(step(&mut client, send(last)).0, Ok(Handled::Done));
        let full = client.clone();
        assert_eq!(step(&mut client, send(last + 1)), (Err(Refusal::Backpressure), vec![]));
        assert_eq!(client, full);
    }
}

/// RUN-2: a message is written again on the next socket with the same id, and says whether it may have arrived before.
#[test]
fn what_is_not_answered_is_written_on_the_next_socket() {
    let client = then(then(then(live(), send(1)), closed(1, 1006)), send(2));
    let mut client = then(then(client, Input::Expired(Timer::Backoff)), opened(2));
    let (_, out) = step(&mut client, control(2, ready(6, true)));
    let write = |number, repeat| written(number, repeat);
    assert_eq!(out[2..4], [write(1, true), write(2, false)]);
    let mut later = then(client, send(3));
    assert_eq!(later.outgoing().len(), 3);
    let (_, out) = step(&mut later, closed(2, 1006));
    assert!(!out.iter().any(|output| matches!(output, Output::Write(_))));
    let mut later = then(then(later, Input::Expired(Timer::Backoff)), opened(3));
    let (_, out) = step(&mut later, control(3, ready(6, true)));
    assert_eq!(out[2..5], [write(1, true), write(2, true), write(3, true)]);
}

/// B2: frames of an older socket, and timers without meaning in a state.
#[test]
fn what_is_stale_is_ignored() {
    let late = || {
        [
            opened(1),
            closed(1, 4500),
            closed(1, 1006),
            control(1, ready(9, false)),
            control(1, Control::AuthExpiring),
            thought(1, 6, 7),
            on(1, Frame::Close(Cause::CredentialRevoked)),
        ]
    };
    let second = again(backoff(), 2, ready(6, true));
    let reconnecting = then(backoff(), Input::Expired(Timer::Backoff));
    for client in [second, then(reconnecting.clone(), opened(2)), reconnecting, backoff(), stopped(), idle()] {
        ignores(&client, late());
        ignores(&client, [closed(9, 1006), opened(9), thought(9, 6, 7)]);
    }
    ignores(&connecting(), [control(1, ready(9, true)), thought(1, 6, 7), on(1, Frame::Close(Cause::GoingAway))]);
    ignores(&authenticating(), [opened(1)]);
    ignores(&live(), [opened(1)]);

    let (beat, connect) = (Input::Expired(Timer::Heartbeat), Input::Expired(Timer::Connect));
    let (pause, other) = (Input::Expired(Timer::Backoff), Input::Expired(Timer::Idle));
    for client in [idle(), stopped()] {
        ignores(&client, [beat.clone(), connect.clone(), pause.clone(), other.clone()]);
    }
    ignores(&backoff(), [beat.clone(), connect.clone(), other.clone()]);
    for client in [idle(), stopped(), backoff(), connecting(), authenticating()] {
        ignores(&client, [Timer::Stable, Timer::Leave, Timer::Answer].map(Input::Expired));
        ignores(&client, [limits(0, 1), limits(9, 1)]);
    }
    ignores(&live(), [Input::Expired(Timer::Leave), limits(1, 1)]);
    for client in [connecting(), authenticating()] {
        ignores(&client, [beat.clone(), pause.clone(), other.clone()]);
    }
    for client in [live(), waiting(), holding(), leaving()] {
        ignores(&client, [connect.clone(), pause.clone(), other.clone()]);
    }
}
