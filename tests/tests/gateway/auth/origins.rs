//! Origins: which pages a browser may send requests from.

use lockstep::upgrade::origin_allowed;

#[test]
fn an_origin_passes_if_it_is_the_hosts_or_in_the_list() {
    let list = ["https://chat.example.org".to_owned(), "http://localhost:5173/".to_owned()];
    let host = Some("gate.example.org:8080");
    for (origin, host, allowed) in [
        (None, host, true),
        (None, None, true),
        (Some("http://gate.example.org:8080"), host, true),
        (Some("https://GATE.example.org:8080"), host, true),
        (Some("https://chat.example.org"), host, true),
        (Some("HTTPS://Chat.Example.org"), host, true),
        (Some("http://localhost:5173"), None, true),
        (Some("https://gate.example.org"), Some("gate.example.org:443"), true),
        (Some("http://gate.example.org"), Some("gate.example.org:80"), true),
        (Some("http://[::1]:8080"), Some("[::1]:8080"), true),
        (Some("http://gate.example.org"), Some("gate.example.org:443"), false),
        (Some("http://gate.example.org:8081"), host, false),
        (Some("http://gate.example.org"), host, false),
        (Some("http://chat.example.org"), host, false),
        (Some("https://chat.example.org.evil.example"), host, false),
        (Some("https://evil.example/gate.example.org:8080"), host, false),
        (Some("https://user@gate.example.org:8080"), host, false),
        (Some("ws://gate.example.org:8080"), host, false),
        (Some("gate.example.org:8080"), host, false),
        (Some("http://gate.example.org:8080"), None, false),
        (Some("null"), host, false),
        (Some("null"), Some("null"), false),
        (Some("http://"), Some(""), false),
        (Some(""), Some(""), false),
    ] {
        assert_eq!(origin_allowed(origin, host, &list), allowed, "{origin:?} {host:?}");
    }
    assert!(!origin_allowed(Some("null"), host, &["null".to_owned()]));
}
