//! A socket in memory: for clients in this process.

use core::task::{Context, Poll};

use lockstep_model::Cause;
use tokio::sync::mpsc;

use super::{Broken, Incoming, Outgoing, Socket};
use crate::BoxFuture;

/// The gateway's end.
pub(crate) struct Memory {
    heard: mpsc::UnboundedReceiver<Incoming>,
    said: mpsc::Sender<Outgoing>,
    waiting: Vec<Outgoing>,
    room: Option<BoxFuture<'static, Option<mpsc::OwnedPermit<Outgoing>>>>,
}

/// A socket, and the client's ends of it. Beyond `buffer` messages that the client has not read, the gateway sees a
/// full socket. The client's own messages are not bounded. The connection is lost once the client drops its sender.
pub(crate) fn pair(buffer: usize) -> (mpsc::UnboundedSender<Incoming>, mpsc::Receiver<Outgoing>, Memory) {
    let (up, heard) = mpsc::unbounded_channel();
    let (said, down) = mpsc::channel(buffer);
    (up, down, Memory { heard, said, waiting: Vec::new(), room: None })
}

impl Socket for Memory {
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        self.heard.poll_recv(context).map(|heard| heard.unwrap_or(Incoming::Gone(Cause::Lost)))
    }

    fn send(&mut self, message: Outgoing) -> Result<(), Broken> {
        self.waiting.push(message);
        Ok(())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.waiting.is_empty() {
            let room = self.room.get_or_insert_with(|| {
                let said = self.said.clone();
                Box::pin(async move { said.reserve_owned().await.ok() })
            });
            let permit = core::task::ready!(room.as_mut().poll(context));
            self.room = None;
            match permit {
                Some(permit) => drop(permit.send(self.waiting.remove(0))),
                None => return Poll::Ready(Err(Broken)),
            }
        }
        Poll::Ready(Ok(()))
    }
}
