//! What becomes of a login: ends that are forgotten, and logins that are ended for nothing.

use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, Ask, Input, Output, Person, State as Life, Why};

use super::{Row, alone};
use crate::models::login::tokens::{self, Tokens};
use crate::models::login::{Gateway, Mistake, Request, State, Subject, Tab, limits};

/// A gateway with a mistake; without one, the same.
fn gateway(requests: u8, trouble: u8, mistake: Mistake) -> Gateway {
    Gateway { limits: limits(), requests, trouble, mistake }
}

/// A row: the mistake, and how much may happen.
macro_rules! login {
    ($id:literal, $title:literal, $mistake:literal, $expected:expr, $requests:literal, $trouble:literal, $made:expr) => {
        alone!(
            $id,
            $title,
            $mistake,
            $expected,
            gateway($requests, $trouble, $made),
            gateway($requests, $trouble, Mistake::NONE)
        )
    };
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        login!(
            "L1",
            "ended in one file, revoked in another",
            "a logout ends the session in one file, and then revokes its tokens in another; one that is tried again finds no session, and is answered",
            ["AUTH-4"],
            3,
            1,
            Mistake { outputs: second_file, good: by_second_file, ..Mistake::NONE }
        ),
        login!(
            "L2",
            "rotation without grace",
            "the cookie before the newest one is a stolen one, also when a second tab sends it at the same time",
            ["AUTH-5"],
            3,
            0,
            Mistake { hears: no_grace, ..Mistake::NONE }
        ),
        alone!(
            "L3",
            "a sweep by a wrong clock",
            "a gateway that begins drops each revocation that is too old by the clock on the wall",
            ["AUTH-4"],
            Tokens { begins: tokens::sweep_by_wall, ..tokens::small() },
            tokens::small()
        ),
        login!(
            "L4",
            "a name is a person",
            "an account that is removed and added again under the same name is taken for the same",
            ["AUTH-4"],
            1,
            2,
            Mistake { hears: by_name, ..Mistake::NONE }
        ),
        login!(
            "L5",
            "reused before it was used",
            "some time after a refresh its old cookie is a stolen one, though the new one was never used: its answer was lost",
            ["AUTH-5"],
            2,
            2,
            Mistake { hears: grace_by_time, ..Mistake::NONE }
        ),
        login!(
            "L6",
            "answered before it is written",
            "a logout is answered when it is in effect, and not when it is on the disk",
            ["AUTH-4"],
            2,
            1,
            Mistake { outputs: at_once, ..Mistake::NONE }
        ),
        login!(
            "L7",
            "ended is what the table does not know",
            "a logout that is tried again is answered, for the login has ended in memory, though that could not be written",
            ["AUTH-4"],
            3,
            1,
            Mistake { hears: known_to_the_table, ..Mistake::NONE }
        ),
        login!(
            "L8",
            "absent is empty",
            "an accounts file that is not there for a moment is a gateway without accounts",
            ["AUTH-5"],
            2,
            1,
            Mistake { hears: absent_is_empty, ..Mistake::NONE }
        ),
        login!(
            "L9",
            "a failed write is forgotten",
            "what a failed write should have written is left out of the next one",
            ["AUTH-4", "AUTH-5"],
            3,
            1,
            Mistake { hears: all_is_written, ..Mistake::NONE }
        ),
        login!(
            "L10",
            "a cookie before it is written",
            "the next cookie is given before its number is on the disk",
            ["AUTH-5", "AUTH-4"],
            2,
            1,
            Mistake { outputs: cookie_at_once, ..Mistake::NONE }
        ),
        login!(
            "L11",
            "a use that does not count",
            "a cookie whose successor's answer was lost is answered again, and the login is as idle as before",
            ["AUTH-5"],
            3,
            3,
            Mistake { hears: unnoticed_use, ..Mistake::NONE }
        ),
    ]
}

/// Ends are known to the table and the first file; the second one is written afterwards, and then it is answered.
fn second_file(state: &mut State, outputs: Vec<Output<Subject>>) -> Vec<Output<Subject>> {
    let ended: Vec<CredentialId> = outputs
        .iter()
        .filter_map(|output| if let Output::Ended { login, .. } = output { Some(*login) } else { None })
        .collect();
    for login in ended {
        let asked = state
            .tabs
            .iter()
            .position(|tab| matches!(tab, Tab::Waiting(Request::LogOut(ends)) if ends.contains(&login)));
        let ask = Ask(asked.and_then(|tab| u64::try_from(tab).ok()).unwrap_or(u64::MAX));
        state.unwritten.push((ask, login));
    }
    let holds = |output: &Output<Subject>| matches!(output, Output::Answer(ask, Answer::Ended) if state.unwritten.iter().any(|(of, _)| of == ask));
    outputs.into_iter().filter(|output| !holds(output)).collect()
}

