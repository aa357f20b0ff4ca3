//! Which tokens are accepted, and why others are rejected.

use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header, encode};
use lockstep::verify::NotVerified;
use lockstep::verify::credential_id;
use lockstep::verify::jwt::{JwtConfig, JwtVerifier, MAX_TOKEN};
use lockstep::verify::keys::{Keys, Secret};
use serde_json::json;

use super::support::*;

const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A key file of the kind that an algorithm needs.
fn key_file(directory: &Directory, algorithm: Algorithm) -> Keys {
    let content: &[u8] = match algorithm.family() {
        AlgorithmFamily::Ec if algorithm == Algorithm::ES256 => include_bytes!("keys/p256.pub.pem"),
        AlgorithmFamily::Ec => include_bytes!("keys/p384.pub.pem"),
        AlgorithmFamily::Ed => include_bytes!("keys/ed.pub.pem"),
        AlgorithmFamily::Hmac => SECRET,
        AlgorithmFamily::Rsa => RSA_PUBLIC,
    };
    Keys::File(directory.file(&format!("{algorithm:?}"), content))
}

fn verifier_for(directory: &Directory, algorithm: Algorithm) -> JwtVerifier {
    verifier_of(JwtConfig::new(key_file(directory, algorithm))).0
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_good_for_the_key_of_its_file_and_for_no_other_type_of_key() {
    let directory = Directory::new();
    for of_token in ALL {
        let token = signed(of_token, &claims());
        for of_key in ALL {
            let verdict = verify(&verifier_for(&directory, of_key), &token).await;
            let kind = |algorithm: Algorithm| (algorithm.family(), algorithm == Algorithm::ES384);
            if kind(of_token) == kind(of_key) {
                let identity = verdict.unwrap_or_else(|not| panic!("{of_token:?}: {not:?}"));
                assert_eq!((&*identity.subject, identity.credential), ("ann", credential_id("1")));
                assert_eq!(identity.lifetime, Duration::from_secs(630), "what is left, and the leeway");
            } else {
                let refused = Err(NotVerified::Rejected("the key does not permit the algorithm"));
                assert_eq!(verdict, refused, "{of_token:?} with a key of {of_key:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_changed_token_is_rejected_whatever_the_algorithm() {
    let directory = Directory::new();
    for algorithm in ALL {
        let verifier = verifier_for(&directory, algorithm);
        let (good, other) = (signed(algorithm, &claims()), signed(algorithm, &but(json!({"sub": "bob"}))));
        let [good, other]: [Vec<&str>; 2] = [good.split('.').collect(), other.split('.').collect()];
        for forged in [[good[0], other[1], good[2]], [good[0], good[1], other[2]], [good[0], good[1], ""]] {
            assert_eq!(rejection(&verifier, &forged.join(".")).await, "the signature is wrong", "{algorithm:?}");
        }
    }
}

#[tokio::test]
async fn the_algorithm_none_is_rejected_however_it_is_spelled() {
    let (verifier, _) = strict();
    let claims = base64url(claims().to_string().as_bytes());
    for name in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256"] {
        let header = base64url(json!({"alg": name, "typ": "JWT"}).to_string().as_bytes());
        for signature in ["", "AA"] {
            let token = format!("{header}.{claims}.{signature}");
            assert_eq!(rejection(&verifier, &token).await, "the algorithm is unknown", "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_not_a_secret_neither_in_a_token_nor_in_the_configuration() {
    let directory = Directory::new();
    let verifier = verifier_for(&directory, Algorithm::RS256);
    let der = RSA_PUBLIC.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    for secret in [RSA_PUBLIC, RSA_PUBLIC.trim_ascii_end(), &der[1..der.len() - 2].concat()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let token = encode(&Header::new(algorithm), &claims(), &EncodingKey::from_secret(secret)).expect("a token");
            assert_eq!(rejection(&verifier, &token).await, "the key does not permit the algorithm");
        }
    }
    let mut config = JwtConfig::new(Keys::Secret(Secret::new(RSA_PUBLIC)));
    assert!(refused(config.clone()).contains("a public key is not a secret"));
    config.keys = Keys::Secret(Secret::new(b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvcm9uZQo someone@example"));
    assert!(refused(config).contains("a public key is not a secret"));
}

fn refused(config: JwtConfig) -> String {
    let hands = Hands::new();
    let revocations = lockstep::verify::revoked::Revocations::in_memory(MONTH, hands.clock());
    JwtVerifier::new(config, revocations.into(), hands.clock())
        .expect_err("a configuration that is refused")
        .to_string()
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_the_file_and_the_reason() {
    let directory = Directory::new();
    let cases: &[(&str, &[u8], &str)] = &[
        ("short", b"too short to be a secret", "shorter than its digest"),
        ("empty", b"", "shorter than its digest"),
        ("private", RSA, "not a public key"),
        ("small", include_bytes!("keys/small.pub.pem"), "not an RSA (2048 to 4096 bits)"),
        ("other curve", include_bytes!("keys/k1.pub.pem"), "not a valid key"),
        ("torn", b"-----BEGIN PUBLIC KEY-----\nMFkw", "not an RSA (2048"),
        ("set", b"{\"keys\":[]}", "the key set has no usable key"),
        ("no set", b"{\"keys\":3}", "not a key set: line 1"),
        ("short key", br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#, "the key set has no usable key"),
    ];
    for (name, content, reason) in cases {
        let path = directory.file(name, content);
        let said = refused(JwtConfig::new(Keys::File(path.clone())));
        assert!(said.starts_with(&path.display().to_string()) && said.contains(reason), "{name}: {said}");
    }
    let missing = refused(JwtConfig::new(Keys::File(directory.path().join("missing"))));
    assert!(missing.contains("missing") && missing.contains("No such file"), "{missing}");
    let only_public = vec![Algorithm::RS256];
    let keys = Keys::Secret(Secret::new(SECRET));
    let allowing = |algorithms| {
        let mut config = JwtConfig::new(keys.clone());
        config.algorithms = algorithms;
        config
    };
    assert!(refused(allowing(only_public)).contains("none of HS256"));
    assert!(refused(allowing(Vec::new())).contains("no algorithm"));
    let mut eternal = JwtConfig::new(keys.clone());
    eternal.max_lifetime = MONTH;
    assert!(refused(eternal).contains("longer than revocations are remembered"));
}

#[tokio::test]
async fn each_wrong_claim_is_rejected_with_its_reason() {
    let (verifier, _) = strict();
    let long = "x".repeat(257);
    let cases = [
        (json!({"exp": null}), "no `exp`"),
        (json!({"exp": TODAY - 30}), "expired"),
        (json!({"exp": "soon"}), "a date is not a number"),
        (json!({"exp": -1}), "a date is out of range"),
        (json!({"exp": 1e300}), "a date is out of range"),
        (json!({"exp": TODAY + 24 * 3600 + 1}), "the lifetime is too long"),
        (json!({"exp": TODAY + 24 * 3600 + 1, "iat": null}), "the lifetime is too long"),
        (json!({"nbf": TODAY + 31}), "not valid yet"),
        (json!({"iat": TODAY + 31}), "issued in the future"),
        (json!({"aud": null}), "the audience is not accepted"),
        (json!({"aud": "them"}), "the audience is not accepted"),
        (json!({"aud": []}), "the audience is not accepted"),
        (json!({"aud": ["them", "you"]}), "the audience is not accepted"),
        (json!({"iss": null}), "the issuer is not accepted"),
        (json!({"iss": "us"}), "the issuer is not accepted"),
        (json!({"sub": null}), "no `sub`"),
        (json!({"sub": ""}), "no `sub`"),
        (json!({"sub": 7}), "`sub` is not a string"),
        (json!({"nbf": [1]}), "a date is not a number"),
        (json!({"iat": "now"}), "a date is not a number"),
        (json!({"aud": {"us": 1}}), "the audience is not accepted"),
        (json!({"aud": [7, null]}), "the audience is not accepted"),
        (json!({"iss": ["them"]}), "the issuer is not accepted"),
        (json!({"sub": long}), "`sub` is too long"),
    ];
    for (change, reason) in cases {
        let token = signed(Algorithm::HS256, &but(change.clone()));
        assert_eq!(rejection(&verifier, &token).await, reason, "{change}");
    }
    for change in [
        json!({}),
        json!({"aud": "also us"}),
        json!({"aud": ["you", "us"]}),
        json!({"nbf": TODAY + 30, "iat": TODAY + 30}),
        json!({"exp": TODAY as f64 + 0.5, "iat": TODAY as f64 - 0.25}),
        json!({"sub": "x".repeat(256)}),
        json!({"else": {"deep": [1, {"er": null}]}}),
        // Claims with our names have another meaning with another issuer.
        json!({"sid": 12345}),
        json!({"gen": "v2"}),
        json!({"gen": -1, "sid": {"a": []}}),
        json!({"jti": 12345}),
        json!({"jti": ["1"]}),
        json!({"aud": [7, "us"]}),
    ] {
        let token = signed(Algorithm::HS256, &but(change.clone()));
        assert!(verify(&verifier, &token).await.is_ok(), "{change}");
    }
}

#[tokio::test]
async fn a_token_is_good_until_its_expiry_and_the_leeway_and_then_not() {
    let (verifier, hands) = strict();
    let token = signed(Algorithm::HS256, &claims());
    hands.set((TODAY + 630) as f64 - 0.001);
    assert_eq!(verify(&verifier, &token).await.expect("the last moment").lifetime, Duration::from_millis(1));
    hands.set((TODAY + 630) as f64);
    assert_eq!(rejection(&verifier, &token).await, "expired");
}

#[tokio::test]
async fn what_is_no_token_is_rejected_without_a_panic() {
    let (verifier, _) = strict();
    let good = signed(Algorithm::HS256, &claims());
    let with =
        |header: &str, claims: &str| format!("{}.{}.AAAA", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let deep = format!(r#"{{"alg":"HS256","x":{}1{}}}"#, "[".repeat(3000), "]".repeat(3000));
    let garbage = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a.b".into(),
        "\u{0}".into(),
        "🦀.🦀.🦀".into(),
        format!("{good}.x"),
        format!(" {good}"),
        format!("{good}="),
        good.replace('.', " "),
        with("", "{}"),
        with("[]", "{}"),
        with("{\"alg\":\"HS256\"", "{}"),
        with(r#"{"alg":["HS256"]}"#, "{}"),
        with(r#"{"alg":"HS256","alg":"none"}"#, "{}"),
        with(r#"{"alg":"HS256","kid":7}"#, "{}"),
        with(r#"{"typ":"JWT"}"#, "{}"),
        with(&deep, "{}"),
        with(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "{}"),
    ];
    for token in &garbage {
        rejection(&verifier, token).await;
    }
    let huge = format!("{good}{}", "A".repeat(MAX_TOKEN + 1 - good.len()));
    assert_eq!(rejection(&verifier, &huge).await, "the token is too long");
    assert_ne!(rejection(&verifier, &huge[1..]).await, "the token is too long");
}

#[tokio::test]
async fn an_extension_that_must_be_understood_is_not() {
    let (verifier, _) = strict();
    let header = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::HS256) };
    let token = signed_as(&header, &claims());
    assert_eq!(rejection(&verifier, &token).await, "the header requires an unknown extension");
}

#[tokio::test]
async fn a_key_in_the_token_itself_is_not_looked_at() {
    let directory = Directory::new();
    let verifier = verifier_for(&directory, Algorithm::RS256);
    let other = EncodingKey::from_rsa_pem(OTHER_RSA).expect("a key");
    let own = jsonwebtoken::jwk::Jwk::from_encoding_key(&other, Algorithm::RS256).expect("a key");
    let url = Some("http://127.0.0.1:9/keys".to_owned());
    let header = Header { jwk: Some(own), jku: url.clone(), x5u: url, ..Header::new(Algorithm::RS256) };
    let token = encode(&header, &claims(), &other).expect("a token");
    assert_eq!(rejection(&verifier, &token).await, "the signature is wrong");
}

#[tokio::test]
async fn a_credential_without_a_name_is_named_by_what_is_signed() {
    let directory = Directory::new();
    let verifier = verifier_for(&directory, Algorithm::ES256);
    let unnamed = but(json!({"jti": null}));
    let token = signed(Algorithm::ES256, &unnamed);
    let (content, _) = token.rsplit_once('.').expect("a signature");
    let identity = verify(&verifier, &token).await.expect("good");
    assert_eq!(identity.credential, credential_id(content));
    let empty = signed(Algorithm::ES256, &but(json!({"jti": ""})));
    assert_ne!(verify(&verifier, &empty).await.expect("good").credential, credential_id(""));
}

#[tokio::test]
async fn a_key_set_in_a_file_is_searched_by_name_and_restricts_its_keys() {
    let directory = Directory::new();
    let other = EncodingKey::from_rsa_pem(OTHER_RSA).expect("a key");
    let mut encryption = jwk(&other, Algorithm::RS256, "enc");
    encryption["use"] = json!("enc");
    let mut signing = jwk(&other, Algorithm::RS256, "sign-only");
    signing["key_ops"] = json!(["sign"]);
    let keys = json!({"keys": [
        jwk(&signing_key(Algorithm::RS256), Algorithm::RS256, "a"),
        jwk(&signing_key(Algorithm::EdDSA), Algorithm::EdDSA, "ed"),
        {"kty": "oct", "k": base64url(SECRET), "kid": "secret", "alg": "HS256"},
        {"kty": "AKP", "pub": "x", "kid": "of tomorrow"},
        {"kty": "RSA", "n": 3},
        "no key at all",
        encryption,
        signing,
    ]});
    let path = directory.file("keys.json", keys.to_string().as_bytes());
    let (verifier, _) = verifier_of(JwtConfig::new(Keys::File(path)));
    let named = |algorithm, id: &str| {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
        signed_as(&header, &claims())
    };
    for (algorithm, id) in [(Algorithm::RS256, "a"), (Algorithm::EdDSA, "ed"), (Algorithm::HS256, "secret")] {
        assert!(verify(&verifier, &named(algorithm, id)).await.is_ok(), "{id}");
        assert!(verify(&verifier, &signed(algorithm, &claims())).await.is_ok(), "{id}, but not named");
    }
    let wrong_algorithm = "the key does not permit the algorithm";
    assert_eq!(rejection(&verifier, &named(Algorithm::RS512, "a")).await, wrong_algorithm, "`alg` of the key");
    assert_eq!(rejection(&verifier, &named(Algorithm::EdDSA, "a")).await, wrong_algorithm);
    for id in ["gone", "enc", "sign-only", "of tomorrow", ""] {
        let unknown = "signed with a key that is not in the key set";
        assert_eq!(rejection(&verifier, &named(Algorithm::RS256, id)).await, unknown, "{id}");
    }
    let forged = encode(&Header { kid: Some("a".into()), ..Header::new(Algorithm::RS256) }, &claims(), &other);
    assert_eq!(rejection(&verifier, &forged.expect("a token")).await, "the signature is wrong");
}
