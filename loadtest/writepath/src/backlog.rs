//! What was committed while nobody listened, and how fast a listener carries it to Redis.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rowcast_sandbox::Signal;

use crate::bench::Bench;

/// More than this takes anywhere.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures backlogs of one room and of a hundred, from the start of the listener's process to the last row's deletion.
pub(crate) async fn run(bench: &Bench, rows: i64) -> Result<()> {
    println!("a backlog of {rows} rows, drained");
    println!("| rooms | rows a second |");
    println!("| --- | --- |");
    for rooms in [1, 100] {
        let database = bench.connect().await?;
        let fill = format!(
            "TRUNCATE rowcast.outbox;
             INSERT INTO watched (\"merchantId\", status, note)
             SELECT 'backlog-{rooms}-' || n % {rooms}, 'new', repeat('x', 100) FROM generate_series(1, {rows}) AS n;
             CHECKPOINT"
        );
        database.batch_execute(&fill).await?;
        let began = Instant::now();
        let listener = bench.listener().await?;
        // The last one goes last, or nearly; to look for the first would pass all that are deleted.
        let last = database.prepare("SELECT max(id) IS NULL FROM rowcast.outbox").await?;
        let drained = async {
            while !database.query_one(&last, &[]).await?.try_get::<_, bool>(0)? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(began.elapsed().as_secs_f64())
        };
        let seconds = tokio::time::timeout(PATIENCE, drained).await.context("it is not drained")??;
        println!("| {rooms} | {:.0} |", rows as f64 / seconds);
        listener.stop(Signal::TERM, Duration::from_secs(30)).await?;
    }
    Ok(())
}
