//! What an edge works for an event that goes to one of its sockets: an edge that has subscribed to each room, at one Redis or at
//! three masters; the real listener before it, and rows at a rate that leaves this machine time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rowcast_generator::Plan;
use rowcast_generator::process::Watched;
use rowcast_sandbox::{Folder, Launch, Process, Signal, http_get};
use serde_json::Value;

use super::account::Account;
use super::stores::Stores;
use crate::bench::Bench;

const SECRET: &str = "a secret of at least thirty-two bytes";
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked of the edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// As many sockets are in.
    pub(crate) rooms: usize,
    /// Events a second, each in one transaction.
    pub(crate) rate: f64,
    pub(crate) events: u64,
}

/// CPU microseconds an event.
pub(crate) struct Cost {
    pub(crate) edge: f64,
    pub(crate) listener: f64,
    /// All of Redis's servers together.
    pub(crate) redis: f64,
    /// The share of all processors that others had, the time of signing in included.
    pub(crate) others: f64,
}

/// Once. What it costs that sockets sign in is in none of it.
pub(crate) async fn run(bench: &Bench, stores: &Stores<'_>, edge: &Path, load: Load) -> Result<Cost> {
    stores.empty().await?;
    let listener = bench.listener_before(&stores.url()).await?;
    let folder = Folder::new("fanout")?;
    let (edge, address) = start(edge, &folder, &stores.url()).await?;
    let mut plan = Plan::new(vec![format!("http://{address}")], bench.url(), SECRET.to_owned());
    (plan.sockets, plan.rooms) = (load.rooms, load.rooms);
    (plan.rate, plan.events) = (load.rate, load.events);
    plan.processes = [Watched::new("edge", edge.pid()), Watched::new("listener", listener.pid())].into();
    plan.processes.extend(stores.pids().into_iter().map(|pid| Watched::new("redis", pid)));
    let pids: Vec<u32> =
        plan.processes.iter().map(|watched| watched.pid).chain([bench.postgres.pid()]).collect();
    let account = Account::of(&pids)?;
    let report = rowcast_generator::run(&plan).await?;
    let spent = account.since(&pids)?;
    let counts = &report.counts;
    ensure!(counts.delivered == load.events && counts.resyncs == 0, "not everything came:\n{report}");
    edge.stop(Signal::TERM, PATIENCE).await?;
    listener.stop(Signal::TERM, PATIENCE).await?;
    stores.as_begun().await?;
    let of = |name: &str| {
        let costs = report.processes.iter().filter(|cost| cost.name == name);
        costs.map(|cost| cost.cpu_us_an_event).sum()
    };
    Ok(Cost { edge: of("edge"), listener: of("listener"), redis: of("redis"), others: spent.others })
}

/// An edge that is ready, and where.
async fn start(program: &Path, folder: &Folder, redis_url: &str) -> Result<(Process, String)> {
    let ports = folder.path().join("ports.json");
    let process = Launch::new("rowcast-edge", program, folder.path().join("edge.log"))
        .arg("--ports-file")
        .arg(&ports)
        .env("ROWCAST_REDIS__URL", redis_url)
        .env("ROWCAST_AUTH__HS256_SECRET", SECRET)
        .env("ROWCAST_EDGE__LISTEN", "127.0.0.1:0")
        .env("ROWCAST_EDGE__DRAIN_DELAY", "0s")
        .env("ROWCAST_EDGE__DRAIN_WINDOW", "0s")
        .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0")
        .spawn()?;
    let ready = || async {
        let bound: Value = serde_json::from_slice(&std::fs::read(&ports)?)?;
        let address = |name: &str| bound[name].as_str().map(str::to_owned).context("an address is missing");
        let (status, body) = http_get(&address("admin")?, "/ready").await?;
        ensure!(status == 200, "/ready answers {status}: {body}");
        address("listen")
    };
    let address = process.wait_ready(PATIENCE, ready).await?;
    Ok((process, address))
}
