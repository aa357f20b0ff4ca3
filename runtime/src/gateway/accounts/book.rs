//! The accounts as they are in the file.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::login::roster::Account as Entry;
use lockstep_model::login::{Person, Roster};
use serde::{Deserialize, Serialize};

/// The file: version 2, or 1 without what is left of accounts that are gone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Book {
    pub(super) version: u32,
    accounts: BTreeMap<String, Line>,
    /// How many had a name that is free now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    past: BTreeMap<String, u32>,
    /// Of whom everything must be erased.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    erase: BTreeSet<(String, u32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    hash: String,
    changed: u64,
    #[serde(default = "first", skip_serializing_if = "is_first")]
    incarnation: u32,
}

const fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_first(incarnation: &u32) -> bool {
    *incarnation == 1
}

/// The accounts, each with its hash.
pub(super) type Names = Roster<String, String>;

impl From<Book> for Names {
    fn from(book: Book) -> Self {
        let entry = |Line { hash, changed, incarnation }| Entry { hash, version: changed, incarnation };
        let accounts = book.accounts.into_iter().map(|(name, line)| (name, entry(line))).collect();
        let person = |(name, incarnation)| Person { name, incarnation };
        Self::new(accounts, book.past, book.erase.into_iter().map(person).collect())
    }
}

impl From<&Names> for Book {
    fn from(roster: &Names) -> Self {
        let line = |(name, entry): (&String, &Entry<String>)| {
            let Entry { hash, version, incarnation } = entry.clone();
            (name.clone(), Line { hash, changed: version, incarnation })
        };
        let person = |person: &Person<String>| (person.name.clone(), person.incarnation);
        Self {
            version: VERSION,
            accounts: roster.accounts().iter().map(line).collect(),
            past: roster.past().clone(),
            erase: roster.erasures().iter().map(person).collect(),
        }
    }
}

/// The version of the file that is written.
pub(super) const VERSION: u32 = 2;
