//! A key set at a URL (RFC 7517), fetched when it is needed and kept for a while.
//!
//! | when a token comes | what happens |
//! | --- | --- |
//! | the set is fresh and has the key | it is used |
//! | the set is older than `max_age` | it is fetched; if that fails, a key that is known is still used for `grace` |
//! | the set does not have the key | it is fetched, though not twice within `min_interval` |
//! | there is no set, or only one that is too old, and it cannot be fetched | nobody can say whose the token is |
//!
//! One fetch is under way at a time, and who needs one waits for it. It goes on when the one who began it has gone. A set
//! is replaced as a whole, and only by one that has a usable key: nobody sees half of one. Between two fetches an unknown
//! key may be a new one, so that a token of it is not rejected: it could not be found out.

use core::error::Error;
use core::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::{Client, StatusCode, Url, header, redirect};

use super::clock::{Clock, age, millis};
use super::keys::KeySet;
use crate::sync::lock;

/// A key set at a URL, and how it is fetched.
#[derive(Clone)]
pub struct KeyUrl {
    /// Where it is, `https:` unless on a network that is trusted.
    pub url: String,
    /// For how long it is used without being fetched again.
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
    /// Whether they were fetched after they were asked for, or have the key: what is not among them does not exist.
    pub(super) certain: bool,
}

/// The cache of one URL.
pub(super) struct RemoteKeys {
    shared: Arc<Shared>,
    /// Whoever holds it fetches. It is taken before the state's lock, never under it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Shared {
    config: KeyUrl,
    url: Url,
    algorithms: Vec<Algorithm>,
    client: Client,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<(Arc<KeySet>, u64)>,
    attempts: u64,
    successes: u64,
    attempted_at: Option<u64>,
    error: String,
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
        let state = Mutex::default();
        let shared = Arc::new(Shared { config, url, algorithms, client, clock, state });
        Ok(Self { shared, turn: Arc::default() })
    }

    /// The keys for a token that names this key.
    ///
    /// # Errors
    ///
    /// Why there are none now.
    pub(super) async fn get(&self, id: Option<&str>) -> Result<Found, String> {
        let (attempts, successes) = {
            let state = lock(&self.shared.state);
            if let Some(keys) = self.shared.usable(&state, Duration::ZERO).filter(|keys| keys.knows(id)) {
                return Ok(Found { keys, certain: true });
            }
            (state.attempts, state.successes)
        };
        self.fetch(attempts).await;
        let state = lock(&self.shared.state);
        match self.shared.usable(&state, self.shared.config.grace) {
            Some(keys) => Ok(Found { certain: state.successes > successes || keys.knows(id), keys }),
            None if state.error.is_empty() => Err("the key set is not there yet".into()),
            None => Err(format!("the key set: {}", state.error)),
        }
    }

    /// Fetches the set, unless somebody did since `attempts`, or it is too early.
    async fn fetch(&self, attempts: u64) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        {
            let mut state = lock(&self.shared.state);
            let now = self.shared.clock.now();
            let since = state.attempted_at.and_then(|then| age(now, then));
            let too_early = since.is_some_and(|since| since < millis(self.shared.config.min_interval));
            if state.attempts != attempts || too_early {
                return;
            }
            state.attempts += 1;
            state.attempted_at = Some(now);
        }
        let shared = Arc::clone(&self.shared);
        // A task of its own: who asked may be gone before the answer is there, and the others still want it.
        let task = tokio::spawn(async move {
            let fetched = tokio::time::timeout(shared.config.timeout, shared.request()).await;
            let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".into()));
            let mut state = lock(&shared.state);
            match fetched {
                Ok(keys) => {
                    state.keys = Some((Arc::new(keys), shared.clock.now()));
                    state.successes += 1;
                    state.error.clear();
                }
                Err(error) => {
                    tracing::warn!(%error, "the key set could not be fetched");
                    state.error = error;
                }
            }
            drop(state);
            drop(turn);
        });
        // It ends early only with the process.
        let _ = task.await;
    }
}

impl Shared {
    /// The keys, if they are not older than they may be and this much more.
    fn usable(&self, state: &State, more: Duration) -> Option<Arc<KeySet>> {
        let (keys, fetched_at) = state.keys.as_ref()?;
        let age = age(self.clock.now(), *fetched_at)?;
        (age < millis(self.config.max_age.saturating_add(more))).then(|| Arc::clone(keys))
    }

    async fn request(&self) -> Result<KeySet, String> {
        let request = self.client.get(self.url.clone()).header(header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| causes(&error.without_url()))?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| causes(&error.without_url()))? {
            if body.len() + chunk.len() > self.config.max_bytes {
                return Err(format!("longer than {} bytes", self.config.max_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::from_jwks(&body, &self.algorithms, false)
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteKeys").field(&self.shared.config).finish()
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
