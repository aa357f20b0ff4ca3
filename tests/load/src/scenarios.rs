//! What is done to a server, and what is counted meanwhile.
//!
//! | module | scenarios |
//! | --- | --- |
//! | [`talking`] | *stream*, *turns*, *paced*, *slow*: users who read answers |
//! | [`crowd`] | *fan-out*, *connect*, *idle*, *storm*, *history*: what a number of users costs |
//! | [`faults`] | *jitter*, *avalanche*: sockets that are cut, and a server that is killed |
//!
//! Each run has a server of its own, which has done nothing before.

mod crowd;
mod faults;
mod talking;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::client::{Client, Event, Place};
use crate::plan;
use crate::process::Usage;
use crate::servers::{Kind, Server};

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// 8 users; each piece of a long answer is awaited by its agent
    Stream,
    /// the same, 16 pieces at a time
    Stream16,
    /// 8 users; turns of 16 pieces, one at a time
    Turns,
    /// the same with 3 tabs each, per delivery
    Turns3,
    /// turns of 64 pieces, 16 at a time
    Turns16,
    /// 200 users x 50 pieces a second, by the clock; latency from the intended time
    Paced,
    /// the same, while 1 % of the users read nothing of what is sent to them at full speed
    Slow,
    /// one notice to each of N users; time to the last, CPU per delivery
    FanOut,
    /// authenticated connects (HS256), 16 at a time
    Connect,
    /// N connections that say nothing but a ping every 20 s: KiB per connection, % of a core per 1,000
    Idle,
    /// N users come back at once, and each resumes 100 events
    Storm,
    /// N/10 users, 10 numbered messages a second; each socket is cut every 10 to 20 s and back after 2 s
    Jitter,
    /// the server is killed and started again under N users, who come back to 10 events that they had not read
    Avalanche,
    /// 100 users with 1,000 events of 172 B: KiB per user, CPU per event of the next 1,000
    History,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Seconds for which a steady load is measured.
    pub(crate) seconds: f64,
    /// Users of scenarios with many.
    pub(crate) users: usize,
}

/// What one run has shown, by figure.
pub(crate) type Sample = BTreeMap<String, f64>;

impl Scenario {
    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What `cpu_us` is per.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Stream | Self::Stream16 | Self::Turns | Self::Turns16 | Self::Paced | Self::Slow | Self::History => {
                "event"
            }
            Self::Turns3 | Self::FanOut | Self::Jitter => "delivery",
            Self::Connect => "connect",
            Self::Idle => "ping",
            Self::Storm | Self::Avalanche => "client",
        }
    }

    /// Whether a server can do it at all.
    pub(crate) fn fits(self, kind: Kind) -> bool {
        match self {
            // It keeps what a session has missed only until the process ends, and resumes no rewound place.
            Self::Avalanche => kind != Kind::Socketio,
            // It keeps packets by time, not events by user.
            Self::History => kind != Kind::Socketio,
            Self::Stream
            | Self::Stream16
            | Self::Turns
            | Self::Turns3
            | Self::Turns16
            | Self::Paced
            | Self::Slow
            | Self::FanOut
            | Self::Connect
            | Self::Idle
            | Self::Storm
            | Self::Jitter => true,
        }
    }

    /// Runs it.
    pub(crate) async fn run(self, server: &mut Server, sizes: Sizes) -> io::Result<Sample> {
        match self {
            Self::Stream | Self::Stream16 | Self::Turns | Self::Turns3 | Self::Turns16 | Self::Paced | Self::Slow => {
                talking::run(self, server, sizes).await
            }
            Self::FanOut => crowd::fan_out(server, sizes).await,
            Self::Connect => crowd::connect(server, sizes).await,
            Self::Idle => crowd::idle(server, sizes).await,
            Self::Storm => crowd::storm(server, sizes).await,
            Self::History => crowd::history(server).await,
            Self::Jitter => faults::jitter(server, sizes).await,
            Self::Avalanche => faults::avalanche(server, sizes).await,
        }
    }
}

