//! A recording proxy in front of any gateway: see [`lockstep_tests::proxy`].

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who types it")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lockstep_tests::history::History;
use lockstep_tests::proxy::Proxy;

/// Records the traffic between clients and a gateway, so that `prove history` can check it.
///
/// Every byte is forwarded unchanged: messages, pings, close codes, and the upgrade with its path, query, credentials,
/// subprotocols, origin and cookies; pages and other requests too. Each text frame becomes one line of FILE. So do each
/// socket's opening and closing.
#[derive(Parser)]
#[command(
    name = "proxy",
    version,
    after_help = "\
Examples:
  proxy --listen 127.0.0.1:9090 --upstream ws://127.0.0.1:8080 --out chat.jsonl
  cargo prove history chat.jsonl

See --help for what is recorded and what is not",
    after_long_help = "\
What is in FILE (the fields: `prove history --help`):
  tokens in `auth` frames are `***`; headers, paths and queries are not written, nor is anything that
  a client sends besides frames of lockstep.v1 and of the older jwt-auth. What users say and read IS written: only the
  owner of FILE may read it.
  A `received` frame was passed on to the client; whether the client read it is unknown. Clients
  are numbered by socket, because the proxy cannot tell which sockets belong to one client. Lines
  name no user: `connection_ready` does.

What is not:
  binary frames, connections that the gateway answers with another subprotocol than
  lockstep.v1 and jwt-auth, and requests that are not upgrades. All are passed on.

What changes for the gateway:
  `Host` is that of --upstream, so it has to allow the origin of pages that are loaded through
  the proxy (`origins = [\"http://127.0.0.1:9090\"]`); compression is not offered; a connection
  has one request; all clients have the proxy's address, so a limit per address counts them
  as one. TLS is not spoken, on either side.

Ctrl-C or SIGTERM cuts all sockets and ends it with everything written. If it is killed, the
last tenth of a second is lost.

Examples:
  proxy --listen 127.0.0.1:9090 --upstream ws://127.0.0.1:8080 --out chat.jsonl
  cargo prove history chat.jsonl

Exit codes: 0 ended by a signal; 1 FILE cannot be created or written, or exists already, or the
address is not available; 2 wrong usage. While the gateway cannot be reached, clients are answered 502"
)]
struct Arguments {
    /// Where clients connect
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The gateway: ws://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = upstream)]
    upstream: String,
    /// Where the history is written; an existing file is not overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The host and port of a gateway.
fn upstream(url: &str) -> Result<String, String> {
    let place = url.strip_prefix("ws://").ok_or("it must begin with ws://, because the proxy does not support TLS")?;
    let place = place.strip_suffix('/').unwrap_or(place);
    if place.contains(['/', '?', '#', '@']) {
        return Err("it must end with the port: path and query are the client's".to_owned());
    }
    match place.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(place.to_owned()),
        Some(_) | None => Err("it must have a host and a port: ws://127.0.0.1:8080".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy: {error}");
            ExitCode::from(1)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    let Arguments { listen, upstream, out } = arguments;
    let path = out.display();
    // Bind first: without the address there is nothing to record.
    let proxy = Proxy::bind(*listen, upstream).await;
    let proxy = proxy.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let history = History::create(out).map_err(|error| format!("cannot create {path}: {error}"))?;
    let end = signal().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let address = proxy.address().map_err(|error| error.to_string())?;
    println!("proxy: listening on ws://{address} for ws://{upstream}, recording to {path}");
    proxy.serve(history, end).await.map_err(|error| format!("cannot write {path}: {error}"))?;
    println!("proxy: the history is complete; to check it: cargo prove history {path}");
    Ok(())
}

/// Completes on Ctrl-C or SIGTERM.
fn signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminated.recv();
        #[cfg(not(unix))]
        let terminated = core::future::pending::<()>();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
    })
}
