//! Echoes raw messages through the gateway's transport, with the gateway's own settings, to run a conformance suite
//! such as Autobahn's against it:
//!
//! ```text
//! cargo run --release -p lockstep --example echo -- 127.0.0.1:9001
//! wstest -m fuzzingclient -s fuzzingclient.json
//! ```
//!
//! Only the limits on messages are the suite's, which tests with 16 MiB.
//!
//! On 2026-11-22, with autobahntestsuite 25.10.1: of the 301 cases of groups 1 to 10, 296 are OK, three are
//! informational, and two are not strict (6.4.3 and 6.4.4: invalid UTF-8 in a frame that arrives in pieces is detected
//! when the frame is complete). The 216 of groups 12 and 13 are about compression, which is not offered.

use core::future::poll_fn;

use lockstep::transport::{BufferLimits, Incoming, Outgoing, Socket, WebSocket};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(&address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // Otherwise small writes would wait for acknowledgements, some 40 ms each.
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

/// Echoes messages until the peer is gone.
async fn echo(stream: TcpStream) {
    let mut limits = BufferLimits::DEFAULT;
    limits.message = 16 << 20;
    limits.frame = 16 << 20;
    let Ok(mut socket) = WebSocket::accept(stream, &limits).await else { return };
    loop {
        let answer = match poll_fn(|context| socket.poll_receive(context)).await {
            Incoming::Text(text) => Outgoing::Text(text),
            Incoming::Binary(bytes) => Outgoing::Binary(bytes),
            Incoming::Alive => continue,
            Incoming::Violation(cause) => Outgoing::Close(cause),
            Incoming::Gone(_) => return,
        };
        if socket.send(answer).is_err() || poll_fn(|context| socket.poll_flush(context)).await.is_err() {
            return;
        }
    }
}
