//! What a number of users costs: connecting, idling, coming back, being told, having said much.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{AT_ONCE, Meter, Sample, Seen, Sizes, each, open, user};
use crate::client::{Client, Dialect, Place};
use crate::plan::{self, Kind, Plan};
use crate::servers::Server;

/// How often clients ping.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Clients that come back at the same moment, of the storm: as many as a listener's backlog takes.
const RUSH: usize = 1_024;

/// Connects before those that are measured.
const WARM_UP: usize = 200;

/// Connects one client for each user.
async fn all(server: &Server, users: usize) -> io::Result<Vec<Client>> {
    let (address, dialect) = (server.address, server.kind.dialect());
    let connect = |number| async move { Client::connect(address, dialect, &plan::token(&user(number)), None).await };
    each(users, AT_ONCE, connect).await
}

pub(super) async fn connect(server: &Server, sizes: Sizes) -> io::Result<Sample> {
    let (address, dialect, seen) = (server.address, server.kind.dialect(), Seen::new());
    // Signing is the issuer's work.
    let tokens: Arc<Vec<String>> = Arc::new((0..sizes.users).map(|number| plan::token(&user(number))).collect());
    // The first ones find what must grow.
    drop(all(server, WARM_UP).await?);
    let meter = Meter::start(server, &seen);
    let connect = |number: usize| {
        let (tokens, seen) = (Arc::clone(&tokens), Arc::clone(&seen));
        async move {
            let began = plan::now();
            let client = Client::connect(address, dialect, &tokens[number], None).await?;
            seen.took(plan::now() - began);
            drop(client);
            Ok(())
        }
    };
    each(sizes.users, 16, connect).await?;
    Ok(meter.end_with(server, sizes.users as u64))
}

pub(super) async fn idle(server: &Server, sizes: Sizes) -> io::Result<Sample> {
    // What the first connections bring along is not a connection's.
    let first = all(server, 16).await?;
    let before = server.usage();
    let mut clients = Vec::with_capacity(sizes.users);
    let (address, dialect) = (server.address, server.kind.dialect());
    let connect =
        |number| async move { Client::connect(address, dialect, &plan::token(&user(16 + number)), None).await };
    clients.extend(each(sizes.users, AT_ONCE, connect).await?);
    let seen = Seen::new();
    let mut tick = tokio::time::interval(HEARTBEAT / u32::try_from(clients.len()).unwrap_or(u32::MAX));
    tick.tick().await;
    let resident = server.usage().resident_kib.saturating_sub(before.resident_kib);
    let meter = Meter::start(server, &seen);
    let pings = (sizes.seconds.max(5.0) / HEARTBEAT.as_secs_f64() * clients.len() as f64) as usize;
    for client in clients.iter_mut().take(pings) {
        tick.tick().await;
        client.ping().await?;
    }
    let mut sample = meter.end_with(server, pings as u64);
    sample.insert("kib".to_owned(), resident as f64 / clients.len() as f64);
    let busy = sample.get("busy_pct").copied().unwrap_or_default();
    sample.insert("core_pct_per_1000".to_owned(), busy * 1_000.0 / clients.len() as f64);
    // What pings by itself does so less often than this looks.
    if server.kind.dialect() == Dialect::SocketIo {
        sample.retain(|figure, _| figure == "kib");
    }
    drop(first);
    Ok(sample)
}

