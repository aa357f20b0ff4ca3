//! The slot: one machine behind one lock, whose outputs take effect before that lock is released.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | the user and the generation | any thread; they never change |
//! | the life: machine, dispatcher, buffers | a closure in `Slot::with`, which holds the lock |
//!
//! `Slot::with` takes a closure, which cannot wait for a future, so nothing is awaited under the lock, and no guard
//! leaves this file. [`Dispatch`] must not block either: it pushes into a bounded queue, or it wakes a task.
//!
//! * **SH-2** `Slot::with` takes the lock, steps, and dispatches the outputs of the step, in order, before the next
//!   step can happen. So outputs take effect in the order of the steps.
//!
//! A machine that breaks an invariant or panics is not used again: its dispatcher is told under the same lock, and the
//! slot ends. Its successor starts from the log.

use core::fmt;

use lockstep_model::{Generation, UserId, Violation};

use super::sync::{Mutex, MutexGuard, lock};

/// How many steps a slot takes between two checks of its machine in a build without debug assertions; with them, each
/// step is checked. A check of a session reads everything that the session retains, which costs more than a step.
pub const CHECK_EVERY: u32 = if cfg!(debug_assertions) { 1 } else { 256 };

/// A machine that a slot can hold.
pub trait Machine: Sized {
    /// The context of each step, beside its input.
    type Bounds;
    /// The inputs of the machine.
    type Input;
    /// The outputs of the machine.
    type Output;
    /// The buffers that a step pushes its outputs into.
    type Outputs: Default;
    /// The result of a step, returned to the caller.
    type Answer;

    /// Takes one input.
    fn step(&mut self, bounds: &Self::Bounds, input: Self::Input, out: &mut Self::Outputs) -> Self::Answer;

    /// The outputs that were emitted and not dispatched yet, oldest first.
    fn outputs(out: &mut Self::Outputs) -> &mut Vec<Self::Output>;

    /// Whether the machine has ended and can be dropped.
    fn is_over(&self) -> bool;

    /// Checks the machine's invariants.
    ///
    /// # Errors
    ///
    /// The id of the property that the machine violates.
    fn check(&self, bounds: &Self::Bounds) -> Result<(), Violation>;
}

/// Dispatches the outputs of one slot's machine. It is inside the slot, so its own state needs no lock.
pub trait Dispatch<M: Machine> {
    /// Dispatches one output. Must not block, and must not access a slot.
    fn dispatch(&mut self, bounds: &M::Bounds, output: M::Output);

    /// The machine is no longer trusted and is about to be dropped. Nothing that it held may be lost with it.
    fn abandon(&mut self, bounds: &M::Bounds, fault: Fault);

    /// A step is about to be taken.
    fn before(&mut self, _machine: &M, _input: &M::Input) {}

    /// A step was taken, or, with no answer, the machine was opened. None of the outputs has been dispatched yet.
    fn after(&mut self, _machine: &M, _answer: Option<&M::Answer>, _outputs: &[M::Output]) {}
}

/// Why a machine was abandoned. Each is our bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine violated this property after a step.
    Broken(Violation),
    /// The machine or its dispatcher panicked.
    Panicked,
}

/// One machine behind one lock, from its opening to its end. The end is final.
pub struct Slot<M: Machine, C> {
    user: UserId,
    generation: Generation,
    life: Mutex<Life<M, C>>,
}

enum Life<M: Machine, C> {
    /// In the registry, and not opened yet.
    Vacant,
    Live(Box<Live<M, C>>),
    Over,
}

struct Live<M: Machine, C> {
    machine: M,
    dispatcher: C,
    outputs: M::Outputs,
    steps: u32,
    stepping: bool,
    broken: Option<Violation>,
}

/// A live slot whose lock is held.
pub struct Locked<'a, M: Machine, C> {
    live: &'a mut Live<M, C>,
    bounds: &'a M::Bounds,
    generation: Generation,
}

/// The result of [`Slot::with`].
pub(super) enum Access<R, V> {
    /// The closure was called; `over` if the machine has ended.
    Done { result: R, over: bool },
    /// The closure was not called: the slot has ended, or is vacant and the caller cannot open it.
    Vacant(V),
}

