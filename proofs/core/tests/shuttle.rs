//! The same scenarios with more threads than loom can take, in schedules that shuttle generates: at random, and by PCT,
//! which finds a bug of few preemptions with a known probability.
//!
//! Each run prints its seed; `SHUTTLE_RANDOM_SEED` repeats it.

use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

#[path = "../src/under_shuttle.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "what the other schedulers ask for stands in the same source"
)]
mod under_shuttle;

use under_shuttle::scenario::{Scenario, Size, all};

const SCHEDULES: usize = 2_000;
const PREEMPTIONS: usize = 5;

fn of(obligation: &str) -> Vec<Scenario> {
    let scenarios: Vec<_> = all().into_iter().filter(|scenario| scenario.obligation == obligation).collect();
    assert!(!scenarios.is_empty(), "{obligation} has no scenario");
    scenarios
}

fn run(scenario: Scenario, how: &str, seed: u64, scheduler: impl Scheduler + 'static) {
    let size = if scenario.scales { Size { actors: 5, rounds: 2 } } else { Size::PAIR };
    let line =
        format!("{} {} {how}: seed {seed}, {SCHEDULES} schedules of {size:?}\n", scenario.obligation, scenario.name);
    std::io::stdout().write_all(line.as_bytes()).expect("a test can write");
    let mut config = Config::new();
    config.stack_size = 0x10_0000;
    Runner::new(scheduler, config).run(move || (scenario.run)(size));
}

fn both(obligation: &str) {
    for scenario in of(obligation) {
        let seed = RandomState::new().hash_one(scenario.name);
        run(scenario, "at random", seed, RandomScheduler::new_from_seed(seed, SCHEDULES));
        run(scenario, "by PCT", seed, PctScheduler::new_from_seed(seed, PREEMPTIONS, SCHEDULES));
    }
}

macro_rules! obligations {
    ($($test:ident = $id:literal),+ $(,)?) => {
        $(#[test] fn $test() { both($id); })+

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
