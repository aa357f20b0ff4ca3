//! A gateway's `/metrics` agree with what its clients have seen.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::json;

use crate::hostile::client::{CLOSE, Client, PATIENCE, frame};
use crate::hostile::starts::{Folder, Process, fetch, gateway, settings, token};

/// A scrape of `/metrics`, parsed as Prometheus does.
struct Page {
    /// Each metric's help text.
    helps: BTreeMap<String, String>,
    /// Each metric's type: a counter, a gauge, a histogram.
    kinds: BTreeMap<String, String>,
    /// Each sample's value, by its name and labels.
    samples: BTreeMap<String, f64>,
}

impl Page {
    async fn scrape(address: SocketAddr) -> Self {
        let (status, text) = fetch(address, "/metrics", "").await;
        assert_eq!(status, 200, "{text}");
        let mut page = Self { helps: BTreeMap::new(), kinds: BTreeMap::new(), samples: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            let entry = |rest: &str| rest.split_once(' ').map(|(name, said)| (name.to_owned(), said.to_owned()));
            let twice = if let Some(help) = line.strip_prefix("# HELP ") {
                page.helps.extend(entry(help));
                None
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = entry(kind).expect("a name and a type");
                page.kinds.insert(name, kind).map(drop)
            } else {
                let (name, value) = line.rsplit_once(' ').expect("a sample");
                page.samples.insert(name.to_owned(), value.parse().expect("a number")).map(drop)
            };
            assert_eq!(twice, None, "twice: {line}");
        }
        page
    }

    /// A sample's value; zero if it is missing.
    fn value(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or_default()
    }

    /// A metric's nonzero samples, by their one label.
    fn by_label(&self, metric: &str) -> BTreeMap<String, f64> {
        let of_metric = self.samples.iter().filter_map(|(name, value)| {
            let (_, label) = name.strip_prefix(metric)?.strip_prefix('{')?.strip_suffix("\"}")?.split_once("=\"")?;
            (*value != 0.0).then(|| (label.to_owned(), *value))
        });
        of_metric.collect()
    }

    /// Each of our metrics has a help text and a name that follows Prometheus' rules.
    fn is_described(&self) {
        for sample in self.samples.keys() {
            let name = sample.split('{').next().expect("a name");
            let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
            let metric = parts.into_iter().find(|metric| self.kinds.contains_key(*metric)).unwrap_or(name);
            let kind = self.kinds.get(metric).unwrap_or_else(|| panic!("{sample} has no TYPE")).as_str();
            assert!(self.helps.get(metric).is_some_and(|help| help.ends_with('.')), "{sample} has no HELP");
            let fits = match kind {
                "counter" => metric.ends_with("_total"),
                "histogram" => metric.ends_with("_seconds"),
                // The process start time is a timestamp with its conventional name.
                "gauge" if metric == "process_start_time_seconds" => true,
                "gauge" => !["_total", "_seconds", "_bucket", "_sum", "_count"].iter().any(|end| metric.ends_with(end)),
                _ => false,
            };
            assert!(fits, "{metric} is a {kind}");
        }
    }
}

fn counts<const N: usize>(expected: [(&str, f64); N]) -> BTreeMap<String, f64> {
    expected.into_iter().map(|(label, count)| (label.to_owned(), count)).collect()
}

