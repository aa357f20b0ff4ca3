//! The lines of the file, and the two files of earlier versions that it replaces.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lockstep_model::CredentialId;
use lockstep_model::login::{Login, Logins, Moment, Record};
use serde::{Deserialize, Serialize};

use super::{NotOpened, Subject};
use crate::verify::credential_id;
use crate::verify::line_file::{FileError, LineFile, read_old};

/// The file in the data directory.
pub const FILE: &str = "logins.jsonl";
/// The logins, in earlier versions.
const SESSIONS: &str = "sessions.jsonl";
/// The revocations, in earlier versions.
const REVOKED: &str = "revoked.jsonl";

/// A moment: the total uptime of gateways, and the wall clock, in milliseconds.
type When = (u64, u64);

/// A line. Ids are 64-bit numbers, which JSON allows and serde preserves exactly.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Login {
        id: u64,
        subject: Subject,
        version: u64,
        began: When,
        turn: u64,
        turned: When,
    },
    Ended {
        id: u64,
    },
    Revoked {
        subject: Subject,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential: Option<u64>,
        at: When,
    },
    Mark {
        age: u64,
        seen: u64,
        floor: u64,
    },
}

const fn when(moment: Moment) -> When {
    (moment.age, moment.wall)
}

const fn moment((age, wall): When) -> Moment {
    Moment { age, wall }
}

impl From<&Record<Subject>> for Line {
    fn from(record: &Record<Subject>) -> Self {
        match record {
            Record::Login(CredentialId(id), Login { subject, version, began, turn, turned }) => Self::Login {
                id: *id,
                subject: Arc::clone(subject),
                version: *version,
                began: when(*began),
                turn: *turn,
                turned: when(*turned),
            },
            Record::Ended(CredentialId(id)) => Self::Ended { id: *id },
            Record::Revoked { subject, credential, at } => Self::Revoked {
                subject: Arc::clone(subject),
                credential: credential.map(|CredentialId(id)| id),
                at: when(*at),
            },
            Record::Mark { age, seen, floor } => Self::Mark { age: *age, seen: *seen, floor: *floor },
        }
    }
}

impl From<Line> for Record<Subject> {
    fn from(line: Line) -> Self {
        match line {
            Line::Login { id, subject, version, began, turn, turned } => {
                let (began, turned) = (moment(began), moment(turned));
                Self::Login(CredentialId(id), Login { subject, version, began, turn, turned })
            }
            Line::Ended { id } => Self::Ended(CredentialId(id)),
            Line::Revoked { subject, credential, at } => {
                Self::Revoked { subject, credential: credential.map(CredentialId), at: moment(at) }
            }
            Line::Mark { age, seen, floor } => Self::Mark { age, seen, floor },
        }
    }
}

pub(super) fn lines(records: &[Record<Subject>]) -> Vec<String> {
    let text = |record| serde_json::to_string(&Line::from(record)).expect("numbers and strings are JSON");
    records.iter().map(text).collect()
}

/// Opens the file, or reads the files that it replaces.
pub(super) fn open(directory: &Path, machine: &mut Logins<Subject>) -> Result<LineFile, NotOpened> {
    let path = directory.join(FILE);
    let is_new =
        !path.try_exists().map_err(|error| NotOpened::because(format!("{}: {error}", path.display()), error))?;
    old_revocations(directory, machine)?;
    if is_new {
        old_sessions(directory, machine)?;
    }
    Ok(LineFile::open(path, |line: Line| machine.note(line.into()))?)
}

/// A login, or its end.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldSession {
    sid: String,
    #[serde(default)]
    session: Option<Old>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Old {
    user: Subject,
    changed: u64,
    r#gen: u64,
    started: u64,
    turn: u64,
    turned_at: u64,
}

/// A revocation; without a subject, the latest instant of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldRevocation {
    at: u64,
    #[serde(default)]
    sub: Option<Subject>,
    #[serde(default)]
    credential: Option<u64>,
}

/// Reads the revocations of an earlier version, including one that ran after this version.
fn old_revocations(directory: &Path, machine: &mut Logins<Subject>) -> Result<(), FileError> {
    let revoke = |line: OldRevocation| {
        let Some(subject) = line.sub else { return };
        let credential = line.credential.map(CredentialId);
        machine.note(Record::Revoked { subject, credential, at: Moment { age: 0, wall: line.at } });
    };
    read_old(&directory.join(REVOKED), revoke)
}

/// Reads the logins of an earlier version. A login that was revoked has ended.
fn old_sessions(directory: &Path, machine: &mut Logins<Subject>) -> Result<(), FileError> {
    let begin = |line: OldSession| {
        let id = credential_id(&line.sid);
        machine.note(Record::Ended(id));
        let Some(old) = line.session else { return };
        let revoked = machine.revoked();
        if revoked.credential(&old.user, id) || revoked.subject(&old.user).is_some_and(|at| old.r#gen < at) {
            return;
        }
        let at = |wall| Moment { age: 0, wall };
        let (began, turned) = (at(old.started), at(old.turned_at));
        let login = Login { subject: old.user, version: old.changed, began, turn: old.turn, turned };
        machine.note(Record::Login(id, login));
    };
    read_old(&directory.join(SESSIONS), begin)
}

/// Removes the old files, whose content is in the new file now.
pub(super) fn remove_old(directory: &Path) {
    for name in [SESSIONS, REVOKED] {
        // If one stays, reading it again does no harm.
        let _ = fs::remove_file(directory.join(name));
    }
}
