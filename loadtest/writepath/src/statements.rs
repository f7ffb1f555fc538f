//! Statements of many rows, unwatched and watched. The triggers run inside the statement, so no listener is needed.

use std::time::Instant;

use anyhow::Result;

use crate::bench::{Bench, Kind};
use crate::median;

/// Measures the three kinds of statement in turn, and prints medians and ratios.
pub(crate) async fn run(bench: &Bench, rows: i64, rounds: usize) -> Result<()> {
    println!("one statement of {rows} rows, ms, medians of {rounds}");
    println!("| statement | unwatched | Rowcast | ratio |");
    println!("| --- | --- | --- | --- |");
    let mut times: [[Vec<f64>; 2]; 3] = Default::default();
    for _ in 0..rounds {
        for (column, kind) in [Kind::Unwatched, Kind::Rowcast].into_iter().enumerate() {
            let database = bench.connect().await?;
            let table = kind.table();
            database.batch_execute(&format!("TRUNCATE {table}, rowcast.outbox; CHECKPOINT")).await?;
            let statements = [
                format!(
                    "INSERT INTO {table} (\"merchantId\", status, note)
                     SELECT 'm' || n % 100, 'new', repeat('x', 100) FROM generate_series(1, {rows}) AS n"
                ),
                format!("UPDATE {table} SET status = 'old'"),
                format!("DELETE FROM {table}"),
            ];
            for (row, statement) in statements.iter().enumerate() {
                let began = Instant::now();
                database.batch_execute(statement).await?;
                times[row][column].push(began.elapsed().as_secs_f64() * 1_000.0);
            }
        }
    }
    for (name, mut times) in ["INSERT", "UPDATE", "DELETE"].into_iter().zip(times) {
        let [without, with] = times.each_mut().map(|times| median(times));
        println!("| {name} | {without:.0} | {with:.0} | {:.2} |", with / without);
    }
    Ok(())
}
