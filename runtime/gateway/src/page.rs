//! The chat page, embedded in the binary.
//!
//! The page loads its files from `/page/<version>/`, where the version is the digest of all of them. A browser keeps
//! those files forever and does not request them at a reload. Only the page itself is requested each time, and answered
//! with 304 if the browser has it. All files are compressed once, at the first request.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use lockstep::wire::hex;
use sha2::{Digest, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The prefix of the page's references to its files. It is relative, so that the page works under any base path.
const PLACEHOLDER: &str = "page/version/";

macro_rules! files {
    ($($name:literal, $kind:expr;)*) => {
        /// The page's files: name, kind, content.
        const FILES: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("../../web/", $name)))),*];
    };
}

files! {
    "api.js", JAVASCRIPT;
    "app.js", JAVASCRIPT;
    "asks.js", JAVASCRIPT;
    "card.js", JAVASCRIPT;
    "chat.js", JAVASCRIPT;
    "client.js", JAVASCRIPT;
    "clipboard.js", JAVASCRIPT;
    "conversation.js", JAVASCRIPT;
    "deletion.js", JAVASCRIPT;
    "dom.js", JAVASCRIPT;
    "drafts.js", JAVASCRIPT;
    "highlight.js", JAVASCRIPT;
    "icon.svg", "image/svg+xml";
    "login.js", JAVASCRIPT;
    "machine.js", JAVASCRIPT;
    "markdown.js", JAVASCRIPT;
    "math.js", JAVASCRIPT;
    "memory.js", JAVASCRIPT;
    "menu.js", JAVASCRIPT;
    "messages.js", JAVASCRIPT;
    "past.js", JAVASCRIPT;
    "prose.js", JAVASCRIPT;
    "replies.js", JAVASCRIPT;
    "requests.js", JAVASCRIPT;
    "session.js", JAVASCRIPT;
    "shown.js", JAVASCRIPT;
    "style.css", "text/css; charset=utf-8";
    "terms.js", JAVASCRIPT;
    "tree.js", JAVASCRIPT;
    "view.js", JAVASCRIPT;
    "words.js", JAVASCRIPT;
}

/// A file in the form in which it is served.
struct File {
    name: &'static str,
    kind: &'static str,
    plain: Bytes,
    gzip: Bytes,
    tag: HeaderValue,
}

impl File {
    fn new(name: &'static str, kind: &'static str, content: String) -> Self {
        let plain = Bytes::from(content);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzip = encoder.write_all(&plain).and_then(|()| encoder.finish());
        let gzip = Bytes::from(gzip.expect("writing to memory cannot fail"));
        let tag = format!("\"{}\"", digest(&[&plain]));
        Self { name, kind, plain, gzip, tag: HeaderValue::try_from(tag).expect("hexadecimal digits") }
    }
}

/// The page and its files.
struct Site {
    version: String,
    index: File,
    files: Vec<File>,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let contents: Vec<&[u8]> = FILES.iter().map(|(_, _, content)| content.as_bytes()).collect();
    let version = digest(&contents);
    let index = include_str!("../../web/index.html").replace(PLACEHOLDER, &format!("page/{version}/"));
    let files = FILES.iter().map(|(name, kind, content)| File::new(name, kind, (*content).to_owned())).collect();
    Site { version, index: File::new("index.html", HTML, index), files }
});

/// The first 64 bits of the SHA-256 digest of all parts.
fn digest(parts: &[&[u8]]) -> String {
    let mut all = Sha256::new();
    for part in parts {
        all.update((part.len() as u64).to_be_bytes());
        all.update(part);
    }
    let bytes = all.finalize();
    hex(u64::from_be_bytes(core::array::from_fn(|index| bytes[index]))).to_string()
}

/// The routes of the page and its files.
pub(super) fn routes() -> Router {
    let mut router =
        Router::new().route("/", get(async |headers: HeaderMap| serve(&SITE.index, &headers, Keep::Check)));
    for (index, (name, ..)) in FILES.iter().enumerate() {
        let file = async move |headers: HeaderMap| serve(&SITE.files[index], &headers, Keep::Check);
        router = router.route(&format!("/{name}"), get(file));
    }
    router.route("/page/{version}/{name}", get(versioned))
}

/// Serves a file. A page of an older binary may still request its files: it gets the current ones, but does not cache
/// them.
async fn versioned(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    match SITE.files.iter().find(|file| file.name == name) {
        Some(file) if version == SITE.version => serve(file, &headers, Keep::ForGood),
        Some(file) => serve(file, &headers, Keep::Check),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// How long a browser keeps a file.
#[derive(Clone, Copy)]
enum Keep {
    /// It checks each time whether the file has changed.
    Check,
    /// It keeps the file: the address identifies the content.
    ForGood,
}

fn serve(file: &File, asked: &HeaderMap, keep: Keep) -> Response {
    let mut response = if is_known(file, asked) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if takes_gzip(asked) {
        ([(CONTENT_ENCODING, "gzip")], file.gzip.clone()).into_response()
    } else {
        file.plain.clone().into_response()
    };
    let cache = match keep {
        Keep::Check => "no-cache",
        Keep::ForGood => "public, max-age=31536000, immutable",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(CONTENT_SECURITY_POLICY, policy(asked.get(HOST)));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(ETAG, file.tag.clone());
    response
}

/// `If-None-Match` (RFC 9110 §13.1.2): whether one of its tags is the file's, by weak comparison.
fn is_known(file: &File, asked: &HeaderMap) -> bool {
    let tags = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|tags| tags.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == file.tag.as_bytes())
}

/// `Accept-Encoding` (RFC 9110 §12.5.3): whether gzip is named, and not excluded.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let codings = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|codings| codings.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// The content security policy: only the gateway's own content is loaded and connected to. In some browsers `'self'`
/// does not include the socket, so the policy names the socket by the host in the page's request.
fn policy(host: Option<&HeaderValue>) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(byte);
    let host = host.and_then(|host| host.to_str().ok()).filter(|host| host.as_bytes().iter().all(is_plain));
    let sockets = host.map_or(String::new(), |host| format!(" ws://{host} wss://{host}"));
    let policy = format!(
        "default-src 'self'; connect-src 'self'{sockets}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         object-src 'none'"
    );
    HeaderValue::try_from(policy).expect("a host of plain characters")
}
