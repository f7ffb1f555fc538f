//! From the sending of an INSERT to a bare listener that hears its NOTIFY, to Redis's subscriber that gets what such a
//! listener publishes there at once, and to the one that gets Rowcast's event: side by side, at 1 and at 200 events a
//! second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::bench::{Bench, Kind};
use crate::median;

/// Longer than any of these takes.
const PATIENCE: Duration = Duration::from_secs(5);
const ROWCASTS_CHANNEL: &str = "rowcast:default:{latency}:events";
const BARE_CHANNEL: &str = "latency";

/// The ways that are compared.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// NOTIFY, heard by whoever listens.
    Notify,
    /// NOTIFY, which its listener publishes in Redis and does nothing else: what many nodes need.
    Republished,
    Rowcast,
}

/// Measures all ways at both rates.
pub(crate) async fn run(bench: &Bench, events: usize) -> Result<()> {
    println!("INSERT sent → heard, ms");
    println!(
        "| events a second | NOTIFY p50 | p99 | NOTIFY, to Redis p50 | p99 | Rowcast, to Redis p50 | p99 |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let listener = bench.listener().await?;
    for (rate, events) in [(1, events), (200, events * 20)] {
        let mut cells = Vec::new();
        for way in [Way::Notify, Way::Republished, Way::Rowcast] {
            let mut times = measure(bench, way, rate, events).await?;
            let middle = median(&mut times);
            cells.push(format!("{middle:.2} | {:.2}", times[times.len() * 99 / 100]));
        }
        println!("| {rate} | {} |", cells.join(" | "));
    }
    bench.drained(listener).await
}

async fn measure(bench: &Bench, way: Way, rate: u32, events: usize) -> Result<Vec<f64>> {
    // As many as are sent; what does not fit would have been lost on the way.
    let (heard, mut arrivals) = mpsc::channel(events + 10);
    let mut hearing = JoinSet::new();
    let kind = match way {
        Way::Notify => {
            from_postgres(bench, &mut hearing, heard).await?;
            Kind::Notify
        }
        Way::Republished => {
            let (notified, notifications) = mpsc::channel(events + 10);
            from_redis(bench, &mut hearing, BARE_CHANNEL, heard).await?;
            republish(bench, &mut hearing, notifications).await?;
            from_postgres(bench, &mut hearing, notified).await?;
            Kind::Notify
        }
        Way::Rowcast => {
            from_redis(bench, &mut hearing, ROWCASTS_CHANNEL, heard).await?;
            Kind::Rowcast
        }
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
    Ok(times)
}

/// The hearers end with their set.
async fn from_postgres(bench: &Bench, hearing: &mut JoinSet<()>, heard: mpsc::Sender<Instant>) -> Result<()> {
    let (client, mut connection) = tokio_postgres::connect(&bench.url(), NoTls).await?;
    let client = Arc::new(client);
    let kept = client.clone();
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    hearing.spawn(async move {
        let _kept = kept;
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, AsyncMessage::Notification(_)) && heard.send(Instant::now()).await.is_err() {
                return;
            }
        }
    });
    client.batch_execute("LISTEN changes").await?;
    Ok(())
}

async fn republish(
    bench: &Bench,
    hearing: &mut JoinSet<()>,
    mut notifications: mpsc::Receiver<Instant>,
) -> Result<()> {
    let mut redis = redis::Client::open(bench.redis.url())?.get_multiplexed_async_connection().await?;
    hearing.spawn(async move {
        while notifications.recv().await.is_some() {
            let sent: redis::RedisResult<()> =
                redis::cmd("PUBLISH").arg(BARE_CHANNEL).arg("x").query_async(&mut redis).await;
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(())
}

async fn from_redis(
    bench: &Bench,
    hearing: &mut JoinSet<()>,
    channel: &str,
    heard: mpsc::Sender<Instant>,
) -> Result<()> {
    let mut subscriber = redis::Client::open(bench.redis.url())?.get_async_pubsub().await?;
    subscriber.subscribe(channel).await?;
    hearing.spawn(async move {
        let mut messages = subscriber.into_on_message();
        while messages.next().await.is_some() && heard.send(Instant::now()).await.is_ok() {}
    });
    Ok(())
}
