//! A byte stream for the WebSocket library, which polls nothing: it expects a stream that answers at once.
//!
//! The library gets the bytes that were read before, and then an error that says that it would block. It is called only
//! when there is something to read, and a connection has a read buffer only then: bytes are read into the stack, and
//! kept until the library has taken them.

use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll, Waker, ready};
use std::io::{self, ErrorKind, Read, Write};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::BufferLimits;

/// Bytes that one call reads, on the stack.
const PIECE: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Stream<S> {
    io: S,
    /// Read from `io` and not taken by the library yet, from `taken` on.
    unread: Vec<u8>,
    taken: usize,
    /// The bytes behind `unread`.
    rest: Rest,
    /// The most bytes of `unread`.
    most: usize,
    /// The task that waits for `io`.
    waker: Waker,
}

#[derive(Debug)]
enum Rest {
    /// Some may come.
    Open,
    /// There are none.
    Ended,
    /// They are lost. The library is told the cause once.
    Failed(Option<io::Error>),
}

impl<S> Stream<S> {
    /// A stream whose first bytes were already read.
    pub(super) fn new(io: S, unread: Vec<u8>, limits: &BufferLimits) -> Self {
        let most = limits.read_buffer.max(1);
        Self { io, unread, taken: 0, rest: Rest::Open, most, waker: Waker::noop().clone() }
    }

    /// Wakes this task when `io` can be read or written again.
    pub(super) fn wakes(&mut self, context: &Context<'_>) {
        self.waker.clone_from(context.waker());
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Ready when there is something for the library: bytes, their end, or an error.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.taken < self.unread.len() || !matches!(self.rest, Rest::Open) {
            return Poll::Ready(());
        }
        (self.unread, self.taken) = (Vec::new(), 0);
        ready!(self.poll_piece(context));
        // Further pieces, if the buffer is longer than one, and as long as each is full.
        while self.unread.len() < self.most
            && self.unread.len().is_multiple_of(PIECE)
            && matches!(self.rest, Rest::Open)
            && self.poll_piece(context).is_ready()
        {}
        Poll::Ready(())
    }

    /// Adds one piece to the unread bytes.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [const { MaybeUninit::uninit() }; PIECE];
        let room = PIECE.min(self.most - self.unread.len());
        let mut buffer = ReadBuf::uninit(&mut scratch[..room]);
        match ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => self.rest = Rest::Ended,
            Ok(()) => self.unread.extend_from_slice(buffer.filled()),
            Err(error) => self.rest = Rest::Failed(Some(error)),
        }
        Poll::Ready(())
    }

    /// Reads to the end, and keeps nothing.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.unread = Vec::new();
            self.taken = 0;
            if !matches!(self.rest, Rest::Open) {
                return Poll::Ready(());
            }
            ready!(self.poll_fill(context));
        }
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    /// Ready when our side is shut down, or has failed.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.io).poll_shutdown(context).map(|_| ())
    }
}

impl<S> Read for Stream<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let unread = self.unread.get(self.taken..).unwrap_or_default();
        if unread.is_empty() {
            return match &mut self.rest {
                Rest::Open => Err(ErrorKind::WouldBlock.into()),
                Rest::Ended => Ok(0),
                Rest::Failed(error) => Err(error.take().unwrap_or_else(|| ErrorKind::NotConnected.into())),
            };
        }
        let bytes = unread.len().min(into.len());
        into[..bytes].copy_from_slice(&unread[..bytes]);
        self.taken += bytes;
        if self.taken == self.unread.len() {
            (self.unread, self.taken) = (Vec::new(), 0);
        }
        Ok(bytes)
    }
}

impl<S: AsyncWrite + Unpin> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&self.waker), bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        now(Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&self.waker)))
    }
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}
