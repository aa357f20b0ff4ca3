//! The logins of one gateway ([`lockstep_model::login`]): a browser, its user, a thief, an administrator and a disk.
//!
//! | actor | actions |
//! | --- | --- |
//! | the browser | two tabs share cookies: log in, refresh, log out here or everywhere, retry. Any answer may be lost |
//! | the thief | copies the cookie once, and presents it, and any cookie granted for it, at any time |
//! | the administrator | removes the account, adds it for another holder, changes the password, removes the file |
//! | the disk | completes a write, fails after any part of it, or is cut off by a crash after any line |
//! | the clocks | time passes; the wall clock jumps, in both directions |
//!
//! A request or an answer of one tab is overtaken by at most one refresh of the other tab: overtaking by two cannot be
//! distinguished from a theft.
//!
//! The oracle is `properties::login`, which knows the holder of each login and every answer. It checks both the machine
//! and the disk in each state, because a crash could come next.
#![expect(clippy::type_complexity, reason = "a mistake is a set of plain functions")]

pub(crate) mod attempts;
mod step;
pub(crate) mod tokens;

use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, Ask, Holder, Input, LoginLimits, Logins, Now, Output, Reach, Record, Roster};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::Proof;
use crate::models::harness::checked;
pub(crate) use crate::properties::login::Cookie;
use crate::properties::login::Observed;

/// A login's subject.
pub(crate) type Subject = Holder<u8>;

/// A mistake: replacements for parts of the sound design.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// Replaces an input of the machine.
    pub(crate) feed: fn(&State, Input<Subject>) -> Option<Input<Subject>>,
    /// Replaces the machine's outputs.
    pub(crate) outputs: fn(&mut State, Vec<Output<Subject>>) -> Vec<Output<Subject>>,
    /// Whether the tokens of a login are valid.
    pub(crate) good: fn(&State, CredentialId) -> bool,
}

impl Mistake {
    /// No mistake.
    pub(crate) const NONE: Self =
        Self { feed: |_, input| Some(input), outputs: |_, outputs| outputs, good: State::is_good };
}

/// The model.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) limits: LoginLimits,
    /// Logins that the account's owner begins.
    pub(crate) begun: usize,
    /// Requests of the browser and the thief.
    pub(crate) requests: u8,
    /// Faults of the disk, the clocks and the network, and changes by the administrator.
    pub(crate) trouble: u8,
    pub(crate) mistake: Mistake,
}

/// Returns the model at the bounds of a profile.
pub fn model(profile: Profile) -> Gateway {
    let (requests, trouble) = match profile {
        Profile::Quick => (4, 2),
        Profile::Ci => (4, 3),
        Profile::Deep => (5, 4),
    };
    Gateway { limits: limits(), begun: 3, requests, trouble, mistake: Mistake::NONE }
}

/// Returns the model at bounds for long random walks.
pub fn long() -> Gateway {
    let limits = LoginLimits { waiting: 2, ..limits() };
    Gateway { limits, begun: 40, requests: 200, trouble: 200, mistake: Mistake::NONE }
}

/// Bounds that are reached, and lifetimes of a few clock steps.
pub(crate) const fn limits() -> LoginLimits {
    LoginLimits {
        idle: 2,
        longest: 3,
        per_subject: 2,
        logins: 3,
        waiting: 3,
        retention: 2,
        credentials: 2,
        revocations: 2,
        records: 4,
    }
}

/// One tab, or the thief.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Tab {
    #[default]
    Idle,
    /// A refresh is on its way to the gateway.
    Sent(Cookie),
    /// The gateway has the request.
    Waiting(Request),
    /// An answer is on its way back.
    Answered(Request, Answer<Subject>),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    LogIn(CredentialId),
    Refresh(Cookie),
    /// With all logins whose tokens must be invalid once it is answered.
    LogOut(Vec<CredentialId>),
}

/// A write that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(crate) replaces: bool,
    pub(crate) records: Vec<Record<Subject>>,
}

/// The accounts file: the owner of the name, and whether the file exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct File {
    pub(crate) roster: Roster<u8, ()>,
    /// The number of holders so far, and of passwords of the present one.
    pub(crate) holder: (u8, u8),
    pub(crate) absent: bool,
    /// Whether the machine has been told the file's content.
    pub(crate) looked: bool,
}

/// The gateway, its surroundings, and the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) logins: Logins<Subject>,
    /// The logins that reading the file would restore.
    pub(crate) disk: Logins<Subject>,
    pub(crate) write: Option<Write>,
    pub(crate) retry: bool,
    pub(crate) now: Now,
    /// The true elapsed time.
    pub(crate) time: u64,
    pub(crate) file: File,
    pub(crate) jar: Option<Cookie>,
    /// Two tabs and the thief.
    pub(crate) tabs: [Tab; 3],
    pub(crate) stolen: Option<Cookie>,
    pub(crate) requests: u8,
    pub(crate) trouble: u8,
    pub(crate) observed: Observed<Subject>,
    /// For a mistake: a second file, and the writes to it that must precede an answer.
    pub(crate) second_file: Vec<CredentialId>,
    pub(crate) unwritten: Vec<(Ask, CredentialId)>,
    broken: Option<&'static str>,
}

