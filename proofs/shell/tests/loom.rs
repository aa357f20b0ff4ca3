use lockstep_shell_proofs::exhaust::{Limits, exhaust};
use lockstep_shell_proofs::under_loom::scenario;
use std::time::Duration;
#[test]
fn all() {
    let only = std::env::var("ONLY").ok();
    let limits = Limits {
        max_time: Some(Duration::from_secs(std::env::var("SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(20))),
        ..Limits::default()
    };
    let bound = std::env::var("BOUND").ok().and_then(|s| s.parse().ok());
    for s in scenario::all() {
        if only.as_deref().is_some_and(|o| !s.name.contains(o)) {
            continue;
        }
        let run = s.run;
        let Some(size) = s.exhaustible else { continue };
        let e = exhaust(move || run(size), bound, &limits);
        println!("{} {:24} {:?} {:>9} {:?} {:?}", s.obligation, s.name, bound, e.interleavings, e.time, e.finding);
    }
}
#[test]
fn variants() {
    use lockstep_shell_proofs::under_loom::variant;
    let limits = Limits { max_time: Some(Duration::from_secs(20)), ..Limits::default() };
    for s in variant::all() {
        let run = s.run;
        let size = s.size;
        let e = exhaust(move || run(size), None, &limits);
        println!("{} {:24} {:>9} {:?} {:?}", s.obligation, s.name, e.interleavings, e.time, e.finding);
    }
}
