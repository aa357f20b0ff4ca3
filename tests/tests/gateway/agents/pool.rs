//! The pool is bounded, fair between users, and skips abandoned work.

use core::pin::pin;
use core::task::{Context, Waker};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use lockstep::pool::{Panicked, Pool};

fn user(number: usize) -> Arc<str> {
    Arc::from(format!("user {number}"))
}

#[tokio::test]
async fn no_more_is_done_at_a_time_than_the_pool_allows() {
    let pool = Pool::new(3);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let working: Vec<_> = (0..60)
        .map(|number| {
            let (pool, now, most) = (pool.clone(), Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(async move {
                let work = move |_: &_| {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    number
                };
                pool.run(&user(number % 20), work).await
            })
        })
        .collect();
    for (number, working) in working.into_iter().enumerate() {
        assert_eq!(working.await.expect("no panic"), Ok(number));
    }
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?}");
}

/// One user's many tasks do not delay another user's first one.
#[tokio::test]
async fn users_take_turns() {
    let pool = Pool::new(1);
    let (release, held) = mpsc::channel::<()>();
    let (order, done) = mpsc::channel();
    let mut held = Some(held);
    let mut asked = Vec::new();
    for who in [0, 0, 0, 0, 1, 2, 1] {
        let (held, order) = (held.take(), order.clone());
        let mut work = Box::pin({
            let pool = pool.clone();
            async move {
                let work = move |_: &_| {
                    // The first task waits until all have been submitted.
                    let _ = held.map(|held| held.recv());
                    order.send(who)
                };
                pool.run(&user(who), work).await
            }
        });
        // Polling submits the task.
        assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        asked.push(work);
    }
    release.send(()).expect("the first work");
    for work in futures_util::future::join_all(asked).await {
        work.expect("no panic").expect("a listener");
    }
    drop(order);
    assert_eq!(done.iter().collect::<Vec<_>>(), [0, 1, 2, 0, 1, 0, 0]);
}

#[tokio::test]
async fn abandoned_work_is_told_to_stop_or_not_started() {
    let pool = Pool::new(1);
    let (begun, began) = mpsc::channel();
    let (told, tells) = mpsc::channel();
    {
        let work = move |stop: &lockstep::pool::Stop| {
            begun.send(()).expect("a listener");
            while !stop.is_set() {
                std::thread::yield_now();
            }
            told.send(()).expect("a listener");
        };
        let (first, second) = (user(1), user(2));
        let mut working = pin!(pool.run(&first, work));
        assert!(working.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        began.recv().expect("work that has begun");
        let mut waiting = pin!(pool.run(&second, |_| panic!("it was not begun when its asker went")));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    tells.recv().expect("work that stops");
    assert_eq!(pool.run(&user(1), |_| 7).await, Ok(7), "its place is free again");
}

#[tokio::test]
async fn work_that_panics_is_contained_and_frees_its_place() {
    let pool = Pool::new(1);
    let failed: Result<(), Panicked> = pool.run(&user(1), |_| panic!("on purpose")).await;
    assert_eq!(failed, Err(Panicked));
    assert_eq!(pool.run(&user(1), |_| 7).await, Ok(7));
}
