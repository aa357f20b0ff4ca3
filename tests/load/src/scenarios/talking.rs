//! Users who read answers: in closed loops, or by the clock.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Meter, Sample, Scenario, Seen, Sizes, open};
use crate::plan::{Kind, Plan};
use crate::servers::Server;

/// Bytes of a piece of an answer, with its time.
const PIECE: usize = 40;

struct Talk {
    users: usize,
    /// Connections of each user that only read.
    readers: usize,
    /// Users who do not read what is sent to them.
    slow: usize,
    plan: Plan,
}

/// What is said before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn run(scenario: Scenario, server: &Server, sizes: Sizes) -> io::Result<Sample> {
    let seconds = Duration::from_secs_f64(sizes.seconds);
    let answer = |n, batch| Plan { n, batch, every: 0, size: PIECE, kind: Kind::Token };
    // Each sees the end of its answer after the measured time.
    let paced = Plan { every: 20_000, ..answer(50 * (sizes.seconds.ceil() as u32 + 3), 1) };
    let alone = Talk { users: 8, readers: 0, slow: 0, plan: answer(2_000, 1) };
    let talk = match scenario {
        Scenario::Stream => alone,
        Scenario::Stream16 => Talk { plan: answer(4_000, 16), ..alone },
        Scenario::Turns => Talk { plan: answer(16, 1), ..alone },
        Scenario::Turns3 => Talk { plan: answer(16, 1), readers: 2, ..alone },
        Scenario::Turns16 => Talk { plan: answer(64, 16), ..alone },
        Scenario::Paced => Talk { users: 200, plan: paced, ..alone },
        Scenario::Slow => Talk { users: 200, slow: 2, plan: paced, ..alone },
        Scenario::FanOut
        | Scenario::Connect
        | Scenario::Idle
        | Scenario::Storm
        | Scenario::Jitter
        | Scenario::Avalanche
        | Scenario::History => return Err(io::Error::other("not a conversation")),
    };
    measure(server, &talk, seconds).await
}

async fn measure(server: &Server, talk: &Talk, seconds: Duration) -> io::Result<Sample> {
    let seen = Seen::new();
    let mut tasks: JoinSet<io::Result<()>> = JoinSet::new();
    let mut unread = Vec::new();
    for user in 0..talk.users {
        if user < talk.slow {
            let mut client = open(server, user, None).await?;
            let flood = Plan { n: 16_000, batch: 16, every: 10_000, size: 1_000, kind: Kind::Event };
            client.say("flood", &flood).await?;
            unread.push(client);
            continue;
        }
        for _ in 0..talk.readers {
            let (mut client, seen) = (open(server, user, None).await?, Arc::clone(&seen));
            tasks.spawn(async move {
                loop {
                    seen.event(&client.event().await?);
                }
            });
        }
        let (mut client, seen, plan) = (open(server, user, None).await?, Arc::clone(&seen), talk.plan);
        tasks.spawn(async move {
            for turn in 0_u64.. {
                client.say(&format!("m{turn}"), &plan).await?;
                client.run(|event| seen.event(event)).await?;
            }
            Ok(())
        });
    }
    let began = tokio::time::Instant::now();
    lasts(&mut tasks, began + WARM_UP).await?;
    let meter = Meter::start(server, &seen);
    lasts(&mut tasks, began + WARM_UP + seconds).await?;
    let sample = meter.end(server);
    tasks.shutdown().await;
    drop(unread);
    Ok(sample)
}

/// Returns at that moment, or with the error of the first client that ends before.
async fn lasts(tasks: &mut JoinSet<io::Result<()>>, end: tokio::time::Instant) -> io::Result<()> {
    match tokio::time::timeout_at(end, tasks.join_next()).await {
        Err(_) => Ok(()),
        Ok(ended) => match ended.transpose().map_err(io::Error::other)? {
            Some(Err(error)) => Err(error),
            Some(Ok(())) | None => Err(io::Error::other("a client has ended")),
        },
    }
}
