//! The client's address behind trusted and untrusted proxies.

use lockstep_gateway::config::{Network, counted};

use super::{Listener, ask};
use crate::hostile::client::Client;

const TRUSTED: &str = "[proxies]\ntrusted = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"fd00::/8\"]\n";

async fn peer(listener: &Listener, lines: &str) -> String {
    listener.known("/", lines).await.words()[1].to_owned()
}

#[tokio::test]
async fn only_trusted_proxies_are_believed() {
    let listener = Listener::open("").await;
    let lines = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-Host: evil.test\r\n\
                 X-Forwarded-Proto: https\r\n";
    let answer = listener.known("/", lines).await;
    assert_eq!(answer.words()[1..], ["127.0.0.1", "gateway.test"]);
    assert!(!answer.head.contains("strict-transport-security") && !answer.head.contains("; secure"), "{}", answer.head);
    let other = Listener::open("[proxies]\ntrusted = [\"10.0.0.0/8\"]\n").await;
    assert_eq!(peer(&other, lines).await, "127.0.0.1");
}

/// The client's address is the last one that is not a trusted proxy's: the client may have written what precedes it.
#[tokio::test]
async fn the_client_is_the_last_address_that_is_not_trusted() {
    let listener = Listener::open(TRUSTED).await;
    for (lines, client) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.1.2.3\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.1,10.1.2.3\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 10.0.0.7, 10.1.2.3\r\n", "10.0.0.7"),
        ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
        ("X-Forwarded-For: [2001:db8::1]:4711\r\n", "2001:db8::1"),
        ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1"),
        ("X-Forwarded-For: 192.0.2.1, fd00::7\r\n", "192.0.2.1"),
        // An invalid address hides the client behind it, and no other.
        ("X-Forwarded-For: 192.0.2.1, unknown, 10.1.2.3\r\n", "10.1.2.3"),
        ("X-Forwarded-For: 192.0.2.1, \r\n", "127.0.0.1"),
        ("X-Forwarded-For: nonsense\r\n", "127.0.0.1"),
        ("Forwarded: for=192.0.2.1\r\n", "127.0.0.1"),
    ] {
        assert_eq!(peer(&listener, lines).await, client, "{lines}");
    }
}

#[tokio::test]
async fn forwarded_is_read_as_its_standard_says() {
    let listener = Listener::open(&format!("{TRUSTED}header = \"forwarded\"\n")).await;
    for (lines, client, host) in [
        ("Forwarded: for=192.0.2.1\r\n", "192.0.2.1", "gateway.test"),
        ("Forwarded: For=\"[2001:db8::1]:4711\";Proto=https;HOST=chat.test\r\n", "2001:db8::1", "chat.test"),
        ("Forwarded: for=203.0.113.9, for=192.0.2.1;by=10.0.0.1, for=10.1.2.3\r\n", "192.0.2.1", "gateway.test"),
        ("Forwarded: for=203.0.113.9\r\nForwarded: for=\"192.0.2.1:80\"\r\n", "192.0.2.1", "gateway.test"),
        ("Forwarded: for=192.0.2.1;x=\"a,for=10.0.0.1;b\"\r\n", "192.0.2.1", "gateway.test"),
        ("Forwarded: for=192.0.2.1, for=_hidden\r\n", "127.0.0.1", "gateway.test"),
        ("Forwarded: proto=https\r\n", "127.0.0.1", "gateway.test"),
        ("X-Forwarded-For: 192.0.2.1\r\n", "127.0.0.1", "gateway.test"),
    ] {
        let answer = listener.known("/", lines).await;
        assert_eq!(answer.words()[1..], [client, host], "{lines}");
        let secure = lines.to_ascii_lowercase().contains("proto=https");
        assert_eq!(answer.head.contains("strict-transport-security: max-age=31536000\r\n"), secure, "{}", answer.head);
        assert_eq!(answer.head.contains("a=b; path=/; secure"), secure, "{}", answer.head);
    }
    let none = Listener::open(&format!("{TRUSTED}header = \"none\"\n")).await;
    assert_eq!(peer(&none, "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n").await, "127.0.0.1");
}

/// Protocol and host are those that the outermost trusted proxy saw.
#[tokio::test]
async fn proto_and_host_are_the_clients_own() {
    let listener = Listener::open(TRUSTED).await;
    for (lines, host, secure) in [
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.test\r\n", "chat.test", true),
        ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: HTTPS\r\n", "gateway.test", true),
        ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: wss\r\n", "gateway.test", true),
        ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https, http\r\n", "gateway.test", false),
        ("X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\nX-Forwarded-Proto: https, http\r\n", "gateway.test", true),
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-Host: evil.test, chat.test\r\n", "chat.test", false),
    ] {
        let answer = listener.known("/", lines).await;
        assert_eq!(answer.words()[2], host, "{lines}");
        assert_eq!(answer.head.contains("strict-transport-security"), secure, "{lines}{}", answer.head);
    }
    let never = Listener::open(&format!("hsts_seconds = 0\n{TRUSTED}")).await;
    let answer = never.known("/", "X-Forwarded-Proto: https\r\n").await;
    assert!(!answer.head.contains("strict-transport"), "{}", answer.head);
}

