//! Just enough HTTP to ask a local server whether it is ready, or for its metrics. No TLS, no redirects, no chunks.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than any admin page has.
const LIMIT: u64 = 16 << 20;

/// The status and body that a server at `host:port` answers a GET with.
///
/// # Errors
/// When it can not be reached, or what it answers is not HTTP.
pub async fn http_get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    // 1.0: the answer ends with the connection, and is not chunked.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer).await.with_context(|| format!("reading from {address}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("{address} answered {path} with {head:?}"))?;
    Ok((status, body.to_owned()))
}

/// A metric of the server whose admin port this is, summed over those of its lines that contain `label`; 0 where there is
/// none.
///
/// # Errors
/// When the server can not be reached, or does not tell its metrics.
pub async fn metric(address: &str, name: &str, label: &str) -> Result<f64> {
    let (status, text) = http_get(address, "/metrics").await?;
    ensure!(status == 200, "{address} answered with {status} when it was asked for its metrics");
    let of_name =
        text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
    let values = of_name.filter(|rest| rest.contains(label)).map(|rest| {
        let value = rest.rsplit(' ').next().unwrap_or_default();
        value.parse::<f64>().with_context(|| format!("{name} is {value:?}"))
    });
    values.sum()
}
