//! A Redis Cluster of one's own: masters and replicas as real processes, slots to be moved, nodes to be killed.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, FromRedisValue, cmd};
use anyhow::{Context, Result, bail, ensure};

use crate::{Redis, RedisOptions, free_port, wait_for};

/// Redis Cluster's number of slots.
const SLOTS: usize = 16_384;
/// After so long without a word a node counts as failed.
const NODE_TIMEOUT_MS: u32 = 1_500;
/// Gossip, an election, a resynchronisation.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a Cluster is to be started.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Masters; the slots are shared out evenly.
    pub masters: usize,
    /// Replicas of each of them.
    pub replicas: usize,
    /// Of each node. Folder and port are not looked at.
    pub redis: RedisOptions,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { masters: 3, replicas: 1, redis: RedisOptions::default() }
    }
}

/// A Cluster. Dropping it ends its nodes.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

/// A node as another one sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its id.
    pub id: String,
    /// Its port.
    pub port: u16,
    /// `master`, `slave`, `fail` and others.
    pub flags: Vec<String>,
    /// Its slots, each range with both ends.
    pub slots: Vec<(u16, u16)>,
}

impl ClusterNode {
    /// Whether it holds slots and has not failed.
    pub fn leads(&self) -> bool {
        let flag = |name: &str| self.flags.iter().any(|flag| flag == name);
        flag("master") && !flag("fail") && !self.slots.is_empty()
    }

    /// Whether a slot is its.
    pub fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot))
    }
}

impl RedisCluster {
    /// Starts one and waits until every node knows all others and every slot is served. It goes on with the slots that
    /// are left when some are not served (`cluster-require-full-coverage no`).
    ///
    /// # Errors
    /// When there is no Redis on this machine, or it does not start.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let count = options.masters * (1 + options.replicas);
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            nodes.push(node(&options.redis).await?);
        }
        let cluster = Self { nodes };
        cluster.introduce().await?;
        for (place, node) in cluster.nodes[..options.masters].iter().enumerate() {
            let from = SLOTS * place / options.masters;
            let to = SLOTS * (place + 1) / options.masters - 1;
            let _: () = say(node, cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(from).arg(to)).await?;
        }
        for (place, node) in cluster.nodes[options.masters..].iter().enumerate() {
            let master = cluster.id(place % options.masters).await?;
            let replicate = || async {
                let _: () = say(node, cmd("CLUSTER").arg("REPLICATE").arg(&master)).await?;
                anyhow::Ok(())
            };
            wait_for("the replica knows its master", PATIENCE, replicate).await?;
        }
        cluster.wait_replicated().await?;
        Ok(cluster)
    }

    /// Waits until every slot is served, and every node that runs and has none replicates one that has.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn wait_replicated(&self) -> Result<()> {
        self.wait_whole().await?;
        let running = self.nodes.iter().filter(|node| node.process().exited().is_none()).count();
        let replicated = || async {
            let masters = self.masters().await?;
            let mut replicas = 0;
            for master in &masters {
                let info: String = say(&self.nodes[*master], cmd("INFO").arg("replication")).await?;
                replicas += info.matches("state=online").count();
            }
            ensure!(masters.len() + replicas == running, "{replicas} replicas of {} masters", masters.len());
            Ok(())
        };
        wait_for("all nodes have their place", PATIENCE, replicated).await
    }

    /// Has a replica take a master's place in order: nothing is lost on the way.
    ///
    /// # Errors
    /// There is none, or it does not come to that.
    pub async fn hand_over(&self, master: usize) -> Result<()> {
        let id = self.id(master).await?;
        let taken = || async {
            if !self.masters().await?.contains(&master) {
                return Ok(());
            }
            for node in &self.nodes {
                let own: String = say(node, cmd("CLUSTER").arg("NODES")).await?;
                let replicates = |line: &str| line.contains("myself,slave") && line.contains(&id);
                if own.lines().any(replicates) {
                    let _: () = say(node, cmd("CLUSTER").arg("FAILOVER")).await?;
                }
            }
            bail!("it is the master still")
        };
        wait_for("a replica takes over", PATIENCE, taken).await
    }

    async fn introduce(&self) -> Result<()> {
        let (first, others) = self.nodes.split_first().context("a Cluster has nodes")?;
        // Two nodes of the same epoch would have to find that out first.
        for (number, node) in self.nodes.iter().enumerate() {
            let _: () = say(node, cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(number + 1)).await?;
        }
        for node in others {
            let bus = node.bus_port().context("a node has a bus")?;
            let meeting = &mut cmd("CLUSTER");
            let _: () = say(first, meeting.arg("MEET").arg("127.0.0.1").arg(node.port()).arg(bus)).await?;
        }
        for node in &self.nodes {
            let met = || async {
                let known = seen_by(node).await?;
                let strangers = known.iter().any(|node| node.flags.iter().any(|flag| flag == "handshake"));
                ensure!(known.len() == self.nodes.len() && !strangers, "it knows {} nodes", known.len());
                Ok(())
            };
            wait_for("all nodes know each other", PATIENCE, met).await?;
        }
        Ok(())
    }

    /// `redis+cluster://` with all nodes.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// The nodes: first those that began as masters.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The same, to be restarted.
    pub fn nodes_mut(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// The id of a node.
    ///
    /// # Errors
    /// It can not be reached.
    pub async fn id(&self, node: usize) -> Result<String> {
        say(&self.nodes[node], cmd("CLUSTER").arg("MYID")).await
    }

    /// The nodes as the first one sees them that answers.
    ///
    /// # Errors
    /// None answers.
    pub async fn seen(&self) -> Result<Vec<ClusterNode>> {
        for node in &self.nodes {
            if let Ok(seen) = seen_by(node).await {
                return Ok(seen);
            }
        }
        bail!("no node of the Cluster answers")
    }

    /// The places of the nodes that hold slots.
    ///
    /// # Errors
    /// No node answers.
    pub async fn masters(&self) -> Result<Vec<usize>> {
        let seen = self.seen().await?;
        let leads = |node: &Redis| seen.iter().any(|seen| seen.port == node.port() && seen.leads());
        Ok((0..self.nodes.len()).filter(|place| leads(&self.nodes[*place])).collect())
    }

    /// The place of the node that holds a slot.
    ///
    /// # Errors
    /// Nobody does, or no node answers.
    pub async fn holder(&self, slot: u16) -> Result<usize> {
        let seen = self.seen().await?;
        let holder =
            seen.iter().find(|node| node.leads() && node.has(slot)).context("nobody holds the slot")?;
        self.nodes.iter().position(|node| node.port() == holder.port).context("a node of another Cluster")
    }

    /// Waits until every slot is served, as all nodes that run see it.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn wait_whole(&self) -> Result<()> {
        let whole = || async {
            for node in self.nodes.iter().filter(|node| node.process().exited().is_none()) {
                let info: String = say(node, cmd("CLUSTER").arg("INFO")).await?;
                ensure!(info.contains("cluster_state:ok"), "node {} says otherwise", node.port());
                let ok = "cluster_slots_ok:16384";
                ensure!(info.contains(ok), "node {} has other slots: {info}", node.port());
            }
            Ok(())
        };
        wait_for("the Cluster is whole", PATIENCE, whole).await
    }

    /// Moves a slot with all that is in it to another node.
    ///
    /// # Errors
    /// A node refuses.
    pub async fn move_slot(&self, slot: u16, to: usize) -> Result<()> {
        let from = self.holder(slot).await?;
        if from == to {
            return Ok(());
        }
        let (giver, taker) = (&self.nodes[from], &self.nodes[to]);
        let (giving, taking) = (self.id(from).await?, self.id(to).await?);
        let set = |how: &str, whom: &str| {
            let mut set = cmd("CLUSTER");
            set.arg("SETSLOT").arg(slot).arg(how).arg(whom);
            set
        };
        let _: () = say(taker, &mut set("IMPORTING", &giving)).await?;
        let _: () = say(giver, &mut set("MIGRATING", &taking)).await?;
        loop {
            let asked = &mut cmd("CLUSTER");
            let keys: Vec<String> = say(giver, asked.arg("GETKEYSINSLOT").arg(slot).arg(100)).await?;
            if keys.is_empty() {
                break;
            }
            let mut migrate = cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(taker.port()).arg("").arg(0).arg(5_000).arg("KEYS").arg(keys);
            let _: () = say(giver, &mut migrate).await?;
        }
        // The taker first: between the two, nobody would have it otherwise.
        let _: () = say(taker, &mut set("NODE", &taking)).await?;
        let _: () = say(giver, &mut set("NODE", &taking)).await?;
        Ok(())
    }
}

