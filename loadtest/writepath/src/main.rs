//! What Rowcast costs the application's write path, measured on servers of its own with fsync on: commits a second
//! side by side, latency beside an immediate NOTIFY, large statements, and transactions of many. Who watches what is in `bench`.
//! And, apart from these, what three masters of a Cluster carry in place of one Redis.

mod backlog;
mod bench;
mod cluster;
mod commits;
mod latency;
mod statements;
mod transactions;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What watching costs the application.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The listener's binary; the one beside this program unless given.
    #[arg(long)]
    listener: Option<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Commits a second: unwatched, the per-row pg_notify trigger, the least trigger that can fill an outbox, Rowcast; in
    /// turn, medians.
    Commits {
        /// Numbers of writers.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32])]
        writers: Vec<usize>,
        /// Rounds of all four.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds a measurement.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// From an INSERT to whoever hears its NOTIFY, to Redis through a bare listener, and to Redis through Rowcast, at 1 and
    /// at 200 events a second.
    Latency {
        /// Events at one a second; twenty times as many at 200.
        #[arg(long, default_value_t = 15)]
        events: usize,
    },
    /// INSERT, UPDATE and DELETE of many rows in one statement, unwatched and watched.
    Statements {
        /// Rows a statement.
        #[arg(long, default_value_t = 50_000)]
        rows: i64,
        /// Rounds.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// One transaction of many statements, each a subtransaction where the table is watched: how long it takes, and what
    /// others pay who read meanwhile.
    Transactions {
        /// Statements a transaction.
        #[arg(long, default_value_t = 1_000)]
        statements: usize,
        /// Rounds.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// How fast a listener drains what was committed while there was none.
    Backlog {
        /// Rows.
        #[arg(long, default_value_t = 500_000)]
        rows: i64,
    },
    /// One Redis against three masters of a Cluster, by configuration alone: what a listener drains, what the bus publishes, what
    /// an edge works.
    Cluster {
        /// The edge's binary; the one beside this program unless given.
        #[arg(long)]
        edge: Option<PathBuf>,
        #[command(flatten)]
        size: cluster::Size,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bench = bench::Bench::start(arguments.listener).await?;
    match arguments.what {
        Some(What::Commits { writers, rounds, seconds }) => {
            commits::run(&bench, &writers, rounds, Duration::from_secs_f64(seconds)).await
        }
        Some(What::Latency { events }) => latency::run(&bench, events).await,
        Some(What::Statements { rows, rounds }) => statements::run(&bench, rows, rounds).await,
        Some(What::Transactions { statements, rounds }) => {
            transactions::run(&bench, statements, rounds).await
        }
        Some(What::Backlog { rows }) => backlog::run(&bench, rows).await,
        Some(What::Cluster { edge, size }) => cluster::run(&bench, edge, &size).await,
        None => {
            commits::run(&bench, &[1, 8, 32], 5, Duration::from_secs(2)).await?;
            latency::run(&bench, 15).await?;
            statements::run(&bench, 50_000, 3).await?;
            transactions::run(&bench, 1_000, 5).await?;
            backlog::run(&bench, 500_000).await
        }
    }
}

/// The middle of some measurements.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
