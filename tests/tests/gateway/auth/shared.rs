//! The built-in login of a cluster: gateways that share a PostgreSQL, each with its own connections and nothing else in
//! common.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lockstep::internal::gateways::Shared;
use lockstep::log::postgres::{Settings, migrate};
use lockstep::verify::Redeem;
use lockstep::verify::Verifier as _;
use lockstep::verify::clock::Clock;
use lockstep::verify::revoked::Revocations;
use lockstep_gateway::accounts::{AccountError, SharedAccounts};
use lockstep_gateway::login::{Login, LoginConfig, Rate, TicketService, routes, ticket_routes};
use lockstep_tests::postgres::Server;
use serde_json::json;

use super::accounts::CHEAP;
use super::http::{Answer, config, post, serve};
use super::support::*;

/// A database with the tables.
struct Database {
    url: String,
    name: String,
}

impl Database {
    async fn new(server: &Server) -> Self {
        let name = server.database();
        let url = server.url(&name);
        migrate(Settings::new(url.as_str())).await.expect("tables");
        Self { url, name }
    }

    fn sql(&self, statement: &str) -> String {
        Server::shared().sql(&self.name, statement)
    }
}

/// A gateway's login and tickets.
struct Node {
    login: Arc<Login>,
    accounts: Arc<SharedAccounts>,
    tickets: Arc<TicketService>,
    address: std::net::SocketAddr,
}

impl Node {
    async fn start(url: &str) -> Self {
        let config = LoginConfig { per_login: Rate { burst: 1000, ..config().per_login }, ..config() };
        let engine = Shared::connect(Settings::new(url)).await.expect("an engine");
        let accounts = Arc::new(SharedAccounts::with_cost(engine.clone(), CHEAP));
        let revocations = Arc::new(Revocations::in_memory(MONTH, Clock::system()));
        let login = Login::shared(config, engine.clone(), Arc::clone(&accounts), revocations, Clock::system()).await;
        let login = Arc::new(login.expect("a login"));
        let tickets = Arc::new(TicketService::new(login.judge(), Clock::monotonic()).shared(engine));
        let router = routes(Arc::clone(&login)).merge(ticket_routes(Arc::clone(&tickets)));
        Self { login, accounts, tickets, address: serve(router, None).await }
    }

    async fn log_in(&self, user: &str, password: &str) -> Answer {
        post(self.address, "/auth/login", &[], Some(&json!({"username": user, "password": password}))).await
    }

    async fn refresh(&self, cookie: &str) -> Answer {
        post(self.address, "/auth/refresh", &[("Cookie", cookie)], None).await
    }

    async fn log_out(&self, cookie: &str, everywhere: bool) -> Answer {
        let body = json!({ "everywhere": everywhere });
        post(self.address, "/auth/logout", &[("Cookie", cookie)], Some(&body)).await
    }

    async fn is_good(&self, token: &str) -> bool {
        self.login.judge().verify(&lockstep::payload::Token::new(token)).await.is_ok()
    }

    async fn ticket(&self, token: &str) -> String {
        let answer = post(self.address, "/ws/ticket", &[("Authorization", &format!("Bearer {token}"))], None).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["ticket"].as_str().expect("a ticket").to_owned()
    }

    async fn redeem(&self, ticket: &str) -> Option<String> {
        let token = Redeem::redeem(&*self.tickets, ticket).await.expect("an answer");
        token.map(|token| token.expose().to_owned())
    }
}

/// Two gateways, and Ann's account.
async fn two() -> (Database, Node, Node) {
    let database = Database::new(Server::shared()).await;
    let (one, other) = tokio::join!(Node::start(&database.url), Node::start(&database.url));
    one.accounts.add("ann", "correct horse").await.expect("added");
    (database, one, other)
}

#[tokio::test]
async fn a_login_of_one_gateway_goes_on_at_another() {
    let (database, one, other) = two().await;
    let answer = one.log_in("ann", "correct horse").await;
    assert!(other.is_good(&answer.token()).await, "one key");
    let mut cookie = answer.cookie();
    for gateway in [&other, &one, &other] {
        let next = gateway.refresh(&cookie).await;
        assert!(one.is_good(&next.token()).await && other.is_good(&next.token()).await);
        assert_ne!(next.cookie(), cookie);
        cookie = next.cookie();
    }
    assert_eq!(one.log_in("ann", "wrong horse").await.error(), (401, "wrong_credentials"));
    assert_eq!(one.refresh(&cookie.replace('=', "=A")).await.status, 401, "a forged cookie");
    let restarted = Node::start(&database.url).await;
    assert!(restarted.is_good(&restarted.refresh(&cookie).await.token()).await);
}

