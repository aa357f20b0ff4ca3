//! Who tried what: at the default level of the log a failed login, a wrong operator's token and an operator's action leave a
//! line and a count, one who guesses is slowed down, and no client can fill the log.

use std::net::TcpListener;

use super::*;

/// Serves with these settings, at the default level of the log.
fn serves(folder: Folder, settings: &str) -> (Gateway, SocketAddr, BufReader<ChildStdout>) {
    let config = folder.0.join("lockstep.toml");
    fs::write(&config, settings).expect("a file");
    let mut command = Command::new(LOCKSTEP);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.0.join("data"));
    command.arg("--config").arg(config).env_remove("LOCKSTEP_LOG_FILTER");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut gateway = Gateway::start(command, folder);
    let (address, output) = listens(&mut gateway);
    (gateway, address, output)
}

/// Where it listens; the first password is said before.
fn listens(gateway: &mut Gateway) -> (SocketAddr, BufReader<ChildStdout>) {
    let mut lines = BufReader::new(gateway.child.stdout.take().expect("its output"));
    let mut line = String::new();
    loop {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a line") > 0, "it has ended");
        if let Some((_, address)) = line.trim().rsplit_once("listens on http://") {
            return (address.parse().expect("an address"), lines);
        }
    }
}

/// The status and the head of the answer to that JSON.
fn post(address: SocketAddr, path: &str, lines: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}");
    let content = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(format!("{head}{content}").as_bytes()).expect("a socket");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), answer)
}

/// Ends the gateway, and returns the lines of its log.
fn log_of(mut gateway: Gateway) -> Vec<String> {
    let log = gateway.child.stderr.take().expect("its log");
    let reading = std::thread::spawn(move || BufReader::new(log).lines().map_while(Result::ok).collect::<Vec<_>>());
    gateway.signal("-TERM");
    assert!(gateway.ended().success());
    reading.join().expect("lines")
}

fn count(log: &[String], words: &[&str]) -> usize {
    log.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[test]
fn failed_logins_are_told_counted_and_slowed_down() {
    let folder = Folder::new();
    let data = folder.0.join("data");
    let mut add = Command::new(LOCKSTEP);
    add.args(["user", "add", "ada", "--data-dir"]).arg(&data).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = add.spawn().expect("a process");
    writeln!(child.stdin.take().expect("its input"), "a long enough password").expect("a password");
    assert!(child.wait().expect("an end").success());
    // One address may try as often as all of these do: here the account is looked at.
    let (gateway, address, _output) =
        serves(folder, "[log]\nkind = \"memory\"\n[login]\naccount_burst = 5\naddress_burst = 50");
    let log_in = |name: &str, password: &str| {
        let body = format!("{{\"username\":\"{name}\",\"password\":\"{password}\"}}");
        post(address, "/auth/login", "", &body).0
    };
    let mut statuses = Vec::new();
    for number in 0..30 {
        statuses.push(log_in("ada", &format!("guess number {number}")));
    }
    assert_eq!((&statuses[..5], &statuses[5..]), (&[401; 5][..], &[429; 25][..]));
    assert_eq!(log_in("a password in the wrong field", "x"), 401);
    assert_eq!(log_in("eve", "no such account"), 401);
    let logins =
        |outcome: &str| metric(address, &format!("lockstep_logins_total{{route=\"login\",outcome=\"{outcome}\"}}"));
    assert_eq!((logins("wrong_credentials"), logins("too_many_attempts")), (7.0, 25.0));
    let log = log_of(gateway);
    let refused = |words: &[&str]| count(&log, &[&["WARN", "a login was refused", "127.0.0.1"], words].concat());
    assert_eq!(refused(&["user=\"ada\"", "result=\"wrong\""]), 5);
    assert_eq!(refused(&["user=\"unknown\"", "result=\"wrong\""]), 2);
    let told = refused(&["user=\"ada\"", "result=\"too_often\""]);
    assert!((1..25).contains(&told), "{told}: the log is not filled");
    for secret in ["guess number", "wrong field", "no such account", "eve"] {
        assert_eq!(count(&log, &[secret]), 0, "{secret}: what was typed is in the log");
    }
}

#[test]
fn what_an_operator_does_and_who_only_tries_to_is_told_and_counted() {
    let folder = Folder::new();
    let (key, token) = (folder.0.join("secret"), folder.0.join("data/operator.token"));
    fs::write(&key, "a secret of these tests, good for nothing else").expect("a file");
    let settings = format!("[auth]\nissuer = \"jwt\"\nkey_file = {key:?}\n[log]\nkind = \"memory\"\n");
    let (gateway, address, _output) = serves(folder, &settings);
    let revoke = |lines: &str| post(address, "/operator/revoke", lines, r#"{"subject":"ada"}"#).0;
    assert_eq!(revoke(""), 401);
    let mut statuses = Vec::new();
    for number in 0..60 {
        statuses.push(revoke(&format!("Authorization: Bearer a guess that is long enough {number}\r\n")));
    }
    // Another guess is allowed every five seconds.
    let (first, later) = statuses.split_at(20);
    assert!(first.iter().all(|status| *status == 401), "{first:?}");
    assert!(later.iter().filter(|status| **status == 429).count() >= 35, "{later:?}");
    let token = fs::read_to_string(token).expect("a token");
    let right = format!("Authorization: Bearer {}\r\n", token.trim());
    assert_eq!(revoke(&right), 204, "a stranger who guesses does not lock the operator out");
    assert_eq!(post(address, "/operator/mode", &right, r#"{"mode":"degraded"}"#).0, 200);
    assert_eq!(post(address, "/operator/notice", &right, r#"{"data":7}"#).0, 400);
    let refused = |reason: &str| metric(address, &format!("lockstep_operator_refused_total{{reason=\"{reason}\"}}"));
    assert_eq!((refused("no_token"), refused("wrong_token")), (1.0, 60.0));
    let done = |action: &str| metric(address, &format!("lockstep_operator_actions_total{{action=\"{action}\"}}"));
    assert_eq!((done("revoke"), done("mode"), done("notice")), (1.0, 1.0, 1.0));
    let log = log_of(gateway);
    let told = |action: &str, words: &[&str]| {
        count(&log, &[&["INFO", "an operator's action", "127.0.0.1", &format!("action=\"{action}\"")], words].concat())
    };
    assert_eq!(told("revoke", &["about=\"ada\"", "status=204"]), 1);
    assert_eq!(told("mode", &["about=\"degraded\"", "status=200"]), 1);
    assert_eq!(told("notice", &["status=400"]), 1, "one that failed is told, too");
    let refused = count(&log, &["WARN", "an operator's request was refused", "127.0.0.1", "/revoke"]);
    assert!((2..60).contains(&refused), "{refused}: the first are told, and the log is not filled");
    for secret in ["long enough", token.trim()] {
        assert_eq!(count(&log, &[secret]), 0, "a token is in the log");
    }
}

/// A key set with one key, and how often it was requested.
fn key_set() -> (SocketAddr, std::sync::Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, asked) = (listener.local_addr().expect("an address"), std::sync::Arc::<AtomicU64>::default());
    let count = std::sync::Arc::clone(&asked);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let mut line = String::new();
            let mut lines = BufReader::new(stream.try_clone().expect("a socket"));
            while lines.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
            let body =
                format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"known","alg":"ES256","x":"{x}","y":"{y}"}}]}}"#);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    (address, asked)
}

