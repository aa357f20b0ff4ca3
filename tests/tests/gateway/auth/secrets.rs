//! No type prints a secret.

use std::sync::Arc;
use std::time::Duration;

use lockstep::verify::clock::Clock;
use lockstep::verify::jwt::JwtConfig;
use lockstep::verify::keys::{Keys, Secret};
use lockstep::verify::revoked::Revocations;
use lockstep_gateway::accounts::Accounts;
use lockstep_gateway::login::{Issuer, KEY_FILE, Login, LoginConfig, TicketService};

use super::accounts::CHEAP;
use super::http::config;
use super::support::*;

/// Every usual representation of bytes as text.
fn forms(secret: &[u8]) -> Vec<String> {
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let hexadecimal = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![list, hexadecimal, base64url(secret), String::from_utf8_lossy(secret).into_owned()]
}

#[tokio::test]
async fn debug_output_holds_no_secret() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let accounts = Accounts::with_cost(directory.path(), CHEAP).expect("accounts");
    accounts.add("ann", "correct horse").await.expect("added");
    accounts.verify("ann", "correct horse").await.expect("known").expect("right");
    let accounts = Arc::new(accounts);
    let revocations = Arc::new(Revocations::open(directory.path(), MONTH, hands.clock()).expect("revocations"));
    let day = Duration::from_secs(900);
    let issuer = Issuer::open(Some(directory.path()), day, Arc::clone(&revocations), hands.clock()).expect("an issuer");
    let key = std::fs::read(directory.path().join(KEY_FILE)).expect("a key");
    let key = key[..32].to_vec();
    let token = issuer.issue("ann", "login").expect("a token");
    let config = JwtConfig::new(Keys::Secret(Secret::new(SECRET)));
    let (verifier, _) = verifier_of(config.clone());
    let files = [RSA_PUBLIC, include_bytes!("keys/ed.pub.pem")].map(|content| {
        let (verifier, _) = verifier_of(JwtConfig::new(Keys::File(directory.file("key", content))));
        format!("{verifier:#?}")
    });
    let own = issuer.verifier().expect("a verifier");
    let login = Login::open(
        Some(directory.path()),
        LoginConfig::default(),
        Arc::clone(&accounts),
        Arc::clone(&revocations),
        hands.clock(),
    );
    let login = login.expect("a login");
    let tickets = TicketService::new(login.verifier(), Clock::monotonic());
    let shown = [
        format!("{config:?} {config:#?} {verifier:?} {verifier:#?}"),
        format!("{own:?} {own:#?} {issuer:?} {issuer:#?} {token:?} {token:#?}"),
        format!("{accounts:?} {accounts:#?} {revocations:?} {login:?} {login:#?} {tickets:?} {:?}", hands.clock()),
        files.concat(),
    ]
    .concat();
    let hash = std::fs::read_to_string(directory.path().join("accounts.json")).expect("a file");
    let hash = hash.split('"').find(|word| word.starts_with("$argon2")).expect("a hash").to_owned();
    let mut secrets = [forms(SECRET), forms(&key), forms(b"correct horse")].concat();
    secrets.extend([token.expose().to_owned(), hash]);
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret}");
    }
    assert!(shown.contains("Secret(..)") && shown.contains("Login") && shown.contains("[redacted]"), "{shown}");
}

#[test]
fn a_signing_key_that_cannot_be_used_is_named() {
    let (directory, hands) = (Directory::new(), Hands::new());
    let open = || {
        let accounts = Arc::new(Accounts::with_cost(directory.path(), CHEAP).expect("accounts"));
        let revocations = Arc::new(Revocations::in_memory(MONTH, hands.clock()));
        Login::open(Some(directory.path()), config(), accounts, revocations, hands.clock())
    };
    directory.file(KEY_FILE, b"short");
    assert!(
        open().expect_err("an error").to_string().contains("signing.key: it is not a signing key, which has 32 bytes")
    );
    // A flipped bit is detected: it would otherwise yield another key and log everyone out silently.
    std::fs::remove_file(directory.path().join(KEY_FILE)).expect("removed");
    open().expect("a new key");
    let whole = std::fs::read(directory.path().join(KEY_FILE)).expect("a key");
    for at in 0..whole.len() * 8 {
        let mut content = whole.clone();
        content[at / 8] ^= 1 << (at % 8);
        directory.file(KEY_FILE, &content);
        let said = open().expect_err("an error").to_string();
        assert!(said.contains("signing.key: its checksum does not match its key"), "bit {at}: {said}");
    }
    for length in [0, 1, 31, 33, 35, 37] {
        let mut content = whole.clone();
        content.resize(length, 0);
        directory.file(KEY_FILE, &content);
        assert!(open().expect_err("an error").to_string().contains("signing.key: it is not a signing key"), "{length}");
    }
    // An earlier version wrote the key alone.
    directory.file(KEY_FILE, &whole[..32]);
    open().expect("the same key");
    std::fs::remove_file(directory.path().join(KEY_FILE)).expect("removed");
    std::fs::create_dir(directory.path().join(KEY_FILE)).expect("a directory");
    assert!(open().expect_err("an error").to_string().contains("signing.key: "));
}
