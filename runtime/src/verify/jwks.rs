//! A key set at a URL (RFC 7517), fetched when it is needed and kept for a while.
//!
//! | when a token comes | what happens |
//! | --- | --- |
//! | there is a set | the token is judged by it at once, however slow the issuer's server may be |
//! | the set is older than it may be | it is fetched meanwhile; until that succeeds it is used, for `grace` at most |
//! | no key of the set verifies the token | the set is fetched, though not twice within `min_interval`, and the token judged again |
//! | there is no set, or only one that is too old, and it cannot be fetched | nobody can say whose the token is |
//!
//! So it does not matter whether an issuer names its keys, or gives a new key the name of an old one. A set may be used for as
//! long as its answer says (`Cache-Control: max-age`), between `min_interval` and `max_age`. It is then fetched again even if
//! no token comes, so that a key which the issuer has withdrawn does not wait for the next token.
//!
//! One fetch is under way at a time, and who needs one waits for it. It goes on when the one who began it has gone. A set
//! is replaced as a whole, and only by one that has a usable key: nobody sees half of one. Between two fetches an unknown
//! key may be a new one, so that a token of it is not rejected: it could not be found out.

use core::error::Error;
use core::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use metrics::counter;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect};
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;

use super::clock::{Clock, age, millis};
use super::keys::KeySet;
use crate::sync::lock;

/// A key set at a URL, and how it is fetched.
#[derive(Clone)]
pub struct KeyUrl {
    /// Where it is, `https:` unless on a network that is trusted.
    pub url: String,
    /// For how long it is used without being fetched again, unless its answer names a shorter time.
    pub max_age: Duration,
    /// For how much longer a key of it is used while it cannot be fetched. A key that the issuer took back lives no
    /// longer than `max_age` and this.
    pub grace: Duration,
    /// The least time between two fetches.
    pub min_interval: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// How long the answer may be, in bytes.
    pub max_bytes: usize,
}

impl KeyUrl {
    /// Fetched every ten minutes, at most every ten seconds; used for an hour more when it cannot be fetched.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            max_age: Duration::from_mins(10),
            grace: Duration::from_hours(1),
            min_interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            max_bytes: 256 * 1024,
        }
    }
}

impl fmt::Debug for KeyUrl {
    /// Without what a URL may hide: user, password and query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(&self.url).ok();
        let host = url.as_ref().and_then(Url::host_str);
        f.debug_struct("KeyUrl").field("host", &host).field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

/// The keys as far as they are known.
pub(super) struct Found {
    pub(super) keys: Arc<KeySet>,
    /// Which set it is, of all that were fetched.
    number: u64,
    /// Whether the set was fetched after it was asked for: what is not in it does not exist.
    pub(super) certain: bool,
}

/// The cache of one URL.
pub(super) struct RemoteKeys(Arc<Shared>);

struct Shared {
    config: KeyUrl,
    url: Url,
    algorithms: Vec<Algorithm>,
    client: Client,
    clock: Clock,
    state: Mutex<State>,
    /// Whoever holds it fetches. It is taken before the state's lock, never under it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    set: Option<Set>,
    attempts: u64,
    successes: u64,
    attempted_at: Option<u64>,
    error: String,
}

struct Set {
    keys: Arc<KeySet>,
    fetched_at: u64,
    /// For how long it is fresh, in milliseconds.
    fresh: u64,
    /// The name of its content (RFC 9110 §8.8.3).
    tag: Option<HeaderValue>,
}

/// What a server answers.
enum Answer {
    New {
        keys: KeySet,
        fresh: u64,
        tag: Option<HeaderValue>,
    },
    /// The set has not changed.
    Same {
        fresh: u64,
    },
}

impl RemoteKeys {
    pub(super) fn new(config: KeyUrl, algorithms: Vec<Algorithm>, clock: Clock) -> Result<Self, String> {
        let url = Url::parse(&config.url).map_err(|error| format!("the key set's URL: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err("the key set's URL is neither https nor http".into());
        }
        // An error if the process has one already, which then is the one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(redirect::Policy::none()).build();
        let client = client.map_err(|error| format!("no HTTP client for the key set: {}", causes(&error)))?;
        let (state, turn) = (Mutex::default(), Arc::default());
        Ok(Self(Arc::new(Shared { config, url, algorithms, client, clock, state, turn })))
    }

    /// The keys to judge a token by: those that are there, or else those that are fetched now.
    ///
    /// # Errors
    ///
    /// Why there are none now.
    pub(super) async fn get(&self) -> Result<Found, String> {
        let shared = &self.0;
        let (attempts, successes) = {
            let state = lock(&shared.state);
            if let Some((keys, fresh)) = shared.usable(&state) {
                let found = Found { keys, number: state.successes, certain: false };
                drop(state);
                if !fresh && let Ok(turn) = Arc::clone(&shared.turn).try_lock_owned() {
                    let _ = shared.begin(turn, None);
                }
                return Ok(found);
            }
            (state.attempts, state.successes)
        };
        shared.fetch(attempts).await;
        let state = lock(&shared.state);
        match shared.usable(&state) {
            Some((keys, _)) => Ok(Found { keys, number: state.successes, certain: state.successes > successes }),
            None if state.error.is_empty() => Err("the key set is not there yet".into()),
            None => Err(format!("the key set: {}", state.error)),
        }
    }

    /// The set that came after `than`, which is fetched if it is not there. `None` if it cannot be fetched now.
    pub(super) async fn newer(&self, than: &Found) -> Option<Found> {
        let shared = &self.0;
        let newer = || {
            let state = lock(&shared.state);
            let keys = shared.usable(&state).filter(|_| state.successes > than.number);
            keys.map(|(keys, _)| Found { keys, number: state.successes, certain: true }).ok_or(state.attempts)
        };
        match newer() {
            Ok(found) => Some(found),
            Err(attempts) => {
                shared.fetch(attempts).await;
                newer().ok()
            }
        }
    }
}

impl Shared {
    /// The keys, if they may still be used, and whether they are fresh.
    fn usable(&self, state: &State) -> Option<(Arc<KeySet>, bool)> {
        let set = state.set.as_ref()?;
        let age = age(self.clock.now(), set.fetched_at)?;
        let longest = millis(self.config.max_age.saturating_add(self.config.grace));
        (age < longest).then(|| (Arc::clone(&set.keys), age < set.fresh))
    }

