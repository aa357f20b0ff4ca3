//! The table of close codes.

use std::collections::BTreeSet;

use lockstep_model::close::{Advice, advice};
use lockstep_model::{Cause, Refusal};

use crate::support::survives_json;

/// The table as in the wire's documentation.
const TABLE: [(Cause, u16, Advice); 24] = [
    (Cause::PeerClosed, 1000, Advice::None),
    (Cause::ProtocolError, 1002, Advice::StayAway),
    (Cause::UnsupportedData, 1003, Advice::StayAway),
    (Cause::Lost, 1006, Advice::ComeBack),
    (Cause::InvalidPayload, 1007, Advice::StayAway),
    (Cause::TooBig, 1009, Advice::StayAway),
    (Cause::Fault, 1011, Advice::ComeBack),
    (Cause::GoingAway, 4000, Advice::ComeBack),
    (Cause::HandshakeTimeout, 4001, Advice::ComeBack),
    (Cause::HeartbeatLost, 4002, Advice::ComeBack),
    (Cause::VerifierUnavailable, 4003, Advice::ComeBack),
    (Cause::Overloaded, 4004, Advice::ComeBack),
    (Cause::Slow, 4005, Advice::ComeBack),
    (Cause::Moved, 4006, Advice::ComeBack),
    (Cause::HistoryUnavailable, 4007, Advice::ComeBack),
    (Cause::CredentialRejected, 4500, Advice::StayAway),
    (Cause::CredentialExpired, 4501, Advice::StayAway),
    (Cause::CredentialRevoked, 4502, Advice::StayAway),
    (Cause::UserMismatch, 4503, Advice::StayAway),
    (Cause::CredentialMissing, 4504, Advice::StayAway),
    (Cause::TooManyConnections, 4505, Advice::StayAway),
    (Cause::Superseded, 4506, Advice::StayAway),
    (Cause::TooEager, 4507, Advice::StayAway),
    (Cause::Flooding, 4508, Advice::StayAway),
];

/// CONN-1: a cause's code is part of the wire, and 1011 is for our faults alone.
#[test]
fn each_cause_has_its_code_and_its_advice() {
    assert_eq!(Cause::ALL, TABLE.map(|(cause, ..)| cause));
    for (cause, code, what) in TABLE {
        assert_eq!((cause.code(), cause.advice()), (code, what), "{cause:?}");
        assert_eq!(code == 1011, cause == Cause::Fault);
    }
    let codes: BTreeSet<u16> = Cause::ALL.iter().map(|cause| cause.code()).collect();
    assert_eq!(codes.len(), TABLE.len(), "no two causes share a code");
}

/// What clients of the older protocol do at a code: come back, or get a new credential and come back.
#[test]
fn each_cause_has_a_code_that_older_clients_know() {
    let credential = [
        Cause::CredentialRejected,
        Cause::CredentialExpired,
        Cause::CredentialRevoked,
        Cause::CredentialMissing,
        Cause::UserMismatch,
    ];
    for cause in Cause::ALL {
        let code = cause.legacy_code();
        assert_eq!(code == 1008, credential.contains(cause), "{cause:?}");
        assert_eq!(code == 1011, *cause == Cause::Fault, "{cause:?}");
        assert_eq!(code == 1000, [Cause::PeerClosed, Cause::Superseded].contains(cause), "{cause:?}");
        assert!([1000, 1001, 1006, 1008, 1011, 1013].contains(&code), "{cause:?}");
        // They come back at each code after which the newer protocol's clients do.
        let back = cause.advice() == Advice::ComeBack;
        assert!(!back || [1001, 1006, 1011, 1013].contains(&code), "{cause:?}");
        // A reason with these words keeps their refresh from coming back.
        for words in ["Token expired", "token has expired", "JWT expired"] {
            assert!(!cause.reason().contains(words));
        }
    }
}

#[test]
fn a_reason_fits_into_a_close_frame_and_tells_its_cause_from_every_other() {
    let mut reasons = BTreeSet::new();
    for cause in Cause::ALL {
        let reason = cause.reason();
        assert!((8..=123).contains(&reason.len()) && reason.contains(' '), "{cause:?}: {reason:?}");
        assert!(reasons.insert(reason), "{reason:?} is said twice");
        survives_json(cause);
    }
}

#[test]
fn a_client_can_hard_wire_the_rule_for_every_code() {
    for code in 0..=u16::MAX {
        let rule = if code == 1000 {
            Advice::None
        } else if [1002, 1003, 1007, 1008, 1009, 1010].contains(&code) || (4500..5000).contains(&code) {
            Advice::StayAway
        } else {
            Advice::ComeBack
        };
        assert_eq!(advice(code), rule, "{code}");
    }
}

#[test]
fn each_refusal_says_what_is_wrong_in_words_of_its_own() {
    let said = [
        (Refusal::RunEnded, "ended"),
        (Refusal::OutOfOrder, "order"),
        (Refusal::ToolOpen, "already executing"),
        (Refusal::ToolNotOpen, "not executing"),
        (Refusal::TooManyTools, "executing tools"),
        (Refusal::TooManyEvents, "events"),
        (Refusal::Backpressure, "behind"),
        (Refusal::Retired, "retired"),
        (Refusal::Misuse, "in use or unknown"),
    ];
    let texts: BTreeSet<String> = said.iter().map(|(refusal, _)| refusal.to_string()).collect();
    assert_eq!(texts.len(), said.len());
    for (refusal, word) in said {
        assert!(refusal.to_string().contains(word), "{refusal}");
        survives_json(&refusal);
    }
}