#[tokio::test]
async fn what_a_chat_was_is_what_is_counted() {
    let folder = Folder::new();
    let mut process = Process::start(gateway(), &settings(&folder, "", "[agent]\npace_ms = 0"));
    let address = process.address().await;
    let before = Page::scrape(address).await;
    before.is_described();
    assert_eq!(before.value("lockstep_connections_admitted_total"), 0.0);
    assert_eq!(before.value("lockstep_event_age_seconds_count"), 0.0);

    // One client chats and leaves, one has a bad token, one connects while admission is closed.
    let mut ada = Client::live(address, &token("ada")).await;
    let (events, others) = ada.exchange("what is 2+3*4?").await;
    assert!(others.is_empty(), "{others:?}");
    let mut types = BTreeMap::new();
    for event in &events {
        *types.entry(event["type"].as_str().expect("a type").to_owned()).or_default() += 1.0;
    }
    assert!(types.contains_key("tool_completed"), "{types:?}");
    ada.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await;
    assert_eq!(ada.until("close").await, [json!({ "type": "close", "code": 1000 })]);
    let mut mallory = Client::upgraded(address, &[]).await;
    mallory.say(&json!({ "type": "auth", "token": "no token" })).await;
    assert_eq!(mallory.end().await, 4500);
    let operator = std::fs::read_to_string(folder.path("data/operator.token")).expect("a token");
    let pin = |mode: &str| {
        let body = json!({ "mode": mode }).to_string();
        format!(
            "POST /operator/mode HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            operator.trim(),
            body.len()
        )
    };
    let head = Client::connect(address).await.ask(&pin("emergency")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(Client::upgraded(address, &[]).await.end().await, 4004);

    // A peer may see its close a moment before it is counted.
    let closes = counts([("1000", 1.0), ("4500", 1.0)]);
    let counted = async {
        loop {
            let page = Page::scrape(address).await;
            if page.by_label("lockstep_connections_closed_total") == closes {
                return page;
            }
        }
    };
    let page = tokio::time::timeout(PATIENCE, counted).await.expect("both closes, once each");
    page.is_described();
    assert_eq!(page.value("lockstep_connections_admitted_total"), 2.0);
    assert_eq!(page.by_label("lockstep_connections_refused_total"), counts([("4004", 1.0)]));
    let rejected = counts([("not a signed token", 1.0)]);
    assert_eq!(page.by_label("lockstep_credentials_rejected_total"), rejected, "each reason is told apart");
    assert_eq!(page.value("lockstep_runs_launched_total"), 1.0);
    assert_eq!(page.by_label("lockstep_events_total"), types);
    let sum: f64 = types.values().sum();
    assert_eq!(page.value("lockstep_event_age_seconds_count"), sum, "each event was written to one socket");
    assert_eq!(page.value("lockstep_event_age_seconds_bucket{le=\"+Inf\"}"), sum);
    // Events during an append go into the next one.
    let appends = page.value("lockstep_log_append_seconds_count");
    assert!((2.0..=sum).contains(&appends), "{appends} appends of {sum} events");
    assert!(page.value("lockstep_log_append_seconds_sum") > 0.0);
    for never in [
        "lockstep_faults_total",
        "lockstep_log_failures_total",
        "lockstep_accept_failures_total",
        "lockstep_sockets_refused_total{limit=\"sockets\"}",
        "lockstep_sockets_refused_total{limit=\"per_address\"}",
    ] {
        assert_eq!(page.samples.get(never), Some(&0.0), "{never}");
    }
    assert_eq!(page.by_label("lockstep_verdicts_total"), counts([("valid", 1.0), ("rejected", 1.0)]));
    for once in ["lockstep_run_seconds", "lockstep_first_token_seconds"] {
        assert_eq!(page.value(&format!("{once}_count")), 1.0, "{once}");
    }
    assert!(page.value("lockstep_log_bytes") > 0.0, "the log is on the disk");
    let (first, whole) = (page.value("lockstep_first_token_seconds_sum"), page.value("lockstep_run_seconds_sum"));
    assert!(0.0 < first && first <= whole, "{first} {whole}");
    process.terminate().await;
}

/// The standard process metrics agree with the operating system.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_the_process_takes_is_told() {
    let folder = Folder::new();
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
    let mut process = Process::start(gateway(), &settings(&folder, "", ""));
    let address = process.address().await;
    let page = Page::scrape(address).await;
    page.is_described();
    let version = format!("lockstep_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(page.value(&version), 1.0, "{:?}", page.samples.keys());
    let memory = page.value("process_resident_memory_bytes");
    assert!((1e6..1e9).contains(&memory), "{memory} bytes");
    let started = page.value("process_start_time_seconds");
    assert!((started - began).abs() < 120.0, "{started}, not {began}");
    assert!(page.value("process_threads") >= 2.0);
    let (open, most) = (page.value("process_open_fds"), page.value("process_max_fds"));
    assert!(3.0 < open && open < most, "{open} of {most}");
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::upgraded(address, &[]).await);
    }
    let more = Page::scrape(address).await.value("process_open_fds");
    assert!(more >= open + 20.0, "{more} after {open}");
    process.terminate().await;
}

