//! The gateway with its own certificate: whole processes, over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::hostile::client::{PATIENCE, TEXT, frame};
use crate::hostile::starts::{Folder, Process, gateway, settings, token};
use crate::wire::{V1_SERVER, conforming};

/// A gateway with a certificate for loopback, its address, and a client configuration that trusts the certificate.
async fn served(folder: &Folder, limits: &str) -> (Process, SocketAddr, ClientConfig) {
    served_with(folder, "", limits).await
}

async fn served_with(folder: &Folder, first: &str, limits: &str) -> (Process, SocketAddr, ClientConfig) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let certificate = folder.file("certificate.pem", cert.pem().as_bytes());
    let key = folder.file("key.pem", signing_key.serialize_pem().as_bytes());
    let tls = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n[agent]\npace_ms = 0\n{limits}");
    let mut process = Process::start(gateway(), &settings(folder, first, &tls));
    let address = process.address().await;
    (process, address, trusting(Some(cert.der().clone())))
}

fn trusting(certificate: Option<rustls::pki_types::CertificateDer<'static>>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificate);
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn connect(config: ClientConfig, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), stream).await
}

/// An upgraded connection, with a credential.
async fn upgraded(config: ClientConfig, address: SocketAddr) -> WebSocketStream<TlsStream<TcpStream>> {
    let stream = connect(config, address).await.expect("a certificate that is trusted");
    let mut request = format!("wss://{address}/ws").into_client_request().expect("a request");
    let bearer = format!("Bearer {}", token("ada")).parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    tokio_tungstenite::client_async(request, stream).await.expect("an upgrade").0
}

/// Authenticates and exchanges one message.
async fn chat(config: ClientConfig, address: SocketAddr, id: &str) {
    let mut socket = upgraded(config, address).await;
    let message = json!({ "type": "user_message", "message_id": id, "payload": { "text": "what is 2+3*4?" } });
    socket.send(Message::text(message.to_string())).await.expect("sent");
    let answer = async {
        loop {
            if let Message::Text(text) = socket.next().await.expect("open").expect("a message") {
                let frame: Value = conforming(&V1_SERVER, &text);
                if frame["type"] == "agent_completed" {
                    return frame;
                }
            }
        }
    };
    let answer = timeout(PATIENCE, answer).await.expect("an answer");
    assert!(answer["data"]["text"].as_str().is_some_and(|text| text.contains("14")), "{answer}");
    socket.close(None).await.expect("closed");
}

#[tokio::test]
async fn a_chat_over_tls_requires_trust_in_the_certificate() {
    let folder = Folder::new();
    let (process, address, trusting_it) = served(&folder, "").await;
    chat(trusting_it.clone(), address, "m1").await;
    let error = connect(trusting(None), address).await.expect_err("nobody vouches for it");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    chat(trusting_it, address, "m2").await;
    process.terminate().await;
}

/// A certificate is replaced during chats: later connections get the new one, also after an unusable one was offered.
#[tokio::test]
async fn a_hangup_reads_the_certificates_again() {
    let folder = Folder::new();
    let (process, address, trusting_the_old) = served(&folder, "").await;
    let mut open = upgraded(trusting_the_old.clone(), address).await;
    folder.file("certificate.pem", b"no certificate");
    process.signal("-HUP");
    chat(trusting_the_old.clone(), address, "m1").await;
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    folder.file("certificate.pem", cert.pem().as_bytes());
    folder.file("key.pem", signing_key.serialize_pem().as_bytes());
    process.signal("-HUP");
    let trusting_the_new = trusting(Some(cert.der().clone()));
    let replaced = async { while connect(trusting_the_new.clone(), address).await.is_err() {} };
    timeout(PATIENCE, replaced).await.expect("the new certificate");
    chat(trusting_the_new, address, "m2").await;
    connect(trusting_the_old, address).await.expect_err("the old one is gone");
    open.close(None).await.expect("the open connection has stayed");
    process.terminate().await;
}

/// A peer that does not speak TLS, or sends nothing, is dropped in time, and TLS peers are served meanwhile.
#[tokio::test]
async fn an_unfinished_handshake_is_dropped() {
    let folder = Folder::new();
    let (process, address, config) = served(&folder, "[limits]\nheader_ms = 300").await;
    let mut silent = TcpStream::connect(address).await.expect("a listener");
    let mut plain = TcpStream::connect(address).await.expect("a listener");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    chat(config, address, "m1").await;
    for stream in [&mut silent, &mut plain] {
        let mut heard = Vec::new();
        let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "it is still open");
        assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    }
    process.terminate().await;
}

/// After a violation the gateway closes first, long before the closing deadline.
#[tokio::test]
async fn after_its_close_frame_the_gateway_closes_first() {
    let folder = Folder::new();
    let (process, address, config) = served(&folder, "[bounds]\nclose_ms = 600000").await;
    let mut socket = upgraded(config, address).await;
    let stream = socket.get_mut();
    stream.write_all(&frame(TEXT, b"\xFF")).await.expect("written");
    stream.flush().await.expect("written");
    let ended = async {
        let mut code = None;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(close)) = message {
                code = Some(u16::from(close.code));
            }
        }
        code
    };
    assert_eq!(timeout(PATIENCE, ended).await.expect("it is still open"), Some(1007));
    drop(socket);
    process.terminate().await;
}

/// A browser that has connected once insists on TLS for as long as the configuration says.
#[tokio::test]
async fn every_answer_over_tls_asks_for_tls_from_then_on() {
    for (first, expected) in [
        ("", Some("strict-transport-security: max-age=31536000")),
        ("hsts_seconds = 60", Some("strict-transport-security: max-age=60")),
        ("hsts_seconds = 0", None),
    ] {
        let folder = Folder::new();
        let (process, address, trusting_it) = served_with(&folder, first, "").await;
        for path in ["/", "/app.js", "/healthz", "/auth/refresh", "/nothing"] {
            let mut stream = connect(trusting_it.clone(), address).await.expect("a connection");
            let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            // The connection may end without a close notification.
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer).to_lowercase();
            let head = answer.split("\r\n\r\n").next().unwrap_or_default();
            let line = head.lines().find(|line| line.starts_with("strict-transport-security"));
            assert_eq!(line, expected, "{first} {path}: {head}");
        }
        process.terminate().await;
    }
}
