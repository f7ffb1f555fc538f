//! What the listener's tests share: a database and a Redis of their own, listeners as real processes, and an oracle that
//! reads the rooms' logs.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rowcast_bus::{BusConfig, Keys, Loaded, Range, ReadLink};
use rowcast_protocol::{Heartbeat, RoomName};
use tokio::task::JoinSet;

use rowcast_sandbox::{
    Connection, Folder, Launch, Persistence, Postgres, PostgresOptions, Process, Redis, RedisOptions,
    http_get, wait_for,
};

/// Longer than anything here takes on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Servers of one test.
pub struct System {
    pub postgres: Postgres,
    pub redis: Redis,
    pub folder: Folder,
    pub database: Connection,
    pub url: String,
}

impl System {
    pub async fn start() -> Result<Self> {
        Self::start_with(Persistence::None).await
    }

    pub async fn start_with(persistence: Persistence) -> Result<Self> {
        Self::start_on(PostgresOptions::default(), persistence).await
    }

    pub async fn start_on(postgres: PostgresOptions, persistence: Persistence) -> Result<Self> {
        let postgres = Postgres::start(postgres).await?;
        let redis = Redis::start(RedisOptions { persistence, ..RedisOptions::default() }).await?;
        let url = postgres.create_database("app").await?;
        rowcast_store::migrate(&url).await?;
        let database = postgres.connect("app").await?;
        Ok(Self { postgres, redis, folder: Folder::new("listener")?, database, url })
    }

    /// Starts a listener and waits until it is ready.
    pub async fn listener(&self, name: &str) -> Result<Listener> {
        self.listener_with(name, &[]).await
    }

    pub async fn listener_with(&self, name: &str, settings: &[(&str, &str)]) -> Result<Listener> {
        let listener = self.live_listener(name, settings).await?;
        listener
            .process
            .wait_ready(PATIENCE, || async {
                let (status, body) = http_get(&listener.admin, "/ready").await?;
                anyhow::ensure!(status == 200, "{body}");
                anyhow::Ok(())
            })
            .await?;
        Ok(listener)
    }

    /// Starts a listener and waits until its admin port answers: it need not be ready.
    pub async fn live_listener(&self, name: &str, settings: &[(&str, &str)]) -> Result<Listener> {
        let ports = self.folder.path().join(format!("{name}.json"));
        let mut launch = Launch::new(
            name,
            env!("CARGO_BIN_EXE_rowcast-listener"),
            self.folder.path().join(format!("{name}.log")),
        )
        .arg("--ports-file")
        .arg(&ports)
        .env("ROWCAST_DATABASE__URL", &self.url)
        .env("ROWCAST_REDIS__URL", self.redis.url())
        .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0")
        .env("ROWCAST_LOG__FORMAT", "text");
        for (key, value) in settings {
            launch = launch.env(key, value);
        }
        let process = launch.spawn()?;
        let admin = process
            .wait_ready(PATIENCE, || async {
                let text = std::fs::read(&ports)?;
                let ports: serde_json::Value = serde_json::from_slice(&text)?;
                let admin = ports["admin"].as_str().context("an admin port")?.to_owned();
                let (status, body) = http_get(&admin, "/live").await?;
                anyhow::ensure!(status == 200, "{body}");
                anyhow::Ok(admin)
            })
            .await?;
        Ok(Listener { process, admin })
    }

    /// Commits events of a room, one transaction each, with ascending numbers.
    pub async fn publish(&self, room: &str, numbers: std::ops::Range<u64>) -> Result<()> {
        for number in numbers {
            publish_one(&self.database, room, number).await?;
        }
        Ok(())
    }

    pub async fn load(&self, room: &str) -> Result<Loaded> {
        let mut link = ReadLink::connect(&self.bus()).await?;
        Ok(link.load(&RoomName::parse(room)?, Range::Last(100_000)).await?)
    }

    pub async fn heartbeat(&self) -> Result<Heartbeat> {
        let mut link = ReadLink::connect(&self.bus()).await?;
        link.last_heartbeat().await?.context("no heartbeat yet")
    }

    pub fn bus(&self) -> BusConfig {
        BusConfig::new(self.redis.url(), Keys::new("rowcast", "default"))
    }

    /// The numbers in a room's log, in its order; checks that the offsets have no gap.
    pub async fn numbers(&self, room: &str) -> Result<Vec<u64>> {
        let loaded = self.load(room).await?;
        let first = loaded.records.first().map_or(1, |record| record.offset.0);
        for (index, record) in loaded.records.iter().enumerate() {
            assert_eq!(record.offset.0, first + index as u64, "offsets of {room} are contiguous");
        }
        loaded.records.iter().map(|record| number_of(&record.fragment)).collect()
    }

