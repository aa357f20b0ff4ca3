//! The same core with one mistake each. loom must refuse every variant, or its silence about production means nothing.
//!
//! A variant is a type of its own that implements a scenario's trait, so production has no switch for it.

use super::{core, scenario, sync};

use scenario::{Size, bridge, sh1, sh2, sh3, sh4, sh5, sh6};

pub mod admission;
pub mod bounded;
pub mod guard;
pub mod inbox;
pub mod reentrant;
pub mod registries;
pub mod sequence;

/// One mistake.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The obligation that the variant breaks.
    pub obligation: &'static str,
    /// The id of the known race that the variant reproduces, if any.
    pub race: Option<&'static str>,
    /// The variant's name.
    pub name: &'static str,
    /// The mistake.
    pub mistake: &'static str,
    /// The scenario that refuses the variant.
    pub scenario: &'static str,
    /// A part of the refusal's text.
    pub expected: &'static str,
    /// The size of the scenario.
    pub size: Size,
    /// Runs the scenario with the variant.
    pub run: fn(Size),
}

/// Returns every variant.
#[must_use]
pub fn all() -> Vec<Variant> {
    [REGISTRIES, SEQUENCES, WAKE_UPS, ADMISSIONS, REVOCATIONS, INBOXES].concat()
}

const REGISTRIES: &[Variant] = &[
    Variant {
        obligation: "SH-1",
        race: None,
        name: "check-then-lock",
        mistake: "the slot is checked for its end under one lock, and the step is taken under the next",
        scenario: "join-retire",
        expected: "SH-1: a join was lost in a retiring group",
        size: Size::PAIR,
        run: sh1::join_retire::<registries::CheckThenLock>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "remove-without-generation",
        mistake: "a group that has ended removes whatever slot is in the map",
        scenario: "join-retire",
        expected: "SH-1",
        size: Size::PAIR,
        run: sh1::join_retire::<registries::RemoveWithoutGeneration>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "look-then-insert",
        mistake: "the missing slot is noticed under one lock, and the new one is inserted under the next",
        scenario: "join-retire",
        expected: "SH-1: two live slots for one user",
        size: Size::PAIR,
        run: sh1::join_retire::<registries::LookThenInsert>,
    },
    Variant {
        obligation: "SH-1",
        race: Some("B11"),
        name: "two-lock-orders",
        mistake: "joining locks the map and then the slot, retiring the slot and then the map",
        scenario: "join-retire",
        expected: "deadlock",
        size: Size::PAIR,
        run: sh1::join_retire::<registries::TwoLockOrders>,
    },
    Variant {
        obligation: "SH-1",
        race: Some("A8"),
        name: "check-then-take",
        mistake: "the limit is checked under one lock and the place is taken under the next",
        scenario: "limit",
        expected: "SH-1: the limit is one",
        size: Size::PAIR,
        run: sh1::limit::<registries::CheckThenTake>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "any-generation",
        mistake: "a timer is given to the current session, whatever its generation",
        scenario: "session-stale",
        expected: "SH-1: a timer of",
        size: Size { actors: 1, rounds: 2 },
        run: sh1::session_stale::<registries::AnyGeneration>,
    },
    Variant {
        obligation: "SH-1",
        race: Some("B4"),
        name: "heard-too-soon",
        mistake: "a connection is reported as closed before it is removed from the list",
        scenario: "session-closed",
        expected: "SH-1: reported as closed, and still present",
        size: Size::ONE,
        run: sh1::session_closed::<registries::HeardTooSoon>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "abandoned-later",
        mistake: "a broken group is abandoned after its lock has been released",
        scenario: "join-fault",
        expected: "SH-1: two live slots for one user",
        size: Size::PAIR,
        run: sh1::join_fault::<registries::AbandonedLater>,
    },
];

const SEQUENCES: &[Variant] = &[
    Variant {
        obligation: "SH-2",
        race: None,
        name: "orders-after-unlock",
        mistake: "a step's outputs are dispatched after its lock has been released",
        scenario: "orders",
        expected: "SH-2: outputs took effect out of order",
        size: Size::PAIR,
        run: sh2::outputs::<sequence::OrdersAfterUnlock>,
    },
    Variant {
        obligation: "SH-2",
        race: Some("B20"),
        name: "two-looks",
        mistake: "the head is read under one lock and the entries under the next",
        scenario: "one-look",
        expected: "SH-2: head and entries of two moments",
        size: Size::PAIR,
        run: sh2::one_look::<sequence::TwoLooks>,
    },
    Variant {
        obligation: "SH-2",
        race: None,
        name: "torn-look",
        mistake: "a look reads the generation under one lock and the session under the next",
        scenario: "bridge-look",
        expected: "SH-2: not linearizable",
        size: Size::ONE,
        run: bridge::look::<sequence::TornLook>,
    },
];

