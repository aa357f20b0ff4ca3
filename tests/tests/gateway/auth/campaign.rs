//! Logouts at a process that is repeatedly killed and whose disk is sometimes full (AUTH-4, AUTH-5): a client that was
//! told that its login has ended can rely on it, and a login in use goes on.
//!
//! `LOGOUT_KILLS` overrides the number of kills.

use std::net::SocketAddr;
use std::path::PathBuf;

use lockstep_gateway::accounts::Accounts;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::accounts::CHEAP;
use super::http::{Answer, post, send_on};
use crate::hostile::starts::{Folder, Process, settings, with_a_limit};

/// The number of kills, unless the environment overrides it.
const KILLS: usize = 24;
/// Logins that end at once.
const LOGINS: usize = 6;
/// The disk is full before every `FULL`-th kill.
const FULL: usize = 3;
const PASSWORD: &str = "correct horse";

/// A client that is logged in and about to log out.
#[derive(Clone)]
struct Leaver {
    cookie: String,
    token: String,
}

async fn log_in(address: SocketAddr, user: &str) -> Answer {
    post(address, "/auth/login", &[], Some(&json!({ "username": user, "password": PASSWORD }))).await
}

async fn refresh(address: SocketAddr, cookie: &str) -> Answer {
    post(address, "/auth/refresh", &[("Cookie", cookie)], None).await
}

async fn log_out(address: SocketAddr, cookie: &str) -> u16 {
    post(address, "/auth/logout", &[("Cookie", cookie)], None).await.status
}

impl Leaver {
    async fn arrive(address: SocketAddr, user: &str) -> Self {
        let answer = log_in(address, user).await;
        Self { token: answer.token(), cookie: answer.cookie() }
    }

    /// AUTH-4: neither the cookie nor the token is accepted.
    async fn is_gone(&self, address: SocketAddr, when: &str) {
        assert_eq!(refresh(address, &self.cookie).await.status, 401, "AUTH-4: the cookie is good {when}");
        let bearer = format!("Bearer {}", self.token);
        let ticket = post(address, "/ws/ticket", &[("Authorization", &bearer)], None).await;
        assert_eq!(ticket.status, 401, "AUTH-4: the token is good {when}");
    }
}

/// A gateway that is killed, and the clients that have logged out.
struct Campaign {
    file: PathBuf,
    process: Process,
    address: SocketAddr,
    gone: Vec<Leaver>,
    /// The cookie of a login that stays in use.
    stays: String,
}

impl Campaign {
    async fn begin(folder: &Folder) -> Self {
        let data = folder.path("data");
        std::fs::create_dir(&data).expect("a directory");
        let accounts = Accounts::with_cost(&data, CHEAP).expect("accounts");
        for user in (0..LOGINS).map(name).chain(["stays".to_owned()]) {
            accounts.add(&user, PASSWORD).await.expect("added");
        }
        let rates = "[login]\nrefresh_refill_ms = 0\nticket_refill_ms = 0";
        let file = settings(folder, "", &format!("[auth]\nissuer = \"accounts\"\n[log]\nkind = \"memory\"\n{rates}"));
        let mut process = Process::start(with_a_limit(), &file);
        let address = process.listens().await;
        let stays = log_in(address, "stays").await.cookie();
        Self { file, process, address, gone: Vec::new(), stays }
    }

    async fn restart(mut self) -> Self {
        self.process = self.process.replaced(with_a_limit(), &self.file).await;
        self.address = self.process.listens().await;
        self
    }

    /// All clients log out at once, and the process is killed after `answers` of them have been answered. The others
    /// retry until they are answered.
    async fn kill(mut self, answers: usize, full: bool) -> Self {
        let mut leavers = Vec::new();
        for number in 0..LOGINS {
            leavers.push(Leaver::arrive(self.address, &name(number)).await);
        }
        if full {
            self.process.room("0");
        }
        let (answered, mut told) = mpsc::unbounded_channel();
        let mut requests = JoinSet::new();
        for leaver in leavers {
            let socket = TcpStream::connect(self.address).await.expect("a server");
            let answered = answered.clone();
            requests.spawn(async move {
                let answer = send_on(socket, "/auth/logout", &[("Cookie", &leaver.cookie)], &[]).await;
                let status = answer.map(|answer| answer.status);
                // The receiver is gone once there were enough answers.
                let _ = answered.send(());
                (leaver, status)
            });
        }
        for _ in 0..answers {
            told.recv().await.expect("one that asks");
        }
        if full {
            // They retry, and get the answer that they got before.
            while let Some(asked) = requests.join_next().await {
                let (leaver, mut status) = asked.expect("no panic");
                for _ in 0..2 {
                    assert_eq!(status, Some(503), "AUTH-4: nothing was written");
                    status = Some(log_out(self.address, &leaver.cookie).await);
                }
                self.gone.push(leaver);
            }
        }
        self = self.restart().await;
        let mut again = Vec::new();
        if full {
            again = self.gone.split_off(self.gone.len() - LOGINS);
        }
        while let Some(asked) = requests.join_next().await {
            match asked.expect("no panic") {
                (leaver, Some(204)) => self.gone.push(leaver),
                (leaver, None) => again.push(leaver),
                (_, Some(other)) => panic!("{other}"),
            }
        }
        for leaver in again {
            assert_eq!(log_out(self.address, &leaver.cookie).await, 204, "there is a disk again");
            leaver.is_gone(self.address, "after its logout").await;
            self.gone.push(leaver);
        }
        // AUTH-5: the login in use goes on.
        let stays = refresh(self.address, &self.stays).await;
        assert_eq!(stays.status, 200, "AUTH-5: a login in use has ended: {}", stays.body);
        self.stays = stays.cookie();
        // The logouts of this kill and the one before.
        for leaver in self.gone.iter().rev().take(2 * LOGINS) {
            leaver.is_gone(self.address, "after a kill").await;
        }
        self
    }
}

fn name(number: usize) -> String {
    format!("user{number}")
}

#[tokio::test]
async fn a_logout_that_was_answered_holds_however_often_the_process_is_killed() {
    let kills = std::env::var("LOGOUT_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let folder = Folder::new();
    let mut campaign = Campaign::begin(&folder).await;
    for kill in 0..kills {
        let full = kill % FULL == FULL - 1;
        campaign = campaign.kill(kill % (LOGINS + 1), full).await;
    }
    campaign = campaign.restart().await;
    assert_eq!(campaign.gone.len(), kills * LOGINS);
    for leaver in &campaign.gone {
        leaver.is_gone(campaign.address, "at the end").await;
    }
}
