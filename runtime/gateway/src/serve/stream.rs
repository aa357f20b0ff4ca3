//! A connection's byte stream while it carries HTTP. It reads a head before the HTTP connection is created, limits how
//! long a peer may delay a response, and tracks whether a request is in progress.

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, ready};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hyper::rt::{Sleep as HyperSleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The number of bytes that are read at a time until the head of the first request is complete.
const PIECE: usize = 1_024;

/// Reads until the head of a request is complete, or there are more than `most` bytes, or the peer has ended. While it
/// waits, it uses only as much memory as the peer has sent bytes.
///
/// # Errors
///
/// The connection's error.
pub(super) async fn head(io: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Bytes> {
    let mut head = Vec::new();
    while !is_head(&head) && head.len() <= most {
        let read = core::future::poll_fn(|context| {
            let mut piece = [0; PIECE];
            let mut buffer = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut *io).poll_read(context, &mut buffer))?;
            head.extend_from_slice(buffer.filled());
            Poll::Ready(io::Result::Ok(buffer.filled().len()))
        });
        if read.await? == 0 {
            break;
        }
    }
    Ok(Bytes::from(head))
}

/// Whether the bytes contain the empty line that ends a head.
fn is_head(bytes: &[u8]) -> bool {
    // Empty lines may precede the first line (RFC 9112 §2.2).
    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    let bytes = &bytes[begin..];
    bytes.windows(2).any(|end| end == b"\n\n") || bytes.windows(3).any(|end| end == b"\n\r\n")
}

/// A byte stream whose beginning was already read.
pub(super) struct Prefixed<S> {
    prefix: Bytes,
    io: S,
}

impl<S> Prefixed<S> {
    pub(super) const fn new(prefix: Bytes, io: S) -> Self {
        Self { prefix, io }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix[..length]);
        self.prefix.advance(length);
        if self.prefix.is_empty() {
            // Even an empty slice would keep the whole buffer alive.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Where a connection is in the life cycle of a request.
#[derive(Debug)]
pub(super) struct Phase {
    /// True until the upgrade. Afterwards the connection's machine has the deadlines.
    http: AtomicBool,
    /// Whether bytes have arrived since the last request was answered.
    heard: AtomicBool,
}

impl Phase {
    pub(super) const fn new() -> Self {
        Self { http: AtomicBool::new(true), heard: AtomicBool::new(false) }
    }

    /// Records the upgrade: nothing that follows is HTTP.
    pub(super) fn upgraded(&self) {
        self.http.store(false, Ordering::Relaxed);
    }
}

/// Limits how long a peer may delay a response.
struct Patience {
    most: Duration,
    /// Runs from the first write that had to wait until no write waits, even if the peer reads a little meanwhile.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// The result of a write, or an error if it has waited for too long.
    fn within<T>(
        &mut self,
        phase: &Phase,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() || !phase.http.load(Ordering::Relaxed) {
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.most)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read the response")))
    }
}

/// A byte stream with these limits. It keeps `_held` as long as it lives, even after an upgrade.
pub(super) struct Watched<S, H> {
    io: S,
    phase: Arc<Phase>,
    patience: Patience,
    _held: H,
}

impl<S, H> Watched<S, H> {
    pub(super) const fn new(io: S, phase: Arc<Phase>, most: Duration, held: H) -> Self {
        Self { io, phase, patience: Patience { most, deadline: None }, _held: held }
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for Watched<S, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.phase.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Watched<S, H> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.patience.within(&this.phase, context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.io).poll_flush(context);
        if flushed.is_ready() {
            this.patience.deadline = None;
        }
        this.patience.within(&this.phase, context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let shut = Pin::new(&mut this.io).poll_shutdown(context);
        this.patience.within(&this.phase, context, shut)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.io).poll_write_vectored(context, bytes);
        this.patience.within(&this.phase, context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// The timer of an HTTP connection. It has only one use: the limit on how long the server waits for a request's head.
/// Until the first byte has arrived that is the idle time, from then on the header time.
#[derive(Clone, Debug)]
pub(super) struct HeadTimer {
    pub(super) phase: Arc<Phase>,
    pub(super) header: Duration,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn HyperSleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn HyperSleep>> {
        self.phase.heard.store(false, Ordering::Relaxed);
        let sleep = Box::pin(tokio::time::sleep_until(deadline.into()));
        Box::pin(HeadSleep { phase: Arc::clone(&self.phase), header: self.header, begun: false, sleep })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Completes when a request's head is late.
struct HeadSleep {
    phase: Arc<Phase>,
    header: Duration,
    begun: bool,
    sleep: Pin<Box<Sleep>>,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.begun && self.phase.heard.load(Ordering::Relaxed) {
            self.begun = true;
            let deadline = tokio::time::Instant::now() + self.header;
            if deadline < self.sleep.deadline() {
                self.sleep.as_mut().reset(deadline);
            }
        }
        self.sleep.as_mut().poll(context)
    }
}

impl HyperSleep for HeadSleep {}
