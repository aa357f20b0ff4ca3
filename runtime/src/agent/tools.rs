//! Tools that an agent can call, and three that need nothing but this machine.

use core::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::BoxFuture;
use crate::pool::Pool;
use crate::sentence;

pub mod calculator;
pub mod clock;
mod number;
pub mod search;

/// A tool call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Invocation {
    /// The user on whose behalf it is called: their name at the issuer.
    pub subject: Arc<str>,
    /// The arguments, an object that the model has written.
    pub arguments: Value,
}

impl Invocation {
    /// A call for this user, with these arguments.
    #[must_use]
    pub const fn new(subject: Arc<str>, arguments: Value) -> Self {
        Self { subject, arguments }
    }
}

/// One capability of an agent.
pub trait Tool: Send + Sync + 'static {
    /// Its name: letters, digits, `_` and `-`.
    fn name(&self) -> &str;

    /// What it does, for the model that decides whether to call it.
    fn description(&self) -> &str;

    /// The JSON Schema of its arguments, which are an object.
    fn parameters(&self) -> Value;

    /// Calls the tool. The future may be dropped at any
    /// await. A call that computes for long, or blocks, must hand its work to a [`Pool`], because other users wait
    /// meanwhile.
    fn call(&self, invocation: Invocation) -> BoxFuture<'_, Result<Value, CallError>>;
}

sentence! {
    /// Why a tool has no result: a sentence that the user and the model may see.
    CallError
}

/// The tools of an agent, by name.
#[derive(Clone, Default)]
pub struct Tools(Vec<Arc<dyn Tool>>);

impl Tools {
    /// No tools.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The calculator, the clock, and the search over `documents` in the data directory.
    #[must_use]
    pub fn standard(data_dir: &Path) -> Self {
        Self::standard_on(data_dir, Pool::of_half_the_processors())
    }

    /// Like [`Tools::standard`], with the pool that runs the searches.
    #[must_use]
    pub fn standard_on(data_dir: &Path, pool: Pool) -> Self {
        let search = search::Search::new(data_dir.join("documents"), pool);
        Self::none().with(calculator::Calculator).with(clock::Clock).with(search)
    }

    /// Adds a tool. It replaces one with the same name.
    #[must_use]
    pub fn with(mut self, tool: impl Tool) -> Self {
        self.0.retain(|old| old.name() != tool.name());
        self.0.push(Arc::new(tool));
        self
    }

    /// The tool of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&dyn Tool> {
        self.iter().find(|tool| tool.name() == name)
    }

    /// All tools.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Tool> {
        self.0.iter().map(|tool| &**tool)
    }
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Tool::name)).finish()
    }
}

/// Reads a string argument.
fn text_argument<'a>(arguments: &'a Value, name: &str) -> Result<&'a str, CallError> {
    let wrong = || format!("the argument `{name}` must be a string").into();
    arguments.get(name).and_then(Value::as_str).ok_or_else(wrong)
}