pub(super) async fn storm(server: &Server, sizes: Sizes) -> io::Result<Sample> {
    let (address, dialect) = (server.address, server.kind.dialect());
    let missed = Plan { n: 100, batch: 10, every: 500_000, size: 100, kind: Kind::Event };
    // Each leaves when its run has begun. The first batch is then on its way.
    let leave = |number| async move {
        let mut client = Client::connect(address, dialect, &plan::token(&user(number)), None).await?;
        client.say("m", &missed).await?;
        let first = client.event().await?;
        Ok::<(Place, u64), io::Error>((client.place.clone(), first.count))
    };
    let places = Arc::new(each(sizes.users, AT_ONCE, leave).await?);
    let last_batch = tokio::time::Instant::now() + Duration::from_millis(500 * 10 + 1_000);
    tokio::time::sleep_until(last_batch).await;
    let seen = Seen::new();
    let meter = Meter::start(server, &seen);
    let began = plan::now();
    let back = |number: usize| {
        let (places, seen) = (Arc::clone(&places), Arc::clone(&seen));
        async move {
            let (place, had) = &places[number];
            let mut client = Client::connect(address, dialect, &plan::token(&user(number)), Some(place)).await?;
            let mut whole = true;
            let read = client.run(|event| whole &= event.follows);
            let events = tokio::time::timeout(Duration::from_secs(20), read).await;
            seen.took(plan::now() - began);
            // `message_received`, `agent_started`, the events, `agent_completed`.
            Ok(whole && events.is_ok_and(|events| events.is_ok_and(|events| events + had == u64::from(missed.n) + 3)))
        }
    };
    let whole = each(sizes.users, RUSH, back).await?;
    let last = (plan::now() - began) as f64 / 1e3;
    let mut sample = meter.end_with(server, sizes.users as u64);
    sample.insert("last_ms".to_owned(), last);
    sample.insert("whole_pct".to_owned(), percent(&whole));
    Ok(sample)
}

pub(super) fn percent(whole: &[bool]) -> f64 {
    100.0 * whole.iter().filter(|whole| **whole).count() as f64 / whole.len().max(1) as f64
}

/// How often one tells all.
const NOTICES: usize = 5;

pub(super) async fn fan_out(server: &Server, sizes: Sizes) -> io::Result<Sample> {
    let clients = all(server, sizes.users).await?;
    let mut operator = open(server, sizes.users, None).await?;
    let (seen, said) = (Seen::new(), Plan { n: 1, batch: 1, every: 0, size: 200, kind: Kind::Broadcast });
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let mut readers = tokio::task::JoinSet::new();
    for mut client in clients {
        let (seen, arrived) = (Arc::clone(&seen), arrived.clone());
        readers.spawn(async move {
            while let Ok(event) = client.event().await {
                seen.event(&event);
                let _ = arrived.send(());
            }
        });
    }
    let mut meter = Meter::start(server, &seen);
    let mut last = Vec::new();
    for notice in 0..=NOTICES {
        // The first one finds buffers that must grow.
        if notice == 1 {
            meter = Meter::start(server, &seen);
        }
        let began = plan::now();
        operator.say(&format!("m{notice}"), &said).await?;
        for _ in 0..sizes.users {
            let arrival = tokio::time::timeout(Duration::from_secs(30), arrivals.recv());
            arrival.await?.ok_or_else(|| io::Error::other("a client has ended"))?;
        }
        if notice > 0 {
            last.push((plan::now() - began) as f64 / 1e3);
        }
    }
    let mut sample = meter.end(server);
    sample.insert("last_ms".to_owned(), crate::stats::median(&last));
    Ok(sample)
}

/// Users of *history*.
const AUTHORS: usize = 100;

pub(super) async fn history(server: &Server) -> io::Result<Sample> {
    let mut clients = all(server, AUTHORS).await?;
    let seen = Seen::new();
    let (thousand, before) = (Plan { n: 997, batch: 16, every: 0, size: 172, kind: Kind::Event }, server.usage());
    let mut grown = 0;
    let mut meter = Meter::start(server, &seen);
    for round in 0..2 {
        meter = if round == 1 { Meter::start(server, &seen) } else { meter };
        for client in &mut clients {
            client.say(&format!("m{round}"), &thousand).await?;
            client.run(|event| seen.event(event)).await?;
        }
        if round == 0 {
            grown = server.usage().resident_kib.saturating_sub(before.resident_kib);
        }
    }
    let mut sample = meter.end(server);
    sample.insert("kib".to_owned(), grown as f64 / AUTHORS as f64);
    Ok(sample)
}