checked![Gateway, State; "AUTH-4", "AUTH-5", "LIM-1"];

/// The thief's index among the tabs.
pub(crate) const THIEF: usize = 2;
/// The account's name.
pub(crate) const NAME: u8 = 1;

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The account's owner logs in.
    LogIn(usize),
    /// A tab, or the thief, asks for the next token.
    Refresh(usize),
    /// A refresh reaches the gateway.
    Arrive(usize),
    /// A tab logs out.
    LogOut(usize, Reach),
    /// An answer reaches the browser, or the thief.
    Deliver(usize),
    /// An answer is lost.
    Lose(usize),
    /// The gateway gives up on a request that it has not answered in time.
    GiveUp(usize),
    /// The thief copies the cookie.
    Steal,
    /// The current write completes.
    Written,
    /// The current write fails, after this many lines.
    Fail(usize),
    /// The retry delay ends.
    Retry,
    /// The process ends, after this many lines of a write, and restarts.
    Crash(usize),
    /// The gateway reads the accounts.
    Look,
    /// The administrator removes the account.
    Remove,
    /// The administrator adds it again, for another holder.
    Add,
    /// The administrator sets another password.
    Password,
    /// The file disappears, or comes back.
    Absent(bool),
    /// Time passes.
    Elapse,
    /// The wall clock jumps.
    Jump(i64),
    /// The second file of a mistake is written.
    Second,
}

impl Model for Gateway {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut roster = Roster::default();
        roster.add(NAME, (), 10).unwrap_or_else(|_| unreachable!("the roster is empty"));
        let file = File { roster, holder: (1, 1), absent: false, looked: false };
        let mut state = State {
            logins: Logins::new(),
            disk: Logins::new(),
            write: None,
            retry: false,
            now: Now { wall: 10, up: 0 },
            time: 0,
            file,
            jar: None,
            tabs: [Tab::Idle, Tab::Idle, Tab::Idle],
            stolen: None,
            requests: self.requests,
            trouble: self.trouble,
            observed: Observed::new(),
            second_file: Vec::new(),
            unwritten: Vec::new(),
            broken: None,
        };
        state.look(self);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            state.actions(self.begun, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(self, action);
        next.check(self);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("AUTH-4.ended", |_, state: &State| state.any(|login| login.ended)),
            Property::sometimes("AUTH-4.not-written", |_, state: &State| state.retry && state.is_ending()),
            Property::sometimes("AUTH-4.replaced", |_, state: &State| {
                state.write.as_ref().is_some_and(|write| write.replaces) && state.is_ending()
            }),
            Property::sometimes("AUTH-4.reused", |_, state: &State| state.any(|login| login.reused)),
            Property::sometimes("AUTH-4.another-holder", |_, state: &State| {
                state.any(|login| login.holder.0 > 1 && login.admitted)
            }),
            Property::sometimes("AUTH-5.second-tab", |_, state: &State| {
                let older = |tab: &Tab| matches!((tab, state.jar), (Tab::Sent(sent), Some(jar)) if sent.1 < jar.1);
                state.tabs.iter().any(older)
            }),
            Property::sometimes("AUTH-5.absent", |_, state: &State| state.file.absent && state.jar.is_some()),
            Property::sometimes("LIM-1.full", |model: &Self, state: &State| {
                state.logins.logins().len() == model.limits.logins
            }),
        ]);
        all
    }
}

impl Proof for Gateway {
    fn name(&self) -> &'static str {
        "login"
    }

    fn about(&self) -> &'static str {
        "logins of one account: two tabs, a thief, an administrator, crashes, a disk that fails, clocks that jump"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("requests", self.requests.to_string()),
            ("faults, crashes, jumps and changes of the account", self.trouble.to_string()),
            ("tabs", "2".into()),
            ("logins", self.limits.logins.to_string()),
        ]
    }

    fn is_short(&self) -> bool {
        true
    }

    fn weight(&self, action: &Action) -> u32 {
        match action {
            Action::Written => 40,
            Action::LogIn(_) | Action::Arrive(_) | Action::Deliver(_) | Action::Look | Action::Absent(false) => 20,
            Action::Refresh(_) | Action::Retry | Action::Add => 10,
            Action::LogOut(..) | Action::Second => 2,
            Action::Lose(_)
            | Action::GiveUp(_)
            | Action::Steal
            | Action::Fail(_)
            | Action::Crash(_)
            | Action::Remove
            | Action::Password
            | Action::Absent(true)
            | Action::Elapse
            | Action::Jump(_) => 1,
        }
    }
}
