//! Unattached connections: before their verdict, and while closing.

use core::time::Duration;

use lockstep_model::connection::{Connection, State};
use lockstep_model::{Mode, RevocationGeneration, Verdict};

use super::*;
use crate::support::no_trace;

fn ignores(before: &Gateway<Tag>, input: Input<Tag>) {
    let mut gateway = before.clone();
    let (handled, out) = step(&mut gateway, input);
    assert_eq!(handled, Ok(Handled::Ignored));
    no_trace(before, &gateway, &out);
}

fn refuses(before: &Gateway<Tag>, input: Input<Tag>, why: Refusal) {
    let mut gateway = before.clone();
    let (handled, out) = step(&mut gateway, input);
    assert_eq!(handled, Err(why));
    no_trace(before, &gateway, &out);
}

#[test]
fn a_process_begins_empty_and_serves_once_it_is_started() {
    let mut gateway: Gateway<Tag> = Gateway::new();
    assert_eq!(gateway, Gateway::default());
    assert!(gateway.unattached().is_empty() && gateway.slots().is_empty());
    assert_eq!(gateway.node().state(), node::State::Starting);
    let refused = Output::Refused { connection: ConnectionId(1), cause: Cause::Overloaded };
    assert_eq!(step(&mut gateway, accept(1)), done(vec![refused]));
    assert!(gateway.unattached().is_empty());

    let out = vec![Output::Arm(Place::Node, Timer::Probe, SMALL.probe)];
    assert_eq!(step(&mut gateway, Input::Node(node::Input::Started)), done(out));
    let out = vec![Output::Probe, Output::Arm(Place::Node, Timer::Probe, SMALL.probe)];
    assert_eq!(step(&mut gateway, Input::Node(node::Input::Expired(Timer::Probe))), done(out));
    ignores(&gateway, Input::Node(node::Input::Started));
}

#[test]
fn an_admitted_connection_waits_unattached() {
    let mut gateway = started();
    let out = vec![Output::Arm(of(1), Timer::Handshake, SMALL.handshake)];
    assert_eq!(step(&mut gateway, accept(1)), done(out));
    assert_eq!(gateway.connection(ConnectionId(1)).map(Connection::state), Some(&State::Opening));
    assert_eq!((gateway.user_of(ConnectionId(1)), gateway.node().connections()), (None, 1));
    assert_eq!(gateway.unattached().len(), 1);
    assert_eq!(gateway.connection(ConnectionId(2)), None);

    gateway = then(gateway, on(1, connection::Input::Opened));
    let present = connection::Input::Received(Request::Auth { token: 3, resume: Resume::default() });
    let out = vec![
        Output::Verify {
            connection: ConnectionId(1),
            attempt: attempt(1),
            token: 3,
            generation: RevocationGeneration(0),
        },
        Output::Arm(of(1), Timer::Verification, SMALL.verification),
    ];
    assert_eq!(step(&mut gateway, on(1, present)), done(out));
}

/// CONN-1: the driver makes ids, and reusing one is our fault, wherever its connection is.
#[test]
fn an_id_in_use_is_refused() {
    let unattached = then(started(), accept(1));
    refuses(&unattached, accept(1), Refusal::Misuse);
    refuses(&serving(), accept(1), Refusal::Misuse);
    assert_eq!(step(&mut then(serving(), gone(1)), accept(1)).0, Ok(Handled::Done), "and free again later");
}

#[test]
fn what_the_gateway_counts_itself_is_not_told_to_it() {
    for input in [node::Input::Accept, node::Input::Closed, node::Input::SessionOpened, node::Input::SessionRetired] {
        refuses(&serving(), Input::Node(input), Refusal::Misuse);
    }
}

/// LIM-1: the sixth connection is the last, whether the others are attached or not.
#[test]
fn connections_of_the_process_are_bounded() {
    let mut gateway = (2..=SMALL.node_connections as u64).fold(serving(), |gateway, id| then(gateway, accept(id)));
    let refused = Output::Refused { connection: ConnectionId(99), cause: Cause::Overloaded };
    assert_eq!(step(&mut gateway, accept(99)), done(vec![refused]));
    gateway = then(gateway, gone(4));
    assert_eq!(step(&mut gateway, accept(99)).0, Ok(Handled::Done));
    assert_eq!(gateway.node().connections(), SMALL.node_connections);
}

