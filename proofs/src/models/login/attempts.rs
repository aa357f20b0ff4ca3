//! Attempts to log in ([`lockstep_model::login::attempts`]): several networks, several accounts, right and wrong
//! passwords, many attempts at once, and time.
//!
//! The oracle is `properties::attempts`.

use core::time::Duration;

use lockstep_model::login::attempts::{Attempts, Outcome, Rate, Tries};
use stateright::{Model, Property};

use crate::engine::profile::Profile;
use crate::engine::proof::Proof;
use crate::models::harness::checked;
use crate::properties::attempts::{Attempt, Observed};

/// A mistake: replacements for parts of the sound design.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mistake {
    /// The network that an attempt is counted for, from its own and the number of its socket.
    pub(crate) network: fn(u8, u8) -> u8,
    /// The account that an attempt is counted for.
    pub(crate) account: fn(u8) -> u8,
    /// The state that an attempt finds.
    pub(crate) found: fn(&mut Attempts<u8, u8>),
}

impl Mistake {
    /// No mistake.
    pub(crate) const NONE: Self = Self { network: |network, _| network, account: |account| account, found: |_| {} };
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PasswordAttempts {
    pub(crate) networks: u8,
    pub(crate) accounts: u8,
    pub(crate) attempts: u8,
    pub(crate) ticks: u8,
    pub(crate) mistake: Mistake,
}

/// Returns the model at the bounds of a profile.
pub(crate) fn model(profile: Profile) -> PasswordAttempts {
    let (networks, accounts, attempts, ticks) = match profile {
        Profile::Quick => (2, 2, 4, 3),
        Profile::Ci => (3, 2, 5, 3),
        Profile::Deep => (3, 3, 6, 4),
    };
    PasswordAttempts { networks, accounts, attempts, ticks, mistake: Mistake::NONE }
}

/// Returns the model at bounds for long random walks, with twice as many keys as are kept.
pub(crate) fn long() -> PasswordAttempts {
    PasswordAttempts { networks: 4, accounts: 4, attempts: 200, ticks: 200, mistake: Mistake::NONE }
}

/// The smallest model that a mistake needs.
pub(crate) fn small(mistake: Mistake) -> PasswordAttempts {
    PasswordAttempts { networks: 2, accounts: 2, attempts: 4, ticks: 1, mistake }
}

/// Rates that differ, and room for two keys of each kind.
fn tries() -> Tries {
    let rate = |burst, refill| Rate { burst, refill: Duration::from_millis(refill) };
    Tries { per_network: rate(3, 2), per_account: rate(2, 3), keys: 2 }
}

/// The machine, the attempts in progress, and the oracle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    attempts: Attempts<u8, u8>,
    observed: Observed,
    made: u8,
    refused: bool,
    broken: Option<&'static str>,
}

checked![PasswordAttempts, State; "ISO-1", "LIM-1"];

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client sends a name and a password.
    Try {
        /// Its network.
        network: u8,
        /// The account.
        account: u8,
        /// Whether the password is wrong.
        wrong: bool,
    },
    /// The password of an open attempt is verified, or its request is given up.
    End(usize),
    /// A millisecond passes.
    Tick,
}

impl State {
    fn begin(&mut self, model: &PasswordAttempts, attempt: Attempt, socket: u8) {
        let network = (model.mistake.network)(attempt.network, socket);
        let account = (model.mistake.account)(attempt.account);
        (model.mistake.found)(&mut self.attempts);
        let now = self.observed.now;
        let begun = self.attempts.begin(&tries(), &network, Some(&account), now);
        let full = self.observed.full(&tries(), &attempt);
        match begun {
            Ok(()) => self.observed.begins(attempt, (network, account)),
            Err(wait) => {
                self.refused = true;
                self.expect(full.contains(&true), "ISO-1");
                // With nothing in progress, the stated time is enough, and a shorter one is not.
                if self.observed.open.is_empty() {
                    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    let later = |after: u64| {
                        let mut attempts = self.attempts.clone();
                        attempts.begin(&tries(), &network, Some(&account), now + after).is_ok()
                    };
                    let right = wait > 0 && !later(wait - 1) && (later(wait) || full == [true; 2]);
                    self.expect(right, "LIM-1");
                }
            }
        }
        self.observed.note_crowds(&tries());
    }

    fn end(&mut self, index: usize) {
        let (attempt, (network, account)) = self.observed.ends(index);
        let outcome = if attempt.wrong { Outcome::Wrong } else { Outcome::Uncounted };
        self.attempts.end(&tries(), &network, Some(&account), outcome, self.observed.now);
        let within = self.observed.is_within(&tries(), &attempt);
        self.expect(within, "LIM-1");
    }
}

impl Model for PasswordAttempts {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { attempts: Attempts::new(), observed: Observed::default(), made: 0, refused: false, broken: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        if state.made < self.attempts {
            for (network, account) in
                (0..self.networks).flat_map(|network| (0..self.accounts).map(move |account| (network, account)))
            {
                actions.extend([false, true].map(|wrong| Action::Try { network, account, wrong }));
            }
        }
        // Equal attempts are interchangeable.
        let open = &state.observed.open;
        let first = |index: &usize| *index == 0 || open[*index] != open[*index - 1];
        actions.extend((0..open.len()).filter(first).map(Action::End));
        if state.observed.now < u64::from(self.ticks) {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.refused = false;
        match action {
            Action::Try { network, account, wrong } => {
                let socket = next.made;
                next.made += 1;
                next.begin(self, Attempt { network, account, wrong }, socket);
            }
            Action::End(index) => next.end(index),
            Action::Tick => next.observed.now += 1,
        }
        let bounded = next.attempts.check(&tries()).is_ok();
        next.expect(bounded, "LIM-1");
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = unbroken();
        all.extend([
            Property::sometimes("ISO-1.beside", |_, state: &State| {
                // One account has no token left while another's attempt is admitted.
                let observed = &state.observed;
                let mut open = observed.open.iter();
                open.any(|(open, _)| (0..2).any(|other| other != open.account && observed.used(1, other, 6) > 1))
            }),
            Property::sometimes("LIM-1.refused", |_, state: &State| state.refused),
            Property::sometimes("LIM-1.refilled", |_, state: &State| {
                state.observed.wrong.len() > 2 && state.observed.now > 2
            }),
        ]);
        if usize::from(self.networks) > tries().keys {
            all.push(Property::sometimes("LIM-1.crowded", |_, state: &State| state.observed.crowded[0]));
        }
        all
    }
}

impl Proof for PasswordAttempts {
    fn name(&self) -> &'static str {
        "attempts"
    }

    fn about(&self) -> &'static str {
        "attempts to log in: networks and accounts, right and wrong passwords, many at once, over time"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![
            ("networks", self.networks.to_string()),
            ("accounts", self.accounts.to_string()),
            ("attempts", self.attempts.to_string()),
            ("milliseconds", self.ticks.to_string()),
        ]
    }
}
