//! A panic becomes a verdict, and memory is measured.

use lockstep_proofs::engine::guard::catch;
use lockstep_proofs::engine::memory::Meter;

#[test]
fn a_panics_message_place_and_property_are_kept() {
    let panic = catch(|| panic!("AUTH-1: frame {} left", 7)).expect_err("panics");
    assert_eq!(panic.message, "AUTH-1: frame 7 left");
    assert_eq!(panic.property(), Some("AUTH-1"));
    assert!(panic.place.contains("guard.rs:"), "{}", panic.place);
}

#[test]
fn a_message_without_a_property_names_none() {
    let panic = catch(|| panic!("index 3 of a 2-tuple, A-1, x-1")).expect_err("panics");
    assert_eq!(panic.property(), None);
}

#[test]
fn a_failed_comparison_names_its_property() {
    let panic = catch(|| assert_eq!(1, 2, "RUN-2: one run")).expect_err("panics");
    assert_eq!(panic.property(), Some("RUN-2"));
}

#[test]
fn a_value_passes_through() {
    assert_eq!(catch(|| 3), Ok(3));
}

#[test]
#[cfg(target_os = "linux")]
fn growth_sees_an_allocation_that_is_touched() {
    let meter = Meter::start();
    let block = vec![1_u8; 64 << 20];
    let sum: u64 = block.iter().step_by(4096).map(|b| u64::from(*b)).sum();
    assert_eq!(sum, 64 << 8);
    let growth = meter.growth().expect("the kernel tells");
    assert!(growth >= 60 << 20, "{growth}");
}
