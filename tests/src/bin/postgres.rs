//! Measures appends to the log in PostgreSQL, beside the statement that appends, executed by itself.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who types it")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lockstep::log::postgres::{PostgresLog, Settings, migrate};
use lockstep::log::{Log as _, Members as _, Written};
use lockstep::payload::Record;
use lockstep::payload::data_of_piece;
use lockstep::testing::log::{PROCESS, own};
use lockstep_model::run::Kind;
use lockstep_model::{Offset, PartId, RunId, Tenure, UserId};
use lockstep_tests::postgres::Server;
use tokio_postgres::{Client, NoTls, Statement};

/// Measures appends to a PostgreSQL of its own, with fsync: one event of 300 bytes an append, one append at a time of
/// each user. The statement by itself has the same users in two connections, half of them in each execution.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: cargo run --release -p lockstep-tests --bin postgres -- --users 1 --users 64"
)]
struct Options {
    /// Users.
    #[arg(long, default_values_t = [1, 64])]
    users: Vec<usize>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often each is repeated, in turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// A user and its owner.
#[derive(Clone, Copy)]
struct Owned {
    user: UserId,
    tenure: Tenure,
    head: Offset,
}

/// How long each append took.
struct Measured {
    took: Vec<Duration>,
    seconds: f64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.took.len() as f64 / self.seconds
    }

    fn show(&mut self, users: usize, what: &str) {
        self.took.sort_unstable();
        let at = |part: f64| {
            let place = (self.took.len() as f64 * part) as usize;
            self.took.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        println!("{users:>6} {what:<10} {:>10.0} {:>8.2} {:>8.2}", self.rate(), at(0.5), at(0.99));
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postgres: {error}");
            ExitCode::from(1)
        }
    }
}

async fn measure(options: &Options) -> Result<(), String> {
    let server = Server::start(&["shared_buffers=256MB", "max_wal_size=4GB"])?;
    let settings = Settings::new(server.url(&server.database()));
    migrate(settings.clone()).await.map_err(|error| error.to_string())?;
    let log = PostgresLog::connect(settings.clone()).await.map_err(|error| error.to_string())?;
    let log = Arc::new(log);
    log.renew(PROCESS, "127.0.0.1:1", Duration::from_secs(86_400)).await.map_err(|error| error.to_string())?;
    println!("{:>6} {:<10} {:>10} {:>8} {:>8}", "users", "", "appends/s", "p50 ms", "p99 ms");
    for count in &options.users {
        let mut ratios = Vec::new();
        for round in 0..options.rounds {
            let mut users = Vec::new();
            for number in 0..*count {
                let user = log.user(&format!("{count} {round} {number}")).await.map_err(|error| error.to_string())?;
                users.push(Owned { user, tenure: own(&*log, user).await, head: Offset(0) });
            }
            let length = Duration::from_secs(options.seconds);
            let (mut alone, users) = alone(&settings.url, users, length).await.map_err(|error| error.to_string())?;
            alone.show(*count, "statement");
            let mut through = through(&log, users, length).await?;
            through.show(*count, "log");
            ratios.push(through.rate() / alone.rate());
        }
        ratios.sort_by(f64::total_cmp);
        println!("{count:>6} ratio of the log to the statement, median: {:.2}", ratios[ratios.len() / 2]);
    }
    Ok(())
}

/// The data of a piece of about 300 bytes.
fn data() -> Box<serde_json::value::RawValue> {
    data_of_piece(PartId(1), "text", &"an answer of the agent ".repeat(11))
}

/// Appends through the log: each user waits for its answer.
async fn through(log: &Arc<PostgresLog>, users: Vec<Owned>, length: Duration) -> Result<Measured, String> {
    let began = Instant::now();
    let appending = users.into_iter().map(|mut owned| {
        let log = Arc::clone(log);
        tokio::spawn(async move {
            let mut took = Vec::new();
            while began.elapsed() < length {
                let (record, sent) = (Record::written(Some("thread".into()), data(), 1), Instant::now());
                let batch = vec![Written { run: RunId(1), kind: Kind::Delta(PartId(1)), record: Arc::new(record) }];
                let offsets = log.append(owned.user, owned.tenure, owned.head, batch).await;
                owned.head = offsets.map_err(|error| error.to_string())?[0];
                took.push(sent.elapsed());
            }
            Ok::<_, String>(took)
        })
    });
    let mut took = Vec::new();
    for user in futures_util::future::join_all(appending).await {
        took.extend(user.map_err(|error| error.to_string())??);
    }
    Ok(Measured { took, seconds: began.elapsed().as_secs_f64() })
}

/// Executes the statement by itself, in two connections if there are several users.
async fn alone(
    url: &str,
    mut users: Vec<Owned>,
    length: Duration,
) -> Result<(Measured, Vec<Owned>), tokio_postgres::Error> {
    let half = users.len().div_ceil(2);
    let began = Instant::now();
    let mut executing = Vec::new();
    for part in users.chunks(half) {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute("set plan_cache_mode = force_generic_plan").await?;
        let statement = client.prepare(lockstep::internal::APPEND).await?;
        executing.push(tokio::spawn(execute(client, statement, part.to_vec(), began, length)));
    }
    let mut took = Vec::new();
    users.clear();
    for part in executing {
        let (of_part, mut part) = part.await.expect("a task ends")?;
        took.extend(of_part);
        users.append(&mut part);
    }
    Ok((Measured { took, seconds: began.elapsed().as_secs_f64() }, users))
}

async fn execute(
    client: Client,
    statement: Statement,
    mut users: Vec<Owned>,
    began: Instant,
    length: Duration,
) -> Result<(Vec<Duration>, Vec<Owned>), tokio_postgres::Error> {
    let numbers = |number: fn(&Owned) -> u64, users: &[Owned]| -> Vec<i64> {
        users.iter().map(|owned| number(owned).cast_signed()).collect()
    };
    let ids = numbers(|owned| owned.user.0, &users);
    let epochs = numbers(|owned| owned.tenure.epoch.0, &users);
    let generations = numbers(|owned| owned.tenure.token.0.into(), &users);
    let (ones, kinds, abouts) = (vec![1_i64; ids.len()], vec!["delta"; ids.len()], vec![Some("1"); ids.len()]);
    let (none, threads) = (vec![None::<i64>; ids.len()], vec![&b"thread"[..]; ids.len()]);
    let (no, names) = (Vec::<i64>::new(), Vec::<&[u8]>::new());
    let mut took = Vec::new();
    while began.elapsed() < length {
        let afters = numbers(|owned| owned.head.0, &users);
        let (content, sent) = (data(), Instant::now());
        let datas = vec![content.get(); ids.len()];
        let rows = client
            .query(
                &statement,
                &[
                    &ids,
                    &epochs,
                    &generations,
                    &afters,
                    &ones,
                    &false,
                    &ids,
                    &ones,
                    &ones,
                    &kinds,
                    &abouts,
                    &none,
                    &threads,
                    &ones,
                    &datas,
                    &no,
                    &no,
                    &no,
                    &no,
                    &no,
                    &names,
                    &no,
                    &names,
                    &no,
                    &none,
                ],
            )
            .await?;
        assert!(rows.iter().all(|row| row.get::<_, &str>(1) == "taken"), "each append is taken");
        took.extend(rows.iter().map(|_| sent.elapsed()));
        users.iter_mut().for_each(|owned| owned.head = Offset(owned.head.0 + 1));
    }
    Ok((took, users))
}
