//! A gateway's part in a hand-over ([`handover`](super::handover)): when it leaves, which files it closes, and how it
//! reacts when the other process fails.

use core::time::Duration;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lockstep::Manager;
use lockstep::manager::Phase;
use lockstep::verify::revoked::Revocations;
use tokio::net::TcpListener;
use tokio::sync::RwLock;

use super::StartError;
use super::config::Config;
use super::directory::{DataDir, DirectoryError};
use super::handover::{Offer, Predecessor, Successor};
use super::serve::Certificates;
use super::signals::Signals;
use super::{assembly, serve};

/// The time limit for pending work to finish. If it is exceeded, the process ends, which certainly stops the work.
pub(super) const REST: Duration = Duration::from_secs(1);

/// The time limit for a process that holds the directory to listen there, or to end.
const STARTS: Duration = Duration::from_secs(10);

/// The interval between two checks for that.
const LOOK: Duration = Duration::from_millis(20);

/// The parts that a process receives from its predecessor.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// The listening socket.
    pub(super) listener: Option<std::net::TcpListener>,
    /// The lock of the data directory.
    pub(super) lock: Option<File>,
    /// The process that waits for this one to serve.
    pub(super) predecessor: Option<Predecessor>,
}

/// The result of a hand-over.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The successor is gone, and nothing has changed.
    Kept,
    /// The process must end.
    Over,
    /// The successor has failed after every client was told to go, so this process starts again.
    Again(Inherited),
}

/// Requests, each of which may write to the data directory. Once closed, no request is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Arc<RwLock<Closed>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Closed {
    #[default]
    No,
    Yes,
}

impl Requests {
    /// Waits for the requests in progress, and closes.
    async fn close(&self) {
        *self.0.write().await = Closed::Yes;
    }
}

/// Answers a request, unless requests are closed.
pub(super) async fn while_open(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let closed = requests.0.read().await;
    if *closed == Closed::Yes {
        let later = [(header::RETRY_AFTER, "1"), (header::CONNECTION, "close")];
        return (StatusCode::SERVICE_UNAVAILABLE, later, "the gateway is restarting\n").into_response();
    }
    next.run(request).await
}

/// The parts that a process passes to its successor, and the files that it must close before.
pub(super) struct Handover<'a> {
    /// The machines.
    pub(super) manager: &'a Manager,
    listener: std::net::TcpListener,
    lock: &'a File,
    files: &'a Files,
}

/// This process's files in the data directory besides the log, and the requests that write them.
pub(super) struct Files {
    /// The file of the logins.
    pub(super) logins: Arc<Revocations>,
    /// The requests.
    pub(super) requests: Requests,
}

impl Files {
    /// Finishes pending requests and closes the files, including the log. Later requests are refused.
    async fn close(&self, manager: &Manager) {
        self.requests.close().await;
        manager.close_log().await;
        self.logins.close().await;
    }
}

impl<'a> Handover<'a> {
    /// Combines a duplicate of the listening socket, the lock of the data directory, and the files that are written
    /// there.
    pub(super) fn new(
        manager: &'a Manager,
        listener: &TcpListener,
        lock: &'a File,
        files: &'a Files,
    ) -> Result<Self, StartError> {
        let listener = std::os::fd::AsFd::as_fd(listener).try_clone_to_owned()?;
        Ok(Self { manager, listener: listener.into(), lock, files })
    }

    /// The parts with which this process starts again.
    fn keep(&self) -> std::io::Result<Inherited> {
        Ok(Inherited {
            listener: Some(self.listener.try_clone()?),
            lock: Some(self.lock.try_clone()?),
            predecessor: None,
        })
    }

