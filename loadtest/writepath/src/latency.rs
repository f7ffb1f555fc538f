//! From the sending of an INSERT to a bare listener that hears its NOTIFY, and to Redis's subscriber that gets Rowcast's
//! event: side by side, at 1 and at 200 events a second.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::bench::{Bench, Kind};
use crate::median;

/// Longer than any of these takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures both kinds at both rates.
pub(crate) async fn run(bench: &Bench, events: usize) -> Result<()> {
    println!("INSERT sent → heard, ms");
    println!("| events a second | NOTIFY p50 | p99 | Rowcast, in Redis p50 | p99 |");
    println!("| --- | --- | --- | --- | --- |");
    let listener = bench.listener().await?;
    for (rate, events) in [(1, events), (200, events * 20)] {
        let mut cells = Vec::new();
        for kind in [Kind::Notify, Kind::Rowcast] {
            let mut times = measure(bench, kind, rate, events).await?;
            let middle = median(&mut times);
            cells.push(format!("{middle:.2} | {:.2}", times[times.len() * 99 / 100]));
        }
        println!("| {rate} | {} |", cells.join(" | "));
    }
    bench.drained(listener).await
}

async fn measure(bench: &Bench, kind: Kind, rate: u32, events: usize) -> Result<Vec<f64>> {
    // As many as are sent; what does not fit would have been lost on the way.
    let (heard, mut arrivals) = mpsc::channel(events + 10);
    let hearing = match kind {
        Kind::Rowcast => from_redis(bench, heard).await?,
        _ => from_postgres(bench, heard).await?,
    };
    let database = bench.connect().await?;
    let sql =
        format!("INSERT INTO {} (\"merchantId\", status, note) VALUES ('latency', 'new', 'x')", kind.table());
    let statement = database.prepare(&sql).await?;
    let mut times = Vec::new();
    let start = Instant::now();
    for number in 0..events {
        // Not in step with anybody's timer.
        let jitter = Duration::from_micros(number as u64 * 7_919 % 3_000);
        let due = start + Duration::from_secs(1) / rate * u32::try_from(number)? + jitter;
        tokio::time::sleep_until(due.into()).await;
        let sent = Instant::now();
        database.execute(&statement, &[]).await?;
        let arrived: Instant =
            tokio::time::timeout(PATIENCE, arrivals.recv()).await?.context("the hearer has ended")?;
        times.push(arrived.saturating_duration_since(sent).as_secs_f64() * 1_000.0);
    }
    hearing.abort();
    Ok(times)
}

async fn from_postgres(bench: &Bench, heard: mpsc::Sender<Instant>) -> Result<tokio::task::JoinHandle<()>> {
    let (client, mut connection) = tokio_postgres::connect(&bench.url(), NoTls).await?;
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let task = tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_)) && heard.send(Instant::now()).await.is_err() {
                return;
            }
        }
    });
    client.batch_execute("LISTEN changes").await?;
    Ok(tokio::spawn(async move {
        let _client = client;
        drop(task.await);
    }))
}

async fn from_redis(bench: &Bench, heard: mpsc::Sender<Instant>) -> Result<tokio::task::JoinHandle<()>> {
    let mut subscriber = redis::Client::open(bench.redis.url())?.get_async_pubsub().await?;
    subscriber.subscribe("rowcast:default:{latency}:events").await?;
    Ok(tokio::spawn(async move {
        let mut messages = subscriber.into_on_message();
        while messages.next().await.is_some() && heard.send(Instant::now()).await.is_ok() {}
    }))
}
