//! States that no input reaches, and what `check` finds in them.

use std::collections::VecDeque;

use lockstep_model::connection::State;
use lockstep_model::frame::Control;
use lockstep_model::{Auth, Bounds, Cause, Request};

use super::*;
use crate::support::{tampered, violates};

fn with_credential(connection: &Connection<Tag>) -> Connection<Tag> {
    tampered(connection, "/auth", live().auth())
}

fn without_credential(connection: &Connection<Tag>) -> Connection<Tag> {
    tampered(connection, "/auth", &Auth::new())
}

#[test]
fn what_inputs_reach_is_sound() {
    for connection in open().into_iter().chain([closing(), closed()]) {
        assert_eq!(connection.check(&SMALL), Ok(()));
    }
}

#[test]
fn a_credential_is_there_exactly_between_attaching_and_closing() {
    for connection in [opening(), authenticating(), closing(), closed()] {
        assert_eq!(with_credential(&connection).check(&SMALL), violates("AUTH-1"), "{connection:?}");
    }
    for connection in [attaching(), live(), draining()] {
        assert_eq!(without_credential(&connection).check(&SMALL), violates("AUTH-1"), "{connection:?}");
    }
}

#[test]
fn nothing_waits_to_leave_on_a_connection_that_does_not_read() {
    let waiting = [Control::<Tag>::Pong];
    for connection in [opening(), authenticating(), attaching(), closing(), closed()] {
        let broken = tampered(&connection, "/outbox", &waiting);
        assert_eq!(broken.check(&SMALL), violates("AUTH-1"), "{connection:?}");
        assert_eq!(broken.has_frame(), connection.has_frame());
    }
    assert_eq!(tampered(&live(), "/outbox", &waiting).check(&SMALL), Ok(()));
}

#[test]
fn queues_are_bounded() {
    let early = |count: usize| VecDeque::from_iter(core::iter::repeat_n(Request::<Tag>::Ping, count));
    type Queued = fn(VecDeque<Request<Tag>>) -> State<Tag>;
    let states: [(Connection<Tag>, Queued); 2] = [
        (authenticating(), |early| State::Authenticating { early, resume: Resume::default() }),
        (attaching(), |early| State::Attaching { early, resume: Resume::default() }),
    ];
    for (connection, state) in states {
        assert_eq!(tampered(&connection, "/state", &state(early(3))).check(&SMALL), Ok(()));
        assert_eq!(tampered(&connection, "/state", &state(early(4))).check(&SMALL), violates("LIM-1"));
    }
    let outbox = |count: usize| VecDeque::from_iter(core::iter::repeat_n(Control::<Tag>::Pong, count));
    assert_eq!(tampered(&live(), "/outbox", &outbox(5)).check(&SMALL), Ok(()));
    assert_eq!(tampered(&live(), "/outbox", &outbox(6)).check(&SMALL), violates("LIM-1"));
}

/// Even under a bound that `validate` refuses, the connection closes in time.
#[test]
fn a_connection_is_closed_in_time_even_with_a_tiny_outbox() {
    let bounds = Bounds { outbox: 1, ..SMALL };
    let mut connection = attaching();
    let (_, out) = step_within(&bounds, &mut connection, Input::Ready { ready: READY, reset: Some(RESET) });
    assert!(out.contains(&Output::Closing(Cause::Slow)));
}