    /// Hands over to a process that requests it, unless a signal ends this one anyway.
    pub(super) async fn hand_over(
        &self,
        offer: &mut Option<Offer>,
        successor: Successor,
        signals: &mut Signals,
        say: &dyn Fn(&str),
    ) -> Outcome {
        let prepared = tokio::select! {
            prepared = successor.prepare(&self.listener) => prepared,
            () = signals.end() => return self.end_for_good(signals, say).await,
        };
        if let Err(error) = prepared {
            tracing::warn!(%error, "the process that was taking over could not start");
            return Outcome::Kept;
        }
        say("handing over: open runs end here, then the other process serves");
        self.manager.begin_handover();
        tokio::select! {
            () = self.manager.reached(Phase::Leaving) => {}
            () = signals.end() => return self.end_for_good(signals, say).await,
            () = successor.gone() => {
                // Later, clients have already been told to go.
                if self.manager.abort_handover() {
                    say("the process that was taking over is gone: this one continues to serve");
                    return Outcome::Kept;
                }
            }
        }
        // The machine limits this wait.
        self.manager.finish_handover().await;
        if tokio::time::timeout(REST, self.files.close(self.manager)).await.is_err() {
            tracing::error!("the open work does not finish: the process exits, so that its successor can start");
            return Outcome::Over;
        }
        // The successor creates its own.
        *offer = None;
        let released = tokio::select! {
            released = successor.release(self.lock) => released,
            () = signals.end() => return Outcome::Over,
        };
        match released {
            Ok(()) => {
                self.manager.reached(Phase::Stopped).await;
                say("handed over");
                Outcome::Over
            }
            Err(error) => {
                tracing::error!(%error, "the process that was taking over has failed: this one starts again");
                match self.keep() {
                    Ok(inherited) => Outcome::Again(inherited),
                    Err(_) => Outcome::Over,
                }
            }
        }
    }

    /// Ends although a successor waits, because a signal asked for it. The successor takes the directory when it is
    /// free.
    async fn end_for_good(&self, signals: &mut Signals, say: &dyn Fn(&str)) -> Outcome {
        drain(self.manager, signals, say).await;
        Outcome::Over
    }
}

/// Drains and ends without a successor, or at once when another signal arrives. The log is closed after the last
/// session, so that the next process knows that nothing is missing, even if the operating system restarts in between.
pub(super) async fn drain(manager: &Manager, signals: &mut Signals, say: &dyn Fn(&str)) {
    say("draining: open runs end, then clients are told when to come back; a second signal ends at once");
    let drained = async {
        manager.drain().await;
        close_log(manager).await;
    };
    tokio::select! {
        () = drained => {}
        () = signals.end() => say("ended before the drain was complete"),
    }
}

/// Closes the log for good, unless that takes too long.
pub(super) async fn close_log(manager: &Manager) {
    if tokio::time::timeout(REST, manager.close_log()).await.is_err() {
        tracing::warn!("the log does not close in time: the process exits without closing it");
    }
}

/// The next process that wants to take over.
pub(super) async fn next(offer: Option<&Offer>) -> Successor {
    match offer {
        Some(offer) => offer.successor().await,
        None => core::future::pending().await,
    }
}

/// Takes over from the process that serves the directory: returns when that process has left. The configuration is
/// validated first, so that the other process keeps serving if it is wrong.
pub(super) async fn take_over(config: &Config, say: &dyn Fn(&str)) -> Result<Inherited, StartError> {
    let began = Instant::now();
    let (predecessor, listener) = loop {
        if let Some(found) = Predecessor::find(&config.data_dir).await? {
            break found;
        }
        // A process that has just started, or is about to end, holds the directory but does not listen there.
        match DataDir::open(&config.data_dir) {
            Ok(directory) => return Ok(Inherited { lock: Some(directory.into_lock()), ..Inherited::default() }),
            Err(error) if began.elapsed() > STARTS => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    config.tls.as_ref().map(Certificates::open).transpose()?;
    assembly::check(config)?;
    let there = listener.local_addr()?;
    let listener = if config.listen == there || config.listen.port() == 0 {
        listener
    } else {
        serve::bind(config.listen).await?.into_std()?
    };
    say("taking over: waiting for the other process to end its runs");
    let lock = predecessor.directory().await?;
    Ok(Inherited { listener: Some(listener), lock, predecessor: Some(predecessor) })
}

/// Opens the data directory with a lock that was passed on. Without one, the directory must be free, or soon become
/// free if the process that should have passed it on has ended.
pub(super) async fn directory(
    path: &Path,
    lock: Option<File>,
    predecessor: Option<&Predecessor>,
) -> Result<DataDir, DirectoryError> {
    if let Some(lock) = lock {
        return Ok(DataDir::inherit(path, lock));
    }
    let mut left = if predecessor.is_some() { 50 } else { 0 };
    loop {
        match DataDir::open(path) {
            Err(_) if left > 0 => left -= 1,
            opened => return opened,
        }
        tokio::time::sleep(LOOK).await;
    }
}
