//! A dispatcher that calls back into its own slot, which breaks SH-3.

use std::num::NonZeroUsize;
use std::task::{Context, Poll};

use lockstep_model::UserId;

use super::core::{Contents, Dispatch, Fault, Inbox, Registry};
use super::scenario::sh3::{Blank, Input, Reading, Stream};
use super::sync::{Arc, Mutex, lock};

/// Reads on behalf of a reader while the step that has something for it is dispatched (X104). The registry and the slot
/// are production's.
#[derive(Debug)]
pub struct StepWithin(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry<Stream, Delivering>,
    inboxes: [Arc<Inbox<Blank, ()>>; 2],
    /// What was read for each reader.
    read: [Mutex<usize>; 2],
}

/// Delivers to a reader in the step that has something for it.
struct Delivering(Arc<Shared>);

impl core::fmt::Debug for Delivering {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Delivering").finish_non_exhaustive()
    }
}

impl Dispatch<Stream> for Delivering {
    fn dispatch(&mut self, (): &(), reader: usize) {
        *lock(&self.0.read[reader]) = Shared::step(&self.0, Input::Read(reader));
        self.0.inboxes[reader].signal();
    }

    fn abandon(&mut self, (): &(), fault: Fault) {
        assert_eq!(fault, Fault::Panicked, "a stream broke");
    }
}

impl Shared {
    fn step(this: &Arc<Self>, input: Input) -> usize {
        let open = |_, _: &mut Vec<usize>| (Stream::default(), Delivering(Arc::clone(this)));
        this.registry.with_or_open(&(), UserId(1), open, |stream| stream.step(input)).1
    }
}

impl Reading for StepWithin {
    fn new() -> Self {
        let inbox = || Arc::new(Inbox::new(NonZeroUsize::MIN));
        Self(Arc::new(Shared {
            registry: Registry::new(NonZeroUsize::MIN),
            inboxes: [inbox(), inbox()],
            read: [Mutex::new(0), Mutex::new(0)],
        }))
    }

    fn append(&self) {
        Shared::step(&self.0, Input::Append);
    }

    fn read(&self, reader: usize) -> usize {
        *lock(&self.0.read[reader])
    }

    fn poll(&self, reader: usize, context: &Context<'_>) -> Poll<()> {
        self.0.inboxes[reader].poll(context, &mut Contents::default())
    }
}
