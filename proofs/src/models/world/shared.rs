//! Parts of a world that most of its successors have in common with it.
//!
//! A step changes little. A part that it leaves alone is shared, and known by 128 bits that were made when it changed
//! (`digest_wide`), so that neither copying nor hashing a world looks into it.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use lockstep_model::gateway::Hosted;
use lockstep_model::session::{Input, Output, Outputs};
use lockstep_model::{Bounds, Handled, Refusal, Session, Violation};

use crate::engine::digest::{Wide, digest_wide};

/// The checked instantiation: a payload is one byte.
pub type Payload = u8;

/// A part, shared until it is changed.
#[derive(Clone, Debug)]
pub struct Shared<T>(Arc<Known<T>>);

#[derive(Clone, Debug)]
struct Known<T> {
    /// Made when it is asked for after a change.
    digest: OnceLock<Wide>,
    part: T,
}

impl<T: Hash> Shared<T> {
    /// A part that nobody shares yet.
    pub fn new(part: T) -> Self {
        let shared = Self(Arc::new(Known { digest: OnceLock::new(), part }));
        shared.digest();
        shared
    }

    /// What it is known by.
    pub(super) fn digest(&self) -> Wide {
        *self.0.digest.get_or_init(|| digest_wide(&self.0.part))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.part
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        let known = Arc::make_mut(&mut self.0);
        known.digest.take();
        &mut known.part
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.part == other.0.part
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digest().hash(hasher);
    }
}

/// A production session whose steps are remembered.
///
/// A step of a session is a function of the session and its input: the lints of `model` see to that. In a model the same
/// session meets the same input again and again, with something else around it. So each thread keeps the answers that it
/// had last; another one is worked out by the production step. An answer is found by the 128 bits of session and input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remembered(Shared<Examined>);

/// A session, and what its own check says of it within the bounds with which it was stepped last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Examined {
    session: Session<Payload>,
    sound: Option<Result<(), Violation>>,
}

impl Hash for Examined {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // The verdict follows from the session.
        self.session.hash(hasher);
    }
}

impl Deref for Remembered {
    type Target = Session<Payload>;

    fn deref(&self) -> &Session<Payload> {
        &self.0.session
    }
}

impl std::borrow::Borrow<Session<Payload>> for Remembered {
    fn borrow(&self) -> &Session<Payload> {
        self
    }
}

impl From<Session<Payload>> for Remembered {
    fn from(session: Session<Payload>) -> Self {
        Self(Shared::new(Examined { session, sound: None }))
    }
}

/// One answer of the production step.
struct Answer {
    key: Wide,
    next: Remembered,
    handled: Result<Handled, Refusal>,
    outputs: Box<[Output<Payload>]>,
}

/// The answers that a thread keeps: the latest of those whose keys end alike.
#[derive(Default)]
struct Answers {
    /// The bounds of all of them.
    bounds: Option<Bounds>,
    slots: Vec<Option<Answer>>,
}

/// Answers that a thread keeps: so few that they stay in its processor's cache. With 32 times as many `session` takes a
/// third longer, because to replace an answer is to free memory that was last touched long ago.
const SLOTS: usize = 1 << 10;

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::default();
}

impl Hosted<Payload> for Remembered {
    fn step(&mut self, bounds: &Bounds, input: Input<Payload>, out: &mut Outputs<Payload>) -> Result<Handled, Refusal> {
        let key = digest_wide(&(&self.0, &input));
        ANSWERS.with_borrow_mut(|answers| {
            if answers.bounds.as_ref() != Some(bounds) {
                answers.slots.clear();
                answers.slots.resize_with(SLOTS, || None);
                answers.bounds = Some(*bounds);
            }
            let slot = &mut answers.slots[key.0[0] as usize % SLOTS];
            let answer = match slot {
                Some(answer) if answer.key == key => answer,
                Some(_) | None => slot.insert(self.work_out(bounds, key, input, out)),
            };
            self.0.clone_from(&answer.next.0);
            out.list.extend_from_slice(&answer.outputs);
            answer.handled
        })
    }

    fn check(&self, bounds: &Bounds) -> Result<(), Violation> {
        self.0.sound.unwrap_or_else(|| self.0.session.check(bounds))
    }
}

impl Remembered {
    fn work_out(&self, bounds: &Bounds, key: Wide, input: Input<Payload>, out: &mut Outputs<Payload>) -> Answer {
        let mut session = self.0.session.clone();
        let before = out.list.len();
        let handled = session.step(bounds, input, out);
        let outputs = out.list.drain(before..).collect();
        let sound = Some(session.check(bounds));
        let next = if handled.is_err() { self.clone() } else { Self(Shared::new(Examined { session, sound })) };
        Answer { key, next, handled, outputs }
    }
}
