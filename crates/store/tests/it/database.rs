//! A migrated database of a test's own, on this system's PostgreSQL or on another version.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::{StreamExt, stream};
use rowcast_sandbox::{Connection, Postgres, PostgresOptions, find_postgres, postgres_unavailable};
use rowcast_store::{Election, LeadSession, Ring, Row, SessionOptions, Standby};
use serde_json::Value;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, NoTls};

pub struct Database {
    pub url: String,
    pub name: String,
    pub server: &'static Postgres,
    pub client: Connection,
}

/// An event as tests write it down.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub room: String,
    pub type_: String,
    pub data: Value,
    pub changed: Option<Vec<String>>,
    pub truncated: bool,
}

pub fn event(room: &str, type_: &str, data: Value) -> Event {
    Event { room: room.to_owned(), type_: type_.to_owned(), data, changed: None, truncated: false }
}

pub fn updated(room: &str, type_: &str, changed: &[&str], data: Value) -> Event {
    Event {
        changed: Some(changed.iter().map(|name| (*name).to_owned()).collect()),
        ..event(room, type_, data)
    }
}

/// Which PostgreSQL a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The newest that the system has.
    Systems,
    /// The one that `make setup` brings.
    Brought,
}

/// What `make setup` brings besides the system's own.
const BROUGHT: u32 = 18;

/// Names a case that is to hold on each version: two tests, each with a migrated database.
macro_rules! on_each_version {
    ($($case:ident),+ $(,)?) => {$(
        mod $case {
            #[tokio::test]
            async fn on_this_systems_postgresql() -> anyhow::Result<()> {
                crate::database::case(crate::database::Version::Systems, super::$case).await
            }
            #[tokio::test]
            async fn on_postgresql_18() -> anyhow::Result<()> {
                crate::database::case(crate::database::Version::Brought, super::$case).await
            }
        }
    )+};
}
pub(crate) use on_each_version;

/// Runs a case. Where the version can not be had on this machine, it says so and does nothing.
pub async fn case<F: Future<Output = Result<()>>>(
    version: Version,
    body: impl FnOnce(Database) -> F,
) -> Result<()> {
    match Database::on(version).await? {
        Some(database) => body(database).await,
        None => Ok(()),
    }
}

/// The version to ask the sandbox for; nothing where it can not be had.
fn wanted(version: Version) -> Result<Option<Option<u32>>> {
    match version {
        Version::Systems => Ok(Some(None)),
        Version::Brought => match (find_postgres(Some(BROUGHT)), postgres_unavailable(BROUGHT)) {
            (Ok(_), _) => Ok(Some(Some(BROUGHT))),
            (Err(_), Some(reason)) => {
                eprintln!("SKIPPED: there is no PostgreSQL {BROUGHT} here ({reason})");
                Ok(None)
            }
            (Err(missing), None) => Err(missing.into()),
        },
    }
}

impl Database {
    /// Migrated, on a version's shared server.
    async fn on(version: Version) -> Result<Option<Self>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = match wanted(version)? {
            None => return Ok(None),
            Some(None) => Postgres::shared().await?,
            Some(Some(major)) => Postgres::shared_of(major).await?,
        };
        // Migrated once a server; the cases copy it.
        static TEMPLATES: [OnceCell<()>; 2] = [const { OnceCell::const_new() }; 2];
        let migrate = || async {
            let url = server.create_database("cases").await?;
            rowcast_store::migrate(&url).await?;
            anyhow::Ok(())
        };
        TEMPLATES[usize::from(version == Version::Brought)].get_or_try_init(migrate).await?;
        let name = format!("case_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let maker = server.connect("postgres").await?;
        maker.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE cases")).await?;
        let url = server.url_of(&name);
        let client = server.connect(&name).await?;
        Ok(Some(Self { url, name, server, client }))
    }

    /// What the sandbox is to start for a case that needs settings of its own.
    pub fn options(&self) -> PostgresOptions {
        let major = self.server.version();
        PostgresOptions { version: Some(major), ..PostgresOptions::default() }
    }

    /// Empty: not even migrated.
    pub async fn empty(name: &str) -> Result<Self> {
        let server = Postgres::shared().await?;
        let url = server.create_database(name).await?;
        let client = server.connect(name).await?;
        Ok(Self { url, name: name.to_owned(), server, client })
    }

    pub async fn migrated(name: &str) -> Result<Self> {
        let database = Self::empty(name).await?;
        rowcast_store::migrate(&database.url).await?;
        Ok(database)
    }

