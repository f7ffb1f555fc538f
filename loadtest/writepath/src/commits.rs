//! Commits a second of writers that do nothing but insert one row a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt};
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::NoTls;

use crate::bench::{Bench, Kind};
use crate::median;

/// Measures each number of writers, the kinds in turn, and prints the medians.
pub(crate) async fn run(bench: &Bench, writers: &[usize], rounds: usize, time: Duration) -> Result<()> {
    println!("commits a second, medians of {rounds} rounds of {time:?} (least–most)");
    println!(
        "| writers | unwatched | per-row pg_notify | least trigger, drained | Rowcast | of unwatched | of per-row | of least |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for &writers in writers {
        let mut rates: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            for (kind, rates) in Kind::ALL.into_iter().zip(&mut rates) {
                rates.push(measure(bench, kind, writers, time).await?);
            }
        }
        let middle = rates.each_mut().map(|rates| median(rates));
        let cells: Vec<String> = rates
            .iter()
            .zip(middle)
            .map(|(all, middle)| format!("{middle:.0} ({:.0}–{:.0})", all[0], all[all.len() - 1]))
            .collect();
        let [of_none, of_rows, of_least] = [0, 1, 2].map(|other| middle[3] / middle[other]);
        println!("| {writers} | {} | {of_none:.2} | {of_rows:.2} | {of_least:.2} |", cells.join(" | "));
    }
    Ok(())
}

async fn measure(bench: &Bench, kind: Kind, writers: usize, time: Duration) -> Result<f64> {
    let database = bench.connect().await?;
    database.batch_execute(&format!("TRUNCATE {}; CHECKPOINT", kind.table())).await?;
    match kind {
        Kind::Unwatched => write(bench, kind, writers, time).await,
        Kind::Notify => {
            let hearing = hear(&bench.url()).await?;
            let rate = write(bench, kind, writers, time).await;
            hearing.abort();
            rate
        }
        Kind::Least | Kind::Rowcast => {
            let listener = bench.listener().await?;
            let rate = write(bench, kind, writers, time).await;
            bench.drained(listener).await?;
            rate
        }
    }
}

/// Takes the notifications as an application's server would, and does nothing with them.
async fn hear(url: &str) -> Result<JoinHandle<()>> {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let task = tokio::spawn(async move { while messages.next().await.is_some_and(|one| one.is_ok()) {} });
    client.batch_execute("LISTEN changes").await?;
    Ok(tokio::spawn(async move {
        let _client = client;
        // It ends when the server does, or with the measurement.
        drop(task.await);
    }))
}

async fn write(bench: &Bench, kind: Kind, writers: usize, time: Duration) -> Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let connection = bench.connect().await?;
        let sql =
            format!("INSERT INTO {} (\"merchantId\", status, note) VALUES ($1, 'new', $2)", kind.table());
        let statement = connection.prepare(&sql).await?;
        let stop = stop.clone();
        tasks.spawn(async move {
            let (mut commits, note) = (0_u64, "x".repeat(100));
            while !stop.load(Ordering::Relaxed) {
                let room = format!("m{}", (writer as u64 * 7 + commits) % 100);
                connection.execute(&statement, &[&room, &note]).await?;
                commits += 1;
            }
            anyhow::Ok(commits)
        });
    }
    let began = Instant::now();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut commits = 0;
    while let Some(done) = tasks.join_next().await {
        commits += done.context("a writer panicked")??;
    }
    Ok(commits as f64 / began.elapsed().as_secs_f64())
}
