//! What `check` finds in a gateway whose parts contradict each other. The tests create such gateways with inputs that
//! only the composition itself makes.

use lockstep_model::Mode;
use lockstep_model::connection::Connection;

use super::*;
use crate::support::violates;

fn forced(mut gateway: Gateway<Tag>, input: Input<Tag>) -> Gateway<Tag> {
    let _ = gateway.step(&SMALL, input, &mut Outputs::new());
    gateway
}

/// The join of a connection of this user that the gateway does not know.
fn stowaway(id: u64, user: u64) -> session::Input<Tag> {
    let mut out = Vec::new();
    let mut connection = Connection::accept(&SMALL, ConnectionId(id), &mut out);
    let present = connection::Input::Received(Request::Auth { token: 1, resume: Resume::default() });
    let verdict = connection::Input::Verdict { attempt: attempt(1), verdict: valid(grant(user, id, 0), 9) };
    for input in [connection::Input::Opened, present, verdict] {
        assert_eq!(connection.step(&SMALL, input, &mut out), Handled::Done);
    }
    session::Input::Join { connection: Box::new(connection), mode: Mode::Ready }
}

#[test]
fn what_the_parts_say_is_said() {
    let gateway = presented(serving(), 2);
    assert_eq!(gateway.check(&SMALL), Ok(()));
    assert_eq!(gateway.check(&Bounds { node_connections: 1, ..SMALL }), violates("LIM-1"), "the node");
    assert_eq!(gateway.check(&Bounds { connections: 0, ..SMALL }), violates("LIM-1"), "a session");
    let early = then(gateway, on(2, connection::Input::Received(Request::Ping)));
    assert_eq!(early.check(&Bounds { early: 0, ..SMALL }), violates("LIM-1"), "an unattached connection");
}

/// ISO-1: the process knows every member of a session as this user's.
#[test]
fn a_member_that_the_process_does_not_know_is_found() {
    let gateway = forced(serving(), to(7, 1, stowaway(9, 7)));
    assert_eq!(gateway.check(&SMALL), violates("ISO-1"));
}