/// What clients have seen.
pub(crate) struct Seen {
    events: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

impl Seen {
    fn new() -> Arc<Self> {
        // Microseconds up to a minute, three digits.
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|_| unreachable!("valid bounds"));
        Arc::new(Self { events: AtomicU64::new(0), latency: Mutex::new(latency) })
    }

    fn event(&self, event: &Event) {
        self.events.fetch_add(event.count, Ordering::Relaxed);
        if let Some(due) = event.due {
            self.took(plan::now().saturating_sub(due));
        }
    }

    fn took(&self, us: u64) {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(us.max(1));
    }

    fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    fn forget_latency(&self) {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).reset();
    }
}

/// Measures from its creation on.
pub(crate) struct Meter {
    server: Usage,
    client: Usage,
    began: tokio::time::Instant,
    seen: Arc<Seen>,
    events: u64,
}

impl Meter {
    fn start(server: &Server, seen: &Arc<Seen>) -> Self {
        seen.forget_latency();
        let (events, seen) = (seen.events(), Arc::clone(seen));
        Self { server: server.usage(), client: Usage::own(), began: tokio::time::Instant::now(), seen, events }
    }

    /// The figures of all events since the start.
    fn end(self, server: &Server) -> Sample {
        let events = self.seen.events() - self.events;
        self.end_with(server, events)
    }

    /// The figures, per one of `count`.
    fn end_with(self, server: &Server, count: u64) -> Sample {
        let (now, own, took) = (server.usage(), Usage::own(), self.began.elapsed());
        let per = |value: f64| value / count.max(1) as f64;
        let mut sample = Sample::from([
            ("cpu_us".to_owned(), per(now.cpu_since(&self.server).as_secs_f64() * 1e6)),
            ("client_us".to_owned(), per(own.cpu_since(&self.client).as_secs_f64() * 1e6)),
            ("written_b".to_owned(), per(now.written.saturating_sub(self.server.written) as f64)),
            ("busy_pct".to_owned(), 100.0 * now.cpu_since(&self.server).as_secs_f64() / took.as_secs_f64()),
            ("per_s".to_owned(), count as f64 / took.as_secs_f64()),
            ("count".to_owned(), count as f64),
        ]);
        let latency = self.seen.latency.lock().unwrap_or_else(PoisonError::into_inner);
        if !latency.is_empty() {
            for (name, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
                sample.insert(name.to_owned(), latency.value_at_quantile(quantile) as f64 / 1e3);
            }
        }
        sample
    }
}

/// The name of a user.
fn user(number: usize) -> String {
    format!("user{number}")
}

/// Connects that user.
async fn open(server: &Server, number: usize, place: Option<&Place>) -> io::Result<Client> {
    Client::connect(server.address, server.kind.dialect(), &plan::token(&user(number)), place).await
}

/// Does the same for each of many users, as many at once as given, and returns what each has come to, by user.
async fn each<T, F>(users: usize, at_once: usize, work: impl Fn(usize) -> F) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let gate = Arc::new(tokio::sync::Semaphore::new(at_once));
    let tasks: Vec<_> = (0..users)
        .map(|user| {
            let (gate, work) = (Arc::clone(&gate), work(user));
            tokio::spawn(async move {
                let _permit = gate.acquire_owned().await.map_err(io::Error::other)?;
                tokio::time::timeout(LONGEST, work).await?
            })
        })
        .collect();
    let mut done = Vec::with_capacity(users);
    for task in tasks {
        done.push(task.await.map_err(io::Error::other)??);
    }
    Ok(done)
}

/// The longest that one user's work may take.
const LONGEST: Duration = Duration::from_secs(180);

/// Clients that connect at once, where connecting is not what is measured.
const AT_ONCE: usize = 64;
