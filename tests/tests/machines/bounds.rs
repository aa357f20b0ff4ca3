//! Bounds under which a gateway can keep its promises.

use core::time::Duration;

use lockstep_model::Bounds;

use crate::support::{SMALL, survives_json};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_defaults_and_the_bounds_of_the_tests_are_sound() {
    assert_eq!(Bounds::default(), Bounds::DEFAULT);
    assert_eq!(Bounds::DEFAULT.validate(), Ok(()));
    assert_eq!(SMALL.validate(), Ok(()));
    survives_json(&Bounds::DEFAULT);
}

/// Each rule by itself: the last value that it allows, the first that it does not, and the field that it names.
#[test]
fn each_rule_holds_at_its_limit_and_names_its_field_beyond() {
    let enough = Bounds { pending: 1_000, ..SMALL };
    let long = SMALL.verification + SECOND;
    let rules: [(&str, Bounds, Bounds); 20] = [
        ("connections", Bounds { connections: 1, ..SMALL }, Bounds { connections: 0, ..SMALL }),
        ("runs", Bounds { runs: 1, ..SMALL }, Bounds { runs: 0, ..SMALL }),
        ("tools", Bounds { tools: 1, ..SMALL }, Bounds { tools: 0, ..SMALL }),
        ("events", Bounds { events: 1, ..SMALL }, Bounds { events: 0, ..SMALL }),
        ("outbox", Bounds { outbox: 4, ..SMALL }, Bounds { outbox: 3, ..SMALL }),
        ("attempts", Bounds { attempts: 1, ..SMALL }, Bounds { attempts: 0, ..SMALL }),
        ("retained", Bounds { retained: 1, ..SMALL }, Bounds { retained: 0, ..SMALL }),
        (
            "pending",
            Bounds { pending: 2, runs: 1, tools: 1, queued: 0, ..SMALL },
            Bounds { pending: 1, runs: 1, tools: 1, queued: 0, ..SMALL },
        ),
        ("runs` × (`tools", Bounds { pending: 6, queued: 0, ..SMALL }, Bounds { pending: 5, queued: 0, ..SMALL }),
        ("queued", Bounds { pending: 6, queued: 0, ..SMALL }, Bounds { pending: 7, queued: 1, ..SMALL }),
        (
            "pending",
            Bounds { runs: 250, tools: 3, queued: 0, ..enough },
            Bounds { runs: 250, tools: 4, queued: 0, ..enough },
        ),
        ("strikes", Bounds { strikes: 1, ..SMALL }, Bounds { strikes: 0, ..SMALL }),
        ("recovery", Bounds { recovery: 1, ..SMALL }, Bounds { recovery: 0, ..SMALL }),
        ("idle", Bounds { idle: SMALL.heartbeat + SECOND, ..SMALL }, Bounds { idle: SMALL.heartbeat, ..SMALL }),
        ("handshake", Bounds { handshake: long, ..SMALL }, Bounds { handshake: SMALL.verification, ..SMALL }),
        (
            "backoff_most",
            Bounds { backoff_most: SMALL.backoff, ..SMALL },
            Bounds { backoff_most: SMALL.backoff - Duration::from_nanos(1), ..SMALL },
        ),
        ("backoff", Bounds { backoff: Duration::from_nanos(1), ..SMALL }, Bounds { backoff: Duration::ZERO, ..SMALL }),
        ("pong", Bounds { pong: SMALL.heartbeat, ..SMALL }, Bounds { pong: SMALL.heartbeat + SECOND, ..SMALL }),
        ("pong", Bounds { pong: Duration::from_nanos(1), ..SMALL }, Bounds { pong: Duration::ZERO, ..SMALL }),
        ("answer", Bounds { answer: Duration::from_nanos(1), ..SMALL }, Bounds { answer: Duration::ZERO, ..SMALL }),
    ];
    for (field, last, beyond) in rules {
        assert_eq!(last.validate(), Ok(()), "{field}");
        let refused = beyond.validate();
        assert!(refused.is_err_and(|rule| rule.contains(&format!("`{field}`"))), "{field}: {refused:?}");
    }
}

#[test]
fn bounds_too_high_to_multiply_are_refused_and_not_a_panic() {
    let refused = Bounds { runs: usize::MAX, tools: usize::MAX, ..SMALL }.validate();
    assert!(refused.is_err_and(|rule| rule.contains("`pending`")));
}
