//! No type shows a secret to a log.

use std::sync::Arc;
use std::time::Duration;

use lockstep::gateway::accounts::Accounts;
use lockstep::gateway::login::{Issuer, KEY_FILE, Login, LoginConfig, TicketDesk};
use lockstep::verify::clock::Clock;
use lockstep::verify::jwt::JwtConfig;
use lockstep::verify::keys::{Keys, Secret};
use lockstep::verify::revoked::Revocations;

use super::accounts::CHEAP;
use super::support::*;

/// Every form in which bytes are usually shown.
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
    let desk = TicketDesk::new(login.verifier(), Clock::monotonic());
    let shown = [
        format!("{config:?} {config:#?} {verifier:?} {verifier:#?}"),
        format!("{own:?} {own:#?} {issuer:?} {issuer:#?} {token:?} {token:#?}"),
        format!("{accounts:?} {accounts:#?} {revocations:?} {login:?} {login:#?} {desk:?} {:?}", hands.clock()),
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
