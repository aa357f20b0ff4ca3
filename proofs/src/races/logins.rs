//! Mistakes with logins: ends that are forgotten, and logins that end for no reason.

use lockstep_model::CredentialId;
use lockstep_model::login::attempts::Attempts;
use lockstep_model::login::{Answer, Ask, Holder, Input, Output, State as Life, Why};

use super::{Row, alone};
use crate::models::login::attempts::{self, Mistake as Counted};
use crate::models::login::tokens::{self, Tokens};
use crate::models::login::{Gateway, Mistake, Request, State, Subject, Tab, limits};

/// Creates a gateway with a mistake, or with none.
fn gateway(requests: u8, trouble: u8, mistake: Mistake) -> Gateway {
    Gateway { limits: limits(), begun: 3, requests, trouble, mistake }
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
            "a logout ends the session in one file, then revokes its tokens in another; a retry finds no session",
            ["AUTH-4"],
            3,
            1,
            Mistake { outputs: second_file, good: by_second_file, ..Mistake::NONE }
        ),
        login!(
            "L2",
            "rotation without grace",
            "the previous cookie is treated as stolen, even when a second tab sends it at the same time",
            ["AUTH-5"],
            3,
            0,
            Mistake { feed: no_grace, ..Mistake::NONE }
        ),
        alone!(
            "L3",
            "cleanup by a wrong clock",
            "at its start a gateway drops each revocation that is too old by the wall clock",
            ["AUTH-4"],
            Tokens { begins: tokens::sweep_by_wall, ..tokens::small() },
            tokens::small()
        ),
        login!(
            "L4",
            "a name is a holder",
            "an account that is removed and added again under the same name is treated as the same",
            ["AUTH-4"],
            1,
            2,
            Mistake { feed: by_name, ..Mistake::NONE }
        ),
        login!(
            "L5",
            "stolen before the new one was used",
            "some time after a refresh the old cookie is treated as stolen, although the new one's answer was lost",
            ["AUTH-5"],
            2,
            2,
            Mistake { feed: grace_by_time, ..Mistake::NONE }
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
            "retry answered from memory",
            "a repeated logout succeeds because the login has ended in memory, though that could not be written",
            ["AUTH-4"],
            3,
            1,
            Mistake { feed: known_to_the_table, ..Mistake::NONE }
        ),
        login!(
            "L8",
            "absent is empty",
            "an accounts file that is missing for a moment means a gateway without accounts",
            ["AUTH-5"],
            2,
            1,
            Mistake { feed: absent_is_empty, ..Mistake::NONE }
        ),
        login!(
            "L9",
            "failed write is forgotten",
            "the records of a failed write are left out of the next one",
            ["AUTH-4", "AUTH-5"],
            3,
            1,
            Mistake { feed: all_is_written, ..Mistake::NONE }
        ),
        login!(
            "L10",
            "cookie before it is written",
            "the next cookie is given out before its number is on the disk",
            ["AUTH-5", "AUTH-4"],
            2,
            1,
            Mistake { outputs: cookie_at_once, ..Mistake::NONE }
        ),
        login!(
            "L11",
            "use that does not count",
            "a cookie is repeated because its answer was lost, and the login's idle time is not reset",
            ["AUTH-5"],
            3,
            3,
            Mistake { feed: unnoticed_use, ..Mistake::NONE }
        ),
        alone!(
            "X106",
            "one breaker for every login",
            "wrong passwords are counted in one place for all accounts, so guesses at one refuse every other",
            ["ISO-1"],
            attempts::small(Counted { account: |_| 0, ..Counted::NONE }),
            attempts::small(Counted::NONE)
        ),
        alone!(
            "X110",
            "limiter for each call",
            "the limiter is created where it is used, so each attempt finds one that has counted nothing",
            ["LIM-1"],
            attempts::small(Counted { found: |attempts| *attempts = Attempts::new(), ..Counted::NONE }),
            attempts::small(Counted::NONE)
        ),
        alone!(
            "X111",
            "keyed by host and port",
            "attempts are counted by the peer's socket address, whose port is another one for each connection",
            ["LIM-1"],
            attempts::small(Counted { network: |_, socket| 100 + socket, account: |account| account, ..Counted::NONE }),
            attempts::small(Counted::NONE)
        ),
    ]
}

/// Ends are recorded in the table and the first file. The second file is written afterwards, and then the end is
/// answered.
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

/// Logins in the second file, now or soon, are invalid. Every other issued login is valid.
fn by_second_file(state: &State, login: CredentialId) -> bool {
    let revoked = state.second_file.contains(&login) || state.unwritten.iter().any(|(_, of)| *of == login);
    state.observed.logins.get(&login).is_some_and(|login| login.admitted) && !revoked
}

/// A cookie that is not the newest one ends the login.
fn no_grace(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    ends_if(state, input, |_, turn, newest| turn < newest)
}

fn grace_by_time(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    ends_if(state, input, |age, turn, newest| turn < newest && age > 0)
}

/// A refresh that ends its login if the time since its newest cookie and the two numbers meet the condition.
fn ends_if(state: &State, input: Input<Subject>, ends: fn(u64, u64, u64) -> bool) -> Option<Input<Subject>> {
    if let Input::Refresh { ask, login, turn, now } = input
        && let Some(Life::Active(known)) = state.logins.logins().get(&login)
        && ends(now.up.saturating_sub(known.turned.age), turn, known.turn)
    {
        return Some(Input::End { ask, subject: known.subject.clone(), login: Some(login) });
    }
    Some(input)
}

/// Holders of the same name are not distinguished.
fn by_name(_: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    let first = |holder: Subject| Holder { incarnation: 1, ..holder };
    Some(match input {
        Input::Looked(accounts) => {
            Input::Looked(accounts.into_iter().map(|(holder, version)| (first(holder), version)).collect())
        }
        Input::LogIn { ask, login, subject, version, now } => {
            Input::LogIn { ask, login, subject: first(subject), version, now }
        }
        other => other,
    })
}

/// A logout is answered when the login has ended, and not again.
fn at_once(state: &mut State, mut outputs: Vec<Output<Subject>>) -> Vec<Output<Subject>> {
    let ends = outputs.iter().any(|output| matches!(output, Output::Ended { why: Why::LoggedOut, .. }));
    let waiting = state.tabs.iter().position(|tab| matches!(tab, Tab::Waiting(Request::LogOut(_))));
    if let (true, Some(tab)) = (ends, waiting) {
        outputs.push(Output::Answer(Ask(u64::try_from(tab).unwrap_or(u64::MAX)), Answer::Ended));
    }
    outputs
}

/// A logout of a login that has ended is treated as one of a login that never existed.
fn known_to_the_table(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    if let Input::LogOut { ask, login, turn, reach } = input
        && let Some(Life::Ending { .. }) = state.logins.logins().get(&login)
    {
        return Some(Input::LogOut { ask, login: CredentialId(0), turn, reach });
    }
    Some(input)
}

/// Each step reads the accounts, and finds none if there is no file.
fn absent_is_empty(state: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    Some(match input {
        Input::Refresh { .. } if state.file.absent => Input::Looked([].into()),
        other => other,
    })
}

fn all_is_written(_: &State, input: Input<Subject>) -> Option<Input<Subject>> {
    Some(if input == Input::NotWritten { Input::Written } else { input })
}

/// A refresh is answered with the next number as soon as it is chosen.
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
        // The machine learns of the use, but not of its time.
        now.up = 0;
    }
    Some(input)
}