/// A version 2 header for a client at 192.0.2.1 or 2001:db8::1, with these additional fields.
fn version_2(command: u8, family: u8, others: &[u8]) -> Vec<u8> {
    let mut addresses = match family {
        0x11 => [&[192, 0, 2, 1, 198, 51, 100, 1][..], &[0x12, 0x67, 0x01, 0xBB]].concat(),
        0x21 => {
            let mut ends = [0; 36];
            ends[..4].copy_from_slice(&[0x20, 0x01, 0x0D, 0xB8]);
            ends[15] = 1;
            ends.to_vec()
        }
        _ => Vec::new(),
    };
    addresses.extend(others);
    let length = u16::try_from(addresses.len()).expect("short").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, &addresses].concat()
}

#[tokio::test]
async fn the_proxy_protocol_says_whose_connection_it_is() {
    let listener = Listener::open(&format!("{TRUSTED}proxy_protocol = true\n")).await;
    let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
    let other_first = [&[0x03, 0, 4, 1, 2, 3, 4][..], &tls].concat();
    for (header, from, secure) in [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n".to_vec(), "192.0.2.1", false),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(), "2001:db8::1", false),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", false),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), "127.0.0.1", false),
        (version_2(1, 0x11, &[]), "192.0.2.1", false),
        (version_2(1, 0x21, &[]), "2001:db8::1", false),
        (version_2(1, 0x11, &tls), "192.0.2.1", true),
        (version_2(1, 0x21, &other_first), "2001:db8::1", true),
        (version_2(0, 0x00, &[]), "127.0.0.1", false),
        (version_2(1, 0x31, &[1, 2, 3]), "127.0.0.1", false),
    ] {
        let mut client = Client::connect(listener.address).await;
        client.send(&header).await;
        for _ in 0..2 {
            let answer = ask(&mut client, "", "/", "").await;
            assert_eq!(answer.words()[1], from, "{header:?}");
            assert_eq!(answer.head.contains("strict-transport"), secure, "{header:?}");
        }
    }
}

/// In pieces, one byte at a time, and with the request in the same piece.
#[tokio::test]
async fn the_proxy_protocol_may_come_in_any_pieces() {
    let listener = Listener::open(&format!("{TRUSTED}proxy_protocol = true\n")).await;
    let line = "PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n";
    let mut client = Client::connect(listener.address).await;
    let answer = ask(&mut client, line, "/", "").await;
    assert_eq!(answer.words()[1], "192.0.2.1");
    let mut client = Client::connect(listener.address).await;
    for byte in line.bytes() {
        client.send(&[byte]).await;
    }
    assert_eq!(ask(&mut client, "", "/", "").await.words()[1], "192.0.2.1");
}

/// A connection without the required header is closed; a peer that is not trusted is not a proxy.
#[tokio::test]
async fn the_proxy_protocol_is_spoken_by_trusted_proxies_only_and_by_all_of_them() {
    let listener = Listener::open(&format!("{TRUSTED}proxy_protocol = true\n[limits]\nheader_ms = 500\n")).await;
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    for header in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 7\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 198.51.100.1 4711 443 7\r\n".to_vec(),
        b"PROXY UDP4 192.0.2.1 198.51.100.1 4711 443\r\n".to_vec(),
        b"PROX".to_vec(),
        long.into_bytes(),
        version_2(2, 0x11, &[]),
        version_2(1, 0x11, &[])[..20].to_vec(),
        [version_2(1, 0, &[])[..14].to_vec(), vec![0xFF, 0xFF]].concat(),
    ] {
        let mut client = Client::connect(listener.address).await;
        client.send(&header).await;
        assert_eq!(client.rest().await, b"", "{header:?}");
    }
    let mistrusting = Listener::open("[proxies]\ntrusted = [\"10.0.0.0/8\"]\nproxy_protocol = true\n").await;
    assert_eq!(peer(&mistrusting, "").await, "127.0.0.1");
    let mut client = Client::connect(mistrusting.address).await;
    client.send(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n").await;
    assert_eq!(ask(&mut client, "", "/", "").await.status(), 400);
}

#[test]
fn networks_are_what_their_notation_says() {
    let contains = |network: &str, address: &str| {
        network.parse::<Network>().expect(network).contains(address.parse().expect(address))
    };
    for (network, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("192.0.2.6/31", "192.0.2.7", "192.0.2.8"),
        ("0.0.0.0/0", "255.1.2.3", "::1"),
        ("fd00::/8", "fdff::1", "fe00::1"),
        ("::/0", "2001:db8::1", "127.0.0.1"),
        ("2001:db8::1/128", "2001:db8::1", "2001:db8::2"),
    ] {
        assert!(contains(network, inside), "{network} {inside}");
        assert!(!contains(network, outside), "{network} {outside}");
    }
    for wrong in ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "localhost", "10.0.0.0/-1", "10.0.0.0/"] {
        let error = wrong.parse::<Network>().expect_err(wrong).to_string();
        assert!(error.contains("is not a network: write 10.0.0.0/8"), "{error}");
    }
    let counted = |address: &str| counted(address.parse().expect("an address")).to_string();
    assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_ne!(counted("2001:db8:1:2::"), counted("2001:db8:1:3::"));
    assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
}
