//! Every limit at its edge, on a real edge: so many are served, one more is told what is wrong, and when one leaves the
//! next is served. Not here: whose address counts (`proxies.rs`).

mod support;

use std::io::ErrorKind;

use anyhow::{Context, Result, ensure};
use rowcast_sandbox::wait_until;
use serde_json::json;
use support::{Edge, LIMIT, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections that say something and then nothing.
async fn half_open(edge: &Edge, count: usize, said: &str) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = TcpStream::connect(&edge.listen).await?;
        connection.write_all(said.as_bytes()).await?;
        connections.push(connection);
    }
    Ok(connections)
}

/// Waits until the connection was ended from the other side.
async fn ended(connection: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    match tokio::time::timeout(LIMIT, connection.read_to_end(&mut rest)).await.context("it stays open")? {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn limited(edge: &Edge, limit: &str) -> Result<f64> {
    edge.metric("rowcast_edge_limited_total", &format!("limit=\"{limit}\"")).await
}

#[tokio::test]
async fn those_who_wait_longest_make_room_for_real_clients() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[("EDGE__MAX_PENDING", "20"), ("EDGE__WORKERS", "1")]).await?;
    let (mut real, _) = edge.join(json!("m1"), json!({})).await?;
    let mut oldest = half_open(&edge, 5, "GET /ws HTT").await?;
    let silent = half_open(&edge, 300, "").await?;
    for connection in &mut oldest {
        ended(connection).await?;
    }
    wait_until("those above the bound to be cut", LIMIT, || async {
        limited(&edge, "pending").await.is_ok_and(|cut| cut >= 285.0)
    })
    .await?;
    // Who has signed in is not among them, and who comes is served.
    real.so_far().await?;
    let (_late, _) = edge.join(json!("m1"), json!({})).await?;
    ensure!(limited(&edge, "pending").await? <= 300.0, "nobody else was cut");
    drop(silent);
    Ok(())
}

#[tokio::test]
async fn sockets_that_do_not_sign_in_are_pending_too() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let settings = [("EDGE__MAX_PENDING", "10"), ("EDGE__WORKERS", "1"), ("EDGE__SIGN_IN_TIMEOUT", "600s")];
    let edge = stage.edge(&settings).await?;
    let mut strangers = Vec::new();
    for _ in 0..30 {
        strangers.push(edge.open(&[]).await?);
    }
    for stranger in &mut strangers[..15] {
        ensure!(stranger.closed().await.is_err(), "cut without a word");
    }
    let (_client, _) = edge.join(json!("m1"), json!({})).await?;
    Ok(())
}
