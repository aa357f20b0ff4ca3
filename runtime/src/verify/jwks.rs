//! A key set at a URL (RFC 7517), fetched on demand and cached.
//!
//! | when a token arrives and | then |
//! | --- | --- |
//! | there is a set | the token is verified with it at once, however slow the issuer's server may be |
//! | the set is stale | it is fetched meanwhile; until that succeeds it is used, for `grace` at most |
//! | no key verifies the token | the set is fetched, at most once per `min_interval`, and the token verified again |
//! | there is no set, or only an expired one, and it cannot be fetched | the token cannot be verified |
//!
//! Therefore an issuer need not name its keys, and may give a new key the name of an old one. A set stays fresh for as
//! long as its response says (`Cache-Control: max-age`), but at least `min_interval` and at most `max_age`. It is then
//! fetched again even if no token arrives, so that a withdrawn key does not stay until the next token.
//!
//! One fetch is in progress at a time; tasks that need the set wait for it. It continues if the task that started it is
//! gone. A set is replaced as a whole, and only by a set that has a usable key, so no task sees a partial set. Between
//! two fetches an unknown key may be a new one, so its token is not rejected but reported as unavailable.

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
#[non_exhaustive]
pub struct KeyUrl {
    /// Its address: `https:`, unless the network is trusted.
    pub url: String,
    /// How long the set is used before it is fetched again, unless its response names a shorter time.
    pub max_age: Duration,
    /// How much longer its keys are used while it cannot be fetched. A key that the issuer withdrew is used for at most
    /// `max_age` plus this.
    pub grace: Duration,
    /// The least time between two fetches.
    pub min_interval: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
    /// The longest response, in bytes.
    pub max_bytes: usize,
}

impl KeyUrl {
    /// Fetched every ten minutes, at most every ten seconds; used for another hour if it cannot be fetched.
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
    /// Leaves out what a URL may hide: user, password and query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(&self.url).ok();
        let host = url.as_ref().and_then(Url::host_str);
        f.debug_struct("KeyUrl").field("host", &host).field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

/// The keys that are known.
pub(super) struct Found {
    pub(super) keys: Arc<KeySet>,
    /// The number of this set among all that were fetched.
    number: u64,
    /// Whether the set was fetched after the request for it: a key that is not in it does not exist.
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
    /// Held by the task that fetches. It is acquired before the state's lock, never while that is held.
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
    /// How long it is fresh, in milliseconds.
    fresh: u64,
    /// The entity tag of its content (RFC 9110 §8.8.3).
    tag: Option<HeaderValue>,
}

/// A server's answer.
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
        let url = Url::parse(&config.url).map_err(|error| format!("the key set's URL is not valid: {error}"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err("the key set's URL is neither https nor http".into());
        }
        // An error if the process already has one, which is then used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(redirect::Policy::none()).build();
        let client =
            client.map_err(|error| format!("cannot create an HTTP client for the key set: {}", causes(&error)))?;
        let (state, turn) = (Mutex::default(), Arc::default());
        Ok(Self(Arc::new(Shared { config, url, algorithms, client, clock, state, turn })))
    }

    /// The keys to verify a token with: the cached ones, or else the result of a fetch.
    ///
    /// # Errors
    ///
    /// Why there are no keys now.
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
            None if state.error.is_empty() => Err("the key set has not been fetched yet".into()),
            None => Err(format!("the key set cannot be fetched: {}", state.error)),
        }
    }

    /// The set after `than`, fetched if necessary. `None` if it cannot be fetched now.
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

    /// Fetches the set and waits for it, unless there was a fetch since `attempts`, or it is too early.
    async fn fetch(self: &Arc<Self>, attempts: u64) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(task) = self.begin(turn, Some(attempts)) {
            // It ends early only with the process.
            let _ = task.await;
        }
    }

    /// Starts a fetch, unless there was one since `attempts`, or it is too early.
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
        // A task of its own, because the caller may be gone before the answer arrives and other callers still need it.
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
                return Err(format!("it is longer than {} bytes", self.config.max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer::New { keys: KeySet::from_jwks(&body, &self.algorithms, false)?, fresh, tag })
    }

    /// How long an answer is fresh: as long as it says (RFC 9111 §5.2.2.1), within our own bounds.
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

/// Fetches a set again when it is no longer fresh, unless it has been replaced or is no longer needed.
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

/// An error and its causes, on one line.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
