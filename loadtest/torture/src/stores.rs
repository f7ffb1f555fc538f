//! Redis as the torture starts it: one server, a master with a replica behind Sentinels, or a Cluster; and what is done to it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use redis::{Cmd, FromRedisValue, cmd};
use rowcast_sandbox::{
    ClusterOptions, Persistence, Redis, RedisCluster, RedisOptions, RedisSentinels, SentinelOptions, Signal,
    wait_for,
};

/// For a command to Redis, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// After a fail-over, until the old master is started again.
const AWAY: Duration = Duration::from_millis(500);

/// What Redis is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Topology {
    /// One server.
    #[default]
    One,
    /// A master and a replica, with three Sentinels.
    Sentinel,
    /// Three masters with a replica each.
    Cluster,
}

/// The servers.
pub(crate) enum Stores {
    One(Box<Redis>),
    Sentinel(RedisSentinels),
    Cluster(RedisCluster),
}

impl Stores {
    pub(crate) async fn start(topology: Topology, folder: &Path) -> Result<Self> {
        let kept = RedisOptions { persistence: Persistence::AppendOnly, ..RedisOptions::default() };
        Ok(match topology {
            Topology::One => {
                let options = RedisOptions {
                    folder: Some(folder.join("redis")),
                    persistence: Persistence::Snapshot,
                    ..RedisOptions::default()
                };
                Self::One(Box::new(Redis::start(options).await?))
            }
            Topology::Sentinel => {
                let options = SentinelOptions { redis: kept, ..SentinelOptions::default() };
                Self::Sentinel(RedisSentinels::start(options).await?)
            }
            Topology::Cluster => {
                let options = ClusterOptions { redis: kept, ..ClusterOptions::default() };
                Self::Cluster(RedisCluster::start(options).await?)
            }
        })
    }

