//! SH-2: outputs of two racing steps take effect in the order of the steps.

use std::num::NonZeroUsize;

use lockstep_model::gateway::{self, SessionOutput};
use lockstep_model::{Bounds, UserId, Violation};

use super::core::{Dispatch, Fault, Machine, Registry};
use super::fixture::Fixture;
use super::sync::{Arc, Mutex, lock, thread};
use super::{Scenario, Size, finish, race};

/// The scenarios of this file.
pub const ALL: &[Scenario] = &[
    Scenario {
        obligation: "SH-2",
        name: "orders",
        about: "steps emit two outputs each: all outputs take effect, in the order of the steps",
        exhaustible: Some(Size { actors: 2, rounds: 2 }),
        scales: true,
        run: outputs::<Sequences>,
    },
    Scenario {
        obligation: "SH-2",
        name: "one-look",
        about: "a reader looks while writers step: the head and the entries that it sees belong together (B20)",
        exhaustible: Some(Size { actors: 3, rounds: 1 }),
        scales: true,
        run: one_look::<Sequences>,
    },
    Scenario {
        obligation: "SH-2",
        name: "session-emit",
        about: "two agents emit while the log confirms: the log is asked to write each event once, in stream order",
        exhaustible: Some(Size::PAIR),
        scales: true,
        run: session_emit,
    },
];

const USER: UserId = UserId(1);

/// A machine that numbers its steps and emits two outputs in each.
#[derive(Debug, Default)]
pub struct Sequence {
    entries: Vec<u32>,
}

impl Sequence {
    /// The number of the newest entry.
    #[must_use]
    pub fn head(&self) -> u32 {
        self.entries.last().copied().unwrap_or(0)
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> &[u32] {
        &self.entries
    }
}

impl Machine for Sequence {
    type Bounds = ();
    type Input = ();
    type Output = (u32, u8);
    type Outputs = Vec<(u32, u8)>;
    type Answer = ();

    fn step(&mut self, (): &(), (): (), out: &mut Vec<(u32, u8)>) {
        let number = self.head() + 1;
        self.entries.push(number);
        out.extend([(number, 0), (number, 1)]);
    }

    fn outputs(out: &mut Vec<(u32, u8)>) -> &mut Vec<(u32, u8)> {
        out
    }

    fn is_over(&self) -> bool {
        false
    }

    fn check(&self, (): &()) -> Result<(), Violation> {
        Ok(())
    }
}

/// Where outputs take effect.
#[derive(Clone, Debug, Default)]
pub struct Effect(Arc<Mutex<Vec<(u32, u8)>>>);

impl Effect {
    /// One output takes effect.
    pub fn push(&self, output: (u32, u8)) {
        lock(&self.0).push(output);
    }
}

impl Dispatch<Sequence> for Effect {
    fn dispatch(&mut self, (): &(), output: (u32, u8)) {
        self.push(output);
    }

    fn abandon(&mut self, (): &(), fault: Fault) {
        assert_eq!(fault, Fault::Panicked, "a sequence broke");
    }
}

/// One sequence with several writers.
pub trait Writing: Send + Sync + 'static {
    /// Creates an empty sequence whose outputs take effect there.
    fn new(effect: Effect) -> Self;
    /// Takes one step.
    fn write(&self);
    /// Returns the head and the entries.
    fn read(&self) -> (u32, Vec<u32>);
}

/// Production's implementation.
#[derive(Debug)]
pub struct Sequences(Registry<Sequence, Effect>, Effect);

impl Writing for Sequences {
    fn new(effect: Effect) -> Self {
        Self(Registry::new(NonZeroUsize::MIN), effect)
    }

    fn write(&self) {
        self.0.with_or_open(&(), USER, |_, _| (Sequence::default(), self.1.clone()), |sequence| sequence.step(()));
    }

    fn read(&self) -> (u32, Vec<u32>) {
        let slot = self.0.find(USER);
        let read = slot.and_then(|slot| {
            self.0.with(&(), &slot, |sequence| (sequence.machine().head(), sequence.machine().entries().to_vec()))
        });
        read.unwrap_or_default()
    }
}

/// Writers step; the order in which their outputs took effect is checked.
pub fn outputs<W: Writing>(size: Size) {
    let effect = Effect::default();
    let sequence = Arc::new(W::new(effect.clone()));
    race(size.actors, |_| {
        let sequence = Arc::clone(&sequence);
        move || (0..size.rounds).for_each(|_| sequence.write())
    });
    let expected: Vec<_> = (1..=(size.actors * size.rounds) as u32).flat_map(|n| [(n, 0), (n, 1)]).collect();
    assert_eq!(*lock(&effect.0), expected, "SH-2: outputs took effect out of order");
}

/// Writers step while a reader looks.
pub fn one_look<W: Writing>(size: Size) {
    let sequence = Arc::new(W::new(Effect::default()));
    race(size.actors, |actor| {
        let sequence = Arc::clone(&sequence);
        move || {
            for _ in 0..size.rounds {
                if actor == 0 {
                    let (head, entries) = sequence.read();
                    assert_eq!(head, entries.last().copied().unwrap_or(0), "SH-2: head and entries of two moments");
                } else {
                    sequence.write();
                }
            }
        }
    });
}

/// The real session: agents of two runs emit, and the log confirms what it was asked to write.
fn session_emit(size: Size) {
    let bounds = Bounds { runs: size.actors.max(1), ..Bounds::DEFAULT };
    let fixture = Fixture::open(bounds);
    let mut client = fixture.join(1).expect("the node admits");
    fixture.restore();
    for run in 1..=size.actors as u64 {
        fixture.start(&mut client, run);
    }
    let generation = fixture.generation();
    let logged = {
        let fixture = fixture.clone();
        thread::spawn(move || (0..size.rounds).for_each(|_| fixture.persist()))
    };
    race(size.actors, |actor| {
        let fixture = fixture.clone();
        move || {
            for round in 0..size.rounds {
                fixture.think(generation, actor as u64 + 1, round as u8);
            }
        }
    });
    finish(logged);
    fixture.persist();
    let mut written = Vec::new();
    for output in fixture.0.effects().outputs() {
        if let gateway::Output::Session { output: SessionOutput::Write { event, .. }, .. } = output {
            written.push(event);
        }
    }
    let readable: Vec<_> = fixture
        .look(|_, session| session.stream().map(|stream| stream.entries().iter().map(|e| e.event.clone()).collect()))
        .flatten()
        .unwrap_or_default();
    assert_eq!(written, readable, "SH-2: the log was asked in another order than that of the stream");
    assert_eq!(readable.len(), size.actors * (2 + size.rounds), "every event is in the stream");
}
