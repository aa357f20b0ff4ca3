//! The same scenarios on real threads, with more of them and more repetitions, and with the core as production links
//! it.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[path = "../src/under_std.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "what the other schedulers ask for stands in the same source"
)]
mod under_std;

use under_std::scenario::{Scenario, Size, all};

const REPEATS: usize = 20;
/// A deadlock or a lost wake-up would hang forever; no scenario takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(120);

fn run(scenario: Scenario) {
    let size = if scenario.scales { Size { actors: 6, rounds: 20 } } else { Size::PAIR };
    let (done, waiting) = mpsc::channel();
    let running = thread::spawn(move || {
        for _ in 0..REPEATS {
            (scenario.run)(size);
        }
        let _ = done.send(());
    });
    match waiting.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} hangs: {}", scenario.name, scenario.about),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => running.join().expect("the scenario holds"),
    }
}

macro_rules! obligations {
    ($($test:ident = $id:literal),+ $(,)?) => {
        $(#[test] fn $test() {
            all().into_iter().filter(|scenario| scenario.obligation == $id).for_each(run);
        })+

        #[test]
        fn no_obligation_is_left_out() {
            for scenario in all() {
                assert!([$($id),+].contains(&scenario.obligation), "{scenario:?}");
            }
        }
    };
}

obligations! {
    sh1_get_or_create_against_retire = "SH-1",
    sh2_orders_in_the_order_of_steps = "SH-2",
    sh3_no_lost_wake_up = "SH-3",
    sh4_drain_against_admit = "SH-4",
    sh5_revoke_against_join = "SH-5",
    sh6_bounded_inbox = "SH-6",
}

/// Ended values are not kept: not a race, but a leak that would fill a process.
mod kept {
    use std::num::NonZeroUsize;

    use lockstep::core::Registry;
    use lockstep_model::{Bounds, ConnectionId, UserId};

    use super::under_std::scenario::fixture::Fixture;
    use super::under_std::scenario::group::{Gauge, Group, Input};
    use super::under_std::sync::Arc;

    #[test]
    fn a_slot_whose_machine_ends_in_a_step_is_forgotten() {
        let (registry, gauge) = (Registry::<Group, Gauge>::new(NonZeroUsize::MIN), Gauge::default());
        let open = |_, outputs: &mut Vec<_>| (Group::open(outputs), gauge.clone());
        let (_, stepped) = registry.with_or_open(&(), UserId(1), open, |group| group.step(Input::Linger));
        assert!(stepped && registry.all().is_empty() && gauge.live() == 0);
    }

    #[test]
    fn a_session_keeps_nothing_of_a_connection_that_has_left() {
        let fixture = Fixture::open(Bounds::DEFAULT);
        let stays = fixture.join(1).expect("the node admits");
        fixture.restore();
        let leaves = fixture.join(2).expect("the node admits");
        let inbox = fixture.0.inbox(ConnectionId(2)).map(|inbox| Arc::downgrade(&inbox)).expect("an inbox");
        drop(leaves);
        assert_eq!(fixture.members().len(), 1);
        assert!(inbox.upgrade().is_none(), "its inbox is kept");
        drop(stays);
    }
}
