//! The chat page, in the binary.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Nothing that is not the gateway's own is loaded or talked to.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'; object-src 'none'";

macro_rules! files {
    ($($path:literal => $file:literal, $kind:literal;)*) => {
        /// The page and what it loads.
        pub(super) fn routes() -> Router {
            Router::new()$(.route($path, get(|| async { file($kind, include_str!(concat!("../../web/", $file))) })))*
        }
    };
}

files! {
    "/" => "index.html", "text/html; charset=utf-8";
    "/app.js" => "app.js", "text/javascript; charset=utf-8";
    "/chat.js" => "chat.js", "text/javascript; charset=utf-8";
    "/client.js" => "client.js", "text/javascript; charset=utf-8";
    "/conversation.js" => "conversation.js", "text/javascript; charset=utf-8";
    "/icon.svg" => "icon.svg", "image/svg+xml";
    "/machine.js" => "machine.js", "text/javascript; charset=utf-8";
    "/markdown.js" => "markdown.js", "text/javascript; charset=utf-8";
    "/session.js" => "session.js", "text/javascript; charset=utf-8";
    "/style.css" => "style.css", "text/css; charset=utf-8";
    "/view.js" => "view.js", "text/javascript; charset=utf-8";
    "/words.js" => "words.js", "text/javascript; charset=utf-8";
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The file changes with the binary, and has no name of its own for each version.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}
