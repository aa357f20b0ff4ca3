//! The same core with one mistake each. loom must refuse every one, or its silence about production means nothing.
//!
//! A variant is a type of its own that implements the trait of a scenario, so production has no switch for it.

use super::{core, scenario, sync};

use scenario::{Size, bridge, sh1, sh2, sh3, sh4, sh5, sh6};

pub mod admission;
pub mod guard;
pub mod inbox;
pub mod journal;
pub mod registries;
pub mod slot;

/// One mistake.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The obligation that it breaks.
    pub obligation: &'static str,
    /// The row of the list of known races that it is, if it is one.
    pub race: Option<&'static str>,
    /// Its name.
    pub name: &'static str,
    /// What is done wrong.
    pub mistake: &'static str,
    /// The scenario that refuses it.
    pub scenario: &'static str,
    /// What the refusal says, somewhere in its text.
    pub expected: &'static str,
    /// At which size.
    pub size: Size,
    /// Runs the scenario with the variant.
    pub run: fn(Size),
}

/// Every variant.
#[must_use]
pub fn all() -> Vec<Variant> {
    [ROOMS, JOURNALS, MAILBOXES, GATES, GUARDS, SLOTS].concat()
}

const ROOMS: &[Variant] = &[
    Variant {
        obligation: "SH-1",
        race: None,
        name: "check-then-lock",
        mistake: "whether the slot is over is looked at under the lock, and the step is taken under the next",
        scenario: "join-retire",
        expected: "SH-1: a join was lost in a retiring group",
        size: Size::PAIR,
        run: sh1::join_retire::<registries::CheckThenLock>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "remove-without-generation",
        mistake: "a group that has ended takes whatever is in the map out of it",
        scenario: "join-retire",
        expected: "SH-1",
        size: Size::PAIR,
        run: sh1::join_retire::<registries::RemoveWithoutGeneration>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "look-then-insert",
        mistake: "that there is no slot is seen under the lock, and the new one is put in under the next",
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
        mistake: "the limit is looked at in one visit and the place is taken in the next",
        scenario: "limit",
        expected: "SH-1: the limit is one",
        size: Size::PAIR,
        run: sh1::limit::<registries::CheckThenTake>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "any-generation",
        mistake: "a timer is given to the session that is there, whichever that is",
        scenario: "session-stale",
        expected: "SH-1: a timer of",
        size: Size { actors: 1, rounds: 2 },
        run: sh1::session_stale::<registries::AnyGeneration>,
    },
    Variant {
        obligation: "SH-1",
        race: Some("B4"),
        name: "heard-too-soon",
        mistake: "a connection is heard to be closed before it is out of the list",
        scenario: "session-closed",
        expected: "SH-1: it was heard to be closed, and is there",
        size: Size::ONE,
        run: sh1::session_closed::<registries::HeardTooSoon>,
    },
    Variant {
        obligation: "SH-1",
        race: None,
        name: "abandoned-later",
        mistake: "a group that broke is given up when its lock has been released",
        scenario: "join-fault",
        expected: "SH-1: two live slots for one user",
        size: Size::PAIR,
        run: sh1::join_fault::<registries::AbandonedLater>,
    },
];

const JOURNALS: &[Variant] = &[
    Variant {
        obligation: "SH-2",
        race: None,
        name: "orders-after-unlock",
        mistake: "the orders of a step are carried out when its lock has been released",
        scenario: "orders",
        expected: "SH-2: orders took effect out of order",
        size: Size::PAIR,
        run: sh2::orders::<journal::OrdersAfterUnlock>,
    },
    Variant {
        obligation: "SH-2",
        race: Some("B20"),
        name: "two-looks",
        mistake: "the head is read under one lock and the entries under the next",
        scenario: "one-look",
        expected: "SH-2: head and entries of two moments",
        size: Size::PAIR,
        run: sh2::one_look::<journal::TwoLooks>,
    },
    Variant {
        obligation: "SH-2",
        race: None,
        name: "torn-look",
        mistake: "a look reads the generation in one visit and the session in the next",
        scenario: "bridge-look",
        expected: "SH-2: not linearizable",
        size: Size::ONE,
        run: bridge::look::<journal::TornLook>,
    },
];

