//! A Redis master with replicas, and Sentinels that look after them: real processes.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::cmd;
use anyhow::{Context, Result, ensure};

use crate::cluster::say;
use crate::ports::on_a_port;
use crate::redis::{self, probe};
use crate::{Folder, Launch, Process, Redis, RedisKind, RedisOptions, find_redis_kind, wait_for};

/// What the Sentinels call the master.
const NAME: &str = "rowcast";
/// After so long without an answer a master counts as down.
const DOWN_AFTER_MS: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);
const READY: Duration = Duration::from_secs(20);

/// How servers with Sentinels are to be started.
#[derive(Debug, Clone)]
pub struct SentinelOptions {
    /// Replicas of the master.
    pub replicas: usize,
    /// Sentinels; more than half of them decide.
    pub sentinels: usize,
    /// Of each server. Folder and port are not looked at.
    pub redis: RedisOptions,
}

impl Default for SentinelOptions {
    fn default() -> Self {
        Self { replicas: 1, sentinels: 3, redis: RedisOptions::default() }
    }
}

/// A Sentinel. Dropping it ends it.
#[derive(Debug)]
pub struct Sentinel {
    process: Process,
    port: u16,
    _folder: Folder,
}

impl Sentinel {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Servers with Sentinels. Dropping it ends them all.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

/// The user as whom Sentinels and replicas sign in: a server that does not let them in is cut off from them.
const PEER: &str = "peer";
const PASSWORD: &str = "peer";

impl RedisSentinels {
    /// Starts all of it, and waits until the Sentinels know the servers and each other.
    ///
    /// # Errors
    /// When there is no Redis on this machine, or it does not start.
    pub async fn start(options: SentinelOptions) -> Result<Self> {
        let mut servers = Vec::new();
        for _ in 0..=options.replicas {
            servers.push(server(&options.redis).await?);
        }
        let master = servers[0].port();
        for replica in &servers[1..] {
            let _: () = say(replica, cmd("REPLICAOF").arg("127.0.0.1").arg(master)).await?;
        }
        let mut sentinels = Vec::new();
        for _ in 0..options.sentinels {
            sentinels.push(sentinel(options.redis.kind, master, options.sentinels / 2 + 1).await?);
        }
        let all = Self { servers, sentinels };
        all.wait_watched().await?;
        Ok(all)
    }

    /// `redis+sentinel://` with all Sentinels.
    pub fn url(&self) -> String {
        self.url_through(self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)))
    }

    /// The same by other ways to the Sentinels.
    pub fn url_through(&self, addresses: impl IntoIterator<Item = String>) -> String {
        let addresses: Vec<String> = addresses.into_iter().collect();
        format!("redis+sentinel://{}/{NAME}", addresses.join(","))
    }

    /// The servers.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// The same, to be restarted.
    pub fn servers_mut(&mut self) -> &mut [Redis] {
        &mut self.servers
    }

    /// The Sentinels.
    pub fn sentinels(&self) -> &[Sentinel] {
        &self.sentinels
    }

    /// The place of the server that most Sentinels take for the master.
    ///
    /// # Errors
    /// They do not agree, or do not answer.
    pub async fn master(&self) -> Result<usize> {
        let mut votes = vec![0; self.servers.len()];
        for sentinel in &self.sentinels {
            let Ok(mut connection) = connection(sentinel.port).await else { continue };
            let mut asked = cmd("SENTINEL");
            asked.arg("GET-MASTER-ADDR-BY-NAME").arg(NAME);
            let Ok((_, port)) = asked.query_async::<(String, u16)>(&mut connection).await else { continue };
            if let Some(place) = self.servers.iter().position(|server| server.port() == port) {
                votes[place] += 1;
            }
        }
        let most = votes.iter().position(|votes| *votes * 2 > self.sentinels.len());
        most.context("the Sentinels do not agree")
    }

    /// Has the Sentinels put a replica in the master's place, though that is well.
    ///
    /// # Errors
    /// They refuse.
    pub async fn fail_over(&self) -> Result<()> {
        let asked = || async {
            let mut connection = connection(self.sentinels[0].port).await?;
            let mut command = cmd("SENTINEL");
            let _: () = command.arg("FAILOVER").arg(NAME).query_async(&mut connection).await?;
            anyhow::Ok(())
        };
        wait_for("the Sentinels fail over", PATIENCE, asked).await
    }

    /// Waits until another server than the given one is the master, and says so itself.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn wait_master_but(&self, old: usize) -> Result<usize> {
        let promoted = || async {
            let master = self.master().await?;
            ensure!(master != old, "the Sentinels keep to the old master");
            let role = role(&self.servers[master]).await?;
            ensure!(role == "master", "the new master does not know it yet");
            Ok(master)
        };
        wait_for("another master", PATIENCE, promoted).await
    }

    /// Waits until every server that runs is the master or replicates it, and the Sentinels know all of them.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn wait_watched(&self) -> Result<()> {
        let running = || self.servers.iter().filter(|server| server.process().exited().is_none()).count();
        let watched = || async {
            let master = self.master().await?;
            let info: String = say(&self.servers[master], cmd("INFO").arg("replication")).await?;
            let online = info.matches("state=online").count();
            ensure!(online + 1 == running(), "{online} replicas are online");
            for sentinel in &self.sentinels {
                let mut connection = connection(sentinel.port).await?;
                let info: String = cmd("INFO").arg("sentinel").query_async(&mut connection).await?;
                let expected =
                    format!("slaves={},sentinels={}", self.servers.len() - 1, self.sentinels.len());
                ensure!(info.contains("status=ok") && info.contains(&expected), "a Sentinel says {info}");
            }
            Ok(())
        };
        wait_for("Sentinels know their servers", PATIENCE, watched).await
    }

    /// Cuts a server off from its replicas and the Sentinels, or lets them in again. Everybody else reaches it, and can say
    /// everything but PING meanwhile.
    ///
    /// # Errors
    /// It can not be told.
    pub async fn isolate(&self, server: usize, isolated: bool) -> Result<()> {
        let server = &self.servers[server];
        // Whoever can not sign in goes on as the default user, and a Sentinel judges by the answer to its ping.
        let (state, ping) = if isolated { ("off", "-ping") } else { ("on", "+ping") };
        let _: () = say(server, cmd("ACL").arg("SETUSER").arg("default").arg(ping)).await?;
        let _: () = say(server, cmd("ACL").arg("SETUSER").arg(PEER).arg(state)).await?;
        if isolated {
            let _: () = say(server, cmd("CLIENT").arg("KILL").arg("USER").arg(PEER)).await?;
        }
        Ok(())
    }
}

