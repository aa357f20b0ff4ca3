//! The page as a browser requests it: from whole processes, as bytes over HTTP/1.1.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hostile::starts::{Folder, Process, gateway, settings, token};

/// An answer's status, headers by lower-case name, and body.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")).await
}

async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    ask(
        address,
        &format!("POST {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{HOST}{headers}\r\n{body}"),
    )
    .await
}

async fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("headers");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.into()));
    Answer { status: status.expect("a status"), headers: headers.collect(), body: bytes[end + 4..].to_vec() }
}

/// Decompresses a body with an external program.
fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .args(["-dc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip, which every Debian has");
    let mut input = child.stdin.take().expect("piped");
    let body = body.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&body));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("joined").expect("written");
    assert!(output.status.success());
    output.stdout
}

async fn served(folder: &Folder) -> (Process, SocketAddr) {
    let mut process = Process::start(gateway(), &settings(folder, "", ""));
    let address = process.address().await;
    (process, address)
}

const HOST: &str = "host: chat.example.org:8443\r\n";

/// Every reference in the page, as written.
fn references(page: &str) -> Vec<String> {
    let quoted = page.split('"').filter(|text| text.starts_with("page/"));
    quoted.map(|path| format!("/{path}")).collect()
}

#[tokio::test]
async fn assets_are_cached_for_good_and_the_page_is_revalidated() {
    let folder = Folder::new();
    let (process, address) = served(&folder).await;
    let page = get(address, "/", HOST).await;
    assert_eq!((page.status, page.header("cache-control")), (200, "no-cache"));
    let loaded = references(&page.text());
    assert!(loaded.len() > 10, "{loaded:?}");
    for path in &loaded {
        let file = get(address, path, HOST).await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
        // A module's relative imports stay in the same version, and the page preloads every module.
        for import in file.text().split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            let directory = path.rsplit_once('/').expect("a directory").0;
            assert!(loaded.contains(&format!("{directory}/{import}")), "{import} of {path} would be asked for late");
        }
        let older = get(address, &path.replace("/page/", "/page/0"), HOST).await;
        assert_eq!((older.status, older.header("cache-control")), (200, "no-cache"), "a page of an older binary");
        // The file is also served under its plain name.
        let name = path.rsplit('/').next().expect("a name");
        assert_eq!(get(address, &format!("/{name}"), HOST).await.body, file.body);
    }
    for nothing in ["/page/0/secret.js", "/page/0/..%2Fapp.js"] {
        assert_eq!(get(address, nothing, HOST).await.status, 404, "{nothing}");
    }
    process.terminate().await;
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let folder = Folder::new();
    let (process, address) = served(&folder).await;
    let page = get(address, "/", HOST).await;
    let tag = page.header("etag").to_owned();
    for (known, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
        (tag.trim_matches('"').to_owned(), 200),
        (String::new(), 200),
    ] {
        let again = get(address, "/", &format!("{HOST}if-none-match: {known}\r\n")).await;
        assert_eq!((again.status, again.body.is_empty()), (status, status == 304), "{known}");
        assert_eq!((again.header("etag"), again.header("vary")), (tag.as_str(), "accept-encoding"));
    }
    process.terminate().await;
}

#[tokio::test]
async fn what_may_be_compressed_is() {
    let folder = Folder::new();
    let (process, address) = served(&folder).await;
    let plain = get(address, "/", HOST).await;
    let (mut whole, mut sent) = (0, 0);
    for path in references(&plain.text()).into_iter().chain(["/".to_owned()]) {
        let plain = get(address, &path, HOST).await;
        let packed = get(address, &path, &format!("{HOST}accept-encoding: br, gzip, deflate\r\n")).await;
        assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), ("", "gzip"), "{path}");
        assert_eq!(gunzip(&packed.body), plain.body, "{path}");
        assert_eq!(plain.header("content-type"), packed.header("content-type"));
        (whole, sent) = (whole + plain.body.len(), sent + packed.body.len());
    }
    assert!(sent * 2 < whole, "{sent} of {whole} bytes");
    for (coding, packed) in [
        ("gzip;q=0", false),
        ("identity", false),
        ("gzip;q=0.5, identity", true),
        ("GZIP", true),
        ("x-gzip", false),
        ("br", false),
    ] {
        let answer = get(address, "/", &format!("{HOST}accept-encoding: {coding}\r\n")).await;
        assert_eq!(answer.header("content-encoding") == "gzip", packed, "{coding}");
    }
    process.terminate().await;
}

/// An injected script can reach no other host.
#[tokio::test]
async fn the_policy_names_no_host_but_the_gateways_own() {
    let folder = Folder::new();
    let (process, address) = served(&folder).await;
    for path in ["/", "/app.js", "/style.css"] {
        let policy = get(address, path, HOST).await.header("content-security-policy").to_owned();
        let own = "connect-src 'self' ws://chat.example.org:8443 wss://chat.example.org:8443;";
        assert!(policy.contains(own) && policy.contains("default-src 'self'"), "{policy}");
        assert!(!policy.contains("ws:;") && !policy.contains("wss:;") && !policy.contains('*'), "{policy}");
    }
    for host in ["evil.example; script-src *", "a b", "ä", "x,y"] {
        let answer = get(address, "/", &format!("host: {host}\r\n")).await;
        let policy = answer.header("content-security-policy");
        assert!(!policy.contains("evil") && !policy.contains('*'), "{host}: {policy}");
        assert!(answer.status != 200 || policy.contains("connect-src 'self';"), "{host}: {policy}");
    }
    process.terminate().await;
}

/// The page's requests to a gateway with another issuer's tokens.
#[tokio::test]
async fn markdown_is_parsed_for_tokens_of_any_issuer_and_a_login_that_is_not_there_is_missing() {
    let folder = Folder::new();
    let (process, address) = served(&folder).await;
    let bearer = format!("authorization: Bearer {}\r\n", token("ada"));
    let parsed = post(address, "/markdown", &bearer, "*a*").await;
    assert_eq!((parsed.status, parsed.text().as_str()), (200, r#"{"tree":["div",["p",["em","a"]]]}"#));
    assert_eq!((parsed.header("content-type"), parsed.header("cache-control")), ("application/json", "no-store"));
    assert_eq!(post(address, "/markdown", "", "*a*").await.status, 401);
    assert_eq!(get(address, "/markdown", &format!("{HOST}{bearer}")).await.status, 405);
    // From this the page knows that it must ask for a token.
    assert_eq!(post(address, "/auth/refresh", "", "").await.status, 404);
    process.terminate().await;
}