    /// Fetches the set, unless somebody did since `attempts`, or it is too early, and waits for it.
    async fn fetch(self: &Arc<Self>, attempts: u64) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(task) = self.begin(turn, Some(attempts)) {
            // It ends early only with the process.
            let _ = task.await;
        }
    }

    /// Begins to fetch, unless somebody did since `attempts`, or it is too early.
    fn begin(self: &Arc<Self>, turn: OwnedMutexGuard<()>, attempts: Option<u64>) -> Option<JoinHandle<()>> {
        {
            let mut state = lock(&self.state);
            let now = self.clock.now();
            let since = state.attempted_at.and_then(|then| age(now, then));
            let too_early = since.is_some_and(|since| since < millis(self.config.min_interval));
            if attempts.is_some_and(|attempts| state.attempts != attempts) || too_early {
                return None;
            }
            state.attempts += 1;
            state.attempted_at = Some(now);
        }
        let shared = Arc::clone(self);
        // A task of its own: who asked may be gone before the answer is there, and the others still want it.
        Some(tokio::spawn(async move {
            let fetched = tokio::time::timeout(shared.config.timeout, shared.request()).await;
            shared.settle(fetched.unwrap_or_else(|_| Err("no answer in time".into())));
            drop(turn);
        }))
    }

    fn settle(self: &Arc<Self>, fetched: Result<Answer, String>) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let fresh = match fetched {
            Ok(Answer::New { keys, fresh, tag }) => {
                state.set = Some(Set { keys: Arc::new(keys), fetched_at: now, fresh, tag });
                fresh
            }
            Ok(Answer::Same { fresh }) => {
                let Some(set) = &mut state.set else { return };
                (set.fetched_at, set.fresh) = (now, fresh);
                fresh
            }
            Err(error) => {
                counter!("lockstep_key_set_failures_total").increment(1);
                tracing::warn!(%error, "the key set could not be fetched");
                state.error = error;
                return;
            }
        };
        state.successes += 1;
        state.error.clear();
        let number = state.successes;
        drop(state);
        tokio::spawn(renew(Arc::downgrade(self), number, Duration::from_millis(fresh)));
    }

    async fn request(&self) -> Result<Answer, String> {
        let mut request = self.client.get(self.url.clone()).header(header::ACCEPT, "application/json");
        let tag = lock(&self.state).set.as_ref().and_then(|set| set.tag.clone());
        let asked = tag.is_some();
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let mut response = request.send().await.map_err(|error| causes(&error.without_url()))?;
        let fresh = self.fresh(response.headers());
        if asked && response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Answer::Same { fresh });
        }
        if response.status() != StatusCode::OK {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let tag = response.headers().get(header::ETAG).cloned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error.without_url()))? {
            if body.len() + chunk.len() > self.config.max_bytes {
                return Err(format!("longer than {} bytes", self.config.max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer::New { keys: KeySet::from_jwks(&body, &self.algorithms, false)?, fresh, tag })
    }

    /// For how long an answer is fresh: as long as it says (RFC 9111 §5.2.2.1), within our own bounds.
    fn fresh(&self, headers: &HeaderMap) -> u64 {
        let (least, most) = (millis(self.config.min_interval), millis(self.config.max_age));
        let said = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let seconds = said.flat_map(|value| value.split(',')).find_map(|directive| {
            let (name, seconds) = directive.split_once('=')?;
            name.trim().eq_ignore_ascii_case("max-age").then(|| seconds.trim().trim_matches('"').parse::<u64>().ok())?
        });
        seconds.map_or(most, |seconds| seconds.saturating_mul(1000).max(least).min(most))
    }
}

/// Fetches a set again when it is not fresh any more, unless another has taken its place, or nobody needs one.
async fn renew(shared: Weak<Shared>, number: u64, fresh: Duration) {
    tokio::time::sleep(fresh).await;
    let Some(shared) = shared.upgrade() else { return };
    if lock(&shared.state).successes == number
        && let Ok(turn) = Arc::clone(&shared.turn).try_lock_owned()
    {
        let _ = shared.begin(turn, None);
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteKeys").field(&self.0.config).finish()
    }
}

/// An error and what caused it, in one line.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
