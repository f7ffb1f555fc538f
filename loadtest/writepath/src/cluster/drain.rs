//! How fast one listener that leads drains what one transaction has committed, and what each process works for it.

use std::time::Duration;

use anyhow::{Context, Result};
use rowcast_sandbox::Signal;

use super::account::Account;
use super::stores::Stores;
use super::table::Run;
use crate::bench::Bench;

/// More than this takes anywhere.
const PATIENCE: Duration = Duration::from_secs(300);

/// Once: commits so many rows over so many rooms, and waits until none is in the outbox.
pub(crate) async fn run(bench: &Bench, stores: &Stores<'_>, rows: i64, rooms: i64) -> Result<Run> {
    stores.empty().await?;
    let (writer, watcher) = (bench.connect().await?, bench.connect().await?);
    // The outbox has its own settings of autovacuum, as everywhere; the application's table is not what is measured.
    let prepare =
        "ALTER TABLE watched SET (autovacuum_enabled = off); TRUNCATE watched, rowcast.outbox; CHECKPOINT";
    writer.batch_execute(prepare).await?;
    let listener = bench.listener_before(&stores.url()).await?;
    let fill = format!(
        "BEGIN; INSERT INTO watched (\"merchantId\", status, note)
         SELECT 'drain-' || n % {rooms}, 'new', repeat('x', 100) FROM generate_series(1, {rows}) AS n"
    );
    writer.batch_execute(&fill).await?;
    // The last one goes last, or nearly; to look for the first would pass all that are deleted.
    let empty = watcher.prepare("SELECT max(id) IS NULL FROM rowcast.outbox").await?;
    let pids: Vec<u32> = [listener.pid(), bench.postgres.pid()].into_iter().chain(stores.pids()).collect();

    let account = Account::of(&pids)?;
    writer.batch_execute("COMMIT").await?;
    let drained = async {
        while !watcher.query_one(&empty, &[]).await?.try_get::<_, bool>(0)? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, drained).await.context("it is not drained")??;
    let spent = account.since(&pids)?;

    listener.stop(Signal::TERM, Duration::from_secs(30)).await?;
    stores.as_begun().await?;
    Ok(Run {
        events: rows as f64,
        publisher_us: spent.us[0],
        postgres_us: Some([spent.us[1], spent.busiest_us[1]]),
        redis_us: spent.us[2..].to_vec(),
        spent,
    })
}