async fn node(options: &RedisOptions) -> Result<Redis> {
    let bus = free_port()?;
    let mut options = RedisOptions { folder: None, port: None, bus_port: Some(bus), ..options.clone() };
    let more = [
        ("--cluster-enabled", "yes".to_owned()),
        ("--cluster-config-file", "nodes.conf".to_owned()),
        ("--cluster-port", bus.to_string()),
        ("--cluster-node-timeout", NODE_TIMEOUT_MS.to_string()),
        ("--cluster-require-full-coverage", "no".to_owned()),
        ("--repl-diskless-sync-delay", "0".to_owned()),
    ];
    options.extra_args.extend(more.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    Redis::start(options).await
}

async fn seen_by(node: &Redis) -> Result<Vec<ClusterNode>> {
    let text: String = say(node, cmd("CLUSTER").arg("NODES")).await?;
    text.lines().map(|line| parse(line).with_context(|| format!("reading {line:?}"))).collect()
}

fn parse(line: &str) -> Option<ClusterNode> {
    let mut fields = line.split(' ');
    let (id, place, flags) = (fields.next()?, fields.next()?, fields.next()?);
    let port = place.split('@').next()?.rsplit(':').next()?.parse().ok()?;
    let range = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    Some(ClusterNode {
        id: id.to_owned(),
        port,
        flags: flags.split(',').map(str::to_owned).collect(),
        slots: fields.skip(5).filter_map(range).collect(),
    })
}

pub(crate) async fn say<T: FromRedisValue>(node: &Redis, command: &mut Cmd) -> Result<T> {
    let mut connection: MultiplexedConnection = node.connection().await?;
    connection.set_response_timeout(Duration::from_secs(5));
    let shown = String::from_utf8_lossy(&command.get_packed_command()).replace("\r\n", " ");
    command.query_async(&mut connection).await.with_context(|| format!("saying {shown} to {}", node.port()))
}
