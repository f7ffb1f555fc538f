//! Which migrations there are and which were applied, and trying those that were not. Nothing here is kept.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::patience::{Patience, Waiting};
use super::{HISTORY, MigrateOptions, embedded, file_name, open, set_lock_timeout};
use crate::StoreError;
use crate::session::{Session, SessionOptions};

/// A migration of this program's, or of the database's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number; they are applied in its order.
    pub version: i32,
    /// What it is about.
    pub name: String,
    /// Where it stands.
    pub state: MigrationState,
}

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationState {
    /// It was applied at that time (RFC 3339).
    Applied(String),
    /// It was not applied yet.
    Pending,
    /// What was applied is not what this program has under that number.
    Different(String),
    /// It was applied by a newer program, which this one does not know.
    Unknown(String),
}

/// All migrations, by number.
///
/// # Errors
/// Those of connections and statements.
pub async fn migrations(url: &str) -> Result<Vec<Migration>, StoreError> {
    let session = Session::open(url, &SessionOptions::new("rowcast migrate").as_addressed()).await?;
    let found = compare(session.client()).await;
    session.close().await;
    found
}

/// Applies the migrations that are missing in one transaction, which is rolled back. Returns their names and their SQL.
/// It takes the locks that they need, with the same patience.
///
/// # Errors
/// As [`super::migrate_with`].
pub async fn try_migrations(
    url: &str,
    options: MigrateOptions,
    say: impl FnMut(&Waiting),
) -> Result<Vec<(String, String)>, StoreError> {
    let mut patience = Patience::new(options, say);
    let session = open(url, &mut patience).await?;
    let client = session.client();
    let pending = loop {
        client.batch_execute("BEGIN").await?;
        let tried = within_transaction(client, options).await;
        // Where the connection is gone, so is the transaction, and the first error says why.
        let rolled_back = client.batch_execute("ROLLBACK").await;
        match tried {
            Err(error) => patience.wait(client, error).await?,
            Ok(pending) => {
                rolled_back?;
                break pending;
            }
        }
    };
    session.close().await;
    Ok(pending)
}

async fn within_transaction(
    client: &Client,
    options: MigrateOptions,
) -> Result<Vec<(String, String)>, StoreError> {
    let known = compare(client).await?;
    client
        .batch_execute(&format!(
            "{}; SET LOCAL client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS rowcast",
            set_lock_timeout(options.lock_timeout)
        ))
        .await?;
    let is_pending =
        |version: i32| known.iter().any(|one| one.version == version && one.state == MigrationState::Pending);
    let mut tried = Vec::new();
    for migration in embedded::migrations::runner().get_migrations() {
        if is_pending(migration.version()) {
            let sql = migration.sql().unwrap_or_default();
            client.batch_execute(sql).await.map_err(|error| StoreError::Migration(Box::new(error)))?;
            tried.push((file_name(migration), sql.to_owned()));
        }
    }
    Ok(tried)
}

async fn compare(client: &Client) -> Result<Vec<Migration>, StoreError> {
    let mut applied = applied(client).await?;
    let mut all: Vec<Migration> = embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(|known| Migration {
            version: known.version(),
            name: known.name().to_owned(),
            state: match applied.remove(&known.version()) {
                None => MigrationState::Pending,
                Some((_, on, checksum)) if checksum == known.checksum().to_string() => {
                    MigrationState::Applied(on)
                }
                Some((_, on, _)) => MigrationState::Different(on),
            },
        })
        .collect();
    let newer = applied.into_iter();
    all.extend(newer.map(|(version, (name, on, _))| Migration {
        version,
        name,
        state: MigrationState::Unknown(on),
    }));
    all.sort_by_key(|migration| migration.version);
    Ok(all)
}

/// Name, time and checksum by version.
async fn applied(client: &Client) -> Result<BTreeMap<i32, (String, String, String)>, StoreError> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&HISTORY]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(BTreeMap::new());
    }
    let rows =
        client.query(&format!("SELECT version, name, applied_on, checksum FROM {HISTORY}"), &[]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))))
        .collect()
}
