//! A whole Rowcast on each server that operators have, not only on the system's.

mod support;

use std::any::Any;

use anyhow::{Context, Result};
use rowcast_sandbox::{
    ClusterOptions, Redis, RedisCluster, RedisKind, RedisOptions, RedisSentinels, SentinelOptions,
};
use support::System;

/// Those that are here, but for the system's, on which everything else runs.
fn kinds() -> Result<Vec<RedisKind>> {
    let mut here = Vec::new();
    for kind in RedisKind::ALL.into_iter().filter(|kind| *kind != RedisKind::System) {
        if kind.is_here()? {
            here.push(kind);
        }
    }
    Ok(here)
}

async fn delivers(url: String, redis: impl Any + Send + Sync) -> Result<()> {
    let system = System::start_on(url, redis, 1, 1).await?;
    let mut plan = system.plan(&system.edge_addresses);
    (plan.sockets, plan.rooms, plan.events, plan.rate) = (20, 5, 500, 0.0);
    let report = rowcast_generator::run(&plan).await?;
    anyhow::ensure!(report.counts.is_clean(false) && report.counts.delivered == 2_000, "{report}");
    Ok(())
}

async fn delivers_over_a_cluster(kind: RedisKind) -> Result<()> {
    let redis = RedisOptions { kind, ..Default::default() };
    let cluster = RedisCluster::start(ClusterOptions { replicas: 0, redis, ..Default::default() }).await?;
    delivers(cluster.url(), cluster).await.with_context(|| format!("over a Cluster of {kind}"))
}

async fn delivers_behind_sentinels(kind: RedisKind) -> Result<()> {
    let redis = RedisOptions { kind, ..Default::default() };
    let redis = RedisSentinels::start(SentinelOptions { redis, ..Default::default() }).await?;
    delivers(redis.url(), redis).await.with_context(|| format!("behind Sentinels of {kind}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_each_redis_and_valkey_every_event_arrives_once_and_in_order() -> Result<()> {
    for kind in kinds()? {
        let redis = Redis::start(RedisOptions { kind, ..Default::default() }).await?;
        delivers(redis.url(), redis).await.with_context(|| format!("on {kind}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_cluster_of_valkey_every_event_arrives_once_and_in_order() -> Result<()> {
    match RedisKind::Valkey9.is_here()? {
        true => delivers_over_a_cluster(RedisKind::Valkey9).await,
        false => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "half a minute"]
async fn over_clusters_and_behind_sentinels_of_each_kind_every_event_arrives_once_and_in_order() -> Result<()>
{
    for kind in kinds()? {
        delivers_behind_sentinels(kind).await?;
        // 6.2 has no sharded channels.
        if kind != RedisKind::Redis62 {
            delivers_over_a_cluster(kind).await?;
        }
    }
    Ok(())
}
