//! Turns a panic in a model step into a verdict.
//!
//! The production machines assert their invariants in every step. If an assertion fails during the search, the search
//! has found a counterexample, and reports it with its message and trace. Without this guard a panicking checker thread
//! would close stateright's job market, and the run would look finished.
//!
//! [`catch`] runs a closure, keeps the panic's message and place, and prints nothing. Panics anywhere else are reported
//! as usual.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// A panic's message and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// The message of the panic or of the failed assertion.
    pub message: String,
    /// `file:line:column`, or empty when unknown.
    pub place: String,
}

impl Panic {
    /// Returns the property id that the message quotes (`AUTH-1` in `AUTH-1: no frame leaves …`), if any.
    pub fn property(&self) -> Option<&str> {
        self.message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).find(|word| is_property_id(word))
    }
}

/// Whether a word has the form of a property id: capitals, a hyphen, digits.
fn is_property_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(area, number)| {
        area.len() >= 2
            && area.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

thread_local! {
    /// The number of `catch` calls that this thread is in.
    static GUARDED: Cell<u32> = const { Cell::new(0) };
    /// This thread's last guarded panic.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Runs `f` and turns a panic into a value.
///
/// # Errors
/// The panic, if `f` panicked. Values that `f` had borrowed mutably may be half changed, so every caller abandons its
/// search.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    install();
    GUARDED.set(GUARDED.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(GUARDED.get() - 1);
    result.map_err(|_| {
        LAST.take().unwrap_or_else(|| Panic { message: "panicked without a message".into(), place: String::new() })
    })
}

/// Installs the quiet hook in front of the existing one, once per process.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if GUARDED.get() > 0 {
                LAST.set(Some(describe(info)));
            } else {
                previous(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    Panic {
        message: info.payload_as_str().unwrap_or("panicked with a value that is not text").to_owned(),
        place: info.location().map(ToString::to_string).unwrap_or_default(),
    }
}
