//! A task without a runtime: a thread that parks when a poll finds nothing, until its waker is called.

use std::task::{Context, Poll, Wake, Waker};

use super::sync::{Arc, Condvar, Mutex, lock, wait};

/// Parks a thread. Its waker may be called from any thread until [`Parker::retire`].
#[derive(Debug)]
pub struct Parker {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    woken: bool,
    retired: bool,
}

impl Parker {
    /// Creates a parker that is not woken.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let state = State { woken: false, retired: false };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Polls until ready. A lost wake-up leaves the thread parked, which loom and shuttle report as a deadlock.
    pub fn block_on<R>(self: &Arc<Self>, mut poll: impl FnMut(&Context<'_>) -> Poll<R>) -> R {
        let waker = Waker::from(Arc::clone(self));
        let context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(result) = poll(&context) {
                return result;
            }
            let mut state = lock(&self.state);
            while !state.woken {
                state = wait(&self.changed, state);
            }
            state.woken = false;
        }
    }

    /// From now on, calling the waker is a violation.
    pub fn retire(&self) {
        lock(&self.state).retired = true;
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        assert!(!state.retired, "SH-3: woken after close");
        state.woken = true;
        self.changed.notify_one();
    }
}
