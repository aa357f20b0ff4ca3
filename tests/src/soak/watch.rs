//! The gateway from the operator's side: requests, gauges, open files, memory, and its log.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(10);

/// Sends the gateway a request; returns the status and the body.
///
/// # Errors
///
/// If there is no answer.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> Result<(u16, String), String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = match tokio::time::timeout(REQUEST, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{method} {path}: {error}")),
        Err(_) => return Err(format!("{method} {path}: no answer within {} s", REQUEST.as_secs())),
    };
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    status.map(|status| (status, body.to_owned())).ok_or_else(|| format!("{method} {path}: no HTTP answer"))
}

/// The gauges of `/metrics` with their labels and values.
///
/// # Errors
///
/// If there is no answer.
pub async fn metrics(address: SocketAddr) -> Result<Vec<(String, f64)>, String> {
    let (_, text) = ask(address, "GET", "/metrics", "", "").await?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.rsplit_once(' ').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?))))
        .collect())
}

/// The sum of one metric over all labels.
#[must_use]
pub fn sum(metrics: &[(String, f64)], name: &str) -> f64 {
    metrics.iter().filter(|(of, _)| of.split('{').next() == Some(name)).map(|(_, value)| value).sum()
}

/// A process's resident memory in KiB.
#[must_use]
pub fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// The number of files that a process has open.
#[must_use]
pub fn files(process: u32) -> Option<usize> {
    std::fs::read_dir(format!("/proc/{process}/fd")).ok().map(Iterator::count)
}

/// The lines of the gateway's log that report a bug, with their numbers.
#[must_use]
pub fn bugs(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let tells = |line: &str| ["panicked", "invariant"].iter().any(|word| line.contains(word));
    let lines = text.lines().enumerate().filter(|(_, line)| tells(line));
    lines.map(|(index, line)| format!("gateway.log:{}: {}", index + 1, line.trim())).collect()
}
