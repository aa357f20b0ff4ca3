//! The log in PostgreSQL: the contract, and what happens when answers, connections or the engine are lost.

use std::sync::Arc;
use std::time::Duration;

use lockstep::log::postgres::{PostgresLog, Settings, migrate};
use lockstep::log::{Log, Members as _};
use lockstep::testing::log::{PROCESS, contract, lasting, members};
use lockstep_tests::postgres::Server;

use crate::contract::gives_back_trimmed_messages;

mod conversations;
mod faults;
mod groups;
mod promises;
mod proxy;
mod session;

/// A lease longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

/// An empty database with the tables of the log.
async fn database(server: &Server) -> Settings {
    let settings = Settings::new(server.url(&server.database()));
    migrate(settings.clone()).await.expect("tables");
    settings
}

/// Connects, and makes [`PROCESS`] a member.
async fn connect(settings: &Settings) -> PostgresLog {
    let log = PostgresLog::connect(settings.clone()).await.expect("a log");
    log.renew(PROCESS, "127.0.0.1:1", LONG).await.expect("a lease");
    log
}

#[tokio::test]
async fn a_log_in_postgresql_does_what_every_log_must() {
    contract(&connect(&database(Server::shared()).await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_postgresql_lasts() {
    let settings = database(Server::shared()).await;
    let open = || tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(connect(&settings)));
    lasting(|| Arc::new(open()) as Arc<dyn Log>).await;
}

#[tokio::test]
async fn a_log_in_postgresql_has_members() {
    members(&connect(&database(Server::shared()).await).await).await;
}

/// RUN-2, LIM-1.
#[tokio::test]
async fn a_log_in_postgresql_gives_back_the_newest_of_the_messages_that_it_has_trimmed() {
    gives_back_trimmed_messages(&connect(&database(Server::shared()).await).await).await;
}
