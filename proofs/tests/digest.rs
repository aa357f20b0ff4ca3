//! Two values have the same digest if and only if they are equivalent.

use std::hash::Hash;

use ahash::RandomState;
use lockstep_proofs::engine::digest::{digest_wide, written};
use lockstep_proofs::history::content::digest;
use serde_json::value::RawValue;

fn bytes(value: impl Hash) -> Vec<u8> {
    written(&value, <[u8]>::to_vec)
}

#[test]
fn small_numbers_take_a_byte_and_the_encoding_is_injective() {
    assert_eq!(bytes((1_u64, 254_usize, 3_u8)), [1, 254, 3]);
    assert_eq!(bytes(255_u64), [255, 255, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes(256_u32), [255, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_ne!(bytes((255_u64, 0_u64)), bytes((0_u64, 255_u64)));
}

#[test]
fn a_value_is_encoded_as_its_parts() {
    assert_eq!(digest_wide(&vec![1_u64, 2]), digest_wide(&vec![1_u64, 2]));
    assert_ne!(digest_wide(&vec![1_u64, 2]), digest_wide(&vec![2_u64, 1]));
}

fn of(text: &str) -> u64 {
    let value: &RawValue = serde_json::from_str(text).expect("JSON");
    digest(value, &RandomState::with_seeds(1, 2, 3, 4), &mut Vec::new())
}

#[test]
fn equivalent_values_have_equal_digests() {
    for (one, other) in [
        (r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [true, null],\n\"a\" : 1 }"),
        (r#""é""#, r#""\u00e9""#),
        ("1", "1.0"),
        ("-2", "-2e0"),
        ("0", "-0.0"),
        ("0.10", "1e-1"),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":{"x":1,"y":2},"b":{}}"#, r#"{"b":{},"a":{"y":2,"x":1}}"#),
    ] {
        assert_eq!(of(one), of(other), "{one} {other}");
    }
}

#[test]
fn different_values_have_different_digests() {
    let values = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "0.5",
        "\"\"",
        "\"0\"",
        "[]",
        "[0]",
        "[[]]",
        "[0,0]",
        "[0,1]",
        "[1,0]",
        "{}",
        r#"{"a":0}"#,
        r#"{"b":0}"#,
        r#"{"a":[0]}"#,
        r#"{"a":{"b":0}}"#,
        r#"{"a":0,"b":0}"#,
        r#"{"a":0,"b":1}"#,
        r#"{"a":1,"b":0}"#,
        r#"["a",0]"#,
        "1e400",
        "2e400",
        "18446744073709551615",
    ];
    for (index, one) in values.iter().enumerate() {
        for other in &values[index + 1..] {
            assert_ne!(of(one), of(other), "{one} {other}");
        }
    }
}
