//! The slot: one machine behind one lock, whose orders take effect before that lock is released.
//!
//! | what | who may touch it, and when |
//! | --- | --- |
//! | whose it is, and its generation | anybody; they never change |
//! | the life: machine, dispatcher, buffers | whoever is inside `Slot::visit`, which holds the lock |
//!
//! A visit is a closure that cannot wait for a future, so nothing is awaited under the lock, and no guard leaves this
//! file. What a [`Dispatch`] does with an order must not block either: it pushes into a bounded queue, or it wakes.
//!
//! * **SH-2** A visit takes the lock, steps, and carries out what the step ordered, in order, before anybody else can
//!   step. So orders take effect in the order of the steps.
//!
//! A machine that breaks an invariant, or panics, is not used again: its dispatcher is told so under the same lock, and the
//! slot is over. Its successor starts from what the log has.

use core::fmt;

use lockstep_model::{Generation, UserId, Violation};

use super::sync::{Mutex, MutexGuard, lock};

/// Steps of one slot between two of its checks in a build without debug assertions; with them, each step is checked. A
/// check of a session reads all that it retains, which costs more than the step.
pub const CHECK_EVERY: u32 = if cfg!(debug_assertions) { 1 } else { 256 };

/// A machine that a slot can hold.
pub trait Machine: Sized {
    /// What each step is given beside its input.
    type Bounds;
    /// What happens to it.
    type Input;
    /// What it wants done.
    type Order;
    /// The buffers that a step pushes its orders into.
    type Orders: Default;
    /// What a step answers to the one who asked for it.
    type Answer;

    /// Takes one input.
    fn step(&mut self, bounds: &Self::Bounds, input: Self::Input, out: &mut Self::Orders) -> Self::Answer;

    /// What was ordered and is not yet carried out, oldest first.
    fn orders(out: &mut Self::Orders) -> &mut Vec<Self::Order>;

    /// Whether it has ended and is to be forgotten.
    fn is_over(&self) -> bool;

    /// Which property its value breaks, if any.
    ///
    /// # Errors
    ///
    /// The id of the property.
    fn check(&self, bounds: &Self::Bounds) -> Result<(), Violation>;
}

/// Carries out what the machine of one slot orders. It is inside the slot, so its own state needs no lock.
pub trait Dispatch<M: Machine> {
    /// Carries out one order. Must not block, and must not enter a slot.
    fn dispatch(&mut self, bounds: &M::Bounds, order: M::Order);

    /// The machine is not to be trusted any more and is about to be dropped; nothing that it held may be lost with it.
    fn abandon(&mut self, bounds: &M::Bounds, fault: Fault);

    /// A step is about to be taken.
    fn before(&mut self, _machine: &M, _input: &M::Input) {}

    /// A step was taken, or with no answer the machine was opened, and nothing of what was ordered is carried out yet.
    fn after(&mut self, _machine: &M, _answer: Option<&M::Answer>, _orders: &[M::Order]) {}
}

/// Why a machine was abandoned. Each is a bug of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// After a step its value broke this property.
    Broken(Violation),
    /// It, or what carries out its orders, panicked.
    Panicked,
}

/// One machine behind one lock, from its opening to its end. There is no way back from the end.
pub struct Slot<M: Machine, C> {
    user: UserId,
    generation: Generation,
    life: Mutex<Life<M, C>>,
}

enum Life<M: Machine, C> {
    /// In the registry, and not opened by the one who put it there or who came first.
    Vacant,
    Live(Box<Live<M, C>>),
    Over,
}

struct Live<M: Machine, C> {
    machine: M,
    dispatcher: C,
    orders: M::Orders,
    steps: u32,
    stepping: bool,
    broken: Option<Violation>,
}

/// What a act of a live slot works with, under the slot's lock.
pub struct Locked<'a, M: Machine, C> {
    live: &'a mut Live<M, C>,
    bounds: &'a M::Bounds,
    generation: Generation,
}

/// What a visit came to.
pub(super) enum Access<R, V> {
    /// The act was inside; `over` when the machine has ended with that.
    Done { result: R, over: bool },
    /// The slot is over, or not opened yet by one who can: the act was not called.
    Vacant(V),
}

impl<M: Machine, C: Dispatch<M>> Slot<M, C> {
    pub(super) fn new(user: UserId, generation: Generation) -> Self {
        Self { user, generation, life: Mutex::new(Life::Vacant) }
    }

    /// Whose it is.
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Which of its user's slots it is.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Calls the act with the live machine, opened before by `open` if nobody has. Without `open` an vacant slot is
    /// closed.
    pub(super) fn with<R, O, V>(&self, bounds: &M::Bounds, open: Option<O>, act: V) -> Access<R, V>
    where
        O: FnOnce(&mut M::Orders) -> (M, C),
        V: FnOnce(&mut Locked<'_, M, C>) -> R,
    {
        let mut held = Held { life: lock(&self.life), bounds, tombstone: None };
        if let (Life::Vacant, Some(open)) = (&*held.life, open) {
            let mut orders = M::Orders::default();
            let (machine, dispatcher) = open(&mut orders);
            let live = Live { machine, dispatcher, orders, steps: 0, stepping: true, broken: None };
            *held.life = Life::Live(Box::new(live));
            if let Life::Live(live) = &mut *held.life {
                let Live { machine, dispatcher, orders, .. } = &mut **live;
                dispatcher.after(machine, None, M::orders(orders));
                live.dispatch(bounds);
            }
        }
        let Life::Live(live) = &mut *held.life else { return Access::Vacant(act) };
        let result = act(&mut Locked { live, bounds, generation: self.generation });
        Access::Done { result, over: held.settle() }
    }
}

impl<M: Machine, C: Dispatch<M>> Locked<'_, M, C> {
    /// The machine, to be looked at.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.live.machine
    }

    /// The dispatcher.
    pub fn dispatcher(&mut self) -> &mut C {
        &mut self.live.dispatcher
    }

    /// Which of its user's slots it is.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Takes one step. When it returns, all that the step ordered has taken effect.
    pub fn step(&mut self, input: M::Input) -> M::Answer {
        let Live { machine, dispatcher, orders, stepping, .. } = &mut *self.live;
        *stepping = true;
        dispatcher.before(machine, &input);
        let answer = machine.step(self.bounds, input, orders);
        dispatcher.after(machine, Some(&answer), M::orders(orders));
        self.live.dispatch(self.bounds);
        answer
    }
}

impl<M: Machine, C: Dispatch<M>> Live<M, C> {
    /// Carries out the orders of the step that was just taken, and looks whether the machine is still sound.
    fn dispatch(&mut self, bounds: &M::Bounds) {
        for order in M::orders(&mut self.orders).drain(..) {
            self.dispatcher.dispatch(bounds, order);
        }
        self.stepping = false;
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(CHECK_EVERY) {
            self.broken = self.broken.or(self.machine.check(bounds).err());
        }
    }
}

/// The lock of a slot while somebody is inside. The guard is dropped first, so an ended machine is torn down when the
/// lock is free again.
struct Held<'a, M: Machine, C: Dispatch<M>> {
    life: MutexGuard<'a, Life<M, C>>,
    bounds: &'a M::Bounds,
    tombstone: Option<Box<Live<M, C>>>,
}

impl<M: Machine, C: Dispatch<M>> Held<'_, M, C> {
    /// Ends the slot if its machine has ended, broke an invariant, or is in the middle of a step, and says so.
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
    /// Settles what a panic has left behind; after a visit that came to its end there is nothing to do.
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