/// What is in the second file is not good, nor what will be; everything else that was issued is.
fn by_second_file(state: &State, login: CredentialId) -> bool {
    let revoked = state.second_file.contains(&login) || state.unwritten.iter().any(|(_, of)| *of == login);
    state.truths.get(&login).is_some_and(|truth| truth.admitted) && !revoked
}

/// A cookie that is not the newest one ends the login.
fn no_grace(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    ends_if(state, input, |_, turn, newest| turn < newest)
}

fn grace_by_time(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    ends_if(state, input, |age, turn, newest| turn < newest && age > 0)
}

/// A refresh that ends its login if the time since its newest cookie and the two numbers say so.
fn ends_if(state: &State, input: Input<Subject>, ends: fn(u64, u64, u64) -> bool) -> Option<Input<Subject>> {
    if let Input::Refresh { ask, login, turn, now } = input
        && let Some(Life::Active(known)) = state.logins.logins().get(&login)
        && ends(now.up.saturating_sub(known.turned.age), turn, known.turn)
    {
        return Some(Input::End { ask, subject: known.subject.clone(), login: Some(login) });
    }
    Some(input)
}

/// Persons are not told apart.
fn by_name(_: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    let first = |person: Subject| Person { incarnation: 1, ..person };
    Some(match input {
        Input::Looked(accounts) => {
            Input::Looked(accounts.into_iter().map(|(person, version)| (first(person), version)).collect())
        }
        Input::LogIn { ask, login, subject, version, now } => {
            Input::LogIn { ask, login, subject: first(subject), version, now }
        }
        other => other,
    })
}

/// Who has logged out is told when the login has ended, and not again.
fn at_once(state: &mut State, mut outputs: Vec<Output<Subject>>) -> Vec<Output<Subject>> {
    let ends = outputs.iter().any(|output| matches!(output, Output::Ended { why: Why::LoggedOut, .. }));
    let waiting = state.tabs.iter().position(|tab| matches!(tab, Tab::Waiting(Request::LogOut(_))));
    if let (true, Some(tab)) = (ends, waiting) {
        outputs.push(Output::Answer(Ask(u64::try_from(tab).unwrap_or(u64::MAX)), Answer::Ended));
    }
    outputs
}

/// A logout of what has ended already is one of what never was.
fn known_to_the_table(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    if let Input::LogOut { ask, login, turn, reach } = input
        && let Some(Life::Ending { .. }) = state.logins.logins().get(&login)
    {
        return Some(Input::LogOut { ask, login: CredentialId(0), turn, reach });
    }
    Some(input)
}

/// Each step looks at the accounts, and finds none where there is no file.
fn absent_is_empty(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    Some(match input {
        Input::Refresh { .. } if state.file.absent => Input::Looked([].into()),
        other => other,
    })
}

fn all_is_written(_: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    Some(if input == Input::NotWritten { Input::Written } else { input })
}

/// Who has refreshed is told the next number when it is made.
fn cookie_at_once(state: &mut State, mut outputs: Vec<Output<Subject>>) -> Vec<Output<Subject>> {
    for (number, tab) in state.tabs.iter().enumerate() {
        if let Tab::Waiting(Request::Refresh((login, _))) = tab
            && let Some(Life::Turning(made, _)) = state.logins.logins().get(login)
        {
            let answer = Answer::Admitted { subject: made.subject.clone(), turn: made.turn + 1 };
            outputs.push(Output::Answer(Ask(u64::try_from(number).unwrap_or(u64::MAX)), answer));
        }
    }
    outputs
}

fn unnoticed_use(state: &State, mut input: Input<Subject>) -> Option<Input<Subject>> {
    if let Input::Refresh { login, turn, now, .. } = &mut input
        && let Some(Life::Active(known)) = state.logins.logins().get(login)
        && *turn < known.turn
    {
        // The machine learns of the use, and not of its time.
        now.up = 0;
    }
    Some(input)
}
