//! A migrated database of a test's own.

use anyhow::Result;
use rowcast_sandbox::{Connection, Postgres};
use rowcast_store::{Election, LeadSession, Row, SessionOptions, Standby};
use serde_json::Value;

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

impl Database {
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

    pub async fn another(&self) -> Result<Connection> {
        self.server.connect(&self.name).await
    }

    /// Runs a statement and returns the events that it left, which are then taken away.
    pub async fn events_of(&self, sql: &str) -> Result<Vec<Event>> {
        self.run("DELETE FROM rowcast.outbox").await?;
        self.run(sql).await?;
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

/// Reads until nothing more is waiting.
pub async fn read_all(lead: &mut LeadSession, limit: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    loop {
        let page = lead.read(limit).await?;
        assert!(page.rows.len() <= limit, "a page of {} rows", page.rows.len());
        rows.extend(page.rows);
        if !page.more {
            return Ok(rows);
        }
    }
}

/// The server's own words, with the hint.
pub fn words(error: &tokio_postgres::Error) -> String {
    let error = error.as_db_error().expect("an error of the server's");
    format!("{} {}", error.message(), error.hint().unwrap_or_default())
}
