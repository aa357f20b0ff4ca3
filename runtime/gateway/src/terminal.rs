//! The process's standard output and error. A reader that goes away, or stops reading, does not block the process:
//! lines wait in a bounded queue for a thread of their own, and lines that do not fit are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The most lines that wait.
const MAX_LINES: usize = 4_096;
/// The longest time that the process waits for a reader when it ends.
const PARTING: Duration = Duration::from_secs(1);

enum Job {
    Write(Vec<u8>),
    /// Reports when everything before it is written.
    Flush(std::sync::mpsc::Sender<()>),
}

/// A line writer.
#[derive(Clone, Debug)]
pub struct Terminal {
    jobs: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

impl Terminal {
    /// Writes to this output on a thread of its own.
    ///
    /// # Errors
    ///
    /// The system's error, if the thread cannot be created.
    pub fn new(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(MAX_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        std::thread::Builder::new().name("terminal".to_owned()).spawn(move || write(output, &queue, &counted))?;
        Ok(Self { jobs, dropped })
    }

    /// Queues these bytes, if they fit into the queue.
    pub fn write(&self, bytes: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Write(bytes)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, for a limited time.
    pub fn flush(&self) {
        let (done, wait) = channel();
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = wait.recv_timeout(PARTING);
        }
    }
}

/// Writes the queued lines until the last sender is gone.
fn write(mut output: impl Write, queue: &Receiver<Job>, dropped: &AtomicU64) {
    // A failure means that the reader is gone, so it cannot be reported.
    for job in queue {
        match job {
            Job::Write(bytes) => {
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ =
                        writeln!(output, "lockstep: {lost} lines were dropped because the output was not read in time");
                }
                let _ = output.write_all(&bytes);
                let _ = output.flush();
            }
            Job::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// One log record.
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
