//! The members of a JSON object, kept as they were written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// The members of an object.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The members of an object; `None` if it is not one.
    pub(super) fn of(value: &RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok().map(Self)
    }

    /// Sets a member.
    pub(super) fn put(&mut self, name: &str, value: impl Serialize) {
        let value = to_raw_value(&value).expect("strings, numbers and JSON can be written");
        self.0.insert(name.to_owned(), value);
    }

    /// Sets a member, unless the agent has set it.
    pub(super) fn or_put(&mut self, name: &str, value: impl Serialize) {
        if !self.0.contains_key(name) {
            self.put(name, value);
        }
    }

    /// Removes a member.
    pub(super) fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.0.remove(name)
    }

    /// A member as it was written.
    pub(super) fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(|value| &**value)
    }

    /// The text of a member, if it is a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// The object.
    pub(super) fn to_raw(&self) -> Box<RawValue> {
        to_raw_value(self).expect("names are strings, and the members are JSON")
    }
}
