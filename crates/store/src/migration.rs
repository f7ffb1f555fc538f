//! Brings the schema up to date. The SQL itself is in the repository's `migrations/`.

mod patience;
mod status;

use std::time::Duration;

use tokio_postgres::Client;

use crate::pooler::own_process;
use crate::session::{Session, SessionOptions};
use crate::{LOCK_CLASS, MIGRATION_LOCK, StoreError};

pub use patience::Waiting;
use patience::{Patience, is_lock_not_available};
pub use status::{Migration, MigrationState, migrations, try_migrations};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Where refinery notes what was applied.
const HISTORY: &str = "rowcast.schema_history";

/// Whether a table has a column: a schema that is yet to be migrated may lack it.
pub(crate) async fn has_column(client: &Client, table: &str, column: &str) -> Result<bool, StoreError> {
    let query = "SELECT EXISTS (SELECT FROM pg_attribute
                                 WHERE attrelid = to_regclass($1) AND attname = $2::text AND NOT attisdropped)";
    Ok(client.query_one(query, &[&table, &column]).await?.try_get(0)?)
}

/// How long migrations wait for the locks of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrateOptions {
    /// PostgreSQL's `lock_timeout` for each statement: for so long others may have to queue behind a migration.
    pub lock_timeout: Duration,
    /// For how long a migration that met a lock, or another database's role, is tried again.
    pub retry_for: Duration,
}

impl Default for MigrateOptions {
    /// 200 ms, and a minute.
    fn default() -> Self {
        Self { lock_timeout: Duration::from_millis(200), retry_for: Duration::from_secs(60) }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The migrations applied now, as `V1__schema`; none where all were there.
    pub applied: Vec<String>,
    /// The version of the schema afterwards.
    pub version: i32,
}

/// [`migrate_with`] the defaults; what it waits for goes to the log.
///
/// # Errors
/// As [`migrate_with`].
pub async fn migrate(url: &str) -> Result<Report, StoreError> {
    migrate_with(url, MigrateOptions::default(), |waiting| tracing::info!("{waiting}")).await
}

/// Applies the migrations that are missing, each in a transaction. Several at once are safe: a session advisory lock lets
/// one through at a time. Waits only briefly for the locks of an application, so that nothing queues up behind it, and
/// tries again; `say` is told each time.
///
/// # Errors
/// [`StoreError::MigrationLocked`] when the patience is over; whatever a migration itself meets.
pub async fn migrate_with(
    url: &str,
    options: MigrateOptions,
    say: impl FnMut(&Waiting),
) -> Result<Report, StoreError> {
    let mut patience = Patience::new(options, say);
    let mut session = open(url, &mut patience).await?;
    let report = loop {
        match run(session.client_mut(), options).await {
            Err(error) => patience.wait(session.client(), error).await?,
            Ok(report) => break report,
        }
    };
    // Closing the session gives the lock back.
    session.close().await;
    Ok(report)
}

/// A session that holds the lock under which migrations run.
async fn open(url: &str, patience: &mut Patience<impl FnMut(&Waiting)>) -> Result<Session, StoreError> {
    let options = SessionOptions::new("rowcast migrate");
    let session = Session::open(url, &options).await?;
    own_process(&session, &options).await?;
    let client = session.client();
    let row =
        client.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_CLASS, &MIGRATION_LOCK]).await?;
    if !row.try_get::<_, bool>(0)? {
        patience.say_that_another_migrates();
        client.batch_execute(&set_lock_timeout(patience.left())).await?;
        let locked = client.execute("SELECT pg_advisory_lock($1, $2)", &[&LOCK_CLASS, &MIGRATION_LOCK]).await;
        locked.map_err(|error| match is_lock_not_available(&error) {
            true => patience.over("another `rowcast migrate`".to_owned()),
            false => StoreError::Postgres(error),
        })?;
    }
    Ok(session)
}

/// 0 would mean forever.
fn set_lock_timeout(timeout: Duration) -> String {
    format!("SET lock_timeout = {}", timeout.as_millis().clamp(1, i32::MAX as u128))
}

async fn run(client: &mut Client, options: MigrateOptions) -> Result<Report, StoreError> {
    client
        .batch_execute(&format!(
            "{}; SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS rowcast",
            set_lock_timeout(options.lock_timeout)
        ))
        .await?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let report =
        runner.set_abort_missing(false).run_async(client).await.map_err(|error| match error.kind() {
            refinery::error::Kind::DivergentVersion(applied, _) => {
                StoreError::MigrationDiffers(file_name(applied))
            }
            _ => StoreError::Migration(Box::new(error)),
        })?;
    let row = client.query_one(&format!("SELECT coalesce(max(version), 0) FROM {HISTORY}"), &[]).await?;
    Ok(Report {
        applied: report.applied_migrations().iter().map(file_name).collect(),
        version: row.try_get(0)?,
    })
}

fn file_name(migration: &refinery::Migration) -> String {
    format!("V{}__{}", migration.version(), migration.name())
}