async fn server(options: &RedisOptions) -> Result<Redis> {
    let mut options = RedisOptions { folder: None, port: None, ..options.clone() };
    let more = [
        ["--masteruser", PEER].as_slice(),
        &["--masterauth", PASSWORD],
        &["--user", PEER, "on", ">peer", "allcommands", "allkeys", "allchannels"],
        &["--user", "default", "on", "nopass", "allcommands", "allkeys", "allchannels"],
        &["--repl-diskless-sync-delay", "0"],
        &["--repl-timeout", "5"],
    ];
    options.extra_args.extend(more.into_iter().flatten().map(|part| (*part).to_owned()));
    Redis::start(options).await
}

async fn sentinel(kind: RedisKind, master: u16, quorum: usize) -> Result<Sentinel> {
    let folder = Folder::new("sentinel")?;
    let (port, process) = on_a_port(None, |port| launch(kind, &folder, port, master, quorum)).await?;
    Ok(Sentinel { process, port, _folder: folder })
}

async fn launch(kind: RedisKind, folder: &Folder, port: u16, master: u16, quorum: usize) -> Result<Process> {
    // It writes down there what it learns.
    let file = folder.path().join("sentinel.conf");
    let settings = format!(
        "bind 127.0.0.1\nport {port}\ndir {}\n\
         sentinel monitor {NAME} 127.0.0.1 {master} {quorum}\n\
         sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
         sentinel failover-timeout {NAME} 4000\n\
         sentinel auth-user {NAME} {PEER}\n\
         sentinel auth-pass {NAME} {PASSWORD}\n",
        folder.path().display()
    );
    std::fs::write(&file, settings).context("writing a Sentinel's settings")?;
    let process = Launch::new("Sentinel", find_redis_kind(kind)?, folder.path().join("sentinel.log"))
        .arg(&file)
        .arg("--sentinel")
        .spawn()?;
    let pid = process.pid();
    process.wait_ready(READY, || probe(port, pid)).await?;
    Ok(process)
}

async fn role(server: &Redis) -> Result<String> {
    let answer: Vec<::redis::Value> = say(server, &mut cmd("ROLE")).await?;
    let role = answer.into_iter().next().context("ROLE says something")?;
    Ok(::redis::from_redis_value(role)?)
}

/// To one that may be slow, or stopped.
async fn connection(port: u16) -> Result<MultiplexedConnection> {
    let mut connection = redis::connection(port).await?;
    connection.set_response_timeout(Duration::from_secs(2));
    Ok(connection)
}
