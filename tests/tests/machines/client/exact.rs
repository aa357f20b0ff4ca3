//! Sockets, credentials, pauses and heartbeats.

use core::time::Duration;

use lockstep_model::client::{Input, MAX_OUTGOING, Outgoing, Output, State};
use lockstep_model::frame::{Control, From};
use lockstep_model::{
    Bounds, Cause, Client, ConnectionId, Frame, Generation, Handled, MessageId, Refusal, Request, Resume, RunId, Timer,
};

use super::*;
use crate::support::{no_trace, survives_json};

fn asks(number: u32) -> Output<Tag> {
    Output::NeedToken { asked: Generation(number) }
}

fn ignores(before: &Client<Tag>, inputs: impl IntoIterator<Item = Input<Tag>>) {
    for input in inputs {
        let mut client = before.clone();
        let (handled, out) = step(&mut client, input.clone());
        assert_eq!(handled, Ok(Handled::Ignored), "{input:?} in {before:?}");
        no_trace(before, &client, &out);
    }
}

#[test]
fn a_new_client_waits_to_be_asked() {
    let client: Client<Tag> = Client::new(From::Latest);
    assert_eq!((client.state(), client.socket(), client.asked()), (State::Idle, Generation(0), Generation(0)));
    assert_eq!((client.position(), client.outgoing().len(), client.tries()), (None, 0, 0));
    let resumed: Client<Tag> = Client::new(From::After(position(4)));
    assert_eq!(resumed.position(), Some(position(4)));
    assert_eq!(live().position(), Some(position(6)));
    survives_json(&live());
}

#[test]
fn connecting_opens_a_socket_against_a_deadline() {
    let mut client = idle();
    let out = vec![Output::Open { socket: Generation(1) }, Output::Arm(Timer::Connect, SMALL.connect)];
    assert_eq!(step(&mut client, Input::Connect), done(out));
    assert_eq!((client.state(), client.socket()), (State::Connecting, Generation(1)));
    for client in [connecting(), authenticating(), live(), waiting(), backoff()] {
        ignores(&client, [Input::Connect]);
    }
}

/// B1: what is presented with a new socket names the connection that it replaces, and where reading goes on.
#[test]
fn an_open_socket_presents_the_credential_the_place_and_the_connection_before() {
    let presents = |from, replaces| Output::Write(Request::Auth { token: 1, resume: Resume { from, replaces } });
    let mut client = connecting();
    assert_eq!(step(&mut client, opened(1)), done(vec![presents(From::Earliest, None)]));
    assert_eq!(client.state(), State::Authenticating);

    let mut client = then(backoff(), Input::Expired(Timer::Backoff));
    let resumes = presents(From::After(position(6)), Some(ConnectionId(101)));
    assert_eq!(step(&mut client, opened(2)), done(vec![resumes]));
}

#[test]
fn without_a_credential_it_asks_for_one_and_stops() {
    let mut client: Client<Tag> = then(Client::new(From::Latest), Input::Connect);
    let mut out = vec![asks(1)];
    out.extend(drops(Some(1)));
    assert_eq!(step(&mut client, opened(1)), done(out));
    assert_eq!((client.state(), client.asked()), (State::Stopped { code: 4504 }, Generation(1)));
    assert_eq!(step(&mut client, token(1, 5)), pauses(None, 2));
    assert_eq!(client.state(), State::Backoff);
}

#[test]
fn ready_makes_it_live_forgives_failures_and_starts_the_heartbeat() {
    let mut client = then(then(then(backoff(), Input::Expired(Timer::Backoff)), closed(2, 1006)), token(0, 2));
    assert_eq!(client.tries(), 2);
    client = then(then(client, Input::Expired(Timer::Backoff)), opened(3));
    let out = vec![Output::Disarm(Timer::Connect), Output::Arm(Timer::Heartbeat, SMALL.heartbeat)];
    assert_eq!(step(&mut client, control(3, ready(9, true))), done(out));
    assert_eq!((client.state(), client.tries()), (State::Live { waiting: false }, 0));
    assert_eq!(client.position(), Some(position(9)));
}

