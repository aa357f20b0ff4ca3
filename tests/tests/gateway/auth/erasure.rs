//! When an account is removed, its data is erased (RET-1), and a new account with the same name begins with nothing:
//! across restarts, if the gateway is down meanwhile, and if it is killed between two steps.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use lockstep_gateway::accounts::Accounts;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::accounts::CHEAP;
use super::http::post;
use crate::hostile::client::{Client, PATIENCE};
use crate::hostile::starts::{self, Folder, Process, fetch, gateway, settings};

const PASSWORD: &str = "correct horse";
/// What the first ada says, and no other user.
const SECRET: &str = "the word of the first ada";
/// What the other users say.
const WORD: &str = "the word of another";

/// A gateway with a log on disk, and its accounts.
struct Deployment {
    folder: Folder,
    file: PathBuf,
    accounts: Accounts,
}

async fn token(address: SocketAddr, user: &str) -> String {
    post(address, "/auth/login", &[], Some(&json!({ "username": user, "password": PASSWORD }))).await.token()
}

/// Logs in and reads from the first event on. Returns the client and its `connection_ready`.
async fn arrives(address: SocketAddr, user: &str) -> (Client, Value) {
    let token = token(address, user).await;
    let mut client = Client::upgraded(address, &[]).await;
    client.say(&json!({ "type": "auth", "token": token, "resume": "earliest" })).await;
    let ready = client.next().await;
    assert_eq!(ready["type"], "connection_ready", "{ready}");
    (client, ready)
}

/// The same, for a user of whom nothing is stored.
async fn arrives_new(address: SocketAddr, user: &str, subject: &str) -> Client {
    let (mut client, ready) = arrives(address, user).await;
    assert_eq!(ready["user_id"], subject);
    assert_eq!((&ready["head"], &ready["offset"]), (&json!(0), &json!(0)), "RET-1: something is there: {ready}");
    client.say(&json!({ "type": "ping" })).await;
    assert_eq!(client.next().await["type"], "pong", "RET-1: something is read");
    client
}

/// Asserts that a user who has said [`WORD`] reads it.
async fn has_said_it(address: SocketAddr, user: &str) {
    let (mut client, _) = arrives(address, user).await;
    let first = client.next().await;
    assert_eq!(first["data"]["message_id"], WORD, "{first}");
}

impl Deployment {
    async fn new() -> Self {
        let folder = Folder::new();
        let data = folder.path("data");
        fs::create_dir(&data).expect("a directory");
        let accounts = Accounts::with_cost(&data, CHEAP).expect("accounts");
        for user in ["ada", "bob"] {
            accounts.add(user, PASSWORD).await.expect("added");
        }
        let file = settings(&folder, "", "[auth]\nissuer = \"accounts\"\n[agent]\npace_ms = 0");
        Self { folder, file, accounts }
    }

    async fn starts(&self) -> (Process, SocketAddr) {
        let mut process = Process::start(gateway(), &self.file);
        let address = process.address().await;
        (process, address)
    }

    async fn restarts(&self, process: Process) -> (Process, SocketAddr) {
        let mut process = process.replaced(gateway(), &self.file).await;
        let address = process.address().await;
        (process, address)
    }

    /// The first ada and bob say something. Returns ada's connection.
    async fn chats(&self, address: SocketAddr) -> Client {
        let mut ada = arrives_new(address, "ada", "ada").await;
        ada.exchange(SECRET).await;
        arrives_new(address, "bob", "bob").await.exchange(WORD).await;
        assert!(self.holds(SECRET) && self.holds(WORD));
        ada
    }

    /// Removes ada's account and adds a new one with that name.
    async fn reassign_ada(&self) {
        self.accounts.remove("ada").expect("removed");
        self.accounts.add("ada", PASSWORD).await.expect("added");
    }