    /// What belongs into `redis.url`, where nothing stands between.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url(),
            Self::Sentinel(redis) => redis.url(),
            Self::Cluster(redis) => redis.url(),
        }
    }

    /// The port of the one server, between which and everybody else there are proxies.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::One(redis) => Some(redis.port()),
            Self::Sentinel(_) | Self::Cluster(_) => None,
        }
    }

    /// The server that holds a room.
    pub(crate) async fn holder(&self, room: &str) -> Result<&Redis> {
        Ok(match self {
            Self::One(redis) => &**redis,
            Self::Sentinel(redis) => &redis.servers()[redis.master().await?],
            Self::Cluster(redis) => &redis.nodes()[redis.holder(slot(redis, room).await?).await?],
        })
    }

    /// A master, drawn by a number.
    async fn master(&self, drawn: u16) -> Result<&Redis> {
        Ok(match self {
            Self::One(redis) => redis,
            Self::Sentinel(redis) => &redis.servers()[redis.master().await?],
            Self::Cluster(redis) => &redis.nodes()[nth_master(redis, drawn).await?],
        })
    }

    /// The one server.
    pub(crate) fn only(&mut self) -> Result<&mut Redis> {
        match self {
            Self::One(redis) => Ok(redis),
            Self::Sentinel(_) | Self::Cluster(_) => bail!("there is more than one server"),
        }
    }

    /// A master, drawn by a number, forgets everything; its replica with it.
    pub(crate) async fn flush(&self, drawn: u16) -> Result<()> {
        tell(self.master(drawn).await?, &mut cmd("FLUSHALL")).await
    }

    /// A master stops for so long.
    pub(crate) async fn stop(&self, drawn: u16, time: Duration) -> Result<()> {
        let master = self.master(drawn).await?;
        master.kill(Signal::STOP).await?;
        tokio::time::sleep(time).await;
        master.kill(Signal::CONT).await?;
        self.settle().await
    }

    /// A master is killed; its replica takes over, and it comes back as a replica of that.
    pub(crate) async fn kill(&mut self, drawn: u16) -> Result<()> {
        match self {
            Self::One(_) => bail!("one server has no replica"),
            Self::Sentinel(redis) => {
                let master = redis.master().await?;
                redis.servers()[master].kill(Signal::KILL).await?;
                redis.wait_master_but(master).await?;
                tokio::time::sleep(AWAY).await;
                redis.servers_mut()[master].restart().await?;
            }
            Self::Cluster(redis) => {
                let master = nth_master(redis, drawn).await?;
                redis.nodes()[master].kill(Signal::KILL).await?;
                let promoted = || async {
                    let masters = redis.masters().await?;
                    anyhow::ensure!(masters.len() == 3 && !masters.contains(&master), "the replica waits");
                    Ok(())
                };
                wait_for("a replica takes over", PATIENCE, promoted).await?;
                tokio::time::sleep(AWAY).await;
                redis.nodes_mut()[master].restart().await?;
            }
        }
        self.settle().await
    }

    /// A replica takes over in order.
    pub(crate) async fn hand_over(&self, drawn: u16) -> Result<()> {
        match self {
            Self::One(_) => bail!("one server has no replica"),
            Self::Sentinel(redis) => {
                let master = redis.master().await?;
                redis.fail_over().await?;
                redis.wait_master_but(master).await?;
            }
            Self::Cluster(redis) => {
                let master = nth_master(redis, drawn).await?;
                redis.hand_over(master).await?;
            }
        }
        self.settle().await
    }

    /// The master is cut off from its replica and the Sentinels, and goes on for everybody else who still knows it.
    pub(crate) async fn isolate(&self, time: Duration) -> Result<()> {
        let Self::Sentinel(redis) = self else { bail!("only Sentinels are cut off") };
        let master = redis.master().await?;
        redis.isolate(master, true).await?;
        tokio::time::sleep(time).await;
        redis.isolate(master, false).await?;
        self.settle().await
    }

    /// The slots of these rooms go to other masters, with all that is in them.
    pub(crate) async fn move_slots(&self, rooms: &[String], drawn: u16) -> Result<()> {
        let Self::Cluster(redis) = self else { bail!("only a Cluster has slots") };
        for room in rooms {
            // A node that is slow to answer leaves the slot on its way; begun again, it goes on from there.
            let moved = || async {
                let slot = slot(redis, room).await?;
                let mut masters = redis.masters().await?;
                let holder = redis.holder(slot).await?;
                masters.retain(|master| *master != holder);
                let to = masters[usize::from(drawn) % masters.len()];
                redis.move_slot(slot, to).await
            };
            wait_for(format!("the slot of {room} has moved"), PATIENCE, moved).await?;
        }
        Ok(())
    }

    /// Until everything is replicated and served again.
    async fn settle(&self) -> Result<()> {
        match self {
            Self::One(_) => Ok(()),
            Self::Sentinel(redis) => redis.wait_watched().await,
            Self::Cluster(redis) => redis.wait_replicated().await,
        }
    }
}

async fn nth_master(redis: &RedisCluster, drawn: u16) -> Result<usize> {
    let masters = redis.masters().await?;
    masters.get(usize::from(drawn) % masters.len().max(1)).copied().context("a Cluster has masters")
}

async fn slot(redis: &RedisCluster, room: &str) -> Result<u16> {
    let masters = redis.masters().await?;
    let node = &redis.nodes()[*masters.first().context("a Cluster has masters")?];
    ask(node, cmd("CLUSTER").arg("KEYSLOT").arg(format!("{{{room}}}"))).await
}

async fn ask<T: FromRedisValue>(redis: &Redis, command: &Cmd) -> Result<T> {
    let mut connection = redis.connection().await?;
    connection.set_response_timeout(PATIENCE);
    Ok(command.query_async(&mut connection).await?)
}

/// Says a command to Redis, which may be slow, until it is done.
pub(crate) async fn tell(redis: &Redis, command: &mut Cmd) -> Result<()> {
    let shown = String::from_utf8_lossy(&command.get_packed_command()).replace("\r\n", " ");
    wait_for(shown, PATIENCE, || async { ask::<()>(redis, command).await }).await
}
