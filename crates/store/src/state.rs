//! The state that outlives every process: the generation, and which database and which Redis it belongs to.

use std::collections::BTreeMap;
use std::fmt;

use rowcast_protocol::Generation;

use crate::lead::unsigned;
use crate::migration::has_column;
use crate::outbox::WRITES;
use crate::session::Lineage;
use crate::{Cleaner, StoreError};

/// Which PostgreSQL this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Given at initdb, kept by every copy.
    pub system_identifier: String,
    /// Raised by every promotion and recovery to a point in time.
    pub timeline: i64,
    /// The database's number within the cluster, kept by every copy of that. Nothing where a listener of before migration V8
    /// recorded it.
    pub database: Option<u32>,
}

impl Identity {
    /// Whether the contents of this database came from that one by other means than PostgreSQL's replication or recovery: a
    /// dump, a template, an upgrade. Numbers of transactions then mean something else.
    pub fn is_copy_of(&self, recorded: &Self) -> bool {
        let others = |(own, recorded): (u32, u32)| own != recorded;
        self.system_identifier != recorded.system_identifier
            || self.database.zip(recorded.database).is_some_and(others)
    }
}

/// `<system identifier>/<database>`: the same for all standbys, for nothing else.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system_identifier, self.database.unwrap_or_default())
    }
}

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The number of the present history.
    pub generation: Generation,
    /// Why it was last raised.
    pub last_cause: String,
    /// The name of the installation; nothing before the first leader.
    pub installation: Option<String>,
    /// PostgreSQL as the last leader found it; nothing before the first.
    pub identity: Option<Identity>,
    /// `run_id` of each Redis node, by the name that the leader gave it.
    pub redis_run_ids: BTreeMap<String, String>,
}

/// Prepared transactions hold their locks without a process.
fn others_write() -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_locks AS l WHERE {WRITES} AND l.pid IS DISTINCT FROM pg_backend_pid())"
    )
}

impl Cleaner {
    /// Which PostgreSQL this is now.
    pub async fn identity(&self) -> Result<Identity, StoreError> {
        let Lineage { system_identifier, timeline } = self.session().lineage().await?;
        let number = "SELECT oid FROM pg_database WHERE datname = current_database()";
        let row = self.session().client().query_one(number, &[]).await?;
        Ok(Identity { system_identifier, timeline, database: Some(row.try_get(0)?) })
    }

    /// What is recorded.
    pub async fn load_state(&self) -> Result<State, StoreError> {
        let row = self
            .session()
            .client()
            .query_one(
                // The last one by way of JSON: before migration V8 there is no such column.
                "SELECT generation, last_cause, installation, system_identifier, timeline, redis_run_ids::text,
                        (to_jsonb(s) ->> 'database_oid')::oid
                   FROM rowcast.state AS s",
                &[],
            )
            .await
            .map_err(StoreError::from_statement)?;
        let system_identifier: Option<String> = row.try_get(3)?;
        let timeline: Option<i64> = row.try_get(4)?;
        let run_ids: &str = row.try_get(5)?;
        let database: Option<u32> = row.try_get(6)?;
        Ok(State {
            generation: Generation(unsigned(row.try_get(0)?)?),
            last_cause: row.try_get(1)?,
            installation: row.try_get(2)?,
            identity: system_identifier.zip(timeline).map(|(system_identifier, timeline)| Identity {
                system_identifier,
                timeline,
                database,
            }),
            redis_run_ids: serde_json::from_str(run_ids)
                .map_err(|error| StoreError::Unexpected(format!("state.redis_run_ids: {error}")))?,
        })
    }

    /// Raises the generation, durably: nothing of the new history may be published before this has returned.
    pub async fn raise_generation(&self, cause: &str) -> Result<Generation, StoreError> {
        self.raise_to("generation + 1", cause).await
    }

    /// The same where this database's history went back, and the generation's number with it: it must be above all that were
    /// ever told. Unix time is: by the clock generations are never raised more than once a second.
    pub async fn raise_generation_above_all(&self, cause: &str) -> Result<Generation, StoreError> {
        self.raise_to("greatest(generation + 1, extract(epoch FROM clock_timestamp())::bigint)", cause).await
    }

    async fn raise_to(&self, number: &str, cause: &str) -> Result<Generation, StoreError> {
        let statement = format!(
            "UPDATE rowcast.state SET generation = {number}, raised_at = clock_timestamp(), last_cause = left($1, 500)
             RETURNING generation"
        );
        let row = self
            .session()
            .client()
            .query_one(&statement, &[&cause])
            .await
            .map_err(StoreError::from_statement)?;
        Ok(Generation(unsigned(row.try_get(0)?)?))
    }

