//! The moves of a gateway and its clients, and their weights.

use lockstep_model::health::{Measured, Probe};
use lockstep_model::run::{self, ToolEnd};
use lockstep_model::{Mode, Successor, ToolId};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::SMALL;

#[derive(Clone, Debug)]
pub(super) enum Move {
    Connect(Index),
    Disconnect(Index),
    Send(Index),
    Cancel {
        of: Index,
        run: Index,
    },
    Token(Index),
    /// A client's deadline.
    Hers {
        of: Index,
        choice: Index,
    },
    Open(Index),
    Up(Index),
    Down(Index),
    Pull {
        of: Index,
        budget: usize,
    },
    Cut(Index),
    Notice {
        of: Index,
        here: bool,
    },
    Answer {
        of: Index,
        available: bool,
    },
    Restore {
        of: Index,
        answers: bool,
    },
    Take {
        of: Index,
        hole: u64,
    },
    TakeSilently(Index),
    Fail(Index),
    Emit {
        of: Index,
        input: run::Input,
    },
    /// The embedding service sends a user a notice.
    Say(Index),
    /// A deadline of the process.
    Ours(Index),
    Revoke {
        of: Index,
        one: Option<Index>,
    },
    Pin(Option<Mode>),
    Probed(Measured),
    Drain(Successor),
    Abort,
    Crash {
        loses: bool,
    },
    /// A peer sends something without meaning.
    Babble {
        of: Index,
        times: usize,
    },
    /// A while without faults.
    Flow,
    /// A client that pauses, or was told to stay away, comes back.
    Back(Index),
}

fn emits() -> impl Strategy<Value = run::Input> {
    let tool = || (0..3u32).prop_map(ToolId);
    prop_oneof![
        6 => Just(run::Input::Start),
        4 => Just(run::Input::Think),
        3 => tool().prop_map(run::Input::OpenTool),
        3 => tool().prop_map(|tool| run::Input::CloseTool(tool, ToolEnd::Success)),
        2 => Just(run::Input::Complete),
        1 => Just(run::Input::Fail),
        1 => Just(run::Input::Abandon),
    ]
}

pub(super) fn moves() -> impl Strategy<Value = Move> {
    let of = any::<Index>;
    let health = prop::sample::select(vec![
        Measured::WELL,
        Measured::WELL,
        Measured { log: Probe::Refused, ..Measured::WELL },
        Measured { memory: SMALL.memory, ..Measured::WELL },
    ]);
    let modes = vec![None, None, Some(Mode::Ready), Some(Mode::Degraded), Some(Mode::Emergency)];
    let network = prop_oneof![
        2 => of().prop_map(Move::Connect),
        4 => of().prop_map(Move::Back),
        6 => of().prop_map(Move::Open),
        12 => of().prop_map(Move::Up),
        18 => of().prop_map(Move::Down),
        14 => (of(), 1..4usize).prop_map(|(of, budget)| Move::Pull { of, budget }),
        6 => (of(), prop::bool::weighted(0.97)).prop_map(|(of, available)| Move::Answer { of, available }),
        4 => (of(), prop::bool::weighted(0.95)).prop_map(|(of, answers)| Move::Restore { of, answers }),
        8 => (of(), any::<bool>()).prop_map(|(of, here)| Move::Notice { of, here }),
        6 => Just(Move::Flow),
    ];
    let work = prop_oneof![
        6 => of().prop_map(Move::Send),
        1 => (of(), of()).prop_map(|(of, run)| Move::Cancel { of, run }),
        2 => (of(), 1..9usize).prop_map(|(of, times)| Move::Babble { of, times }),
        20 => (of(), prop_oneof![3 => Just(1), 1 => 2..4u64]).prop_map(|(of, hole)| Move::Take { of, hole }),
        20 => (of(), emits()).prop_map(|(of, input)| Move::Emit { of, input }),
    ];
    let fault = prop_oneof![
        8 => of().prop_map(Move::Cut),
        1 => of().prop_map(Move::Disconnect),
        3 => of().prop_map(Move::Token),
        4 => (of(), of()).prop_map(|(of, choice)| Move::Hers { of, choice }),
        4 => of().prop_map(Move::Say),
        8 => of().prop_map(Move::Ours),
        4 => of().prop_map(Move::TakeSilently),
        4 => of().prop_map(Move::Fail),
        2 => (of(), prop::option::of(of())).prop_map(|(of, one)| Move::Revoke { of, one }),
        2 => prop::sample::select(modes).prop_map(Move::Pin),
        3 => health.prop_map(Move::Probed),
        1 => prop::sample::select(vec![Successor::Absent, Successor::Waiting]).prop_map(Move::Drain),
        1 => Just(Move::Abort),
        3 => prop::bool::weighted(0.1).prop_map(|loses| Move::Crash { loses }),
    ];
    prop_oneof![60 => network, 30 => work, 3 => fault]
}
