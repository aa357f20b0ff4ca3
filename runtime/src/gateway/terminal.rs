//! What the process writes to its standard output and error. A reader that goes away, or stops reading, disturbs nothing:
//! lines wait in a bounded queue for a thread of their own, and those that do not fit are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait.
const MAX_LINES: usize = 4_096;
/// How long the end of the process waits for a reader.
const PARTING: Duration = Duration::from_secs(1);

enum Order {
    Write(Vec<u8>),
    /// Tell when everything before this is written.
    Flush(std::sync::mpsc::Sender<()>),
}

/// Where lines are written.
#[derive(Clone, Debug)]
pub struct Terminal {
    orders: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl Terminal {
    /// Writes to this from a thread of its own.
    ///
    /// # Errors
    ///
    /// The system's, if there can be no thread.
    pub fn new(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (orders, queue) = sync_channel(MAX_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::Builder::new().name("terminal".to_owned()).spawn(move || write(output, &queue, &counted))?;
        Ok(Self { orders, dropped })
    }

    /// Writes these bytes when their turn comes, if they fit into the queue.
    pub fn write(&self, bytes: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Write(bytes)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, but not for long.
    pub fn flush(&self) {
        let (done, wait) = channel();
        if self.orders.try_send(Order::Flush(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = wait.recv_timeout(PARTING);
        }
    }
}

/// Writes what is ordered until nobody orders any more.
fn write(mut output: impl Write, queue: &Receiver<Order>, dropped: &AtomicU64) {
    // A failure is a reader that has gone: there is nobody to tell.
    for order in queue {
        match order {
            Order::Write(bytes) => {
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(output, "lockstep: {lost} lines were not written: they were not read in time");
                }
                let _ = output.write_all(&bytes);
                let _ = output.flush();
            }
            Order::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// One record of the log.
#[derive(Debug)]
pub struct Line<'a> {
    terminal: &'a Terminal,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.terminal.write(core::mem::take(&mut self.bytes));
    }
}

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { terminal: self, bytes: Vec::new() }
    }
}
