//! The same scenarios on real threads, more of them and more often, with the shell as production links it.

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
/// A deadlock or a lost wake-up would hang for ever; nothing here takes a tenth of this.
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
    sh6_bounded_mailbox = "SH-6",
}