#[tokio::test]
async fn two_tabs_that_refresh_at_once_at_two_gateways_both_go_on() {
    let (_database, one, other) = two().await;
    let mut cookie = one.log_in("ann", "correct horse").await.cookie();
    for round in 0..20 {
        let (first, second) = tokio::join!(one.refresh(&cookie), other.refresh(&cookie));
        assert_eq!((first.status, second.status), (200, 200), "AUTH-5, round {round}");
        assert_eq!(first.cookie(), second.cookie(), "whichever answer comes last, the browser keeps the right one");
        cookie = first.cookie();
    }
}

#[tokio::test]
async fn a_cookie_that_was_copied_is_noticed_whichever_gateways_see_it() {
    let (database, one, other) = two().await;
    let copied = one.log_in("ann", "correct horse").await.cookie();
    let beside = one.log_in("ann", "correct horse").await.cookie();
    let next = other.refresh(&copied).await.cookie();
    let newest = one.refresh(&next).await.cookie();
    assert_eq!(other.refresh(&copied).await.error(), (401, "no_session"));
    for gateway in [&one, &other] {
        assert_eq!(gateway.refresh(&newest).await.error(), (401, "no_session"), "AUTH-4: it ends for both holders");
    }
    assert_eq!(other.refresh(&beside).await.status, 200, "the user's other login is not touched");
    let revoked = "select count(*) from lockstep.revocation where credential is not null";
    assert_eq!(database.sql(revoked), "1", "its end and its revocation are one transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_that_was_answered_as_ended_stays_so_however_a_refresh_races() {
    let (database, one, other) = two().await;
    let mut raced = 0;
    for round in 0..60 {
        let cookie = one.log_in("ann", "correct horse").await.cookie();
        let (out, next) = tokio::join!(one.log_out(&cookie, round % 2 == 0), other.refresh(&cookie));
        assert_eq!(out.status, 204, "round {round}");
        if next.status == 200 {
            raced += 1;
            assert_eq!(other.refresh(&next.cookie()).await.status, 401, "AUTH-4, round {round}");
        }
        assert_eq!(database.sql("select count(*) from lockstep.login"), "0", "round {round}");
    }
    assert!(raced > 0, "no refresh came first");
}

#[tokio::test]
async fn a_logout_everywhere_ends_the_logins_of_all_gateways() {
    let (database, one, other) = two().await;
    one.accounts.add("bob", "battery staple").await.expect("added");
    let bob = other.log_in("bob", "battery staple").await.cookie();
    let mut cookies = Vec::new();
    for gateway in [&one, &other, &one] {
        cookies.push(gateway.log_in("ann", "correct horse").await.cookie());
    }
    assert_eq!(other.log_out(&cookies[0], false).await.status, 204);
    assert_eq!(one.refresh(&cookies[0]).await.status, 401);
    assert_eq!(one.log_out(&cookies[0], false).await.status, 204, "it may be repeated");
    assert_eq!(one.log_out(&cookies[1], true).await.status, 204);
    for cookie in &cookies {
        assert_eq!(other.refresh(cookie).await.status, 401);
    }
    assert_eq!(one.refresh(&bob).await.status, 200);
    assert_eq!(database.sql("select count(*), max(mark) from lockstep.revocation"), "3|3");
}

#[tokio::test]
async fn a_password_or_an_account_that_changes_ends_logins_whichever_gateway_made_them() {
    let (database, one, other) = two().await;
    let cookie = other.log_in("ann", "correct horse").await.cookie();
    let command = SharedAccounts::with_cost(
        Shared::connect(Settings::new(database.url.as_str())).await.expect("an engine"),
        CHEAP,
    );
    command.passwd("ann", "another horse").await.expect("changed");
    assert_eq!(one.refresh(&cookie).await.error(), (401, "no_session"), "even before it is noticed");
    assert_eq!(other.log_in("ann", "correct horse").await.status, 401);
    // A gateway that only watches notices, too.
    let cookie = one.log_in("ann", "another horse").await.cookie();
    assert_eq!(database.sql("select count(*) from lockstep.login"), "1");
    let watch = tokio::spawn(Arc::clone(&other.login).watch(Duration::from_millis(10)));
    command.remove("ann").await.expect("removed");
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    while database.sql("select count(*) from lockstep.login") != "0" {
        pause.tick().await;
    }
    watch.abort();
    assert_eq!(command.passwd("ann", "correct horse").await, Err(AccountError::Unknown));
    command.add("ann", "correct horse").await.expect("added");
    assert_eq!(one.refresh(&cookie).await.status, 401);
    assert_eq!(one.log_in("ann", "correct horse").await.body["user"], "ann#2", "another person");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_login_with_an_old_password_is_left_however_it_races() {
    let (database, one, other) = two().await;
    for gateway in [&one, &other] {
        tokio::spawn(Arc::clone(&gateway.login).watch(Duration::from_millis(5)));
    }
    for round in 0..5 {
        let (old, new) = (format!("password {round}"), format!("password {}", round + 1));
        one.accounts.passwd("ann", &old).await.expect("changed");
        let logins = [&one, &other, &one, &other].map(|gateway| gateway.log_in("ann", &old));
        let (answers, changed) = tokio::join!(join_all(logins), other.accounts.passwd("ann", &new));
        changed.expect("changed");
        assert!(answers.iter().all(|answer| [200, 401].contains(&answer.status)), "round {round}");
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        while database.sql("select count(*) from lockstep.login") != "0" {
            pause.tick().await;
        }
    }
}

/// A connection of the test's own.
async fn client(database: &Database) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.expect("an engine");
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_waits_for_a_change_of_the_accounts_that_is_not_committed_yet() {
    let (database, one, _) = two().await;
    let (changer, watcher) = (client(&database).await, client(&database).await);
    let change = "begin; update lockstep.roster set version = version + 1, content = null";
    changer.batch_execute(change).await.expect("a change");
    let login = tokio::spawn(async move { one.log_in("ann", "correct horse").await.status });
    let waiting = "select exists (select from pg_stat_activity
        where wait_event_type = 'Lock' and datname = current_database())";
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    while !watcher.query_one(waiting, &[]).await.expect("an answer").get::<_, bool>(0) {
        pause.tick().await;
        assert!(!login.is_finished(), "it was answered while the accounts were about to change");
    }
    changer.batch_execute("commit").await.expect("committed");
    assert_eq!(login.await.expect("an answer"), 401, "its account is gone");
    assert_eq!(database.sql("select count(*) from lockstep.login"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ticket_is_redeemed_once_at_whichever_gateway() {
    let (database, one, other) = two().await;
    let token = one.log_in("ann", "correct horse").await.token();
    let ticket = one.ticket(&token).await;
    let stored = database.sql("select encode(token, 'escape') || encode(digest, 'base64') from lockstep.ticket");
    assert!(!stored.is_empty() && !stored.contains(&token) && !stored.contains(&ticket), "{stored}");
    assert!(!stored.contains(token.split('.').next().expect("a header")), "{stored}");
    assert_eq!(other.redeem(&ticket).await.as_ref(), Some(&token));
    assert_eq!((one.redeem(&ticket).await, other.redeem(&ticket).await), (None, None));
    for garbage in ["", "AAAA", &"A".repeat(43)] {
        assert_eq!(one.redeem(garbage).await, None);
    }
    for round in 0..20 {
        let ticket = other.ticket(&token).await;
        let redeemed = join_all([&one, &other, &one, &other].map(|gateway| gateway.redeem(&ticket))).await;
        assert_eq!(redeemed.iter().flatten().count(), 1, "round {round}");
    }
    let late = one.ticket(&token).await;
    database.sql("update lockstep.ticket set expires = now() - interval '1 second'");
    assert_eq!(other.redeem(&late).await, None, "the engine's clock decides");
}

#[tokio::test]
async fn a_login_that_is_not_used_ends_by_the_time_for_which_gateways_have_run() {
    let (database, one, other) = two().await;
    let cookie = one.log_in("ann", "correct horse").await.cookie();
    let idle = config().idle.as_millis();
    database.sql(&format!("update lockstep.login_clock set age = age + {}", idle - 1000));
    let cookie = other.refresh(&cookie).await.cookie();
    database.sql(&format!("update lockstep.login_clock set age = age + {}", idle + 1));
    assert_eq!(one.refresh(&cookie).await.status, 401);
    assert_eq!(database.sql("select count(*) from lockstep.login"), "0");
    // The clock advances while a gateway runs, and not faster than time.
    let before: u64 = database.sql("select age from lockstep.login_clock").parse().expect("a number");
    let began = std::time::Instant::now();
    let engine = Shared::connect(Settings::new(database.url.as_str())).await.expect("an engine");
    let tick = engine.tick(u64::MAX, 1_000_000).await.expect("a tick");
    assert_eq!(engine.tick(tick, 7).await.expect("a tick"), tick + 1);
    assert_eq!(engine.tick(tick, 1_000_000).await.expect("a tick"), tick + 1, "another gateway has added that time");
    let after: u64 = database.sql("select age from lockstep.login_clock").parse().expect("a number");
    assert_eq!(after - before, 7, "{:?}", began.elapsed());
}

#[tokio::test]
async fn while_the_engine_is_out_of_reach_nothing_is_decided_and_tokens_stay_valid() {
    let server = Server::start(&["fsync=off"]).expect("a server");
    let database = Database::new(&server).await;
    let gateway = Node::start(&database.url).await;
    gateway.accounts.add("ann", "correct horse").await.expect("added");
    let answer = gateway.log_in("ann", "correct horse").await;
    server.kill();
    for refused in [gateway.log_in("ann", "correct horse").await, gateway.refresh(&answer.cookie()).await] {
        assert_eq!(refused.error().0, 503, "{}", refused.body);
    }
    assert_eq!(gateway.log_out(&answer.cookie(), false).await.status, 503);
    assert!(gateway.is_good(&answer.token()).await);
    server.restart();
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    let again = loop {
        pause.tick().await;
        let again = gateway.refresh(&answer.cookie()).await;
        if again.status != 503 {
            break again;
        }
    };
    assert!(gateway.is_good(&again.token()).await, "the login is there, as it was");
}

#[tokio::test]
async fn tables_and_debug_output_hold_no_password() {
    let (database, one, _) = two().await;
    one.log_in("ann", "correct horse").await.token();
    let key = database.sql("select encode(key, 'base64') from lockstep.secret");
    assert_eq!(key.len(), 44, "32 bytes");
    let shown = format!("{:?} {:?} {:?}", one.login, one.accounts, one.tickets);
    let roster = database.sql("select encode(content, 'escape') from lockstep.roster");
    assert!(roster.contains("$argon2id$") && !roster.contains("correct horse"), "{roster}");
    assert!(!shown.contains("correct horse") && !shown.contains(&key) && !shown.contains("argon2"), "{shown}");
}

/// What a user, an operator or time does.
#[derive(Clone, Copy, Debug)]
enum Act {
    LogIn,
    /// With one of the cookies until now.
    Refresh(usize),
    LogOut(usize),
    LogOutEverywhere(usize),
    ChangePassword,
    Wait(Duration),
}

/// A sequence of acts. Most cookies are recent ones.
fn acts(seed: u64) -> Vec<Act> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below).expect("a small number")
    };
    let mut act = || match random(20) {
        0..=4 => Act::LogIn,
        5..=14 => Act::Refresh(random(4)),
        15 => Act::LogOut(random(6)),
        16 => Act::LogOutEverywhere(random(8)),
        17 => Act::ChangePassword,
        _ => Act::Wait(config().idle * 2 / 3),
    };
    (0..40).map(|_| act()).collect()
}

#[tokio::test]
async fn gateways_that_share_logins_answer_as_one_gateway_does() {
    let database = Database::new(Server::shared()).await;
    let (mut refused, mut admitted) = (0, 0);
    for seed in 1..=8 {
        let directory = Directory::new();
        let one = super::http::Gateway::with_ann(&directory).await;
        let user = format!("ann{seed}");
        one.accounts.add(&user, "password 0").await.expect("added");
        let nodes =
            [Node::start(&database.url).await, Node::start(&database.url).await, Node::start(&database.url).await];
        nodes[0].accounts.add(&user, "password 0").await.expect("added");
        let mut password = "password 0".to_owned();
        let (mut mine, mut theirs): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for (number, act) in acts(seed).into_iter().enumerate() {
            let node = &nodes[number % nodes.len()];
            let place = |back: usize| mine.len().checked_sub(1 + back);
            let (expected, answer) = match act {
                Act::LogIn => (one.log_in(&user, &password).await, node.log_in(&user, &password).await),
                Act::Refresh(back) => {
                    let Some(at) = place(back) else { continue };
                    (one.refresh(&mine[at]).await, node.refresh(&theirs[at]).await)
                }
                Act::LogOut(back) | Act::LogOutEverywhere(back) => {
                    let Some(at) = place(back) else { continue };
                    let everywhere = matches!(act, Act::LogOutEverywhere(_));
                    (one.log_out(&mine[at], everywhere).await, node.log_out(&theirs[at], everywhere).await)
                }
                Act::ChangePassword => {
                    password = format!("password {number}");
                    one.accounts.passwd(&user, &password).await.expect("changed");
                    node.accounts.passwd(&user, &password).await.expect("changed");
                    continue;
                }
                Act::Wait(time) => {
                    one.hands.forward(time);
                    database.sql(&format!("update lockstep.login_clock set age = age + {}", time.as_millis()));
                    continue;
                }
            };
            assert_eq!(
                (answer.status, &answer.body["error"]),
                (expected.status, &expected.body["error"]),
                "{seed} {act:?}"
            );
            match expected.status {
                200 => {
                    mine.push(expected.cookie());
                    theirs.push(answer.cookie());
                    admitted += 1;
                }
                204 => {}
                _ => refused += 1,
            }
        }
    }
    assert!(admitted > 40 && refused > 20, "{admitted} {refused}");
}
