//! Sockets that are cut, and a server that is killed under its clients. Both follow AnyCable's public comparison.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::crowd::percent;
use super::{AT_ONCE, Meter, Sample, Seen, Sizes, each, user};
use crate::client::{Client, Place};
use crate::plan::{self, Kind, Plan};
use crate::servers::{NotStarted, Server};
use crate::stats::Random;

/// How long a client is away.
const AWAY: Duration = Duration::from_secs(2);

/// The shortest run of *jitter*: each socket is cut at least once.
const JITTER: f64 = 22.0;

pub(super) async fn jitter(server: &Server, sizes: Sizes) -> io::Result<Sample> {
    let (address, dialect, seen) = (server.address, server.kind.dialect(), Seen::new());
    let seconds = sizes.seconds.max(JITTER);
    let plan = Plan { n: (seconds * 10.0) as u32, batch: 1, every: 100_000, size: 100, kind: Kind::Event };
    let meter = Meter::start(server, &seen);
    let talk = |number: usize| {
        let seen = Arc::clone(&seen);
        async move {
            let (mut random, token) = (Random::new(number as u64), plan::token(&user(number)));
            let mut client = Client::connect(address, dialect, &token, None).await?;
            client.say("m", &plan).await?;
            let (mut events, mut whole, mut since) = (0, true, None);
            loop {
                let cut = Duration::from_millis(10_000 + random.below(10_000) as u64);
                let read = read(&mut client, &seen, &mut since, &mut events, &mut whole);
                match tokio::time::timeout(cut, read).await {
                    // `message_received`, `agent_started`, the events, `agent_completed`.
                    Ok(Ok(())) => return Ok(whole && events == u64::from(plan.n) + 3),
                    Ok(Err(_)) => return Ok(false),
                    Err(_) => {}
                }
                let place = client.place.clone();
                drop(client);
                tokio::time::sleep_until(tokio::time::Instant::now() + AWAY).await;
                since = Some(plan::now());
                client = Client::connect(address, dialect, &token, Some(&place)).await?;
            }
        }
    };
    // One that never sees the end of its run has lost it.
    let longest = Duration::from_secs_f64(seconds + 20.0);
    let users = (sizes.users / 10).max(1);
    let bounded = |number| {
        let talk = talk(number);
        async move { tokio::time::timeout(longest, talk).await.unwrap_or(Ok(false)) }
    };
    let whole = each(users, users, bounded).await?;
    let mut sample = meter.end(server);
    sample.insert("whole_pct".to_owned(), percent(&whole));
    Ok(sample)
}

/// Reads to the end of the run. The replay took until the last event that was due before the client came back.
async fn read(
    client: &mut Client,
    seen: &Seen,
    since: &mut Option<u64>,
    events: &mut u64,
    whole: &mut bool,
) -> io::Result<()> {
    let mut last_missed = None;
    loop {
        let event = client.event().await?;
        *events += event.count;
        *whole &= event.follows;
        seen.events.fetch_add(event.count, std::sync::atomic::Ordering::Relaxed);
        match (*since, event.due) {
            (Some(back), Some(due)) if due < back => last_missed = Some(plan::now() - back),
            (Some(_), Some(_)) => {
                if let Some(took) = last_missed {
                    seen.took(took);
                }
                *since = None;
            }
            (_, _) => {}
        }
        if event.completes {
            return Ok(());
        }
    }
}

/// Events that each client has not read when its server is killed.
const UNREAD: u64 = 10;

pub(super) async fn avalanche(server: &mut Server, sizes: Sizes) -> io::Result<Sample> {
    let (address, dialect) = (server.address, server.kind.dialect());
    let plan = Plan { n: 20, batch: 10, every: 0, size: 100, kind: Kind::Event };
    let connect = |number| async move {
        let mut client = Client::connect(address, dialect, &plan::token(&user(number)), None).await?;
        client.say("m", &plan).await?;
        client.run(|_| ()).await?;
        Ok(client)
    };
    let clients = each(sizes.users, AT_ONCE, connect).await?;
    let mut places: Vec<Place> = clients.iter().map(|client| client.place.clone()).collect();
    for place in &mut places {
        place.offset -= UNREAD;
    }
    let began = plan::now();
    server.restart().await.map_err(|not| match not {
        NotStarted::Failed(why) => io::Error::other(why),
        NotStarted::NotInstalled(what) => io::Error::other(what.display().to_string()),
    })?;
    drop(clients);
    let (seen, places, is_durable) = (Seen::new(), Arc::new(places), server.kind.is_durable());
    let meter = Meter::start(server, &seen);
    let back = |number: usize| {
        let (places, seen) = (Arc::clone(&places), Arc::clone(&seen));
        async move {
            let token = plan::token(&user(number));
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            let mut client = loop {
                tick.tick().await;
                if let Ok(client) = Client::connect(address, dialect, &token, Some(&places[number])).await {
                    break client;
                }
            };
            // What is not kept does not come.
            let mut read = 0;
            while is_durable && read < UNREAD {
                read += client.event().await?.count;
            }
            seen.took(plan::now() - began);
            // It stays connected until all are back.
            Ok((read == UNREAD, client))
        }
    };
    let all: Vec<(bool, Client)> = each(sizes.users, sizes.users, back).await?;
    let last = (plan::now() - began) as f64 / 1e3;
    let mut sample = meter.end_with(server, sizes.users as u64);
    sample.insert("last_ms".to_owned(), last);
    sample.insert("whole_pct".to_owned(), percent(&all.iter().map(|(whole, _)| *whole).collect::<Vec<_>>()));
    Ok(sample)
}
