//! A whole Rowcast on each server that operators have, not only on the system's.

mod support;

use anyhow::{Context, Result};
use rowcast_sandbox::{RedisKind, RedisOptions};
use support::System;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_each_redis_and_valkey_every_event_arrives_once_and_in_order() -> Result<()> {
    // Everything else runs on the system's.
    for kind in RedisKind::ALL.into_iter().filter(|kind| *kind != RedisKind::System) {
        if kind.is_here()? {
            delivers(kind).await.with_context(|| format!("on {kind}"))?;
        }
    }
    Ok(())
}

async fn delivers(kind: RedisKind) -> Result<()> {
    let system = System::start_on(RedisOptions { kind, ..Default::default() }, 1, 1).await?;
    let mut plan = system.plan(&system.edge_addresses);
    (plan.sockets, plan.rooms, plan.events, plan.rate) = (20, 5, 500, 0.0);
    let report = rowcast_generator::run(&plan).await?;
    anyhow::ensure!(report.counts.is_clean(false) && report.counts.delivered == 2_000, "{report}");
    Ok(())
}
