//! OWN-3: a client that has seen more than its session is answered once the log has confirmed the owner.

use lockstep_model::connection::Input as FromClient;
use lockstep_model::frame::ReadFrom;
use lockstep_model::session::{Input, Output, State};
use lockstep_model::timer::Owner;
use lockstep_model::{Cause, ConnectionId, Control, Epoch, Frame, Handled, Offset, Position, Request, Timer};

use super::*;

fn confirms(number: u32) -> [Output<Tag>; 2] {
    let confirm = Output::Confirm { tenure: TENURE, attempt: attempt(number), after: Offset(0) };
    [confirm, Output::Arm(Owner::Session, Timer::Restore, SMALL.log_answer)]
}

/// Positions that an empty stream does not know.
fn unknown() -> [Position; 2] {
    [(EPOCH, 10), (Epoch(1), 5)].map(|(epoch, offset)| Position { epoch, offset: Offset(offset) })
}

#[test]
fn a_client_that_has_seen_more_waits_until_the_owner_is_confirmed() {
    for from in unknown() {
        let mut session = vacant();
        let (_, out) = step(&mut session, join(1, ReadFrom::After(from)));
        assert_eq!(out[1..], confirms(1));
        assert!(pulled(&mut session, 1).is_empty(), "nothing is said before");
        session = then(session, Input::Confirmed { attempt: attempt(1) });
        let frames = pulled(&mut session, 1);
        assert!(matches!(frames[0], Frame::Control(Control::Ready { resumed: false, .. })), "{frames:?}");
        let reset = Control::StreamReset { from: from.offset, to: Offset(0) };
        assert_eq!(frames[1..], [Frame::Control(reset)]);
    }
}

#[test]
fn a_live_client_that_names_such_a_position_waits_too() {
    for from in unknown() {
        let mut session = occupied();
        let seek = on(1, FromClient::Received(Request::Seek { from }));
        let (_, out) = step(&mut session, seek);
        assert_eq!(out[out.len() - 2..], confirms(1));
        assert!(pulled(&mut session, 1).is_empty());
        session = then(session, Input::Confirmed { attempt: attempt(1) });
        assert_eq!(
            pulled(&mut session, 1),
            [Frame::Control(Control::StreamReset { from: from.offset, to: Offset(0) })]
        );
        let late = Input::Confirmed { attempt: attempt(1) };
        assert_eq!(step(&mut session, late), (Ok(Handled::Ignored), vec![]));
    }
}

#[test]
fn an_owner_that_was_replaced_says_nothing() {
    let mut session = then(vacant(), join(1, after(10)));
    let (_, out) = step(&mut session, Input::Fenced);
    assert_eq!((released(&out), session.state()), (vec![(1, Cause::Moved)], State::Retired));
}

#[test]
fn the_log_is_asked_again_until_it_answers_and_an_earlier_answer_counts_for_earlier_clients() {
    let mut session = then(vacant(), join(1, after(10)));
    let pause = Output::Arm(Owner::Session, Timer::Restore, SMALL.restore);
    assert_eq!(step(&mut session, Input::NotConfirmed { attempt: attempt(1) }), done(vec![pause]));
    let due = expired(Owner::Session, Timer::Restore);
    assert_eq!(step(&mut session, due.clone()), done(confirms(2).to_vec()));
    // The second client has come after that request was sent.
    let (_, out) = step(&mut session, join(2, after(11)));
    assert_eq!(out, confirms(3));
    session = then(session, Input::Confirmed { attempt: attempt(2) });
    assert_eq!(pulled(&mut session, 1).len(), 2);
    assert!(pulled(&mut session, 2).is_empty());
    session = then(session, Input::Confirmed { attempt: attempt(3) });
    assert_eq!(pulled(&mut session, 2).len(), 2);
    assert_eq!(step(&mut session, due), (Ok(Handled::Ignored), vec![]), "nothing waits");
}

#[test]
fn a_later_position_of_the_same_client_counts_instead() {
    let mut session = then(occupied(), on(1, FromClient::Received(Request::Seek { from: unknown()[0] })));
    let known = Position { epoch: EPOCH, offset: Offset(0) };
    session = then(session, on(1, FromClient::Received(Request::Seek { from: known })));
    session = then(session, Input::Confirmed { attempt: attempt(1) });
    assert!(pulled(&mut session, 1).is_empty(), "it reads on where it said last");
    assert_eq!(session.members().get(&ConnectionId(1)).unwrap().ahead, None);
}
