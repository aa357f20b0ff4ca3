//! One user's breaker.

use lockstep_model::{Bounds, Breaker};
use proptest::prelude::*;

use crate::support::{SMALL, cases, survives_json};

#[test]
fn it_opens_at_the_bound_and_says_so_once() {
    let bounds = Bounds { failures: 3, ..SMALL };
    let mut breaker = Breaker::default();
    assert!(!breaker.is_open());
    assert_eq!([breaker.failed(&bounds), breaker.is_open()], [false, false]);
    assert_eq!([breaker.failed(&bounds), breaker.is_open()], [false, false]);
    assert_eq!([breaker.failed(&bounds), breaker.is_open()], [true, true]);
    let open = breaker;
    assert!(!breaker.failed(&bounds), "its timer is armed already");
    assert_eq!(breaker, open);
}

#[test]
fn a_success_forgives_the_failures_before_it_and_does_not_close_it() {
    let mut breaker = Breaker::default();
    assert!(!breaker.failed(&SMALL));
    breaker.succeeded();
    assert_eq!(breaker, Breaker::default());
    assert!(!breaker.failed(&SMALL));
    assert!(breaker.failed(&SMALL));
    breaker.succeeded();
    assert!(breaker.is_open());
}

#[test]
fn a_reset_breaker_starts_over() {
    let mut breaker = Breaker::default();
    assert!(!breaker.reset(), "it was not open");
    assert!(!breaker.failed(&SMALL));
    assert!(breaker.failed(&SMALL));
    assert!(breaker.reset(), "it was open");
    assert_eq!(breaker, Breaker::default());
}

#[test]
fn a_bound_of_zero_never_opens_it_and_the_highest_does() {
    let never = Bounds { failures: 0, ..SMALL };
    let mut breaker = Breaker::default();
    assert!((0..300).all(|_| !breaker.failed(&never)));
    assert_eq!(breaker, Breaker::default());

    let last = Bounds { failures: u8::MAX, ..SMALL };
    assert!((1..u8::MAX).all(|_| !breaker.failed(&last)));
    assert!(breaker.failed(&last));
}

proptest! {
    #![proptest_config(cases())]

    /// Needed for ISO-1: it is open exactly when enough failures followed the last success or reset, and the time since
    /// then is not over.
    #[test]
    fn it_is_open_from_enough_failures_in_a_row_until_its_time_is_over(
        bound in 0..5u8, happened in prop::collection::vec(0..5u8, 0..200)
    ) {
        let bounds = Bounds { failures: bound, ..SMALL };
        let (mut breaker, mut row, mut open) = (Breaker::default(), Vec::new(), false);
        for what in happened {
            match what {
                0 => {
                    breaker.succeeded();
                    row.clear();
                }
                1 => {
                    prop_assert_eq!(breaker.reset(), open);
                    row.clear();
                    open = false;
                }
                _ => {
                    let was = open;
                    if !open {
                        row.push(());
                        open = bound > 0 && row.len() == usize::from(bound);
                    }
                    prop_assert_eq!(breaker.failed(&bounds), open && !was);
                }
            }
            prop_assert_eq!(breaker.is_open(), open);
            survives_json(&breaker);
        }
    }
}