    /// Raises the generation above one that was told and that this database does not know: it went back.
    pub async fn raise_generation_above(
        &self,
        told: Generation,
        cause: &str,
    ) -> Result<Generation, StoreError> {
        let told = i64::try_from(told.0)
            .map_err(|_| StoreError::Unexpected(format!("generation {told} leaves no room above it")))?;
        self.raise_to(&format!("greatest(generation, {told}) + 1"), cause).await
    }

    /// Raises the generation if committed transactions have asked for it (a TRUNCATE), and takes their wishes away.
    /// One transaction; nothing where there were none.
    pub async fn settle_raise_requests(&self) -> Result<Option<Generation>, StoreError> {
        self.raise_for(
            "WITH asked AS (DELETE FROM rowcast.raise_request RETURNING cause),
                  why AS (SELECT string_agg(DISTINCT cause, ', ') AS cause FROM asked)",
        )
        .await
    }

    /// Raises the generation if triggers have lost events, and marks these losses as answered for. A record that is
    /// locked stands for a transaction that is still running too (`rowcast.trigger_failed`), and waits for its end.
    pub async fn settle_losses(&self) -> Result<Option<Generation>, StoreError> {
        self.raise_for(
            "WITH whole AS MATERIALIZED (
                    SELECT id FROM rowcast.trigger_error WHERE lost AND NOT settled FOR UPDATE SKIP LOCKED),
                  lost AS (UPDATE rowcast.trigger_error SET settled = true WHERE id IN (SELECT id FROM whole)
                           RETURNING table_name),
                  why AS (SELECT 'trigger failed: ' || string_agg(DISTINCT table_name, ', ') AS cause FROM lost)",
        )
        .await
    }

    async fn raise_for(&self, why: &str) -> Result<Option<Generation>, StoreError> {
        let statement = format!(
            "{why} UPDATE rowcast.state
                SET generation = generation + 1, raised_at = clock_timestamp(), last_cause = left(why.cause, 500)
               FROM why WHERE why.cause IS NOT NULL RETURNING generation"
        );
        self.session()
            .client()
            .query_opt(&statement, &[])
            .await
            .map_err(StoreError::from_statement)?
            .map(|row| Ok(Generation(unsigned(row.try_get(0)?)?)))
            .transpose()
    }

    /// Records whose history this is; durable when it returns. Raise the generation before, where it is another's.
    pub async fn record_identity(
        &self,
        installation: &str,
        identity: &Identity,
        redis_run_ids: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let run_ids = serde_json::to_string(redis_run_ids)
            .map_err(|error| StoreError::Unexpected(format!("redis_run_ids: {error}")))?;
        let update = "UPDATE rowcast.state SET installation = $1, system_identifier = $2, timeline = $3,
                           redis_run_ids = $4::text::jsonb";
        let (system, timeline) = (&identity.system_identifier, &identity.timeline);
        let client = self.session().client();
        // Before migration V8 there is no column for the database's number.
        let written = if has_column(client, "rowcast.state", "database_oid").await? {
            let statement = format!("{update}, database_oid = $5");
            client.execute(&statement, &[&installation, system, timeline, &run_ids, &identity.database]).await
        } else {
            client.execute(update, &[&installation, system, timeline, &run_ids]).await
        };
        written.map(drop).map_err(StoreError::from_statement)
    }

    /// For a database whose contents came from another one (a dump): its transaction ids mean nothing here, so the
    /// rows that wait are given this transaction's and the floor starts anew. To be called before the lead session
    /// that is to read them is taken.
    pub async fn adopt_foreign_rows(&mut self) -> Result<u64, StoreError> {
        let transaction = self.session_mut().client_mut().transaction().await?;
        let rows = transaction
            .execute("UPDATE rowcast.outbox SET tx = pg_current_xact_id()", &[])
            .await
            .map_err(StoreError::from_statement)?;
        // Whoever writes at this moment may have drawn ids below all that are seen: then reading begins at the first of
        // all. Who has ended by the second statement is seen by the third.
        let writes: bool = transaction.query_one(&others_write(), &[]).await?.try_get(0)?;
        let begin = format!(
            "DELETE FROM rowcast.floor; INSERT INTO rowcast.floor (snapshot, id)
             SELECT '3:3:', CASE WHEN {writes} THEN 0 ELSE coalesce(min(id) - 1, 0) END FROM rowcast.outbox"
        );
        transaction.batch_execute(&begin).await?;
        transaction.commit().await?;
        Ok(rows)
    }
}
