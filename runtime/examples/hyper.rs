//! The session layer in a plain hyper service, without axum: `cargo run --release -p lockstep --example hyper`.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lockstep::Manager;
use lockstep::testing::{AnyToken, Echo};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manager = Manager::builder().verifier(AnyToken).agent(Echo).build()?;
    let listener = TcpListener::bind("127.0.0.1:8081").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // Disables Nagle's algorithm for plain responses too; an upgraded socket has it disabled anyway.
        stream.set_nodelay(true)?;
        let manager = manager.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = manager.upgrade(request);
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            // A failed connection is for its client to notice.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}