/// A verified credential attaches its connection to its user's session, which is opened if there is none.
#[test]
fn a_verdict_opens_the_session_and_joins_it() {
    let mut gateway = presented(started(), 1);
    let (handled, out) = step(&mut gateway, verdict(1, grant(7, 1, 0)));
    assert_eq!(handled, Ok(Handled::Done));
    let expected = [
        Output::Disarm(of(1), Timer::Verification),
        Output::Arm(of(1), Timer::Warning, Duration::from_secs(80)),
        Output::Arm(of(1), Timer::Credential, Duration::from_secs(100)),
        ordered(7, 1, SessionOutput::Restore { attempt: attempt(1) }),
        Output::Arm(session_of(7, 1), Timer::LogAnswer, SMALL.log_answer),
    ];
    assert_eq!(out, expected);
    assert!(gateway.unattached().is_empty());
    assert_eq!(gateway.user_of(ConnectionId(1)), Some(UserId(7)));
    assert!(gateway.connection(ConnectionId(1)).is_some_and(|found| found.resume().is_some()));
    assert_eq!((gateway.node().connections(), gateway.node().sessions()), (1, 1));
    assert_eq!(gateway.slots().get(&UserId(7)).map(|slot| slot.generation), Some(Generation(1)));

    let mut second = presented(gateway, 2);
    let (_, out) = step(&mut second, verdict(2, grant(7, 2, 0)));
    assert_eq!(out.len(), 3, "the session is there");
    assert_eq!((second.node().sessions(), second.slots().len()), (1, 1));
    let third = joined(second, 3, 8);
    assert_eq!(third.slots().get(&UserId(8)).map(|slot| slot.generation), Some(Generation(2)));
}

#[test]
fn the_stream_is_pulled_through_the_session() {
    let mut gateway = joined(started(), 1, 7);
    let (_, out) = step(&mut gateway, to(7, 1, restored()));
    let expected = [
        Output::Disarm(session_of(7, 1), Timer::LogAnswer),
        Output::Disarm(of(1), Timer::Handshake),
        Output::Arm(of(1), Timer::Idle, SMALL.idle),
        wake(1),
        ordered(7, 1, SessionOutput::Room),
    ];
    assert_eq!(out, expected);
    let (handled, out) = step(&mut gateway, pull(1, 1));
    assert_eq!((handled, frames(&out, 1), out.len()), (Ok(Handled::Done), vec![ready(Mode::Ready)], 1));
    ignores(&gateway, pull(9, 1));
    ignores(&gateway, gone(9));
}

/// CONN-1: a connection that chooses its cause becomes unattached, sends its close, and is closed once.
#[test]
fn a_closing_connection_detaches_and_ends_unattached() {
    let mut gateway = serving();
    let (handled, mut out) = step(&mut gateway, on(1, connection::Input::Close(Cause::Superseded)));
    assert_eq!(handled, Ok(Handled::Done));
    out.dedup();
    let linger = Output::Arm(session_of(7, 1), Timer::Linger, SMALL.linger);
    assert_eq!(out, [closes(1), vec![wake(1), linger]].concat());
    assert_eq!((gateway.user_of(ConnectionId(1)), gateway.unattached().len()), (None, 1));
    assert_eq!(gateway.node().connections(), 1, "it is not closed yet");

    let (_, out) = step(&mut gateway, pull(1, 1));
    assert_eq!(frames(&out, 1), [Frame::Close(Cause::Superseded)]);
    assert_eq!(step(&mut gateway, pull(1, 1)), done(vec![]));
    let out = vec![Output::Disarm(of(1), Timer::Close), closed(1, Cause::Superseded)];
    assert_eq!(step(&mut gateway, gone(1)), done(out));
    assert_eq!((gateway.unattached().len(), gateway.node().connections()), (0, 0));
    ignores(&gateway, gone(1));
}

#[test]
fn a_connection_whose_socket_is_gone_is_closed_in_the_same_step() {
    let mut gateway = serving();
    let (_, out) = step(&mut gateway, gone(1));
    let last = out.iter().filter(|output| matches!(output, Output::Closed { .. })).collect::<Vec<_>>();
    assert_eq!(last, [&closed(1, Cause::Lost)]);
    assert_eq!(gateway.node().connections(), 0);

    let mut waiting = then(started(), accept(1));
    let (_, out) = step(&mut waiting, gone(1));
    assert_eq!(out.last(), Some(&closed(1, Cause::Lost)));
    assert_eq!(waiting.node().connections(), 0);
}

/// AUTH-3: a rejected connection never attaches.
#[test]
fn a_rejected_connection_ends_unattached() {
    let mut gateway = presented(started(), 1);
    let rejected = on(1, connection::Input::Verdict { attempt: attempt(1), verdict: Verdict::Rejected });
    let (handled, out) = step(&mut gateway, rejected);
    let off = [Timer::Verification, Timer::Warning, Timer::Credential].map(|timer| Output::Disarm(of(1), timer));
    assert_eq!((handled, out), done([off.to_vec(), closes(1), vec![wake(1)]].concat()));
    assert!(gateway.slots().is_empty());
    assert_eq!(frames(&step(&mut gateway, pull(1, 1)).1, 1), [Frame::Close(Cause::CredentialRejected)]);
}

#[test]
fn a_connection_that_may_not_join_is_sent_back_with_its_cause() {
    let full = (2..=3).fold(serving(), |gateway, id| joined(gateway, id, 7));
    let mut gateway = presented(full, 4);
    let (handled, out) = step(&mut gateway, verdict(4, grant(7, 4, 0)));
    assert_eq!((handled, out.last()), (Ok(Handled::Done), Some(&wake(4))));
    assert_eq!((gateway.user_of(ConnectionId(4)), gateway.unattached().len()), (None, 1));
    assert_eq!(frames(&step(&mut gateway, pull(4, 1)).1, 4), [Frame::Close(Cause::TooManyConnections)]);
}
