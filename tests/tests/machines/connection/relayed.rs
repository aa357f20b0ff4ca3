//! OWN-6, LIVE-4: a connection whose user another process owns.

use lockstep_model::connection::{Input, Liveness, Output, Relay, State};
use lockstep_model::{Cause, Control, Frame, Handled, Incarnation, Request, Timer};

use super::*;

const OWNER: Incarnation = Incarnation(4);
const ELSEWHERE: Input<Tag> = Input::Relay { owner: OWNER };
const IDLE: Input<Tag> = Input::Expired(Timer::Idle);

fn relaying() -> Connection<Tag> {
    then(attaching(), ELSEWHERE)
}

fn relayed() -> Connection<Tag> {
    then(relaying(), Input::RelayOpened)
}

fn cause(connection: &Connection<Tag>) -> Option<Cause> {
    if let State::Closing { cause, .. } = connection.state() { Some(*cause) } else { None }
}

#[test]
fn a_connection_is_passed_on_without_its_credential_and_within_its_handshake() {
    let mut connection = attaching();
    let credential = [Timer::Verification, Timer::Warning, Timer::Credential].map(Output::Disarm);
    let (handled, out) = step(&mut connection, ELSEWHERE);
    assert_eq!(
        (handled, &out[..3], &out[3..]),
        (Handled::Done, &credential[..], &[Output::Relay { owner: OWNER }][..])
    );
    assert_eq!(connection.relayed_to(), Some(OWNER));
    assert_eq!((connection.auth().grant(), connection.has_frame(), connection.is_reading()), (None, false, false));
    connection.check(&SMALL).unwrap();
    let late = then(connection.clone(), Input::Expired(Timer::Handshake));
    assert_eq!(cause(&late), Some(Cause::HandshakeTimeout));
    let out = vec![Output::Disarm(Timer::Handshake), Output::Arm(Timer::Idle, SMALL.idle)];
    assert_eq!(step(&mut connection, Input::RelayOpened), done(out));
}

#[test]
fn a_connection_that_was_relayed_here_is_not_relayed_again() {
    let mut connection = then(opening(), Input::OpenedByMember);
    connection = then(connection, auth(1, EARLIEST));
    connection = then(connection, Input::Verdict { attempt: attempt(1), verdict: valid(grant(7, 1, 0), 100) });
    assert_eq!(cause(&then(connection, ELSEWHERE)), Some(Cause::Moved));
}

#[test]
fn a_client_or_an_owner_that_is_silent_for_two_deadlines_is_given_up() {
    let probed = then(relayed(), IDLE);
    assert_eq!(probed.clone().pull(), Some(Frame::Control(Control::Probe)));
    assert_eq!(cause(&then(probed.clone(), IDLE)), Some(Cause::HeartbeatLost));
    let client = Input::Received(Request::Pong);
    for heard in [client.clone(), Input::RelayHeard] {
        let one = then(probed.clone(), heard);
        assert_eq!(cause(&then(one, IDLE)), Some(Cause::HeartbeatLost), "the other is silent");
    }
    let both = then(then(probed, client), Input::RelayHeard);
    let heard = Relay::Open { client: Liveness::Heard, owner: Liveness::Heard };
    assert_eq!(both.state(), &State::Relayed { owner: OWNER, relay: heard });
    assert_eq!(cause(&then(both, IDLE)), None);
}

#[test]
fn a_relayed_connection_closes_as_any_other() {
    for connection in [relaying(), relayed()] {
        assert_eq!(cause(&then(connection.clone(), DRAIN)), Some(Cause::GoingAway));
        assert_eq!(
            cause(&then(connection.clone(), Input::Close(Cause::CredentialRevoked))),
            Some(Cause::CredentialRevoked)
        );
        let gone = then(connection.clone(), Input::Gone(Cause::Lost));
        assert_eq!(gone.state(), &State::Closed { cause: Cause::Lost });
        for ignored in [Input::Opened, ELSEWHERE, Input::Revoked, Input::Tell(Control::Pong), Input::Notify(1)] {
            assert_eq!(step(&mut connection.clone(), ignored), (Handled::Ignored, vec![]));
        }
    }
    assert_eq!(step(&mut relaying(), Input::RelayHeard), (Handled::Ignored, vec![]));
    assert_eq!(step(&mut attaching(), Input::RelayOpened), (Handled::Ignored, vec![]));
    assert_eq!(step(&mut live(), ELSEWHERE), (Handled::Ignored, vec![]), "it is served here");
}
