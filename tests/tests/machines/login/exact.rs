use lockstep_model::login::revoked::{Issued, NotGood};
use lockstep_model::login::{Answer, Ask, Input, Logins, Now, Output, Reach, Record, Standing, State, Why};

use super::{LIMITS, at, id, ignored, log_in, refresh, step, with};

fn answers(out: &[Output<u8>]) -> Vec<(u64, Answer<u8>)> {
    let answer = |output: &Output<u8>| {
        if let Output::Answer(ask, answer) = output { Some((ask.0, answer.clone())) } else { None }
    };
    out.iter().filter_map(answer).collect()
}

fn admitted(ask: u64, turn: u64) -> (u64, Answer<u8>) {
    (ask, Answer::Admitted { subject: 1, turn })
}

fn log_out(ask: u64, login: u64, turn: u64, reach: Reach) -> Input<u8> {
    Input::LogOut { ask: Ask(ask), login: id(login), turn, reach }
}

/// AUTH-5: a login, and each of its cookies, is answered once it is on disk and not before.
#[test]
fn a_login_and_a_cookie_are_answered_when_they_are_written() {
    let mut logins = with(0);
    let out = step(&mut logins, log_in(1, 0));
    assert!(matches!(&out[..], [Output::Append(lines)] if matches!(&lines[..], [Record::Login(..)])), "{out:?}");
    assert_eq!(logins.standing(&1, id(1)), Standing::Ended, "nobody has it yet");
    assert_eq!(answers(&step(&mut logins, Input::Written)), [admitted(1, 0)]);
    assert_eq!(logins.standing(&1, id(1)), Standing::Good);
    assert_eq!(logins.standing(&2, id(1)), Standing::Ended, "another subject's token");
    assert_eq!(answers(&step(&mut logins, refresh(2, 1, 0, 1))), []);
    assert_eq!(answers(&step(&mut logins, refresh(3, 1, 0, 1))), [], "a second tab joins");
    assert_eq!(answers(&step(&mut logins, Input::Written)), [admitted(2, 1), admitted(3, 1)]);
    ignored(&mut logins, Input::Written);
    ignored(&mut logins, Input::NotWritten);
    ignored(&mut logins, Input::Retry);
    ignored(&mut logins, Input::GiveUp(Ask(3)));
}

/// AUTH-5, AUTH-4: what a cookie of each number is good for.
#[test]
fn the_cookie_before_the_newest_is_good_until_that_was_used() {
    let mut logins = with(1);
    step(&mut logins, refresh(2, 1, 0, 1));
    step(&mut logins, Input::Written);
    for _ in 0..3 {
        let out = step(&mut logins, refresh(3, 1, 0, 9));
        let Output::Append(lines) = &out[0] else { panic!("{out:?}") };
        let Record::Login(_, login) = &lines[0] else { panic!("{lines:?}") };
        assert_eq!((login.turn, login.turned.age, out.len()), (1, 9, 1), "the use is written, and not a turn");
        assert_eq!(answers(&step(&mut logins, Input::Written)), [admitted(3, 1)]);
    }
    assert_eq!(answers(&step(&mut logins, refresh(4, 1, 2, 9))), [(4, Answer::Refused)], "of a file that was lost");
    step(&mut logins, refresh(5, 1, 1, 9));
    step(&mut logins, Input::Written);
    let out = step(&mut logins, refresh(6, 1, 0, 9));
    assert_eq!(out[0], Output::Ended { subject: 1, login: id(1), why: Why::Reused });
    assert_eq!((logins.standing(&1, id(1)), answers(&out)), (Standing::Ended, vec![]));
    assert_eq!(answers(&step(&mut logins, Input::Written)), [(6, Answer::Ended)]);
    assert_eq!(logins.logins().len(), 0, "nothing is left of it");
}

