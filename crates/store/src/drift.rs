//! What has changed about watched tables since they were watched. What follows from it is the caller's.

use crate::StoreError;
use crate::session::{Session, SessionOptions};

/// One finding, as `rowcast.drift()` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Quoted and qualified where PostgreSQL needs it.
    pub relation: String,
    /// One of the words that stand above the function in the migrations, like `partition`.
    pub kind: String,
    /// For people.
    pub detail: String,
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What is left, by relation.
    pub found: Vec<Drift>,
    /// Partitions that were given their triggers, or relieved of them, just now.
    pub mended: i32,
    /// Losses of triggers that could not be recorded, since the last that was answered for; see [`settle_unrecorded`].
    pub unrecorded: bool,
}

/// Kept of failures that were answered for: so many, and none older than a week.
const KEPT_FAILURES: i64 = 10_000;

/// Looks, on a connection of its own beside another; mends new partitions as far as this role has the rights of their owners; takes
/// away old records of failures.
pub async fn inspect(near: &Session, options: &SessionOptions) -> Result<Inspection, StoreError> {
    let session = open(near, options).await?;
    let client = session.client();
    let mut found = drift(client).await?;
    let mut mended = 0;
    if found.iter().any(|drift| matches!(drift.kind.as_str(), "partition" | "detached")) {
        let row =
            client.query_one("SELECT rowcast.repair()", &[]).await.map_err(StoreError::from_statement)?;
        mended = row.try_get(0)?;
    }
    if mended > 0 {
        found = drift(client).await?;
    }
    client
        .execute(
            "DELETE FROM rowcast.trigger_error WHERE (settled OR NOT lost)
                AND (occurred_at < now() - interval '7 days' OR id <= (SELECT max(id) FROM rowcast.trigger_error) - $1)",
            &[&KEPT_FAILURES],
        )
        .await
        .map_err(StoreError::from_statement)?;
    let row = client
        .query_one(
            "SELECT f.last_value > s.last_value FROM rowcast.unrecorded_failures AS f, rowcast.unrecorded_settled AS s",
            &[],
        )
        .await
        .map_err(StoreError::from_statement)?;
    let unrecorded = row.try_get(0)?;
    session.close().await;
    Ok(Inspection { found, mended, unrecorded })
}

/// Marks losses that could not be recorded as answered for. Raise the generation before.
pub async fn settle_unrecorded(near: &Session, options: &SessionOptions) -> Result<(), StoreError> {
    let session = open(near, options).await?;
    session
        .client()
        .execute(
            "SELECT setval('rowcast.unrecorded_settled', last_value) FROM rowcast.unrecorded_failures",
            &[],
        )
        .await
        .map_err(StoreError::from_statement)?;
    session.close().await;
    Ok(())
}

async fn open(near: &Session, options: &SessionOptions) -> Result<Session, StoreError> {
    let session = near.beside(options).await?;
    session.client().batch_execute("SET statement_timeout = '10s'; SET lock_timeout = '1s'").await?;
    Ok(session)
}

async fn drift(client: &tokio_postgres::Client) -> Result<Vec<Drift>, StoreError> {
    let rows = client
        .query("SELECT relation, kind, detail FROM rowcast.drift()", &[])
        .await
        .map_err(StoreError::from_statement)?;
    rows.iter()
        .map(|row| Ok(Drift { relation: row.try_get(0)?, kind: row.try_get(1)?, detail: row.try_get(2)? }))
        .collect()
}
