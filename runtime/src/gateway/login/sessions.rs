//! Who is logged in: what a refresh cookie stands for, in memory and in a file, so that a restart logs nobody out.
//!
//! A cookie is the login's id, a turn, and a MAC of both, 256 bits, under a key that is derived from the signing key. It
//! is kept nowhere: what is kept is the turn. Each use takes the next turn, whose cookie replaces the one before.
//!
//! | the cookie's turn | what it is | what happens |
//! | --- | --- | --- |
//! | the present one | the cookie | the next turn |
//! | the one before, within the grace | a second tab, or an answer that was lost | the present cookie once more |
//! | an older one | a copy: somebody used it before, or after | the login ends, for both |
//! | a later one, another MAC, an unknown id | nothing of ours | no answer but 401 |
//!
//! All changes are made, and written, under one lock, in one order: a login that has ended does not come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::gateway::accounts::Account;
use crate::verify::clock::millis;
use crate::verify::journal::Journal;
use crate::verify::keys::Secret;

/// The file in the data directory.
const FILE: &str = "sessions.jsonl";
/// Logins of one user. One more ends the oldest.
const MAX_PER_USER: usize = 32;
/// Logins in all. One more is refused.
const MAX_SESSIONS: usize = 100_000;

/// How long a login lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting {
    pub(super) idle: Duration,
    pub(super) longest: Duration,
    pub(super) grace: Duration,
}

/// One login.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    pub(super) user: Arc<str>,
    /// When the account's password was set.
    changed: u64,
    /// The latest revocation that there was at the login.
    pub(super) r#gen: u64,
    started: u64,
    turn: u64,
    turned_at: u64,
}

impl Session {
    pub(super) fn account(&self) -> Account {
        Account { name: Arc::clone(&self.user), changed: self.changed }
    }
}

/// The name of a login: the `sid` of its tokens.
pub(super) type SessionId = String;

/// What a cookie says, once its MAC has been checked.
pub(super) struct Presented {
    pub(super) id: SessionId,
    pub(super) turn: u64,
}

/// What came of a cookie.
pub(super) enum Turned {
    /// It is good; the cookie has this turn now.
    Good(Session, u64),
    /// It is nothing of ours, or has ended.
    Unknown,
    /// Its account has changed, or it was revoked. The login has ended.
    Closed(Session),
    /// It was used before. The login has ended.
    Reused(Session),
}

/// Bytes of a login's id.
const ID: usize = 16;
/// Bytes of a cookie: id, turn, MAC.
const COOKIE: usize = ID + 8 + 32;

/// Makes and checks cookies.
pub(super) struct Seal([u8; 32]);

impl Seal {
    pub(super) fn new(secret: &Secret) -> Self {
        Self(Sha256::new().chain_update(b"lockstep refresh cookies\0").chain_update(secret.expose()).finalize().into())
    }

    pub(super) fn cookie(&self, id: &str, turn: u64) -> String {
        let id = URL_SAFE_NO_PAD.decode(id).unwrap_or_default();
        let mut bytes = Vec::with_capacity(COOKIE);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&turn.to_be_bytes());
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(super) fn open(&self, cookie: &str) -> Option<Presented> {
        let bytes: [u8; COOKIE] = URL_SAFE_NO_PAD.decode(cookie).ok()?.try_into().ok()?;
        let (signed, mac) = bytes.split_at(ID + 8);
        // Digests are compared, so that the time it takes says nothing about the MAC.
        if Sha256::digest(mac) != Sha256::digest(self.mac(signed)) {
            return None;
        }
        let turn = signed[ID..].try_into().map(u64::from_be_bytes).ok()?;
        Some(Presented { id: URL_SAFE_NO_PAD.encode(&signed[..ID]), turn })
    }

    /// What is signed has one length, so that a digest of key and content is a MAC.
    fn mac(&self, signed: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(signed).finalize().into()
    }
}

/// A line of the file: a login as it is now, or that it has ended.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sid: SessionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
}

/// All logins, under one lock of the caller's.
pub(super) struct Sessions {
    sessions: BTreeMap<SessionId, Session>,
    journal: Option<Journal>,
    lasting: Lasting,
}

impl Sessions {
    pub(super) fn open(directory: Option<&Path>, lasting: Lasting, now: u64) -> Result<Self, String> {
        let mut sessions = BTreeMap::new();
        let note = |line: Line| {
            match line.session {
                Some(session) => sessions.insert(line.sid, session),
                None => sessions.remove(&line.sid),
            };
        };
        let journal = directory.map(|directory| Journal::open(directory.join(FILE), note)).transpose()?;
        let mut opened = Self { sessions, journal, lasting };
        opened.sweep(now);
        let lines = opened.lines();
        if let Some(journal) = &mut opened.journal {
            journal.rewrite(&lines)?;
        }
        Ok(opened)
    }

