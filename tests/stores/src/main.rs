//! Compares stores as the log behind the gateway. One group commit carries what `users` closed loops have to append,
//! an event each; every event is durable before the next group begins. Each user keeps its last events ([`KEPT`]).
//!
//! `cargo run --release -- [SECONDS] [DIRECTORY] [STORE]` prints one table: what a store writes per event
//! (`/proc/self/io`, `write_bytes`), what it costs in processor time, how long a group takes, and what it takes to open
//! the store again, to read a user's events, and to delete a user.

mod fjall_store;
mod lockstep_store;
mod redb_store;
mod segments;
mod sqlite_store;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Events that a user keeps: the default window.
const KEPT: u64 = 1_024;

/// Events between two trims of a user.
const TRIM: u64 = 256;

/// Bytes of an event.
const EVENT: usize = 170;

/// Events in one run at most.
const MOST: u64 = 1_000_000;

/// An event to append: of which user, behind which offset, and its bytes.
pub struct Event<'a> {
    pub user: u64,
    pub offset: u64,
    pub data: &'a [u8],
}

/// What a log needs of a store.
pub trait Store {
    /// Makes all of it durable.
    fn commit(&mut self, group: &[Event<'_>]);
    /// Forgets what is at or before these offsets. It need not be durable at once.
    fn trim(&mut self, user: u64, through: u64);
    /// How many events there are of a user, having read them all.
    fn read(&mut self, user: u64) -> usize;
    /// Forgets a user, durably.
    fn delete(&mut self, user: u64);
}

type Open = fn(&Path) -> Box<dyn Store>;

const STORES: &[(&str, Open)] = &[
    ("redb, a row an event", |path| Box::new(redb_store::Rows::open(path))),
    ("redb, a row a group", |path| Box::new(redb_store::Groups::open(path))),
    ("SQLite WAL", |path| Box::new(sqlite_store::Rows::open(path))),
    ("fjall", |path| Box::new(fjall_store::Rows::open(path))),
    ("segments", |path| Box::new(segments::Segments::open(path))),
    ("lockstep's DiskLog", |path| Box::new(lockstep_store::Disk::open(path))),
    ("segments before redb", |path| Box::new(segments::Indexed::open(path))),
];

/// How the users append.
#[derive(Clone, Copy)]
enum Load {
    /// Each as soon as its last event is durable.
    Closed(u64),
    /// The users, and the events a second of each.
    Paced(u64, u64),
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux counts what a process writes");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("write_bytes");
    line.parse().expect("a number")
}

/// Processor time of all threads, in ticks of 10 ms.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux counts time");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
    Duration::from_millis(ticks * 10)
}

/// An event that is like one piece of an answer, and unlike every other.
fn event(buffer: &mut Vec<u8>, user: u64, offset: u64) {
    use std::io::Write;
    buffer.clear();
    let noise = (user << 32 ^ offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    write!(
        buffer,
        "{{\"run\":{},\"kind\":\"thinking\",\"thread\":\"thread-{user}\",\"at\":{},",
        offset / 800,
        1_790_000_000_000 + offset
    )
    .expect("memory");
    write!(buffer, "\"data\":{{\"text\":\"{noise:016x}").expect("memory");
    while buffer.len() < EVENT - 3 {
        buffer.push(b'a' + (noise >> (buffer.len() % 59)) as u8 % 26);
    }
    buffer.extend_from_slice(b"\"}}");
}

struct Result {
    events: u64,
    rate: f64,
    bytes: f64,
    processor: f64,
    middle: Duration,
    late: Duration,
    open: Duration,
    read: Duration,
    delete: Duration,
    disk: u64,
}

fn size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let entries = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    entries.sum()
}

fn run(open: Open, load: Load, seconds: u64, path: &Path) -> Result {
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir_all(path).expect("a directory");
    let mut store = open(path);
    let users = match load {
        Load::Closed(users) | Load::Paced(users, _) => users,
    };
    let mut heads = vec![0_u64; users as usize];
    let mut buffers: Vec<Vec<u8>> = (0..users).map(|_| Vec::with_capacity(EVENT)).collect();
    let (io, cpu, began) = (written(), processor(), Instant::now());
    let mut took = Vec::new();
    let mut events = 0;
    // Paced: when each user's next event is due.
    let mut due: VecDeque<(Duration, usize)> = match load {
        Load::Closed(_) => VecDeque::new(),
        Load::Paced(users, rate) => {
            (0..users).map(|user| (Duration::from_micros(user * 1_000_000 / rate / users), user as usize)).collect()
        }
    };
    while began.elapsed() < Duration::from_secs(seconds) && events < MOST {
        let mut group = Vec::new();
        let mut since = Vec::new();
        match load {
            Load::Closed(_) => group.extend(0..users as usize),
            Load::Paced(_, rate) => {
                let first = due.front().expect("a user").0;
                std::thread::park_timeout(first.saturating_sub(began.elapsed()));
                let now = began.elapsed();
                // One event of a user at a time, as in a session.
                while due.front().is_some_and(|(at, user)| *at <= now && !group.contains(user)) {
                    let (at, user) = due.pop_front().expect("a user");
                    due.push_back((at + Duration::from_micros(1_000_000 / rate), user));
                    since.push(at);
                    group.push(user);
                }
            }
        }
        for user in &group {
            heads[*user] += 1;
            event(&mut buffers[*user], *user as u64, heads[*user]);
        }
        let batch: Vec<Event<'_>> = group
            .iter()
            .map(|user| Event { user: *user as u64, offset: heads[*user], data: &buffers[*user] })
            .collect();
        let before = Instant::now();
        store.commit(&batch);
        if since.is_empty() {
            took.push(before.elapsed());
        } else {
            let now = began.elapsed();
            took.extend(since.into_iter().map(|at| now.saturating_sub(at)));
        }
        events += group.len() as u64;
        for user in group {
            if heads[user] > KEPT && heads[user] % TRIM == 0 {
                store.trim(user as u64, heads[user] - KEPT);
            }
        }
    }
    let elapsed = began.elapsed();
    drop(store);
    let (bytes, cpu) = (written() - io, processor() - cpu);
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let disk = size(path);
    let again = Instant::now();
    let mut store = open(path);
    let open = again.elapsed();
    let reading = Instant::now();
    for user in 0..users.min(16) {
        let (found, wanted) = (store.read(user), heads[user as usize].min(KEPT));
        assert!(found as u64 >= wanted, "user {user}: {found} of {wanted} events");
    }
    let read = reading.elapsed() / users.min(16) as u32;
    let deleting = Instant::now();
    for user in 0..users.min(16) {
        store.delete(user);
        assert_eq!(store.read(user), 0, "a deleted user is read");
    }
    let delete = deleting.elapsed() / users.min(16) as u32;
    drop(store);
    let _ = std::fs::remove_dir_all(path);
    Result {
        events,
        rate: events as f64 / elapsed.as_secs_f64(),
        bytes: bytes as f64 / events as f64,
        processor: cpu.as_secs_f64() * 1e6 / events as f64,
        middle: at(0.5),
        late: at(0.99),
        open,
        read,
        delete,
        disk,
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(3, |text| text.parse().expect("seconds"));
    let base: PathBuf = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let only = arguments.next().unwrap_or_default();
    let path = base.join(format!("lockstep-stores-{}", std::process::id()));
    println!(
        "| users | store | events | events/s | B written/event | CPU µs/event | group p50 µs | p99 µs | open ms | read a user µs | delete a user µs | MB on disk |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for load in [Load::Closed(1), Load::Closed(8), Load::Closed(64), Load::Closed(512), Load::Paced(64, 50)] {
        for (name, open) in STORES.iter().filter(|(name, _)| name.contains(&only)) {
            let users = match load {
                Load::Closed(users) => users.to_string(),
                Load::Paced(users, rate) => format!("{users} paced at {rate}/s"),
            };
            let r = run(*open, load, seconds, &path);
            println!(
                "| {users} | {name} | {} | {:.0} | {:.0} | {:.1} | {} | {} | {:.1} | {} | {} | {:.1} |",
                r.events,
                r.rate,
                r.bytes,
                r.processor,
                r.middle.as_micros(),
                r.late.as_micros(),
                r.open.as_secs_f64() * 1e3,
                r.read.as_micros(),
                r.delete.as_micros(),
                r.disk as f64 / 1e6,
            );
        }
    }
}
