//! Brings the schema up to date. The SQL itself is in the repository's `migrations/`.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::pooler::own_process;
use crate::session::{Session, SessionOptions};
use crate::{LOCK_CLASS, MIGRATION_LOCK, StoreError};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Where refinery notes what was applied.
const HISTORY: &str = "rowcast.schema_history";
/// How often a migration that met a lock, or another database's role, is tried again.
const ATTEMPTS: u32 = 20;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The migrations applied now, as `V1__schema`; none where all were there.
    pub applied: Vec<String>,
    /// The version of the schema afterwards.
    pub version: i32,
}

/// Applies the migrations that are missing. Several at once are safe: a session advisory lock lets one through at a
/// time. Waits only briefly for the locks of an application (`lock_timeout`), so that nothing queues up behind it,
/// and tries again.
pub async fn migrate(url: &str) -> Result<Report, StoreError> {
    let options = SessionOptions::new("rowcast migrate");
    let mut session = Session::open(url, &options).await?;
    own_process(&session, url, &options).await?;
    let client = session.client_mut();
    client.execute("SELECT pg_advisory_lock($1, $2)", &[&LOCK_CLASS, &MIGRATION_LOCK]).await?;
    let mut attempt = 1;
    let report = loop {
        match run(client).await {
            Err(error) if attempt < ATTEMPTS && worth_another_attempt(&error) => {
                tracing::info!(%error, attempt, "the migration met a lock and is tried again");
                tokio::time::sleep(Duration::from_millis(100 * u64::from(attempt.min(10)))).await;
                attempt += 1;
            }
            result => break result?,
        }
    };
    // Closing the session gives the lock back.
    session.close().await;
    Ok(report)
}

async fn run(client: &mut Client) -> Result<Report, StoreError> {
    client
        .batch_execute("SET lock_timeout = '200ms'; SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS rowcast")
        .await?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let report = runner
        .set_abort_missing(false)
        .run_async(client)
        .await
        .map_err(|error| StoreError::Migration(Box::new(error)))?;
    let row = client.query_one(&format!("SELECT coalesce(max(version), 0) FROM {HISTORY}"), &[]).await?;
    Ok(Report {
        applied: report
            .applied_migrations()
            .iter()
            .map(|migration| format!("V{}__{}", migration.version(), migration.name()))
            .collect(),
        version: row.try_get(0)?,
    })
}

/// Locks that were not free in time, and roles that another database is changing at this moment.
fn worth_another_attempt(error: &StoreError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            let message = error.as_db_error().map_or("", |error| error.message());
            return error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
                || error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
                || message.contains("concurrently updated");
        }
        cause = error.source();
    }
    false
}