    /// Whether a file of the log contains the text.
    fn holds(&self, text: &str) -> bool {
        let files = fs::read_dir(self.folder.path("data/log")).expect("a log");
        let mut contents = files.map(|file| fs::read(file.expect("an entry").path()).unwrap_or_default());
        contents.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    /// The number of removed subjects that the gateway has not recorded as erased.
    fn pending(&self) -> usize {
        self.accounts.look().expect("accounts").erasures().count()
    }

    async fn until(&self, address: SocketAddr, what: &str, mut such: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !such(self) {
            assert!(began.elapsed() < PATIENCE, "not {what}");
            assert_eq!(fetch(address, "/healthz", "").await.0, 200);
        }
    }

    async fn erases(&self, address: SocketAddr) {
        self.until(address, "noted", |deployment| deployment.pending() == 0).await;
        self.until(address, "erased", |deployment| !deployment.holds(SECRET)).await;
    }
}

#[tokio::test]
async fn a_new_account_reads_nothing_of_the_earlier_one_with_its_name() {
    let deployment = Deployment::new().await;
    let (process, address) = deployment.starts().await;
    let mut first = deployment.chats(address).await;
    deployment.reassign_ada().await;
    assert_eq!(first.end().await, 4502);
    let mut second = arrives_new(address, "ada", "ada#2").await;
    deployment.erases(address).await;
    // Erasing the first ada has not touched the second.
    second.exchange(WORD).await;
    let (process, address) = deployment.restarts(process).await;
    for user in ["ada", "bob"] {
        has_said_it(address, user).await;
    }
    assert!(!deployment.holds(SECRET), "nor does it come back");
    process.terminate().await;
}

#[tokio::test]
async fn an_account_removed_while_the_gateway_is_down_is_erased_when_it_runs() {
    for killed in [false, true] {
        let deployment = Deployment::new().await;
        let (mut process, address) = deployment.starts().await;
        drop(deployment.chats(address).await);
        if killed {
            process.kill().await;
        } else {
            process.terminate().await;
        }
        deployment.reassign_ada().await;
        assert!(deployment.holds(SECRET), "no process runs that could erase it");
        let (process, address) = deployment.starts().await;
        drop(arrives_new(address, "ada", "ada#2").await);
        deployment.erases(address).await;
        has_said_it(address, "bob").await;
        process.terminate().await;
    }
}

/// While the accounts are locked, the gateway can erase but cannot record it.
#[tokio::test]
async fn an_erasure_that_a_kill_interrupts_is_completed_by_the_next_process_and_spares_the_new_account() {
    for erased in [false, true] {
        let deployment = Deployment::new().await;
        let (mut process, address) = deployment.starts().await;
        drop(deployment.chats(address).await);
        process.signal("-STOP");
        deployment.reassign_ada().await;
        let lock = fs::File::options().append(true).open(deployment.folder.path("data/accounts.lock")).expect("a file");
        lock.lock().expect("locked");
        if erased {
            process.signal("-CONT");
            deployment.until(address, "erased", |deployment| !deployment.holds(SECRET)).await;
            arrives_new(address, "ada", "ada#2").await.exchange(WORD).await;
        }
        process.kill().await;
        drop(lock);
        assert_eq!((deployment.pending(), deployment.holds(SECRET)), (1, !erased));
        let (process, address) = deployment.restarts(process).await;
        deployment.erases(address).await;
        if erased {
            has_said_it(address, "ada").await;
        } else {
            drop(arrives_new(address, "ada", "ada#2").await);
        }
        has_said_it(address, "bob").await;
        process.terminate().await;
    }
}

/// An operator who names an account reaches its current owner, under either subject.
#[tokio::test]
async fn an_operator_who_names_an_account_reaches_its_current_owner() {
    let deployment = Deployment::new().await;
    let (process, address) = deployment.starts().await;
    drop(deployment.chats(address).await);
    deployment.reassign_ada().await;
    let operator = fs::read_to_string(deployment.folder.path("data/operator.token")).expect("a token");
    let line = format!("Authorization: Bearer {}\r\n", operator.trim());
    let operate = async |route: &str, body: Value| starts::post(address, route, &line, &body.to_string()).await.0;
    for subject in ["ada", "ada#2"] {
        let (mut second, ready) = arrives(address, "ada").await;
        assert_eq!(ready["user_id"], "ada#2");
        let look = format!("/operator/sessions/{}", subject.replace('#', "%23"));
        assert_eq!(fetch(address, &look, &line).await.0, 200);
        let notice = json!({ "subject": subject, "data": { "text": subject } });
        assert_eq!(operate("/operator/notice", notice).await, 200);
        let told = async { while second.until("notice").await.last().expect("a notice")["data"]["text"] != subject {} };
        timeout(PATIENCE, told).await.expect("the one who is here now is told");
        assert_eq!(operate("/operator/revoke", json!({ "subject": subject })).await, 204);
        assert_eq!(second.end().await, 4502, "{subject}");
    }
    // A name does not match the owner of another name.
    let (mut second, _) = arrives(address, "ada").await;
    for unknown in ["eve", "ada#3", "bob#2"] {
        assert_eq!(operate("/operator/revoke", json!({ "subject": unknown })).await, 404, "{unknown}");
        assert_eq!(operate("/operator/notice", json!({ "subject": unknown, "data": {} })).await, 404, "{unknown}");
    }
    assert_eq!(operate("/operator/revoke", json!({ "subject": "bob" })).await, 204);
    second.say(&json!({ "type": "ping" })).await;
    second.until("pong").await;
    process.terminate().await;
}
