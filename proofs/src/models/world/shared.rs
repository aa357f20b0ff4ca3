//! Parts of a world that are shared with most of its successors.
//!
//! A step changes little. A part that it does not change is shared, and identified by 128 bits that are computed once
//! after a change (`digest_wide`). Copying or hashing a world therefore does not traverse it.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use lockstep_model::gateway::Hosted;
use lockstep_model::session::{Input, Output, Outputs};
use lockstep_model::{Bounds, Handled, Refusal, Session, Violation};

use crate::engine::digest::{Wide, digest_wide};

/// The payload of the checked instantiation: one byte.
pub type Payload = u8;

/// A part, shared until it is changed.
#[derive(Clone, Debug)]
pub struct Shared<T>(Arc<Known<T>>);

#[derive(Clone, Debug)]
struct Known<T> {
    /// Computed on first use after a change.
    digest: OnceLock<Wide>,
    part: T,
}

impl<T: Hash> Shared<T> {
    /// Creates a part that is not shared yet.
    pub fn new(part: T) -> Self {
        let shared = Self(Arc::new(Known { digest: OnceLock::new(), part }));
        shared.digest();
        shared
    }

    /// Returns the digest that identifies the part.
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

/// A production session with memoised steps.
///
/// A session's step is a function of the session and its input, which the lints of `model` ensure. In a model the same
/// session receives the same input again and again in different surroundings. Each thread therefore caches its recent
/// answers, and the production step computes the others. An answer is found by the 128-bit digest of session and input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remembered(Shared<Examined>);

/// A session, and the result of its own check within the bounds of its last step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Examined {
    session: Session<Payload>,
    sound: Option<Result<(), Violation>>,
}

impl Hash for Examined {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // The check's result follows from the session.
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

/// An answer of the production step.
struct Answer {
    key: Wide,
    next: Remembered,
    handled: Result<Handled, Refusal>,
    outputs: Box<[Output<Payload>]>,
}

/// A thread's cached answers: for each slot the latest answer whose key maps to it.
#[derive(Default)]
struct Answers {
    /// The bounds of all the answers.
    bounds: Option<Bounds>,
    slots: Vec<Option<Answer>>,
}

/// The number of answers that a thread caches: few enough to stay in the processor's cache. With 32 times as many,
/// `session` takes a third longer, because replacing an answer frees memory that was last touched long ago.
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