    /// Begins a login, and returns its name and turn.
    pub(super) fn begin(&mut self, account: Account, generation: u64, now: u64) -> Result<(SessionId, u64), String> {
        if self.sessions.len() >= MAX_SESSIONS {
            self.sweep(now);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(format!("{MAX_SESSIONS} logins are open"));
        }
        let of_user = self.sessions.iter().filter(|(_, session)| session.user == account.name);
        let mut of_user: Vec<_> = of_user.map(|(id, session)| (session.turned_at, id.clone())).collect();
        of_user.sort_unstable();
        let excess = (of_user.len() + 1).saturating_sub(MAX_PER_USER);
        for (_, oldest) in of_user.into_iter().take(excess) {
            self.end(&oldest)?;
        }
        let id = URL_SAFE_NO_PAD.encode(crate::random_bytes::<ID>()?);
        let Account { name, changed } = account;
        let session = Session { user: name, changed, r#gen: generation, started: now, turn: 0, turned_at: now };
        self.write(&id, session, None).map(|()| (id, 0))
    }

    /// Takes the next turn of a login, if the cookie is the present one.
    pub(super) fn turn(&mut self, presented: &Presented, now: u64) -> Result<Turned, String> {
        let Some(session) = self.sessions.get(&presented.id) else { return Ok(Turned::Unknown) };
        if self.lasting.is_over(session, now) {
            return self.end(&presented.id).map(|_| Turned::Unknown);
        }
        if presented.turn > session.turn {
            return Ok(Turned::Unknown);
        }
        if presented.turn < session.turn {
            if !self.lasting.is_second(session, presented.turn, now) {
                let session = session.clone();
                // Its tokens are to be revoked whether or not this can be written.
                if let Err(reason) = self.end(&presented.id) {
                    tracing::warn!(reason, "that a login has ended was not written");
                }
                return Ok(Turned::Reused(session));
            }
            return Ok(Turned::Good(session.clone(), session.turn));
        }
        let before = session.clone();
        let after = Session { turn: session.turn + 1, turned_at: now, ..before.clone() };
        self.write(&presented.id, after.clone(), Some(before))?;
        Ok(Turned::Good(after.clone(), after.turn))
    }

    /// Whose cookie it is, and whether it is one that [`Sessions::turn`] would take.
    pub(super) fn look(&self, presented: &Presented, now: u64) -> Option<(Session, bool)> {
        let session = self.sessions.get(&presented.id).filter(|session| presented.turn <= session.turn)?;
        let good = presented.turn == session.turn || self.lasting.is_second(session, presented.turn, now);
        Some((session.clone(), good && !self.lasting.is_over(session, now)))
    }

    /// Ends a login. It has ended also if that cannot be written.
    pub(super) fn end(&mut self, id: &str) -> Result<Option<Session>, String> {
        let Some(session) = self.sessions.remove(id) else { return Ok(None) };
        self.append(&Line { sid: id.to_owned(), session: None })?;
        Ok(Some(session))
    }

    /// Ends all logins of a user. They have ended also if that cannot be written.
    pub(super) fn end_all(&mut self, user: &str) -> Result<(), String> {
        let of_user = self.sessions.iter().filter(|(_, session)| &*session.user == user);
        let of_user: Vec<_> = of_user.map(|(id, _)| id.clone()).collect();
        let mut written = Ok(());
        for id in of_user {
            let this = self.end(&id).map(drop);
            written = written.and(this);
        }
        written
    }

    /// Ends the logins whose account does not pass, and returns them. They have ended also if that cannot be written.
    pub(super) fn end_unless(&mut self, passes: impl Fn(&Account) -> bool) -> Vec<(SessionId, Session)> {
        let fallen = self.sessions.iter().filter(|(_, session)| !passes(&session.account()));
        let fallen: Vec<_> = fallen.map(|(id, session)| (id.clone(), session.clone())).collect();
        for (id, _) in &fallen {
            if let Err(reason) = self.end(id) {
                tracing::warn!(reason, "that a login has ended was not written");
            }
        }
        fallen
    }

    /// Puts a login into the table and the file, or leaves both as they were.
    fn write(&mut self, id: &str, session: Session, before: Option<Session>) -> Result<(), String> {
        self.sessions.insert(id.to_owned(), session.clone());
        let written = self.append(&Line { sid: id.to_owned(), session: Some(session) });
        if written.is_err() {
            match before {
                Some(before) => self.sessions.insert(id.to_owned(), before),
                None => self.sessions.remove(id),
            };
        }
        written
    }

    fn append(&mut self, line: &Line) -> Result<(), String> {
        let Some(mut journal) = self.journal.take() else { return Ok(()) };
        let written = journal.append(&to_json(line), || self.lines());
        self.journal = Some(journal);
        written
    }

    fn sweep(&mut self, now: u64) {
        self.sessions.retain(|_, session| !self.lasting.is_over(session, now));
    }

    fn lines(&self) -> Vec<String> {
        let line = |(id, session): (&SessionId, &Session)| Line { sid: id.clone(), session: Some(session.clone()) };
        self.sessions.iter().map(line).map(|line| to_json(&line)).collect()
    }
}

impl Lasting {
    fn is_over(&self, session: &Session, now: u64) -> bool {
        now >= session.turned_at.saturating_add(millis(self.idle))
            || now >= session.started.saturating_add(millis(self.longest))
    }

    /// Whether that turn is the one before the present one, and was so a moment ago.
    fn is_second(&self, session: &Session, turn: u64, now: u64) -> bool {
        turn.saturating_add(1) == session.turn && now.saturating_sub(session.turned_at) < millis(self.grace)
    }
}

fn to_json(line: &Line) -> String {
    serde_json::to_string(line).expect("numbers and strings are JSON")
}