const WAKE_UPS: &[Variant] = &[
    Variant {
        obligation: "SH-3",
        race: None,
        name: "waker-after-look",
        mistake: "the reader registers its waker in another critical section than the poll that found nothing",
        scenario: "wake-up",
        expected: "deadlock",
        size: Size::PAIR,
        run: sh3::wake_up::<inbox::WakerAfterLook>,
    },
    Variant {
        obligation: "SH-3",
        race: None,
        name: "wake-after-unlock",
        mistake: "the waker is taken under the lock and called after it",
        scenario: "close",
        expected: "SH-3: woken after close",
        size: Size::PAIR,
        run: sh3::close::<inbox::WakeAfterUnlock>,
    },
    Variant {
        obligation: "SH-3",
        race: Some("A26"),
        name: "wait-for-the-slow",
        mistake: "events are copied into a bounded queue per reader, and the user's lock is held while it is full",
        scenario: "slow-reader",
        expected: "deadlock",
        size: Size { actors: 1, rounds: 2 },
        run: sh3::slow_reader::<inbox::WaitForTheSlow>,
    },
    Variant {
        obligation: "SH-3",
        race: Some("X104"),
        name: "step-within-a-step",
        mistake: "an output is dispatched by another step of the same slot, whose lock is held",
        scenario: "slow-reader",
        expected: "deadlock",
        size: Size { actors: 1, rounds: 2 },
        run: sh3::slow_reader::<reentrant::StepWithin>,
    },
    Variant {
        obligation: "SH-3",
        race: None,
        name: "silent-hand-over",
        mistake: "handing over a value does not wake the owner",
        scenario: "every-kind",
        expected: "deadlock",
        size: Size::ONE,
        run: sh3::every_kind::<inbox::SilentHandOver>,
    },
    Variant {
        obligation: "SH-3",
        race: None,
        name: "first-waker",
        mistake: "the first waker is kept, although the task has moved",
        scenario: "wake-up",
        expected: "deadlock",
        size: Size::PAIR,
        run: sh3::wake_up::<inbox::FirstWaker>,
    },
];

const ADMISSIONS: &[Variant] = &[
    Variant {
        obligation: "SH-4",
        race: None,
        name: "snapshot-first",
        mistake: "the connections to tell are listed before the admission is closed",
        scenario: "admit",
        expected: "was admitted and not told",
        size: Size::PAIR,
        run: sh4::admit::<admission::SnapshotFirst>,
    },
    Variant {
        obligation: "SH-4",
        race: None,
        name: "listed-later",
        mistake: "a connection is put on the list after the step that admitted it",
        scenario: "admit",
        expected: "was admitted and not told",
        size: Size::PAIR,
        run: sh4::admit::<admission::ListedLater>,
    },
    Variant {
        obligation: "SH-4",
        race: None,
        name: "mode-swallowed",
        mistake: "a join brings the node's new mode into the session, which then ignores the drain as already known",
        scenario: "session-join",
        expected: "SH-4: a live connection was not told",
        size: Size::ONE,
        run: sh4::session_join::<admission::ModeSwallowed>,
    },
];

const REVOCATIONS: &[Variant] = &[
    Variant {
        obligation: "SH-5",
        race: None,
        name: "fence-before-lock",
        mistake: "a credential is checked against the revocations before the session is locked",
        scenario: "revoke",
        expected: "SH-5",
        size: Size::ONE,
        run: sh5::revoke::<guard::FenceBeforeLock>,
    },
    Variant {
        obligation: "SH-5",
        race: None,
        name: "nobody-there",
        mistake: "a revocation for a user without a session is dropped, because there is no connection to close",
        scenario: "revoke",
        expected: "SH-5: 0 became live after its revocation",
        size: Size::ONE,
        run: sh5::revoke::<guard::NobodyThere>,
    },
    Variant {
        obligation: "SH-5",
        race: Some("A25"),
        name: "get-then-delete",
        mistake: "a ticket is looked up under one lock and deleted under the next",
        scenario: "ticket",
        expected: "SH-5: each ticket is redeemed once",
        size: Size::PAIR,
        run: sh5::ticket::<guard::GetThenDelete>,
    },
];

const INBOXES: &[Variant] = &[
    Variant {
        obligation: "SH-6",
        race: None,
        name: "empty-then-close",
        mistake: "the owner empties the inbox and then closes it: items that arrive in between are lost",
        scenario: "post-close",
        expected: "SH-6: an item in a closed inbox",
        size: Size::PAIR,
        run: sh6::post_close::<bounded::EmptyThenClose>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "closed-before-lock",
        mistake: "a sender checks whether the inbox is closed before it locks it",
        scenario: "post-close",
        expected: "SH-6: an item in a closed inbox",
        size: Size::PAIR,
        run: sh6::post_close::<bounded::ClosedBeforeLock>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "count-then-post",
        mistake: "a sender counts under one lock and sends under the next",
        scenario: "bound",
        expected: "SH-6: as many are accepted as the bound",
        size: Size::PAIR,
        run: sh6::bound::<bounded::CountThenPost>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "shared-places",
        mistake: "verdicts, expiries and closes have no reserved places, and find the inbox full",
        scenario: "slot",
        expected: "SH-6: a reserved item was refused",
        size: Size::PAIR,
        run: sh6::reserved::<bounded::SharedPlaces>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "first-in-slot",
        mistake: "the item in a reserved place is kept, even if the new one is newer",
        scenario: "slot",
        expected: "SH-6: the newest reserved item is lost",
        size: Size { actors: 1, rounds: 2 },
        run: sh6::reserved::<bounded::FirstInSlot>,
    },
];
