//! A whole Rowcast for one test: PostgreSQL, Redis, listeners and edges as real processes.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::any::Any;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rowcast_generator::Plan;
use rowcast_sandbox::{
    Folder, Launch, Postgres, PostgresOptions, Process, Redis, RedisOptions, bin, http_get,
};

/// Longer than anything here takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
pub const SECRET: &str = "a secret of more than thirty-two bytes";

pub struct System {
    listeners: Vec<Process>,
    edges: Vec<Process>,
    pub edge_addresses: Vec<String>,
    pub database_url: String,
    redis_url: String,
    /// Whatever answers there; it ends with the test.
    _redis: Box<dyn Any + Send + Sync>,
    postgres: Postgres,
    folder: Folder,
}

impl System {
    pub async fn start(listeners: usize, edges: usize) -> Result<Self> {
        let redis = Redis::start(RedisOptions::default()).await?;
        Self::start_on(redis.url(), redis, listeners, edges).await
    }

    /// The same on a Redis of any kind and topology.
    pub async fn start_on(
        redis_url: String,
        redis: impl Any + Send + Sync,
        listeners: usize,
        edges: usize,
    ) -> Result<Self> {
        let postgres = Postgres::start(PostgresOptions::default()).await?;
        let database_url = postgres.create_database("app").await?;
        rowcast_store::migrate(&database_url).await?;
        let mut system = Self {
            listeners: Vec::new(),
            edges: Vec::new(),
            edge_addresses: Vec::new(),
            database_url,
            redis_url,
            _redis: Box::new(redis),
            postgres,
            folder: Folder::new("generator")?,
        };
        for number in 0..listeners {
            let (process, _) = system.launch("rowcast-listener", number).await?;
            system.listeners.push(process);
        }
        for number in 0..edges {
            let (process, ports) = system.launch("rowcast-edge", number).await?;
            system.edges.push(process);
            system.edge_addresses.push(ports["listen"].as_str().context("an address")?.to_owned());
        }
        Ok(system)
    }

    /// Starts a process and waits until it is ready; returns its ports file.
    async fn launch(&self, program: &str, number: usize) -> Result<(Process, serde_json::Value)> {
        let name = format!("{program}-{number}");
        let ports = self.folder.path().join(format!("{name}.json"));
        let process = Launch::new(&name, bin(program)?, self.folder.path().join(format!("{name}.log")))
            .arg("--ports-file")
            .arg(&ports)
            .env("ROWCAST_DATABASE__URL", &self.database_url)
            .env("ROWCAST_REDIS__URL", &self.redis_url)
            .env("ROWCAST_AUTH__HS256_SECRET", SECRET)
            .env("ROWCAST_EDGE__LISTEN", "127.0.0.1:0")
            .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0")
            .env("ROWCAST_LOG__FORMAT", "text")
            .spawn()?;
        let ports = process
            .wait_ready(PATIENCE, || async {
                let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&ports)?)?;
                let (status, body) =
                    http_get(ports["admin"].as_str().context("an admin port")?, "/ready").await?;
                ensure!(status == 200, "{body}");
                anyhow::Ok(ports)
            })
            .await?;
        Ok((process, ports))
    }

    /// A plan for its edges, or for what stands before them.
    pub fn plan(&self, addresses: &[String]) -> Plan {
        let edges = addresses.iter().map(|address| format!("http://{address}")).collect();
        let mut plan = Plan::new(edges, self.database_url.clone(), SECRET.to_owned());
        plan.settle = PATIENCE;
        plan.sign_in_limit = PATIENCE;
        plan
    }
}
