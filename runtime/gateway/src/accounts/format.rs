//! The file format of the accounts.
//!
//! The file has a checksum of its content. So a changed byte is detected when the file is read, and does not become
//! another account, password or subject. The checksum covers the content and not the bytes: different white space does
//! not change it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::login::roster::Account as RosterAccount;
use lockstep_model::login::{Holder, Roster};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The file: version 3; 2 had no checksum; 1 had no record of removed accounts.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountsFile {
    version: u32,
    /// SHA-256 of the rest as compact JSON, in hexadecimal. It has its own line, which is not the first, so that an
    /// operator who knows that the content is right can remove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    accounts: BTreeMap<String, Line>,
    /// How many accounts have had a name that is free now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    past: BTreeMap<String, u32>,
    /// The subjects whose data must be erased.
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

/// The accounts, each with its password hash.
pub(super) type Names = Roster<String, String>;

/// The first version with a checksum.
const SUMMED: u32 = 3;

/// Parses the bytes of a file.
///
/// # Errors
///
/// The mistake, without a quotation of the bytes, because they may include a hash.
pub(super) fn read(bytes: &[u8]) -> Result<Names, String> {
    let place = |error: serde_json::Error| {
        format!("it is not a valid file of accounts: line {}, column {}", error.line(), error.column())
    };
    let file: AccountsFile = serde_json::from_slice(bytes).map_err(place)?;
    if !(1..=VERSION).contains(&file.version) {
        return Err(format!("it has version {}, but this program supports versions 1 to {VERSION}", file.version));
    }
    let (file, said) = file.without_sum();
    let right = if file.version < SUMMED { said.is_none() } else { said == Some(file.sum()) };
    if !right {
        return Err(
            "its checksum does not match its content: it was damaged, or edited by hand; restore it from a backup, \
                    or, if you know that its content is correct, remove its line `checksum` and set its `version` to 2"
                .to_owned(),
        );
    }
    Ok(file.into())
}

/// The bytes of a file with these accounts.
pub(super) fn write(roster: &Names) -> Vec<u8> {
    let file = AccountsFile::from(roster);
    let checksum = Some(file.sum());
    serde_json::to_vec_pretty(&AccountsFile { checksum, ..file }).expect("strings and numbers are JSON")
}

impl AccountsFile {
    fn without_sum(mut self) -> (Self, Option<String>) {
        let sum = self.checksum.take();
        (self, sum)
    }

    /// The checksum of a file that has none.
    fn sum(&self) -> String {
        let content = serde_json::to_vec(self).expect("strings and numbers are JSON");
        Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl From<AccountsFile> for Names {
    fn from(file: AccountsFile) -> Self {
        let entry = |Line { hash, changed, incarnation }| RosterAccount { hash, version: changed, incarnation };
        let accounts = file.accounts.into_iter().map(|(name, line)| (name, entry(line))).collect();
        let holder = |(name, incarnation)| Holder { name, incarnation };
        Self::new(accounts, file.past, file.erase.into_iter().map(holder).collect())
    }
}

impl From<&Names> for AccountsFile {
    fn from(roster: &Names) -> Self {
        let line = |(name, entry): (&String, &RosterAccount<String>)| {
            let RosterAccount { hash, version, incarnation } = entry.clone();
            (name.clone(), Line { hash, changed: version, incarnation })
        };
        let holder = |holder: &Holder<String>| (holder.name.clone(), holder.incarnation);
        Self {
            version: VERSION,
            checksum: None,
            accounts: roster.accounts().iter().map(line).collect(),
            past: roster.past().clone(),
            erase: roster.erasures().iter().map(holder).collect(),
        }
    }
}

/// The file version that is written.
const VERSION: u32 = 3;