/// AUTH-4: a logout is not answered before the disk has it, however often it is tried.
#[test]
fn a_logout_that_could_not_be_written_waits_for_the_disk_each_time() {
    let mut logins = with(2);
    let out = step(&mut logins, log_out(7, 1, 0, Reach::This));
    assert!(
        matches!(&out[..], [Output::Ended { why: Why::LoggedOut, .. }, Output::Append(lines)] if lines == &[Record::Ended(id(1))])
    );
    let out = step(&mut logins, Input::NotWritten);
    assert_eq!(out, [Output::Answer(Ask(7), Answer::Unavailable), Output::Retry]);
    for ask in 8..11 {
        let out = step(&mut logins, log_out(ask, 1, 0, Reach::This));
        assert!(matches!(&out[..], [Output::Replace(_)]), "{out:?}");
        let out = step(&mut logins, Input::NotWritten);
        assert_eq!(answers(&out), [(ask, Answer::Unavailable)]);
    }
    let out = step(&mut logins, Input::Retry);
    let [Output::Replace(lines)] = &out[..] else { panic!("{out:?}") };
    assert!(!lines.iter().any(|line| matches!(line, Record::Login(login, _) if *login == id(1))), "{lines:?}");
    assert_eq!(answers(&step(&mut logins, log_out(11, 1, 0, Reach::This))), [], "it joins");
    assert_eq!(answers(&step(&mut logins, Input::Written)), [(11, Answer::Ended)]);
    assert_eq!(step(&mut logins, log_out(12, 1, 0, Reach::This)), [Output::Answer(Ask(12), Answer::Ended)]);
    assert_eq!(logins.standing(&1, id(2)), Standing::Good);
}

#[test]
fn everywhere_reaches_every_login_unless_the_cookie_was_replaced_long_ago() {
    let mut logins = with(2);
    for (ask, turn) in [(3, 0), (4, 1)] {
        step(&mut logins, refresh(ask, 1, turn, 1));
        step(&mut logins, Input::Written);
    }
    let mut other = logins.clone();
    step(&mut logins, log_out(5, 1, 1, Reach::Everywhere));
    assert_eq!([1, 2].map(|login| logins.standing(&1, id(login))), [Standing::Ended; 2]);
    step(&mut other, log_out(5, 1, 0, Reach::Everywhere));
    assert_eq!([1, 2].map(|login| other.standing(&1, id(login))), [Standing::Ended, Standing::Good]);
}

/// AUTH-5: the wall clock refuses logins, but ends none.
#[test]
fn the_wall_clock_refuses_a_login_and_only_its_age_ends_it() {
    let mut logins = with(1);
    let late = |ask, wall, up| Input::Refresh { ask: Ask(ask), login: id(1), turn: 0, now: Now { wall, up } };
    assert_eq!(step(&mut logins, late(2, 1010, 1)), [Output::Answer(Ask(2), Answer::Refused)]);
    assert_eq!(step(&mut logins, late(3, u64::MAX, 1)), [Output::Answer(Ask(3), Answer::Refused)]);
    let mut early = logins.clone();
    assert_eq!(answers(&step(&mut early, late(4, 0, 9))), []);
    assert_eq!(answers(&step(&mut early, Input::Written)), [admitted(4, 1)]);
    let out = step(&mut logins, late(4, 0, 10));
    assert_eq!(out[0], Output::Ended { subject: 1, login: id(1), why: Why::Over });
}

#[test]
fn accounts_end_the_logins_that_are_not_theirs() {
    let mut logins = with(2);
    assert_eq!(step(&mut logins, Input::Looked([(1, 1), (3, 7)].into())), []);
    let other = Input::LogIn { ask: Ask(3), login: id(3), subject: 1, version: 2, now: at(1) };
    assert_eq!(step(&mut logins, other.clone()), [Output::Answer(Ask(3), Answer::Refused)], "not the password of now");
    let out = step(&mut logins, Input::Looked([(1, 2)].into()));
    let gone = |output: &&Output<u8>| matches!(output, Output::Ended { why: Why::AccountChanged, .. });
    assert_eq!(out.iter().filter(gone).count(), 2);
    step(&mut logins, Input::Written);
    step(&mut logins, other);
    assert_eq!(answers(&step(&mut logins, Input::Written)), [admitted(3, 0)]);
    let mut unread = Logins::<u8>::new();
    assert_eq!(answers(&step(&mut unread, log_in(1, 0))), [(1, Answer::Unavailable)]);
    for record in logins.records() {
        unread.note(record);
    }
    assert_eq!(unread.standing(&1, id(3)), Standing::Unknown);
    assert_eq!(answers(&step(&mut unread, refresh(4, 3, 0, 1))), [(4, Answer::Unavailable)]);
}

