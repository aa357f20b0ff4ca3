//! Every interleaving of every scenario holds on production's source, and every broken variant is refused.

use std::io::Write as _;

use lockstep_core_proofs::exhaust::{ExplorationLimits, Explored, Finding, exhaust};
use lockstep_core_proofs::{obligations, variants};

fn say(name: &str, Explored { interleavings, time, .. }: &Explored) {
    let line = format!("{name}: {interleavings} interleavings, {:.2} s\n", time.as_secs_f64());
    std::io::stdout().write_all(line.as_bytes()).expect("a test can write");
}

/// Explores one scenario completely.
fn holds(name: &str) {
    let obligation = obligations().into_iter().find(|one| one.name() == name).expect("the name of a scenario");
    let explored = obligation.explore(&ExplorationLimits::default());
    say(name, &explored);
    assert_eq!(explored.finding, Finding::Holds, "{name}, after {} interleavings", explored.interleavings);
    assert!(explored.interleavings > 1, "{name}: nothing raced");
}

/// Explores one variant until it fails, and checks that it fails for the right reason.
fn is_refused(name: &str) {
    let variant = variants().into_iter().find(|one| one.name() == name).expect("the name of a variant");
    let explored = variant.explore(&ExplorationLimits::default());
    say(name, &explored);
    let Finding::Fails(text) = &explored.finding else {
        panic!("{name} was not refused in {} interleavings: {:?}", explored.interleavings, explored.finding);
    };
    assert!(text.contains(variant.expected()), "{name} was refused for another reason: {text}");
}

macro_rules! each {
    ($check:ident, $all:ident: $($test:ident = $name:literal),+ $(,)?) => {
        mod $check {
            $(#[test] fn $test() { super::$check($name); })+

            #[test]
            fn no_one_is_left_out() {
                let mut all: Vec<_> = super::$all().iter().map(|one| one.name()).collect();
                let mut here = vec![$($name),+];
                all.sort_unstable();
                here.sort_unstable();
                assert_eq!(here, all);
            }
        }
    };
}

each! { holds, obligations:
    sh1_join_retire = "join-retire",
    sh1_join_fault = "join-fault",
    sh1_limit = "limit",
    sh1_session_join_retire = "session-join-retire",
    sh1_session_notice = "session-notice",
    sh1_session_stale = "session-stale",
    sh1_session_closed = "session-closed",
    sh2_orders = "orders",
    sh2_one_look = "one-look",
    sh2_session_emit = "session-emit",
    sh2_bridge_retire = "bridge-retire",
    sh2_bridge_look = "bridge-look",
    sh2_bridge_emit = "bridge-emit",
    sh2_bridge_revoke = "bridge-revoke",
    sh3_wake_up = "wake-up",
    sh3_every_kind = "every-kind",
    sh3_close = "close",
    sh3_slow_reader = "slow-reader",
    sh3_session_pull = "session-pull",
    sh3_session_pull_close = "session-pull-close",
    sh4_admit = "admit",
    sh4_session_join = "session-join",
    sh4_session_vacant = "session-vacant",
    sh4_session_new = "session-new",
    sh4_mode_join = "mode-join",
    sh4_mode = "mode",
    sh4_drain_early = "drain-early",
    sh4_stop_serve = "stop-serve",
    sh4_stop = "stop",
    sh5_revoke = "revoke",
    sh5_session_revoke_retire = "session-revoke-retire",
    sh5_ticket = "ticket",
    sh5_ticket_bound = "ticket-bound",
    sh6_post_close = "post-close",
    sh6_session_post_close = "session-post-close",
    sh6_bound = "bound",
    sh6_slot = "slot",
}

each! { is_refused, variants:
    sh1_check_then_lock = "check-then-lock",
    sh1_remove_without_generation = "remove-without-generation",
    sh1_look_then_insert = "look-then-insert",
    sh1_two_lock_orders_b11 = "two-lock-orders",
    sh1_check_then_take_a8 = "check-then-take",
    sh1_any_generation = "any-generation",
    sh1_heard_too_soon_b4 = "heard-too-soon",
    sh1_abandoned_later = "abandoned-later",
    sh2_orders_after_unlock = "orders-after-unlock",
    sh2_two_looks_b20 = "two-looks",
    sh2_torn_look = "torn-look",
    sh3_waker_after_look = "waker-after-look",
    sh3_wake_after_unlock = "wake-after-unlock",
    sh3_wait_for_the_slow_a26 = "wait-for-the-slow",
    sh3_step_within_x104 = "step-within-a-step",
    sh3_silent_hand_over = "silent-hand-over",
    sh3_first_waker = "first-waker",
    sh4_snapshot_first = "snapshot-first",
    sh4_listed_later = "listed-later",
    sh4_mode_swallowed = "mode-swallowed",
    sh5_fence_before_lock = "fence-before-lock",
    sh5_nobody_there = "nobody-there",
    sh5_get_then_delete_a25 = "get-then-delete",
    sh6_empty_then_close = "empty-then-close",
    sh6_closed_before_lock = "closed-before-lock",
    sh6_count_then_post = "count-then-post",
    sh6_shared_places = "shared-places",
    sh6_first_in_slot = "first-in-slot",
}

/// A panic during the unwinding of a scenario's first panic would abort the process without a message.
#[test]
fn a_scenario_that_panics_twice_is_a_counterexample_too() {
    const CHILD: &str = "LOCKSTEP_PANICS_TWICE";
    const NAME: &str = "a_scenario_that_panics_twice_is_a_counterexample_too";
    struct Unwinds;
    impl Drop for Unwinds {
        fn drop(&mut self) {
            panic!("the second");
        }
    }
    if std::env::var_os(CHILD).is_some() {
        let panics = || {
            let _unwinds = Unwinds;
            panic!("SH-1: the first");
        };
        let _ = exhaust("twice", panics, &ExplorationLimits::default());
        return;
    }
    let this = std::env::current_exe().expect("this binary");
    let child = std::process::Command::new(this).args(["--exact", NAME, "--nocapture"]).env(CHILD, "").output();
    let child = child.expect("a process");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(1), "{said}");
    assert!(said.contains("twice fails: SH-1: the first"), "{said}");
}