#[tokio::test]
async fn what_becomes_of_logins_is_counted() {
    let folder = Folder::new();
    let auth = "[auth]\nissuer = \"accounts\"\n[login]\naddress_burst = 2\naddress_refill_ms = 600000\n";
    let mut process = Process::start(gateway(), &settings(&folder, "", auth));
    let address = process.address().await;
    let wrong = r#"{"username":"nobody","password":"a wrong password"}"#;
    for (path, body, status) in [
        ("/auth/login", wrong, 401),
        ("/auth/login", wrong, 401),
        ("/auth/login", wrong, 429),
        ("/auth/login", "{", 400),
        ("/auth/refresh", "", 401),
        ("/auth/logout", "{}", 204),
    ] {
        let (answered, said) = crate::hostile::starts::post(address, path, "", body).await;
        assert_eq!(answered, status, "{path} {body}: {said}");
    }
    let page = Page::scrape(address).await;
    for (outcome, route, number) in [
        ("wrong_credentials", "login", 2.0),
        ("too_many_attempts", "login", 1.0),
        ("bad_request", "login", 1.0),
        ("no_session", "refresh", 1.0),
        ("done", "logout", 1.0),
    ] {
        let sample = format!("lockstep_logins_total{{route=\"{route}\",outcome=\"{outcome}\"}}");
        assert_eq!(page.value(&sample), number, "{sample} in {:?}", page.samples.keys());
    }
    process.terminate().await;
}

/// The latency of a model server is measured, whether it answers after a while or refuses.
#[tokio::test]
async fn how_long_a_model_takes_is_measured() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let model = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", model.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let refusal = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let event = r#"{"choices":[{"delta":{"content":"fourteen"},"finish_reason":"stop"}]}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n\
             data: {event}\n\ndata: [DONE]\n\n"
        );
        for answer in [answer.as_str(), refusal] {
            let (mut stream, _) = model.accept().await.expect("a request");
            let (mut asked, mut body) = (Vec::new(), None);
            // Reads the whole request, so that closing does not reset the connection.
            while body.is_none_or(|end| asked.len() < end) {
                assert!(stream.read_buf(&mut asked).await.expect("a request") > 0);
                let text = String::from_utf8_lossy(&asked).to_ascii_lowercase();
                body = text.split_once("\r\n\r\n").map(|(head, _)| {
                    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                    head.len() + 4 + length.and_then(|length| length.parse::<usize>().ok()).unwrap_or_default()
                });
            }
            stream.write_all(answer.as_bytes()).await.expect("a reader");
            stream.shutdown().await.expect("a reader");
        }
    });
    let folder = Folder::new();
    let agent = format!("[agent]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"{base_url}\"\n");
    let mut process = Process::start(gateway(), &settings(&folder, "", &agent));
    let address = process.address().await;
    let mut ada = Client::live(address, &token("ada")).await;
    ada.exchange("what is 2+3*4?").await;
    ada.say(&crate::hostile::client::message("again", "and now?")).await;
    ada.until("agent_error").await;
    server.await.expect("both requests");
    let page = Page::scrape(address).await;
    page.is_described();
    for outcome in ["answered", "failed"] {
        assert_eq!(page.value(&format!("lockstep_model_seconds_count{{outcome=\"{outcome}\"}}")), 1.0, "{outcome}");
    }
    process.terminate().await;
}