/// The header `{"alg":"ES256","kid":"k0"}`, or with another number, and empty claims, without a signature that holds.
fn unknown(number: usize) -> String {
    let last = ["sw", "sx", "sy", "sz", "s0"][number % 5];
    format!("eyJhbGciOiJFUzI1NiIsImtpZCI6Im{last}In0.e30.{}", "A".repeat(86))
}

#[test]
fn tokens_of_unknown_keys_fill_no_log_and_fetch_no_keys() {
    let (keys, asked) = key_set();
    let auth = format!("[auth]\nissuer = \"jwt\"\njwks_url = \"http://{keys}/keys\"\n[log]\nkind = \"memory\"\n");
    let (gateway, address, _output) = serves(Folder::new(), &auth);
    for number in 0..200 {
        let line = format!("Authorization: Bearer {}\r\n", unknown(number));
        let status = post(address, "/ws/ticket", &line, "").0;
        assert!(status == 401 || status == 503, "{status}");
    }
    assert!(asked.load(Ordering::SeqCst) <= 3, "{asked:?} fetches for 200 tokens");
    let log = log_of(gateway);
    let told = count(&log, &["credentials"]);
    assert!((1..=4).contains(&told), "{told} lines: each reason is told once a minute\n{log:?}");
    assert!(count(&log, &["WARN"]) <= 3, "{log:?}");
}

/// Passwords are hashed in memory that is used again, however many are presented at once.
#[test]
fn many_wrong_passwords_at_once_hold_little_memory() {
    const AT_ONCE: usize = 100;
    const TIME: Duration = Duration::from_secs(3);
    let rates = "[log]\nkind = \"memory\"\n[login]\naccount_refill_ms = 0\naddress_refill_ms = 0";
    let (gateway, address, _output) = serves(Folder::new(), rates);
    let memory = || metric(address, "process_resident_memory_bytes");
    let before = memory();
    let began = Instant::now();
    let guessing: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            std::thread::spawn(move || {
                let (mut compared, mut busy) = (0, 0);
                while began.elapsed() < TIME {
                    let body = format!("{{\"username\":\"user\",\"password\":\"guess {number}\"}}");
                    match post(address, "/auth/login", "", &body).0 {
                        401 => compared += 1,
                        503 => busy += 1,
                        other => panic!("{other}"),
                    }
                }
                (compared, busy)
            })
        })
        .collect();
    let answered = guessing.into_iter().map(|guessing| guessing.join().expect("answers"));
    let (compared, busy) = answered.fold((0, 0), |(all, none), (compared, busy)| (all + compared, none + busy));
    let grown = memory() - before;
    assert!(compared > 2 && busy > 0, "{compared} {busy}");
    // Two hashes of 19 MiB each, and what a hundred sockets need.
    assert!(grown < 80e6, "{grown} bytes");
    gateway.signal("-TERM");
}
