//! Attempts to log in: what counts, for whom, and for how long.

use core::time::Duration;

use lockstep_model::login::attempts::{Attempts, Buckets, Outcome, Rate, Tries};

const fn rate(burst: u32, refill: u64) -> Rate {
    Rate { burst, refill: Duration::from_millis(refill) }
}

/// Three wrong passwords a network and two an account; one more every 20 and every 50 milliseconds.
const TRIES: Tries = Tries { per_network: rate(3, 20), per_account: rate(2, 50), keys: 4 };

type TestAttempts = Attempts<u8, &'static str>;

fn wrong(attempts: &mut TestAttempts, network: u8, account: &'static str, now: u64) -> Result<(), Duration> {
    attempts.begin(&TRIES, &network, Some(&account), now)?;
    attempts.end(&TRIES, &network, Some(&account), Outcome::Wrong, now);
    assert_eq!(attempts.check(&TRIES), Ok(()));
    Ok(())
}

/// LIM-1: the stated time is exactly the time until another attempt may begin.
#[test]
fn an_account_has_its_burst_and_one_more_per_refill() {
    let mut attempts = TestAttempts::new();
    assert_eq!([wrong(&mut attempts, 1, "ann", 0), wrong(&mut attempts, 2, "ann", 0)], [Ok(()), Ok(())]);
    assert_eq!(wrong(&mut attempts, 3, "ann", 0), Err(Duration::from_millis(50)));
    assert_eq!(wrong(&mut attempts, 3, "ann", 49), Err(Duration::from_millis(1)));
    assert_eq!(wrong(&mut attempts, 3, "ann", 50), Ok(()));
    assert_eq!(wrong(&mut attempts, 3, "ann", 50), Err(Duration::from_millis(50)));
}

/// ISO-1: what one account is refused does not count against the network, where others log in.
#[test]
fn a_refused_attempt_spends_nothing() {
    let mut attempts = TestAttempts::new();
    for _ in 0..2 {
        assert_eq!(wrong(&mut attempts, 1, "ann", 0), Ok(()));
    }
    for _ in 0..9 {
        assert_eq!(wrong(&mut attempts, 1, "ann", 0), Err(Duration::from_millis(50)));
    }
    assert_eq!(wrong(&mut attempts, 1, "bob", 0), Ok(()), "the network's third");
    assert_eq!(wrong(&mut attempts, 1, "bob", 0), Err(Duration::from_millis(20)));
    assert_eq!(wrong(&mut attempts, 2, "bob", 0), Ok(()), "the network's refusal did not count against the account");
}

/// LIM-1: a password that takes long to verify returns what it held, and not what has been refilled meanwhile.
#[test]
fn an_attempt_that_is_not_counted_leaves_no_trace_however_long_it_takes() {
    let mut attempts = TestAttempts::new();
    assert_eq!(attempts.begin(&TRIES, &1, Some(&"ann"), 0), Ok(()));
    assert_eq!(wrong(&mut attempts, 1, "bob", 100), Ok(()));
    attempts.end(&TRIES, &1, Some(&"ann"), Outcome::Uncounted, 100);
    let mut other = TestAttempts::new();
    assert_eq!(wrong(&mut other, 1, "bob", 100), Ok(()));
    for attempts in [&mut attempts, &mut other] {
        assert_eq!([wrong(attempts, 1, "cid", 100), wrong(attempts, 1, "cid", 100)], [Ok(()), Ok(())]);
        assert_eq!(wrong(attempts, 1, "dan", 100), Err(Duration::from_millis(20)));
    }
}

/// LIM-1: attempts in progress count, so a hundred at once are no way around the bound.
#[test]
fn attempts_at_once_are_as_many_as_the_burst() {
    let mut attempts = TestAttempts::new();
    let began = (0..100).filter(|_| attempts.begin(&TRIES, &1, None, 0).is_ok()).count();
    assert_eq!(began, 3);
    assert!(attempts.begin(&TRIES, &1, None, 1_000).is_err(), "time alone returns no held token");
    attempts.end(&TRIES, &1, None, Outcome::Uncounted, 1_000);
    assert_eq!(attempts.begin(&TRIES, &1, None, 1_000), Ok(()));
}

/// LIM-1: with more keys than are kept, the one that is nearest to full is forgotten.
#[test]
fn the_bucket_nearest_to_full_makes_room() {
    let (rate, mut buckets) = (rate(2, 10), Buckets::new());
    for (key, times) in [("one", 2), ("two", 1), ("three", 2)] {
        for _ in 0..times {
            assert_eq!(buckets.take(rate, 3, &key, 0), Ok(()));
        }
    }
    assert_eq!((buckets.take(rate, 3, &"four", 5), buckets.len()), (Ok(()), 3));
    assert!(["one", "three"].iter().all(|key| buckets.check(rate, key, 5).is_err()));
    assert_eq!(buckets.take(rate, 3, &"two", 100), Ok(()));
    assert_eq!((buckets.len(), buckets.is_empty()), (1, false), "those that are full again are forgotten first");
}

/// ISO-1: attempts whose bucket was dropped while they were in progress cost their key no more than an empty bucket.
#[test]
fn a_key_waits_no_longer_than_its_rate_says_although_its_bucket_was_dropped() {
    let (rate, mut buckets) = (rate(2, 10), Buckets::new());
    assert_eq!([buckets.hold(rate, 1, &"one", 0), buckets.hold(rate, 1, &"one", 0)], [Ok(()), Ok(())]);
    assert_eq!(buckets.take(rate, 1, &"two", 0), Ok(()));
    assert_eq!([buckets.take(rate, 1, &"one", 0), buckets.take(rate, 1, &"one", 0)], [Ok(()), Ok(())]);
    for _ in 0..2 {
        buckets.spend(rate, 1, &"one", 0);
    }
    assert_eq!(buckets.check(rate, &"one", 0), Err(Duration::from_millis(10)));
    assert_eq!(buckets.check(rate, &"one", 10), Ok(()));
}

#[test]
fn no_refill_is_no_limit() {
    let mut buckets = Buckets::new();
    assert!((0..100).all(|now| buckets.take(rate(1, 0), 1, &"key", now) == Ok(())));
    assert!(buckets.is_empty());
}
