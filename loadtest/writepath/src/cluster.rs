//! One Redis against three masters of a Cluster: the same binaries, told apart by `redis.url` alone. In turn, medians.
//!
//! What is measured is in `drain` (one listener and everything behind it), `bus` (Redis alone) and `fanout` (an edge). What
//! would be with a processor for each process is computed from what each works for an event, and says so.

mod account;
mod bus;
mod drain;
mod fanout;
mod stores;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::Bench;
use account::processors;
use fanout::Load;
use stores::Stores;
use table::Range;

/// How much of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Size {
    /// Rounds of all.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows that are drained.
    #[arg(long, default_value_t = 200_000)]
    rows: i64,
    /// Rooms, and sockets at the edge.
    #[arg(long, default_value_t = 2_000)]
    rooms: u16,
    /// Seconds for which the bus publishes.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Edges that subscribe to all rooms while the bus publishes.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 8])]
    edges: Vec<usize>,
    /// Events to the edge, 2,000 a second.
    #[arg(long, default_value_t = 12_000)]
    events: u64,
}

/// Measures everything and prints tables in Markdown.
pub(crate) async fn run(bench: &Bench, edge: Option<PathBuf>, size: &Size) -> Result<()> {
    let edge = edge.map_or_else(|| crate::bench::beside("rowcast-edge"), Ok)?;
    let all = [Stores::One(&bench.redis), Stores::cluster(0).await?, Stores::cluster(1).await?];
    println!("{} processors; medians of {}, in turn", processors(), size.rounds);
    drained(bench, &all, size).await?;
    for edges in &size.edges {
        published(&all, *edges, size).await?;
    }
    // An edge has nothing to do with replicas.
    fanned_out(bench, &all[..2], &edge, size).await
}

/// Calls it for each of these stores in each round, every round beginning with another one. The results by stores.
async fn in_turn<T>(
    all: &[Stores<'_>],
    rounds: usize,
    mut measure: impl AsyncFnMut(&Stores<'_>) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut results: Vec<Vec<T>> = all.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..all.len() {
            let place = (round + turn) % all.len();
            let stores = &all[place];
            results[place].push(measure(stores).await.with_context(|| format!("with {}", stores.name()))?);
        }
    }
    Ok(results)
}

async fn drained(bench: &Bench, all: &[Stores<'_>], size: &Size) -> Result<()> {
    let rooms = i64::from(size.rooms);
    let runs =
        in_turn(all, size.rounds, async |stores| drain::run(bench, stores, size.rows, rooms).await).await?;
    println!(
        "\n{} rows over {rooms} rooms, drained by one listener; CPU µs an event, the publisher is the listener",
        size.rows
    );
    table::print(all, &runs);
    Ok(())
}

async fn published(all: &[Stores<'_>], edges: usize, size: &Size) -> Result<()> {
    let time = Duration::from_secs_f64(size.seconds);
    let rooms = usize::from(size.rooms);
    let runs = in_turn(all, size.rounds, async |stores| bus::run(stores, rooms, edges, time).await).await?;
    println!("\nthe bus alone, {rooms} rooms, each subscribed to by {edges} edges; CPU µs an event");
    table::print(all, &runs);
    Ok(())
}

async fn fanned_out(bench: &Bench, all: &[Stores<'_>], edge: &Path, size: &Size) -> Result<()> {
    let load = Load { rooms: usize::from(size.rooms), rate: 2_000.0, events: size.events };
    let results =
        in_turn(all, size.rounds, async |stores| fanout::run(bench, stores, edge, load).await).await?;
    println!("\none edge with {} rooms, a socket in each; {} events a second", load.rooms, load.rate);
    println!("| Redis | CPU µs an event: edge | listener | Redis | others' CPU |");
    println!("| --- | --- | --- | --- | --- |");
    for (stores, costs) in all.iter().zip(&results) {
        let of = |value: &dyn Fn(&fanout::Cost) -> f64| Range::of(costs.iter().map(value));
        println!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.0} % |",
            stores.name(),
            of(&|cost| cost.edge),
            of(&|cost| cost.listener),
            of(&|cost| cost.redis),
            of(&|cost| cost.others * 100.0).most,
        );
    }
    Ok(())
}
