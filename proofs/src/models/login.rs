//! The logins of one gateway ([`lockstep_model::login`]): a browser, its user, a thief, an administrator and a disk.
//!
//! | who | what they may do |
//! | --- | --- |
//! | the browser | two tabs with one jar of cookies: logs in, refreshes, logs out here or everywhere, tries again. Any answer may be lost |
//! | the thief | copies the cookie once, and presents it, and what it gets for it, at any time |
//! | the administrator | removes the account, adds it again, for another person, sets another password; takes the file away |
//! | the disk | a write is done, fails and has left any part of it, or is cut by a crash after any line |
//! | the clocks | time passes; the clock on the wall jumps, in both directions |
//!
//! The browser's tabs take turns so far that a request or an answer is overtaken by at most one refresh of the other
//! tab: what is overtaken by two looks exactly like a thief.
//!
//! The oracle (`oracle`) knows which person each login belongs to, and what has been answered. It holds both the
//! machine and the disk to that in each state, as a crash could come next.
#![expect(clippy::type_complexity, reason = "a mistake is a set of plain functions")]

mod oracle;
mod step;
pub(crate) mod tokens;

use std::collections::BTreeMap;

use lockstep_model::CredentialId;
use lockstep_model::login::{Answer, Ask, Input, Limits, Logins, Now, Output, Person, Reach, Record, Roster};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::Proof;
use crate::models::harness::judged;
pub(crate) use oracle::Truth;

/// Whose a login is.
pub(crate) type Subject = Person<u8>;

/// A mistake: what is done instead of what the sound design does.
#[derive(Clone, Copy, Debug)]
pub struct Mistake {
    /// What the machine hears instead of an input.
    pub(crate) hears: fn(&State, Input<Subject>) -> Option<Input<Subject>>,
    /// What is done instead of its orders.
    pub(crate) outputs: fn(&mut State, Vec<Output<Subject>>) -> Vec<Output<Subject>>,
    /// Whether the tokens of a login are good.
    pub(crate) good: fn(&State, CredentialId) -> bool,
}

impl Mistake {
    /// None.
    pub(crate) const NONE: Self =
        Self { hears: |_, input| Some(input), outputs: |_, outputs| outputs, good: State::is_good };
}

/// The model.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) limits: Limits,
    /// Requests of the browser and the thief.
    pub(crate) requests: u8,
    /// What the disk, the clocks, the network and the administrator may do.
    pub(crate) trouble: u8,
    pub(crate) mistake: Mistake,
}

/// The model at the bounds of a profile.
pub fn model(profile: Profile) -> Gateway {
    let (requests, trouble) = match profile {
        Profile::Quick => (4, 2),
        Profile::Ci => (4, 3),
        Profile::Deep => (5, 4),
    };
    Gateway { limits: limits(), requests, trouble, mistake: Mistake::NONE }
}

/// Bounds that are reached, and lifetimes of a few steps of the clock.
pub(crate) const fn limits() -> Limits {
    Limits {
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

/// A cookie: its login and its number.
pub(crate) type Cookie = (CredentialId, u64);

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

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    LogIn(CredentialId),
    Refresh(Cookie),
    /// With all logins that must be good for nothing once it is answered.
    LogOut(Vec<CredentialId>),
}

/// A write that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(crate) replaces: bool,
    pub(crate) records: Vec<Record<Subject>>,
}

/// The accounts' file: who has the name, and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct File {
    pub(crate) roster: Roster<u8, ()>,
    /// How many persons there were, and how many passwords the present one had.
    pub(crate) person: (u8, u8),
    pub(crate) absent: bool,
    /// The machine has heard what the file says.
    pub(crate) looked: bool,
}

/// The gateway, its surroundings, and the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) logins: Logins<Subject>,
    /// What reading the file gives.
    pub(crate) disk: Logins<Subject>,
    pub(crate) write: Option<Write>,
    pub(crate) retry: bool,
    pub(crate) now: Now,
    /// What has passed in truth.
    pub(crate) time: u64,
    pub(crate) file: File,
    pub(crate) jar: Option<Cookie>,
    /// Two tabs, and the thief.
    pub(crate) tabs: [Tab; 3],
    pub(crate) stolen: Option<Cookie>,
    pub(crate) requests: u8,
    pub(crate) trouble: u8,
    pub(crate) truths: BTreeMap<CredentialId, Truth>,
    /// For a mistake: a second file, and what must be written to it before it is answered.
    pub(crate) second_file: Vec<CredentialId>,
    pub(crate) unwritten: Vec<(Ask, CredentialId)>,
    broken: Option<&'static str>,
}

judged![Gateway, State; "AUTH-4", "AUTH-5", "LIM-1"];

/// The thief's place among the tabs.
pub(crate) const THIEF: usize = 2;
/// The account's name.
pub(crate) const NAME: u8 = 1;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The one who has the account logs in.
    LogIn(usize),
    /// A tab, or the thief, asks for the next token.
    Refresh(usize),
    /// A refresh reaches the gateway.
    Arrive(usize),
    /// A tab logs out.
    LogOut(usize, Reach),
    /// An answer reaches the browser, or the thief.
    Deliver(usize),
    /// An answer does not.
    Lose(usize),
    /// The gateway has not answered in time.
    GiveUp(usize),
    /// The thief copies the cookie.
    Steal,
    /// The write that is under way is done.
    Written,
    /// It fails, after so many lines.
    Fail(usize),
    /// The time after which it is tried again is over.
    Retry,
    /// The process ends, after so many lines of a write, and begins again.
    Crash(usize),
    /// The gateway looks at the accounts.
    Look,
    /// The administrator removes the account.
    Remove,
    /// Adds it again, for another person.
    Add,
    /// Sets another password.
    Password,
    /// The file is away, or comes back.
    Absent(bool),
    /// Time passes.
    Elapse,
    /// The clock on the wall jumps.
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
        let file = File { roster, person: (1, 1), absent: false, looked: false };
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
            truths: BTreeMap::new(),
            second_file: Vec::new(),
            unwritten: Vec::new(),
            broken: None,
        };
        state.look(self);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            state.actions(actions);
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
            Property::sometimes("AUTH-4.ended", |_, state: &State| state.truths.values().any(|truth| truth.ended)),
            Property::sometimes("AUTH-4.not-written", |_, state: &State| state.retry && state.is_ending()),
            Property::sometimes("AUTH-4.replaced", |_, state: &State| {
                state.write.as_ref().is_some_and(|write| write.replaces) && state.is_ending()
            }),
            Property::sometimes("AUTH-4.reused", |_, state: &State| state.truths.values().any(|truth| truth.reused)),
            Property::sometimes("AUTH-4.another-person", |_, state: &State| {
                state.truths.values().any(|truth| truth.person.0 > 1 && truth.admitted)
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
}
