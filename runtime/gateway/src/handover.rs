//! The hand-over protocol: a new process takes over the listening socket and the data directory from the one that
//! serves. Clients are away for less than a second.
//!
//! | | the process that serves | its successor, `serve --take-over` |
//! | --- | --- | --- |
//! | 1 | listens on [`SOCKET`] in its data directory | connects |
//! | 2 | sends the listening socket | reads what it needs of its configuration, and reports that it is ready |
//! | 3 | *finishing*: accepts no new messages, continues open runs, still accepts connections | waits |
//! | 4 | *leaving*: accepts nothing, and tells every client to come back | new connections wait in the socket's queue |
//! | 5 | closes the log and its other files, and sends the directory's lock | |
//! | 6 | | opens the directory, accepts connections, and reports that it serves |
//! | 7 | ends | |
//!
//! *Why this order.* The log has one writer, so the successor can serve no client before step 5. If clients were sent
//! away in step 3, they would wait for the longest answer of any user. So they stay until step 4, and are away only
//! during steps 4 to 6, which do not depend on any answer. Both processes share one socket including its queue, so a
//! connection between the last accept of the one and the first accept of the other waits and is not refused. The lock
//! is the open file itself: it passes from one process to the other and is never free in between.
//!
//! *Which failures are tolerated.* Until step 4, a successor that disappears changes nothing: the node continues to
//! serve ([`HandoverAborted`](lockstep_model::node::Input::HandoverAborted)). From step 5 until the successor reports
//! that it serves, the first process keeps the socket and the lock, and starts again if the successor is gone. The
//! first process knows that only by the closed end of the successor's connection; a process that is still opening the
//! directory does not close it. A time limit would prove nothing, and two processes that both consider themselves the
//! owner would write one log. If the first process dies, the lock is free, and the successor takes it like any other
//! start.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

/// The socket in the data directory that a successor connects to.
pub const SOCKET: &str = "handover.sock";

/// The time limit of a step that does not wait for runs.
const STEP: Duration = Duration::from_secs(10);

/// The longest path that is used for the socket. A longer one is replaced by a path through the directory's descriptor.
const LONGEST: usize = 100;

/// A message between the processes: one byte, with an open file for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Message {
    /// The sender is the successor, and uses version 1 of this protocol.
    TakeOver = 1,
    /// Comes with the listening socket.
    Socket = b's',
    /// The sender can serve.
    Ready = b'r',
    /// Comes with the lock: the directory now belongs to the receiver.
    Lock = b'l',
    /// The sender serves.
    Serving = b'v',
}

/// The socket for successors, as long as this value lives.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    path: PathBuf,
}

impl Offer {
    /// Listens in the directory, whose lock this process holds.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = SocketPath::of(directory)?;
        let listener = UnixListener::bind(&socket.path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// The next process of the same user that connects. Cancel safe.
    pub async fn successor(&self) -> Successor {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == rustix::process::geteuid().as_raw() => return Successor { stream },
                Ok(_) | Err(_) => tracing::warn!("a process of another user tried to take over, and was refused"),
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A process that wants to take over from this one.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
}

impl Successor {
    /// Sends the listening socket, and returns when the successor can serve.
    ///
    /// # Errors
    ///
    /// The successor is gone, takes too long, or has another version.
    pub async fn prepare(&self, listener: &std::net::TcpListener) -> io::Result<()> {
        let prepared = async {
            self.hear(Message::TakeOver).await?;
            send(&self.stream, Message::Socket, Some(listener.as_fd())).await?;
            self.hear(Message::Ready).await
        };
        tokio::time::timeout(STEP, prepared).await?
    }

    /// Returns when the successor is gone, or has sent an unexpected message. Cancel safe.
    pub async fn gone(&self) {
        let _ = receive(&self.stream).await;
    }

    /// Passes the lock on, and waits until the successor serves, as long as it exists.
    ///
    /// # Errors
    ///
    /// The successor is gone.
    pub async fn release(&self, lock: &File) -> io::Result<()> {
        send(&self.stream, Message::Lock, Some(lock.as_fd())).await?;
        self.hear(Message::Serving).await
    }

    async fn hear(&self, message: Message) -> io::Result<()> {
        expect(&self.stream, message).await.map(drop)
    }
}

lockstep::internal::sentence! {
    /// Why a process cannot take over from the one that serves.
    TakeOverError
}

/// The process that serves now.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// Finds the process that serves the directory, and receives its listening socket. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TakeOverError`].
    pub async fn find(directory: &Path) -> Result<Option<(Self, std::net::TcpListener)>, TakeOverError> {
        let fail = |error: io::Error| {
            let directory = directory.display();
            let sentence = format!("cannot take over the data directory {directory} from its gateway: {error}");
            TakeOverError::because(sentence, error)
        };
        let socket = match SocketPath::of(directory) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let stream = match UnixStream::connect(&socket.path).await {
            Ok(stream) => stream,
            // Left behind by a process that was killed.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(fail(error)),
        };
        let asked = async {
            send(&stream, Message::TakeOver, None).await?;
            expect(&stream, Message::Socket).await?.ok_or_else(|| io::Error::other("it sent no socket"))
        };
        let socket = tokio::time::timeout(STEP, asked).await.map_err(io::Error::from).flatten().map_err(fail)?;
        Ok(Some((Self { stream }, std::net::TcpListener::from(socket))))
    }

    /// Reports that this process is ready, and waits for the directory. Returns its lock, or `None` if the other
    /// process has ended without passing it on.
    ///
    /// # Errors
    ///
    /// [`TakeOverError`].
    pub async fn directory(&self) -> Result<Option<File>, TakeOverError> {
        let fail = |error: io::Error| {
            let sentence = format!("the running gateway does not answer the process that takes over: {error}");
            TakeOverError::because(sentence, error)
        };
        send(&self.stream, Message::Ready, None).await.map_err(fail)?;
        match expect(&self.stream, Message::Lock).await {
            Ok(lock) => Ok(lock.map(File::from)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Reports that this process serves. The other process then ends.
    pub async fn serving(self) {
        let _ = send(&self.stream, Message::Serving, None).await;
    }
}

/// A path to the socket that is short enough.
struct SocketPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl SocketPath {
    fn of(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        if path.as_os_str().len() <= LONGEST {
            return Ok(Self { path, _directory: None });
        }
        let open = File::open(directory)?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&open);
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{descriptor}/{SOCKET}")), _directory: Some(open) })
    }
}

async fn send(stream: &UnixStream, message: Message, file: Option<std::os::fd::BorrowedFd<'_>>) -> io::Result<()> {
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = file.as_slice();
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::other("the message has no room for a file descriptor"));
        }
        Ok(sendmsg(stream, &[IoSlice::new(&[message as u8])], &mut control, SendFlags::NOSIGNAL)?)
    });
    match sent.await? {
        1 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Receives the next byte, and the open file that came with it. Cancel safe: nothing received is lost.
async fn receive(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
            if got.bytes == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let file = control.drain().find_map(|message| {
                let RecvAncillaryMessage::ScmRights(mut files) = message else { return None };
                files.next()
            });
            Ok((byte[0], file))
        })
        .await
}

async fn expect(stream: &UnixStream, message: Message) -> io::Result<Option<OwnedFd>> {
    let (byte, file) = receive(stream).await?;
    if byte == message as u8 {
        Ok(file)
    } else {
        Err(io::Error::other("it uses another version of the handover protocol"))
    }
}
