//! A bounded pool for work that computes or blocks, such as that of tools, and that would otherwise occupy a runtime's
//! workers.
//!
//! The amount of concurrent work is fixed, independent of the number of runs and users. Users take turns: each has at
//! most one piece of work in progress, and the pieces of different users run in the order of their requests. A user
//! that submits a hundred pieces waits for each of them, while the next user waits for one. Work whose result is no
//! longer awaited is not started, or is told to stop.

use core::fmt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::lock;

/// The pool. Clones share the same pool.
///
/// ```
/// use std::sync::Arc;
/// use lockstep::pool::Pool;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let pool = Pool::new(2);
/// let sum = pool.run(&Arc::from("ada"), |_| (1..=100).sum::<u32>()).await;
/// assert_eq!(sum, Ok(5050));
/// # });
/// ```
#[derive(Clone)]
pub struct Pool {
    places: Arc<Semaphore>,
    turns: Turns,
}

type Turns = Arc<Mutex<HashMap<Arc<str>, Arc<Semaphore>>>>;

/// The work panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the work panicked")
    }
}

impl core::error::Error for Panicked {}

/// Tells work whether its result is still wanted. Long-running work should check it now and then.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether the result is no longer awaited.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets the flag when the awaiting future is dropped.
struct Waiting(Stop);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Pool {
    /// Creates a pool that runs `threads` pieces of work at a time: at least one, at most 256.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(threads.clamp(1, 256))), turns: Turns::default() }
    }

    /// Creates a pool that leaves half of the processors to everything else.
    #[must_use]
    pub fn of_half_the_processors() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, |processors| processors.get() / 2))
    }

    /// Runs a user's work when it is the user's turn and a place is free, and returns its result. Cancel safe: if the
    /// future is dropped before the work has started, the work never starts. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Panicked`].
    pub async fn run<T: Send + 'static>(
        &self,
        user: &Arc<str>,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let turn = UserPermit::take(&self.turns, user).await;
        // Neither semaphore is ever closed.
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Panicked)?;
        let waiting = Waiting(Stop::default());
        let stop = waiting.0.clone();
        let work = tokio::task::spawn_blocking(move || {
            let done = work(&stop);
            drop((turn, place));
            done
        });
        work.await.map_err(|_| Panicked)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("free", &self.places.available_permits()).finish_non_exhaustive()
    }
}

/// A user's turn, or a place in the queue for it.
struct UserPermit {
    turns: Turns,
    user: Arc<str>,
    /// On drop, released before the entry is checked.
    permit: Option<OwnedSemaphorePermit>,
}

impl UserPermit {
    async fn take(turns: &Turns, user: &Arc<str>) -> Self {
        let semaphore = {
            let mut all = lock(turns);
            Arc::clone(all.entry(Arc::clone(user)).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        // From here on the entry is released, even if this future is dropped.
        let mut turn = Self { turns: Arc::clone(turns), user: Arc::clone(user), permit: None };
        turn.permit = semaphore.acquire_owned().await.ok();
        turn
    }
}

impl Drop for UserPermit {
    fn drop(&mut self) {
        self.permit = None;
        let mut turns = lock(&self.turns);
        // Every other turn of this user, waiting or taken, holds a reference to the semaphore, and so does a permit.
        if turns.get(&self.user).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            turns.remove(&self.user);
        }
    }
}