    pub async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await?;
        Ok(())
    }

    /// Says what the server answers to a statement that it refuses.
    pub async fn refusal(&self, sql: &str) -> String {
        refusal(&self.client, sql).await
    }

    /// A role of this database alone (roles are the server's, and tests share it), and a connection of its own.
    pub async fn role(&self, name: &str, member_of: &str) -> Result<(String, Connection)> {
        let role = format!("{}_{name}", self.name);
        self.run(&format!("CREATE ROLE {role} LOGIN")).await?;
        if !member_of.is_empty() {
            self.run(&format!("GRANT {member_of} TO {role}")).await?;
        }
        let client = Connection::open(&self.server.url_for(&role, &self.name)).await?;
        Ok((role, client))
    }

    pub async fn another(&self) -> Result<Connection> {
        self.server.connect(&self.name).await
    }

    /// Runs a statement and returns the events that it left, which are then taken away.
    pub async fn events_of(&self, sql: &str) -> Result<Vec<Event>> {
        self.run("DELETE FROM rowcast.outbox").await?;
        self.run(sql).await?;
        self.events_left().await
    }

    /// The events that are in the outbox.
    pub async fn events_left(&self) -> Result<Vec<Event>> {
        let rows = self
            .client
            .query("SELECT room, type, data::text, changed, truncated FROM rowcast.outbox ORDER BY id", &[])
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Event {
                    room: row.get(0),
                    type_: row.get(1),
                    data: serde_json::from_str(row.get(2))?,
                    changed: row.get(3),
                    truncated: row.get(4),
                })
            })
            .collect()
    }

    pub async fn number(&self, sql: &str) -> Result<i64> {
        Ok(self.client.query_one(sql, &[]).await?.try_get(0)?)
    }

    /// A connection that keeps what the server says besides its answers.
    pub async fn hearing(&self) -> Result<Hearing> {
        Hearing::open(&self.url).await
    }

    /// The failures that triggers have recorded.
    pub async fn failures(&self) -> Result<Vec<(String, bool)>> {
        let rows =
            self.client.query("SELECT message, lost FROM rowcast.trigger_error ORDER BY id", &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    pub async fn standby(&self) -> Result<Standby> {
        Ok(Standby::connect(&self.url, &SessionOptions::new("test")).await?)
    }

    pub async fn lead(&self) -> Result<LeadSession> {
        match self.standby().await?.try_lead().await? {
            Election::Elected(lead) => Ok(*lead),
            Election::Standby(_) => anyhow::bail!("somebody else leads"),
        }
    }
}

/// A client as an application has it, that keeps the server's warnings: up to a hundred, then it ends.
pub struct Hearing {
    pub client: Client,
    said: mpsc::Receiver<DbError>,
    _driver: JoinSet<()>,
}

impl Hearing {
    async fn open(url: &str) -> Result<Self> {
        let (client, mut connection) = tokio_postgres::connect(url, NoTls).await?;
        let (says, said) = mpsc::channel(100);
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message
                    && says.try_send(notice).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { client, said, _driver: driver })
    }

    /// Runs a statement, which must succeed, and returns the warnings that came with it: text and hint.
    pub async fn warnings_of(&mut self, sql: &str) -> Result<Vec<(String, String)>> {
        self.client.batch_execute(sql).await?;
        // What the server says comes before its answer.
        let mut warnings = Vec::new();
        while let Ok(notice) = self.said.try_recv() {
            if notice.severity() == "WARNING" {
                warnings.push((notice.message().to_owned(), notice.hint().unwrap_or_default().to_owned()));
            }
        }
        Ok(warnings)
    }
}

/// Reads until nothing more is waiting.
pub async fn read_all(lead: &mut LeadSession, limit: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    loop {
        let page = lead.read(NonZeroUsize::new(limit).unwrap(), true, Ring::Leave).await?;
        assert!(page.rows.len() <= limit, "a page of {} rows", page.rows.len());
        rows.extend(page.rows);
        if !page.more {
            return Ok(rows);
        }
    }
}

/// Reads, and finds nothing, until whoever has not been read has ids above this one. Transactions of other tests take
/// numbers on the same server, and the mark follows when those have ended.
pub async fn read_on_to_mark(lead: &mut LeadSession, id: i64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while lead.complete().id < id {
        assert!(read_all(lead, 100).await?.is_empty(), "there is nothing left to read");
        anyhow::ensure!(Instant::now() < deadline, "the mark stays at {:?}", lead.complete());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What the server answers to a statement that it refuses.
pub async fn refusal(client: &Connection, sql: &str) -> String {
    words(&client.batch_execute(sql).await.expect_err(sql))
}

/// The server's own words, with the hint.
pub fn words(error: &tokio_postgres::Error) -> String {
    let error = error.as_db_error().expect("an error of the server's");
    format!("{} {}", error.message(), error.hint().unwrap_or_default())
}