impl<M: Machine, C: Dispatch<M>> Slot<M, C> {
    pub(super) fn new(user: UserId, generation: Generation) -> Self {
        Self { user, generation, life: Mutex::new(Life::Vacant) }
    }

    /// The user.
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The generation among the user's slots.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Calls `act` with the live machine. A vacant slot is first opened by `open`; without `open`, it is treated as
    /// ended.
    pub(super) fn with<R, O, V>(&self, bounds: &M::Bounds, open: Option<O>, act: V) -> Access<R, V>
    where
        O: FnOnce(&mut M::Outputs) -> (M, C),
        V: FnOnce(&mut Locked<'_, M, C>) -> R,
    {
        let mut held = Held { life: lock(&self.life), bounds, tombstone: None };
        if let (Life::Vacant, Some(open)) = (&*held.life, open) {
            let mut outputs = M::Outputs::default();
            let (machine, dispatcher) = open(&mut outputs);
            let live = Live { machine, dispatcher, outputs, steps: 0, stepping: true, broken: None };
            *held.life = Life::Live(Box::new(live));
            if let Life::Live(live) = &mut *held.life {
                let Live { machine, dispatcher, outputs, .. } = &mut **live;
                dispatcher.after(machine, None, M::outputs(outputs));
                live.dispatch(bounds);
            }
        }
        let Life::Live(live) = &mut *held.life else { return Access::Vacant(act) };
        let result = act(&mut Locked { live, bounds, generation: self.generation });
        Access::Done { result, over: held.settle() }
    }
}

impl<M: Machine, C: Dispatch<M>> Locked<'_, M, C> {
    /// The machine, read-only.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.live.machine
    }

    /// The dispatcher.
    pub fn dispatcher(&mut self) -> &mut C {
        &mut self.live.dispatcher
    }

    /// The generation among the user's slots.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Takes one step. When it returns, all outputs of the step have taken effect.
    pub fn step(&mut self, input: M::Input) -> M::Answer {
        let Live { machine, dispatcher, outputs, stepping, .. } = &mut *self.live;
        *stepping = true;
        dispatcher.before(machine, &input);
        let answer = machine.step(self.bounds, input, outputs);
        dispatcher.after(machine, Some(&answer), M::outputs(outputs));
        self.live.dispatch(self.bounds);
        answer
    }
}

impl<M: Machine, C: Dispatch<M>> Live<M, C> {
    /// Dispatches the outputs of the last step, and checks the machine if a check is due.
    fn dispatch(&mut self, bounds: &M::Bounds) {
        for output in M::outputs(&mut self.outputs).drain(..) {
            self.dispatcher.dispatch(bounds, output);
        }
        self.stepping = false;
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(CHECK_EVERY) {
            self.broken = self.broken.or(self.machine.check(bounds).err());
        }
    }
}

/// The held lock of a slot. The guard is dropped before the tombstone, so an ended machine is torn down after the lock
/// is released.
struct Held<'a, M: Machine, C: Dispatch<M>> {
    life: MutexGuard<'a, Life<M, C>>,
    bounds: &'a M::Bounds,
    tombstone: Option<Box<Live<M, C>>>,
}

impl<M: Machine, C: Dispatch<M>> Held<'_, M, C> {
    /// Ends the slot if its machine has ended, broke an invariant, or was interrupted in a step. Returns whether it
    /// did.
    fn settle(&mut self) -> bool {
        let Life::Live(live) = &mut *self.life else { return false };
        let fault = if live.stepping { Some(Fault::Panicked) } else { live.broken.map(Fault::Broken) };
        if fault.is_none() && !live.machine.is_over() {
            return false;
        }
        if let Life::Live(live) = core::mem::replace(&mut *self.life, Life::Over) {
            let live = self.tombstone.insert(live);
            if let Some(fault) = fault {
                live.dispatcher.abandon(self.bounds, fault);
            }
        }
        true
    }
}

impl<M: Machine, C: Dispatch<M>> Drop for Held<'_, M, C> {
    /// Ends the slot after a panic. Otherwise the slot is settled already, and this does nothing.
    fn drop(&mut self) {
        self.settle();
    }
}

impl<M: Machine, C> fmt::Debug for Slot<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("user", &self.user).field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl<M: Machine, C> fmt::Debug for Locked<'_, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked").field("generation", &self.generation).finish_non_exhaustive()
    }
}
