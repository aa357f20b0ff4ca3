//! Conversation queries.

use core::fmt;
use std::sync::Arc;

use lockstep_model::{Code, Offset};

/// `list_threads`, `read_turns` or `rename_thread`.
pub struct Query {
    /// The client's id of the query, which the answer repeats.
    pub(crate) request: Box<str>,
    /// The decoded query, or the code of its error.
    pub wanted: Result<Wanted, Code>,
}

/// A decoded query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A page of the user's threads.
    Threads {
        /// The page begins after this thread; from the newest, if `None`.
        before: Option<ThreadPlace>,
        /// The most threads to return.
        limit: usize,
    },
    /// A page of a thread's turns.
    Turns {
        /// The thread; `None` for the thread of messages without one.
        thread: Option<Arc<str>>,
        /// Only turns that begin before this offset; the newest, if `None`.
        before: Option<Offset>,
        /// The most turns to return.
        limit: usize,
    },
    /// Sets another title for a thread; `None` restores its initial title.
    Rename {
        /// The thread; `None` for the thread of messages without one.
        thread: Option<Arc<str>>,
        /// The new title.
        title: Option<String>,
    },
}

impl fmt::Debug for Query {
    /// Omits the content, which is the user's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Query(..)")
    }
}

impl Query {
    /// The query's error, if it has one: then it is answered with the code instead of being looked up.
    #[must_use]
    pub const fn fault(&self) -> Option<Code> {
        match &self.wanted {
            Ok(_) => None,
            Err(code) => Some(*code),
        }
    }
}

/// Where a page of threads begins: after this thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadPlace {
    /// [`Thread::updated`](crate::log::conversations::Thread::updated).
    pub updated: u64,
    /// [`Thread::name`](crate::log::conversations::Thread::name); empty for the thread without one.
    pub name: String,
}
