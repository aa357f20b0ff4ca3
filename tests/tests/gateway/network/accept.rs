//! A WebSocket over a bare byte stream: the request is read, checked and answered as in the gateway.

use core::future::poll_fn;

use lockstep::transport::{BufferLimits, Incoming, NotAccepted, Outgoing, Socket, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::hostile::client::{TEXT, frame, request};

type Accepted = Result<WebSocket<DuplexStream>, NotAccepted>;

/// The outcome of accepting these bytes, sent in chunks of that size followed by the end of the stream, and the answer.
async fn accepted(bytes: &[u8], piece: usize) -> (Accepted, DuplexStream) {
    let (mut client, server) = duplex(64 * 1024);
    let accepting = tokio::spawn(async move { WebSocket::accept(server, &BufferLimits::DEFAULT).await });
    for piece in bytes.chunks(piece) {
        client.write_all(piece).await.expect("a reader");
        client.flush().await.expect("a reader");
        tokio::task::yield_now().await;
    }
    let _ = client.shutdown().await;
    (accepting.await.expect("no panic"), client)
}

async fn answer(client: &mut DuplexStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("text");
    answer
}

async fn next(socket: &mut WebSocket<DuplexStream>) -> Incoming {
    poll_fn(|context| socket.poll_receive(context)).await
}

#[tokio::test]
async fn frames_behind_the_request_are_kept_whatever_the_pieces() {
    let bytes = [request(&[]).into_bytes(), frame(TEXT, b"one"), frame(TEXT, b"two")].concat();
    for piece in [1, 2, 3, 7, 100, bytes.len() - 12, bytes.len()] {
        let (accepted, mut client) = accepted(&bytes, piece).await;
        let mut socket = accepted.expect("a WebSocket");
        assert_eq!(next(&mut socket).await, Incoming::Text("one".into()), "{piece}");
        assert_eq!(next(&mut socket).await, Incoming::Text("two".into()), "{piece}");
        socket.send(Outgoing::Text("three".into())).expect("open");
        poll_fn(|context| socket.poll_flush(context)).await.expect("open");
        drop(socket);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.expect("an end");
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: Bz3qJYTGdOe8gUSpLosEdiLKDrk=\r\n\r\n";
        let heard = heard.strip_prefix(head.as_bytes());
        assert_eq!(heard, Some(&b"\x81\x05three"[..]), "{piece}");
    }
    let bare = request(&[]).replace("\r\n", "\n");
    assert!(accepted(bare.as_bytes(), bare.len()).await.0.is_ok(), "lines may end in a line feed alone");
}

#[tokio::test]
async fn what_is_no_upgrade_is_answered_with_a_status() {
    let good = request(&[]);
    let fields = "X: y\r\n".repeat(100);
    let long = format!("X: {}\r\n", "y".repeat(17_000));
    for (taken, put, status) in [
        ("Upgrade: websocket\r\n", "", 426),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        ("AAECAwQFBgcICQoLDA0ODw==", "AAEC", 400),
        ("Host: gateway.test\r\n", "", 400),
        ("Host: gateway.test", "Host: ", 400),
        ("Host: gateway.test", "Host: a\r\nHost: b", 400),
        ("Host: gateway.test", "Host: a\r\nContent-Length: 3", 400),
        ("Host: gateway.test", "Host: a\r\nTransfer-Encoding: chunked", 400),
        ("GET ", "POST ", 405),
        ("GET /ws HTTP/1.1", "GET /ws HTTP/1.0", 400),
        ("GET /ws HTTP/1.1", "GET /ws HTTP/2.0", 400),
        ("GET /ws HTTP/1.1", "this is nothing", 400),
        ("Host: gateway.test\r\n", &format!("Host: a\r\n{fields}"), 431),
        ("Host: gateway.test\r\n", &format!("Host: a\r\n{long}"), 431),
    ] {
        assert!(good.contains(taken), "{taken}");
        let bad = good.replacen(taken, put, 1) + "abc";
        for piece in [1, bad.len()] {
            let (accepted, mut client) = accepted(bad.as_bytes(), piece).await;
            let Err(NotAccepted::Refused(why)) = accepted else { panic!("{taken:?} became {put:?}: {accepted:?}") };
            assert_eq!(why.status.as_u16(), status, "{taken:?} became {put:?}");
            let answer = answer(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(why.reason), "{answer}");
            assert_eq!(answer.contains("Sec-WebSocket-Version: 13\r\n"), status == 426, "{answer}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_ends_before_its_request_is_lost() {
    for bytes in ["", "GET", &request(&[])[..100]] {
        let (accepted, mut client) = accepted(bytes.as_bytes(), 10).await;
        assert_eq!(accepted.err(), Some(NotAccepted::Lost), "{bytes}");
        assert_eq!(answer(&mut client).await, "");
    }
}

#[tokio::test]
async fn no_more_than_the_read_buffer_is_read_before_a_message_is_handled() {
    let message = frame(TEXT, &[b'x'; 100]);
    for bytes in [1, 512, 4 * 1024, 8 * 1024, 8 * 1024 + 1, 20_000, 64 * 1024] {
        // A task may do so much before it must let others run, and reads then wait.
        tokio::task::yield_now().await;
        let sent = message.repeat(1_000);
        let (mut client, server) = duplex(sent.len());
        client.write_all(&sent).await.expect("room");
        let mut limits = BufferLimits::DEFAULT;
        limits.read_buffer = bytes;
        let mut socket = WebSocket::server(server, &limits).await;
        assert!(matches!(next(&mut socket).await, Incoming::Text(_)));
        let taken = client.write(&sent).await.expect("open");
        // As many reads as the first message needs.
        assert_eq!(taken, bytes.max(message.len()), "{bytes}");
    }
}
