//! Two sockets with one single-use ticket.

use lockstep_model::connection::Input;
use lockstep_model::{Connection, UserId, Verdict};
use stateright::{Model, Property};

use super::parts::presented;
use crate::engine::proof::{Drawing, Lifeline, Proof};
use crate::models::world::setup;
use crate::races::hooks::welcome;
use crate::races::{Row, alone};

pub(super) fn rows() -> Vec<Row> {
    vec![alone!(
        "A25",
        "read, then deleted",
        "a single-use ticket is looked up in one step and deleted in another",
        ["SH-5", "AUTH-1"],
        Tickets { split: true },
        Tickets { split: false }
    )]
}

/// The model.
#[derive(Clone, Debug)]
struct Tickets {
    split: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Store {
    ticket: bool,
    /// The result of each lookup, while its answer is in flight.
    found: [Option<bool>; 2],
    sockets: [Connection<u8>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Looks the ticket up.
    Look(usize),
    /// Deletes it and answers with the result of the lookup.
    Redeem(usize),
}

impl Model for Tickets {
    type State = Store;
    type Action = Step;

    fn init_states(&self) -> Vec<Store> {
        let sockets = [1, 2].map(|id| presented(&setup::small(), id));
        vec![Store { ticket: true, found: [None; 2], sockets }]
    }

    fn actions(&self, store: &Store, steps: &mut Vec<Step>) {
        for (index, socket) in store.sockets.iter().enumerate() {
            if socket.resume().is_none() || socket.auth().grant().is_some() {
                continue;
            }
            let looks = self.split && store.found[index].is_none();
            steps.push(if looks { Step::Look(index) } else { Step::Redeem(index) });
        }
    }

    fn next_state(&self, last: &Store, step: Step) -> Option<Store> {
        let mut store = last.clone();
        match step {
            Step::Look(index) => store.found[index] = Some(store.ticket),
            Step::Redeem(index) => {
                let good = store.found[index].unwrap_or(store.ticket);
                store.ticket = false;
                let attempt = store.sockets[index].auth().newest();
                let verdict = if good { welcome(UserId(0)) } else { Verdict::Rejected };
                let input = Input::Verdict { attempt, verdict };
                let _ = store.sockets[index].step(&setup::small(), input, &mut Vec::new());
            }
        }
        Some(store)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("AUTH-1", |_: &Self, store: &Store| store.admitted() <= 1),
            Property::sometimes("AUTH-1.redeemed", |_: &Self, store: &Store| store.admitted() == 1),
        ]
    }
}

impl Store {
    fn admitted(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.auth().grant().is_some()).count()
    }
}

impl Proof for Tickets {
    fn name(&self) -> &'static str {
        "tickets"
    }

    fn about(&self) -> &'static str {
        "two sockets present one ticket"
    }

    fn bounds(&self) -> Vec<(&'static str, String)> {
        vec![("tickets", "1".into()), ("sockets", "2".into())]
    }

    fn depict(&self, _: &Store, step: &Step, after: &Store) -> Vec<Drawing> {
        let (index, text) = match step {
            Step::Look(index) => (index, "the ticket is looked up, and is there"),
            Step::Redeem(index) if after.sockets[*index].auth().grant().is_some() => {
                (index, "the ticket is deleted: admitted")
            }
            Step::Redeem(index) => (index, "the ticket is gone: rejected"),
        };
        vec![Drawing::note(Lifeline::Verifier, format!("socket {}: {text}", index + 1))]
    }
}