/// B22: each failure in a row doubles the pause, up to the longest, and a success starts over.
#[test]
fn pauses_double_up_to_the_longest() {
    let mut client = connecting();
    for (socket, seconds) in (1..).zip([2, 4, 8, 9, 9]) {
        assert_eq!(step(&mut client, closed(socket, 1006)), pauses(Some(socket), seconds));
        assert_eq!((client.state(), u32::from(client.tries())), (State::Backoff, socket));
        let out = vec![Output::Open { socket: Generation(socket + 1) }, Output::Arm(Timer::Connect, SMALL.connect)];
        assert_eq!(step(&mut client, Input::Expired(Timer::Backoff)), done(out));
    }
    client = then(then(client, opened(6)), control(6, ready(6, true)));
    assert_eq!(step(&mut client, closed(6, 1006)), pauses(Some(6), 2));
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
    for before in [connecting(), authenticating(), live(), waiting()] {
        for code in [1000, 1006, 1011, 4000, 4499] {
            let mut client = before.clone();
            assert_eq!(step(&mut client, closed(1, code)), pauses(Some(1), 2), "{code}");
        }
        for code in [1002, 4500, 4508, 4999] {
            let mut client = before.clone();
            let out = [drops(Some(1)), vec![asks(1)]].concat();
            assert_eq!(step(&mut client, closed(1, code)), done(out), "{code}");
            assert_eq!((client.state(), client.asked()), (State::Stopped { code }, Generation(1)));
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

/// Only the newest asking is answered (B6).
#[test]
fn a_credential_is_kept_or_presented_if_it_answers_the_newest_asking() {
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

    for before in [live(), waiting()] {
        let mut client = before.clone();
        let refresh = Output::Write(Request::Auth { token: 9, resume: Resume::default() });
        assert_eq!(step(&mut client, token(0, 9)), done(vec![refresh]));
        assert_eq!(client.state(), before.state());
    }
}

/// B24: the first silence asks, the second drops the socket; whatever is heard in between counts.
#[test]
fn a_heartbeat_that_is_not_answered_drops_the_socket() {
    let beat = Input::Expired(Timer::Heartbeat);
    let asks = || done(vec![Output::Write(Request::Ping), Output::Arm(Timer::Heartbeat, SMALL.heartbeat)]);
    let mut client = live();
    assert_eq!(step(&mut client, beat.clone()), asks());
    assert_eq!(client.state(), State::Live { waiting: true });
    for frame in [Frame::Control(Control::Pong), Frame::Event(entry(6, 7, Kind::Thinking))] {
        let mut heard = then(client.clone(), on(1, frame));
        assert_eq!(heard.state(), State::Live { waiting: false });
        assert_eq!(step(&mut heard, beat.clone()), asks());
    }
    assert_eq!(step(&mut client, beat), pauses(Some(1), 2));
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
    let with_socket = [connecting(), authenticating(), live(), waiting()].map(|client| (client, Some(1)));
    let without = [backoff(), stopped()].map(|client| (client, None));
    for (mut client, socket) in with_socket.into_iter().chain(without) {
        assert_eq!(step(&mut client, Input::Disconnect), done(drops(socket)));
        assert_eq!(client.state(), State::Idle);
    }
    ignores(&idle(), [Input::Disconnect]);
}

#[test]
fn messages_are_written_when_live_and_kept_otherwise() {
    let write = |number| {
        let message = MessageId(number);
        Output::Write(Request::Message { message, run: RunId(0), payload: 0, repeat: false })
    };
    let mut client = live();
    assert_eq!(step(&mut client, send(1)), done(vec![write(1)]));
    assert_eq!(step(&mut client, send(2)), done(vec![write(2)]), "each once on a socket");
    let kept = |message, socket| Outgoing { message: MessageId(message), payload: 0, socket: Generation(socket) };
    assert_eq!(client.outgoing(), &[kept(1, 1), kept(2, 1)]);
    for mut client in [idle(), connecting(), authenticating(), backoff(), stopped()] {
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

/// RUN-2: a message is written again on the next socket with the same id, and says whether it may have been heard.
#[test]
fn what_is_not_answered_is_written_on_the_next_socket() {
    let client = then(then(then(live(), send(1)), closed(1, 1006)), send(2));
    let mut client = then(then(client, Input::Expired(Timer::Backoff)), opened(2));
    let (_, out) = step(&mut client, control(2, ready(6, true)));
    let write = |number, repeat| {
        let message = MessageId(number);
        Output::Write(Request::Message { message, run: RunId(0), payload: 0, repeat })
    };
    assert_eq!(out[2..], [write(1, true), write(2, false)]);
    let mut later = then(client, send(3));
    assert_eq!(later.outgoing().len(), 3);
    let (_, out) = step(&mut later, closed(2, 1006));
    assert!(!out.iter().any(|order| matches!(order, Output::Write(_))));
    let mut later = then(then(later, Input::Expired(Timer::Backoff)), opened(3));
    let (_, out) = step(&mut later, control(3, ready(6, true)));
    assert_eq!(out[2..], [write(1, true), write(2, true), write(3, true)]);
}

/// B2: what an older socket still says, and a timer that means nothing here.
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
    for client in [connecting(), authenticating()] {
        ignores(&client, [beat.clone(), pause.clone(), other.clone()]);
    }
    for client in [live(), waiting()] {
        ignores(&client, [connect.clone(), pause.clone(), other.clone()]);
    }
}