    /// Waits until a room's log holds exactly these numbers, in this order.
    pub async fn expect(&self, room: &str, count: u64) -> Result<()> {
        let numbers = wait_for(format!("{count} events in {room}"), PATIENCE, || async {
            let numbers = self.numbers(room).await?;
            anyhow::ensure!(numbers.len() as u64 >= count, "{} events", numbers.len());
            anyhow::Ok(numbers)
        })
        .await?;
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "each event of {room} once and in order");
        Ok(())
    }

    /// Waits until a query gives a number.
    pub async fn expect_query(&self, query: &str, wanted: i64) -> Result<()> {
        wait_for(format!("{query} = {wanted}"), PATIENCE, || async {
            let found: i64 = self.database.query_one(query, &[]).await?.get(0);
            anyhow::ensure!(found == wanted, "it is {found}");
            anyhow::Ok(())
        })
        .await
    }

    /// Statements that the database answers in a second, over six of them, from now on.
    pub async fn queries_a_second(&self) -> Result<f64> {
        // A session that has become idle reports what it did ten seconds later at the latest: this is to be told apart
        // from the test's own preparations.
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        let counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'app'";
        let asker = self.postgres.connect("postgres").await?;
        let count = async || anyhow::Ok(asker.query_one(counted, &[]).await?.try_get::<_, i64>(0)?);
        let (before, since) = (count().await?, Instant::now());
        tokio::time::sleep(Duration::from_secs(6)).await;
        Ok((count().await? - before) as f64 / since.elapsed().as_secs_f64())
    }

    /// Waits until a heartbeat satisfies a condition.
    pub async fn expect_heartbeat(
        &self,
        what: &str,
        condition: impl Fn(&Heartbeat) -> bool,
    ) -> Result<Heartbeat> {
        wait_for(what, PATIENCE, || {
            let heartbeat = self.heartbeat();
            let condition = &condition;
            async move {
                let heartbeat = heartbeat.await?;
                anyhow::ensure!(condition(&heartbeat), "{heartbeat:?}");
                anyhow::Ok(heartbeat)
            }
        })
        .await
    }
}

pub async fn publish_one(database: &Connection, room: &str, number: u64) -> Result<()> {
    let data = format!("{{\"n\":{number}}}");
    database
        .execute("SELECT rowcast.publish($1, 'booking.created', $2::text::json)", &[&room, &data])
        .await?;
    Ok(())
}

pub fn number_of(fragment: &[u8]) -> Result<u64> {
    let whole = [b"{", fragment, b"}"].concat();
    let value: serde_json::Value = serde_json::from_slice(&whole)?;
    value["data"]["n"].as_u64().context("a number")
}

/// Writers of their own rooms, all at once. Each commits its events one after the other.
pub struct Writers {
    tasks: JoinSet<Result<()>>,
}

impl Writers {
    const ROOMS: u64 = 4;
    const EVENTS: u64 = 300;

    pub async fn begin(system: &System) -> Result<Self> {
        let mut tasks = JoinSet::new();
        for room in Self::all_rooms() {
            let database = system.postgres.connect("app").await?;
            tasks.spawn(async move {
                for number in 0..Self::EVENTS {
                    publish_one(&database, &room, number).await?;
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                Ok(())
            });
        }
        Ok(Self { tasks })
    }

    fn all_rooms() -> impl Iterator<Item = String> {
        (0..Self::ROOMS).map(|room| format!("room-{room}"))
    }

    pub fn rooms(&self) -> impl Iterator<Item = String> + use<> {
        Self::all_rooms()
    }

    /// Begins, and waits until a part is published.
    pub async fn midway(system: &System) -> Result<Self> {
        let writers = Self::begin(system).await?;
        writers.half_published(system).await?;
        Ok(writers)
    }

    /// Waits until a part is published, and more is to come.
    pub async fn half_published(&self, system: &System) -> Result<()> {
        rowcast_sandbox::wait_until("a part is published", PATIENCE, || async {
            matches!(system.numbers("room-0").await, Ok(numbers) if numbers.len() as u64 > Self::EVENTS / 5)
        })
        .await
    }

    /// Waits until they are through; says how many events each room has.
    pub async fn all_written(mut self) -> Result<u64> {
        while let Some(written) = self.tasks.join_next().await {
            written??;
        }
        Ok(Self::EVENTS)
    }

    /// Waits until all is written, published once and in order, and deleted.
    pub async fn expect_all(self, system: &System) -> Result<()> {
        let events = self.all_written().await?;
        for room in Self::all_rooms() {
            system.expect(&room, events).await?;
        }
        system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await
    }
}

/// A listener's process.
pub struct Listener {
    pub process: Process,
    pub admin: String,
}

impl Listener {
    /// A metric's value.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let (_, body) = http_get(&self.admin, "/metrics").await?;
        let values: HashMap<&str, &str> = body.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        Ok(values.get(name).with_context(|| format!("no metric {name}"))?.parse()?)
    }

    /// Waits until a metric has a value: what it counts may become known after its effect.
    pub async fn expect_metric(&self, name: &str, wanted: f64) -> Result<()> {
        wait_for(format!("{name} to be {wanted}"), PATIENCE, || async {
            let value = self.metric(name).await?;
            anyhow::ensure!(value == wanted, "it is {value}");
            anyhow::Ok(())
        })
        .await
    }

    pub async fn leads(&self) -> bool {
        matches!(self.metric("rowcast_listener_leader").await, Ok(1.0))
    }

    pub async fn expect_leading(&self) -> Result<()> {
        rowcast_sandbox::wait_until("it leads", PATIENCE, || self.leads()).await
    }
}