/// LIM-1.
#[test]
fn one_login_too_many_ends_the_one_used_longest_ago_and_all_too_many_refuse() {
    let mut logins = with(2);
    step(&mut logins, refresh(3, 1, 0, 1));
    step(&mut logins, Input::Written);
    let out = step(&mut logins, log_in(4, 2));
    assert_eq!(out[0], Output::Ended { subject: 1, login: id(2), why: Why::TooMany });
    step(&mut logins, Input::Written);
    for number in [5, 6] {
        let input = Input::LogIn { ask: Ask(number), login: id(number), subject: 2, version: 1, now: at(2) };
        step(&mut logins, input);
        step(&mut logins, Input::Written);
    }
    assert_eq!(logins.logins().len(), LIMITS.logins);
    assert_eq!(step(&mut logins, log_in(7, 3)), [Output::Answer(Ask(7), Answer::Unavailable)]);
    let mut waiting = with(0);
    for ask in 1..=3 {
        step(&mut waiting, Input::End { ask: Ask(ask), subject: 9, login: None });
        step(&mut waiting, Input::Revoke { ask: Ask(ask), subject: 9, credential: None, now: at(0) });
    }
    let out = step(&mut waiting, Input::Revoke { ask: Ask(4), subject: 9, credential: None, now: at(0) });
    assert_eq!(out, [Output::Answer(Ask(4), Answer::Unavailable)]);
}

/// A login whose client has given up cannot be found.
#[test]
fn a_login_that_was_given_up_ends() {
    let mut logins = with(0);
    step(&mut logins, log_in(1, 0));
    let out = step(&mut logins, Input::GiveUp(Ask(1)));
    assert_eq!(out, [Output::Ended { subject: 1, login: id(1), why: Why::GivenUp }]);
    assert!(matches!(&step(&mut logins, Input::Written)[..], [Output::Append(_)]));
    assert!(matches!(logins.logins().get(&id(1)), Some(State::Ending { .. })));
    step(&mut logins, Input::Written);
    assert_eq!(logins.logins().len(), 0);
}

/// AUTH-4: every dropped revocation raises the floor.
#[test]
fn every_dropped_revocation_is_below_the_floor() {
    let mut logins = with(0);
    for number in 0..6_u8 {
        step(
            &mut logins,
            Input::Revoke { ask: Ask(1), subject: number, credential: Some(id(1)), now: at(u64::from(number)) },
        );
        step(&mut logins, Input::Written);
    }
    let floor = logins.revoked().floor();
    assert!(floor >= 1000 && logins.revoked().len() <= LIMITS.revocations, "{:?}", logins.revoked());
    let issued = |at| Issued { at: Some(at), earliest: 0, leeway: 1 };
    let check_token = |subject, credential, at| logins.revoked().check_token(&subject, id(credential), issued(at));
    for subject in 0..6 {
        assert!(check_token(subject, 1, 999).is_err(), "{subject}");
    }
    assert_eq!(check_token(9, 2, floor + 1), Err(NotGood::Floor));
    assert_eq!(check_token(9, 2, floor + 2), Ok(()));
    assert_eq!(check_token(5, 1, u64::MAX), Err(NotGood::Credential));
    let undated = Issued { at: None, earliest: floor + 2, leeway: 1 };
    assert_eq!(logins.revoked().check_token(&9, id(2), undated), Ok(()));
    assert_eq!(logins.revoked().check_token(&9, id(2), Issued { earliest: floor, ..undated }), Err(NotGood::Floor));
}

#[test]
fn too_many_credentials_of_a_subject_revoke_it_no_earlier_than_each_of_them() {
    let mut logins = with(0);
    for (number, wall) in [(1, 5000), (2, 1000), (3, 1000)] {
        let now = Now { wall, up: 0 };
        step(&mut logins, Input::Revoke { ask: Ask(1), subject: 7, credential: Some(id(number)), now });
        step(&mut logins, Input::Written);
    }
    assert_eq!(logins.revoked().subject(&7), Some(5000));
    assert_eq!(logins.revoked().len(), 1);
    let now = Now { wall: 10, up: 0 };
    step(&mut logins, Input::Seen { issued: 70_000 });
    step(&mut logins, Input::Written);
    step(&mut logins, Input::Revoke { ask: Ask(1), subject: 8, credential: None, now });
    assert_eq!(logins.revoked().subject(&8), Some(70_000), "not before what was seen");
    assert_eq!(step(&mut logins, Input::Seen { issued: 70_001 }), [], "not a minute later");
    ignored(&mut logins, Input::Seen { issued: 70_001 });
}
