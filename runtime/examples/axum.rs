//! The session layer in an axum service: `cargo run --release -p lockstep --example axum`, then connect to
//! ws://127.0.0.1:8081/ws with the token that the last line prints.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::get;
use axum::serve::ListenerExt;
use lockstep::BoxFuture;
use lockstep::Manager;
use lockstep::agent::{Agent, Message, Run};
use lockstep::testing::AnyToken;
use serde_json::json;

/// An agent that answers in upper case.
struct Shout;

impl Agent for Shout {
    fn answer(&self, message: Message, run: Run) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let text = message.text().unwrap_or_default();
            let shout =
                run.tool("shout", &json!({ "text": text }), async { Ok::<_, String>(text.to_uppercase()) }).await;
            if let Ok(text) = shout {
                let _ = run.complete(json!({ "text": text })).await;
            }
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A real service uses its own verifier: see lockstep::verify::jwt::JwtVerifier.
    let manager = Manager::builder().verifier(AnyToken).agent(Shout).build()?;
    let socket =
        |State(manager): State<Manager>, request: Request| async move { manager.upgrade(request).map(Body::from) };
    let router = Router::new().route("/ws", get(socket)).with_state(manager);
    // Disables Nagle's algorithm for plain responses too; an upgraded socket has it disabled anyway.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8081").await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}
