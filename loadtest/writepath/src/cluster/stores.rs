//! What is compared: one Redis, and Clusters.

use anyhow::{Context, Result, ensure};
use rowcast_sandbox::{ClusterOptions, Redis, RedisCluster, RedisOptions};

/// Masters of a Cluster here.
const MASTERS: usize = 3;

/// One or the other.
pub(crate) enum Stores<'a> {
    One(&'a Redis),
    Cluster { cluster: RedisCluster, replicas: usize },
}

impl Stores<'_> {
    /// A Cluster with so many replicas of each master.
    pub(crate) async fn cluster(replicas: usize) -> Result<Self> {
        let options = ClusterOptions { masters: MASTERS, replicas, redis: RedisOptions::default() };
        let cluster = RedisCluster::start(options).await.context("starting a Cluster")?;
        Ok(Self::Cluster { cluster, replicas })
    }

    /// Its name in tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::One(_) => "one",
            Self::Cluster { replicas: 0, .. } => "three masters",
            Self::Cluster { .. } => "three masters, a replica each",
        }
    }

    /// `redis.url`: all that differs between the runs.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url(),
            Self::Cluster { cluster, .. } => cluster.url(),
        }
    }

    /// How many servers are published to.
    pub(crate) fn masters(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Cluster { .. } => MASTERS,
        }
    }

    /// All servers, masters first.
    pub(crate) fn nodes(&self) -> Vec<&Redis> {
        match self {
            Self::One(redis) => vec![redis],
            Self::Cluster { cluster, .. } => cluster.nodes().iter().collect(),
        }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes().into_iter().map(Redis::pid).collect()
    }

    /// Begins anew: what earlier runs left makes nothing slower.
    pub(crate) async fn empty(&self) -> Result<()> {
        for master in self.nodes().into_iter().take(self.masters()) {
            master.flush().await?;
        }
        Ok(())
    }

    /// Fails where a replica has taken over: the account names masters by their places.
    pub(crate) async fn as_begun(&self) -> Result<()> {
        if let Self::Cluster { cluster, .. } = self {
            let masters = cluster.masters().await?;
            ensure!(masters == [0, 1, 2], "the masters are {masters:?} now: this machine has too much to do");
        }
        Ok(())
    }
}
