//! What a model declares in addition to stateright's traits.
//!
//! A [`Proof`] is a [`stateright::Model`] whose state contains the production machines and whose actions are the
//! adversary's. It adds what reports need (a name, bounds), what liveness needs (fairness classes and [`Promise`]s) and
//! what diagrams need ([`Drawing`]s). A [`Lifecycle`] is a proof about one machine whose phases can be charted.
//!
//! # Names of properties
//!
//! | kind | declared by | name |
//! | --- | --- | --- |
//! | always | [`stateright::Property::always`] | the property id: `AUTH-1` |
//! | sometimes | [`stateright::Property::sometimes`] | the id and the premise that it shows: `AUTH-1.delivered` |
//! | eventually | [`Proof::promises`] | the property id: `LIVE-2` |
//!
//! `stateright::Property::eventually` is refused, because it misses runs that end in a cycle. See
//! [`crate::engine::fairness`].

use crate::engine::phrase::phrase;
use std::fmt::{self, Debug};
use std::hash::Hash;

use stateright::Model;

/// A model that `prove` can check. `Clone` must be cheap: each search takes its own copy.
///
/// `actions` and `next_state` must be functions of their arguments. They may panic: a panic is a counterexample, named
/// by the property id in its message if there is one (see [`crate::engine::guard`]).
pub trait Proof:
    Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq + Send + Sync>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The name on the command line, for example `session`.
    fn name(&self) -> &'static str;

    /// One sentence on what is explored.
    fn about(&self) -> &'static str;

    /// The bounds as names and values, for reports.
    fn bounds(&self) -> Vec<(&'static str, String)>;

    /// The weak-fairness class (0..64) of an action, or `None` for an action that the adversary may omit forever.
    ///
    /// A class that stays enabled forever is taken again and again. Give two actions the same class only if taking
    /// either counts as service for both.
    fn fairness(&self, action: &Self::Action) -> Option<u8> {
        let _ = action;
        None
    }

    /// How often a [random walk](mod@crate::engine::walk) takes this action, relative to the others. Zero for never.
    fn weight(&self, action: &Self::Action) -> u32 {
        let _ = action;
        1
    }

    /// Whether the machines in this state are equal after they were written and read, as a trace does. Random walks
    /// call it.
    fn survives(&self, state: &Self::State) -> bool {
        let _ = state;
        true
    }

    /// Whether each run soon ends or returns to a known state, because each new action of a participant consumes a
    /// budget. Such a model is searched depth-first.
    fn is_short(&self) -> bool {
        false
    }

    /// The liveness promises. At most [`MAX_PROMISES`](crate::engine::fairness::MAX_PROMISES).
    fn promises(&self) -> Vec<Promise<Self>> {
        Vec::new()
    }

    /// Draws one step in a sequence diagram. The default is the action [in words](phrase).
    fn depict(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> Vec<Drawing> {
        let _ = (before, after);
        vec![Drawing::note(Lifeline::Session, phrase(&format!("{action:?}")))]
    }
}

/// A liveness property: no weakly fair run stays *pending* forever.
///
/// Define "pending" as the outstanding obligation: *a connection is open and neither live nor closed*, *a run was
/// accepted and has not ended*.
pub struct Promise<M: Proof> {
    /// The property id.
    pub id: &'static str,
    /// Whether the obligation is outstanding in this state.
    pub pending: fn(&M, &M::State) -> bool,
}

impl<M: Proof> Debug for Promise<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One element of a sequence diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// A message. If `from == to`, it is drawn as a loop on one lifeline.
    Arrow {
        /// The sender.
        from: Lifeline,
        /// The receiver, or the intended one.
        to: Lifeline,
        /// The text on the arrow.
        label: String,
        /// Whether it never arrives: the arrow ends in a cross.
        lost: bool,
    },
    /// A note on one lifeline.
    Note {
        /// Its lifeline.
        on: Lifeline,
        /// Its text.
        text: String,
    },
}

impl Drawing {
    /// Creates a note.
    pub const fn note(on: Lifeline, text: String) -> Self {
        Self::Note { on, text }
    }
}

/// The columns of a sequence diagram, in this order. Unused ones are omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are self-explanatory")]
pub enum Lifeline {
    Client,
    Socket,
    Connection,
    Session,
    Log,
    Agent,
    Verifier,
    Operator,
    Node,
}

impl Lifeline {
    /// The title of the column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Socket => "socket",
            Self::Connection => "connection",
            Self::Session => "session",
            Self::Log => "log",
            Self::Agent => "agent",
            Self::Verifier => "verifier",
            Self::Operator => "operator",
            Self::Node => "node",
        }
    }
}

/// A proof about one machine whose transitions can be charted.
///
/// [`crate::report::diagram`] and [`crate::report::matrix`] are generated from the transitions that the search found,
/// never drawn by hand.
pub trait Lifecycle: Proof {
    /// Every phase, in reading order.
    fn phases(&self) -> &'static [&'static str];

    /// Every input, in reading order.
    fn inputs(&self) -> &'static [&'static str];

    /// The phase of the machine in this state; one of [`phases`](Self::phases).
    fn phase(&self, state: &Self::State) -> &'static str;

    /// The input that this action gives to the machine; one of [`inputs`](Self::inputs), or `None` if only the
    /// environment acts.
    fn input(&self, action: &Self::Action) -> Option<&'static str>;

    /// The machine's outcome for this action in this state.
    fn outcome(&self, before: &Self::State, action: &Self::Action) -> Outcome;
}

/// A machine's outcome for one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The input was accepted, and the machine entered another phase or re-entered the same one.
    Moved,
    /// The input was accepted, and the machine stays in its phase.
    Stayed,
    /// The input was late, and nothing changes.
    Ignored,
    /// The input was a misuse: a typed error, and nothing changes.
    Refused,
}

/// The kind of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Holds in every reachable state.
    Always,
    /// Holds in at least one reachable state: the premise of an `always` is reached.
    Sometimes,
    /// No weakly fair run stays pending forever.
    Eventually,
}

impl Kind {
    /// The word in reports: `always`, `sometimes` or `eventually`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Sometimes => "sometimes",
            Self::Eventually => "eventually",
        }
    }
}
