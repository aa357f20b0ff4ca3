//! What a model is, beyond what stateright asks of it.
//!
//! A [`Proof`] is a [`stateright::Model`] whose state contains the production
//! machines and whose actions are what the adversary may do to them. It adds
//! what a report needs (a name, its bounds), what liveness needs (fairness
//! classes and [`Promise`]s) and what a picture needs ([`Drawing`]s).
//! A [`Lifecycle`] is a proof about one machine whose phases can be charted.
//!
//! # Names of properties
//!
//! | kind | declared by | name |
//! | --- | --- | --- |
//! | always | [`stateright::Property::always`] | the property id: `AUTH-1` |
//! | sometimes | [`stateright::Property::sometimes`] | the id and the premise that it shows: `AUTH-1.delivered` |
//! | eventually | [`Proof::promises`] | the property id: `LIVE-2` |
//!
//! `stateright::Property::eventually` is refused: it misses runs that end in a
//! cycle, see [`crate::engine::fairness`].

use crate::engine::phrase::phrase;
use std::fmt::{self, Debug};
use std::hash::Hash;

use stateright::Model;

/// A model that `prove` can check. `Clone` must be cheap: each search takes its own copy.
///
/// `actions` and `next_state` must be functions of their arguments. They may
/// panic: a panic is a counterexample, named by the property id in its message
/// if there is one (see [`crate::engine::guard`]).
pub trait Proof:
    Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq + Send + Sync>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The name on the command line, for example `session`.
    fn name(&self) -> &'static str;

    /// One sentence: what is explored.
    fn about(&self) -> &'static str;

    /// The bounds, each a name and its value as text. Reports print them.
    fn bounds(&self) -> Vec<(&'static str, String)>;

    /// The weak-fairness class (0..64) of an action, or `None` for what the
    /// adversary is free never to do.
    ///
    /// A class that stays enabled for ever is taken again and again. Give two
    /// actions the same class only where taking either counts as service for both.
    fn fairness(&self, action: &Self::Action) -> Option<u8> {
        let _ = action;
        None
    }

    /// Whether a run is soon over, or where it was before, for whoever does something new has a budget for it. Such a
    /// model is searched depth-first.
    fn is_short(&self) -> bool {
        false
    }

    /// The liveness promises. At most [`MAX_PROMISES`](crate::engine::fairness::MAX_PROMISES).
    fn promises(&self) -> Vec<Promise<Self>> {
        Vec::new()
    }

    /// What one step looks like in a sequence diagram; unless a model says it better, the action [in words](phrase).
    fn depict(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> Vec<Drawing> {
        let _ = (before, after);
        vec![Drawing::note(Lifeline::Session, phrase(&format!("{action:?}")))]
    }
}

/// A liveness property: no weakly fair run stays *pending* for ever.
///
/// State it so that "pending" is the debt: *a connection is open and neither
/// live nor closed*, *a run was accepted and has not ended*.
pub struct Promise<M: Proof> {
    /// The property id.
    pub id: &'static str,
    /// Whether the debt is open in this state.
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
    /// A message. `from == to` is drawn as a loop on one lifeline.
    Arrow {
        /// Who sends.
        from: Lifeline,
        /// Who receives, or would have.
        to: Lifeline,
        /// What is sent.
        label: String,
        /// It never arrives: the arrow ends in a cross.
        lost: bool,
    },
    /// A remark on one lifeline.
    Note {
        /// Where it stands.
        on: Lifeline,
        /// What it says.
        text: String,
    },
}

impl Drawing {
    /// A remark.
    pub const fn note(on: Lifeline, text: String) -> Self {
        Self::Note { on, text }
    }
}

/// The columns of a sequence diagram, in this order. Unused ones are not drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each names itself")]
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
/// [`crate::report::diagram`] and [`crate::report::matrix`] are made from what the search met,
/// never drawn by hand.
pub trait Lifecycle: Proof {
    /// Every phase, in the order in which a reader should meet them.
    fn phases(&self) -> &'static [&'static str];

    /// Every input, in the order in which a reader should meet them.
    fn inputs(&self) -> &'static [&'static str];

    /// The phase of the machine in this state; one of [`phases`](Self::phases).
    fn phase(&self, state: &Self::State) -> &'static str;

    /// The input that this action gives to the machine; one of
    /// [`inputs`](Self::inputs), or `None` when only the environment moves.
    fn input(&self, action: &Self::Action) -> Option<&'static str>;

    /// What the machine answers to this action in this state.
    fn outcome(&self, before: &Self::State, action: &Self::Action) -> Outcome;
}

/// How a machine answered one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It took the input and is in another phase, or in the same one anew.
    Moved,
    /// It took the input and stays in its phase.
    Stayed,
    /// The input was late: nothing changes.
    Ignored,
    /// The input was a misuse: a typed error, nothing changes.
    Refused,
}

/// The kind of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Holds in every reachable state.
    Always,
    /// Holds in at least one reachable state: the premise of an `always` is met.
    Sometimes,
    /// No weakly fair run stays pending for ever.
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