const MAILBOXES: &[Variant] = &[
    Variant {
        obligation: "SH-3",
        race: None,
        name: "waker-after-look",
        mistake: "the reader leaves its waker in another critical section than the look that found nothing",
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
        mistake: "frames are copied into a bounded queue for each tab, and the user's lock is held until there is group",
        scenario: "slow-reader",
        expected: "deadlock",
        size: Size { actors: 1, rounds: 2 },
        run: sh3::slow_reader::<inbox::WaitForTheSlow>,
    },
    Variant {
        obligation: "SH-3",
        race: None,
        name: "silent-hand-over",
        mistake: "what is handed over does not wake the owner",
        scenario: "every-kind",
        expected: "deadlock",
        size: Size::ONE,
        run: sh3::every_kind::<inbox::SilentHandOver>,
    },
    Variant {
        obligation: "SH-3",
        race: None,
        name: "first-waker",
        mistake: "the waker that was left first is kept, and the task has moved",
        scenario: "wake-up",
        expected: "deadlock",
        size: Size::PAIR,
        run: sh3::wake_up::<inbox::FirstWaker>,
    },
];

const GATES: &[Variant] = &[
    Variant {
        obligation: "SH-4",
        race: None,
        name: "snapshot-first",
        mistake: "those to be told are listed before the admission is closed",
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
        mistake: "the join brings the node's new mode into the session, which then ignores the news as no news",
        scenario: "session-join",
        expected: "SH-4: a live connection was not told",
        size: Size::ONE,
        run: sh4::session_join::<admission::ModeSwallowed>,
    },
];

const GUARDS: &[Variant] = &[
    Variant {
        obligation: "SH-5",
        race: None,
        name: "fence-before-lock",
        mistake: "a credential is held against the revocations before the session is locked",
        scenario: "revoke",
        expected: "SH-5",
        size: Size::ONE,
        run: sh5::revoke::<guard::FenceBeforeLock>,
    },
    Variant {
        obligation: "SH-5",
        race: None,
        name: "nobody-there",
        mistake: "a revocation for a user without a session is done with: there is nobody to close",
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

const SLOTS: &[Variant] = &[
    Variant {
        obligation: "SH-6",
        race: None,
        name: "empty-then-close",
        mistake: "the owner empties the inbox and then closes it: what came between is lost",
        scenario: "post-close",
        expected: "SH-6: an item in a closed inbox",
        size: Size::PAIR,
        run: sh6::post_close::<slot::EmptyThenClose>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "closed-before-lock",
        mistake: "a poster looks whether the inbox is closed before it locks it",
        scenario: "post-close",
        expected: "SH-6: an item in a closed inbox",
        size: Size::PAIR,
        run: sh6::post_close::<slot::ClosedBeforeLock>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "count-then-post",
        mistake: "a poster counts under one lock and posts under the next",
        scenario: "bound",
        expected: "SH-6: as many as there are places",
        size: Size::PAIR,
        run: sh6::bound::<slot::CountThenPost>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "shared-places",
        mistake: "verdicts, expiries and closes take the places that others fill, and find none",
        scenario: "slot",
        expected: "SH-6: no group for ours",
        size: Size::PAIR,
        run: sh6::slots::<slot::SharedPlaces>,
    },
    Variant {
        obligation: "SH-6",
        race: None,
        name: "first-in-slot",
        mistake: "the item that waits in a slot is kept, also when the one that comes is newer",
        scenario: "slot",
        expected: "SH-6: the newest of ours is lost",
        size: Size { actors: 1, rounds: 2 },
        run: sh6::slots::<slot::FirstInSlot>,
    },
];
