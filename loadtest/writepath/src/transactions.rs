//! Transactions of many statements. A trigger's EXCEPTION block is one subtransaction a statement, and from the 65th on
//! PostgreSQL keeps them no more beside the transaction: whoever reads meanwhile has to look them up.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::bench::{Bench, Kind};
use crate::median;

const READERS: usize = 2;
const READING: Duration = Duration::from_secs(1);

/// Measures the kinds in turn: how long a transaction takes, and how fast others read while it is open.
pub(crate) async fn run(bench: &Bench, statements: usize, rounds: usize) -> Result<()> {
    let mut times: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..rounds {
        for (column, kind) in [Kind::Unwatched, Kind::Notify, Kind::Rowcast].into_iter().enumerate() {
            let (millis, reads) = measure(bench, kind, statements).await?;
            times[0][column].push(millis);
            times[1][column].push(reads);
        }
    }
    println!("one transaction of {statements} UPDATEs of one row each, medians of {rounds}");
    println!("| | unwatched | per-row pg_notify | Rowcast | of unwatched |");
    println!("| --- | --- | --- | --- | --- |");
    let names = ["the transaction, ms", "scans a second of its table by others while it is open"];
    for (name, mut times) in names.into_iter().zip(times) {
        let [without, notified, with] = times.each_mut().map(|times| median(times));
        println!("| {name} | {without:.1} | {notified:.1} | {with:.1} | {:.2} |", with / without);
    }
    Ok(())
}

async fn measure(bench: &Bench, kind: Kind, statements: usize) -> Result<(f64, f64)> {
    let table = kind.table();
    let database = bench.connect().await?;
    database
        .batch_execute(&format!(
            "TRUNCATE {table} RESTART IDENTITY; TRUNCATE rowcast.outbox; INSERT INTO {table} (\"merchantId\", status, note)
             SELECT 'm' || n % 100, 'new', repeat('x', 100) FROM generate_series(1, {statements}) AS n;
             ANALYZE {table}; DELETE FROM rowcast.outbox; CHECKPOINT"
        ))
        .await?;
    let update = database.prepare(&format!("UPDATE {table} SET status = 'old' WHERE id = $1")).await?;
    let began = Instant::now();
    database.batch_execute("BEGIN").await?;
    for id in 1..=i64::try_from(statements)? {
        database.execute(&update, &[&id]).await?;
    }
    let written = began.elapsed();
    let reads = read(bench, table).await?;
    let committing = Instant::now();
    database.batch_execute("COMMIT").await?;
    Ok(((written + committing.elapsed()).as_secs_f64() * 1_000.0, reads))
}

/// Scans of the table a second, by readers of their own.
async fn read(bench: &Bench, table: &str) -> Result<f64> {
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let connection = bench.connect().await?;
        let scan = connection.prepare(&format!("SELECT count(*) FROM {table} WHERE status = 'old'")).await?;
        readers.spawn(async move {
            let (began, mut scans) = (Instant::now(), 0_u32);
            while began.elapsed() < READING {
                let seen: i64 = connection.query_one(&scan, &[]).await?.get(0);
                anyhow::ensure!(seen == 0, "the transaction is open");
                scans += 1;
            }
            Ok(f64::from(scans) / began.elapsed().as_secs_f64())
        });
    }
    let mut rate = 0.0;
    while let Some(scans) = readers.join_next().await {
        rate += scans??;
    }
    Ok(rate)
}
