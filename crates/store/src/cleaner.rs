//! The second connection of a leader: everything that must be durable, and what may take longer than a read.

use crate::StoreError;
use crate::reading::Mark;
use crate::session::{Session, SessionOptions};
use crate::values::Timestamp;

/// Identifies a row of the outbox. The time belongs to it: after a crash under `synchronous_commit = off` PostgreSQL
/// can give out an id twice, and the second row must not be deleted for the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// [`crate::Row::id`].
    pub id: i64,
    /// [`crate::Row::occurred_at_micros`].
    pub occurred_at_micros: i64,
}

/// How much is waiting, on PostgreSQL's side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Rows in the outbox, counted up to [`Backlog::COUNTED`].
    pub rows: i64,
    /// Age of the oldest one in µs.
    pub oldest_age_micros: Option<i64>,
    /// How full PostgreSQL's queue of notifications is, 0–1.
    pub notification_queue: f64,
    /// Changed rows without a usable merchant since the installation.
    pub unusable_merchants: i64,
}

impl Backlog {
    /// Counting stops here.
    pub const COUNTED: i64 = 100_000;
}

/// A session with `synchronous_commit = on`. Nothing here needs the lock: only acknowledged rows are deleted, and a
/// floor that was once true stays true, so a late command of an old leader is harmless.
pub struct Cleaner {
    session: Session,
}

impl Cleaner {
    /// Connects.
    pub async fn connect(url: &str, options: &SessionOptions) -> Result<Self, StoreError> {
        Self::begin(Session::open(url, options).await?).await
    }

    /// Connects to the server of another session, which is to be the leader's.
    ///
    /// # Errors
    /// [`StoreError::OtherServer`] where the same place leads to another one by now; those of connections.
    pub async fn beside(lead: &Session, options: &SessionOptions) -> Result<Self, StoreError> {
        let session = lead.beside(options).await?;
        if lead.server().await? != session.server().await? {
            return Err(StoreError::OtherServer);
        }
        Self::begin(session).await
    }

    async fn begin(session: Session) -> Result<Self, StoreError> {
        session
            .client()
            .batch_execute(
                "SET synchronous_commit = on; SET lock_timeout = '2s'; SET statement_timeout = '30s';
                 SET enable_seqscan = off; SET jit = off",
            )
            .await?;
        Ok(Self { session })
    }

    /// The connection, for [`Session::ended`].
    pub fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Deletes rows that Redis has acknowledged; durable when it returns. Says how many were there.
    pub async fn delete(&self, rows: &[RowKey]) -> Result<u64, StoreError> {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let times: Vec<Timestamp> = rows.iter().map(|row| Timestamp(row.occurred_at_micros)).collect();
        self.session
            .client()
            .execute(
                "DELETE FROM rowcast.outbox AS o USING unnest($1::bigint[], $2::timestamptz[]) AS gone (id, at)
                  WHERE o.id = gone.id AND o.occurred_at = gone.at",
                &[&ids, &times],
            )
            .await
            .map_err(StoreError::from_statement)
    }

    /// Makes a mark the durable floor, from which the next leader reads. Call it after the deletion of all that was
    /// read up to there. An older leader's, late, costs the next one a longer way and nothing else.
    pub async fn set_floor(&self, floor: &Mark) -> Result<(), StoreError> {
        // Rows instead of an update: while an old transaction is about, versions of one row would have to be searched.
        self.session
            .client()
            .execute(
                "WITH before AS MATERIALIZED (SELECT n FROM rowcast.floor ORDER BY n DESC LIMIT 1),
                      gone AS (DELETE FROM rowcast.floor WHERE n <= (SELECT n FROM before))
                 INSERT INTO rowcast.floor (snapshot, id) VALUES ($1::text::pg_snapshot, $2)",
                &[&floor.snapshot.to_string(), &floor.id],
            )
            .await
            .map_err(StoreError::from_statement)?;
        Ok(())
    }

    /// Keeps a row that can not be encoded, with the reason. It is deleted like any other, afterwards.
    pub async fn dead_letter(&self, row: RowKey, reason: &str) -> Result<(), StoreError> {
        self.session
            .client()
            .execute(
                "INSERT INTO rowcast.dead_letter (id, occurred_at, reason, room, type, data, changed, traceparent)
                 SELECT id, occurred_at, $3, room, type, data, changed, traceparent FROM rowcast.outbox
                  WHERE id = $1 AND occurred_at = $2
                 ON CONFLICT DO NOTHING",
                &[&row.id, &Timestamp(row.occurred_at_micros), &reason],
            )
            .await
            .map_err(StoreError::from_statement)?;
        Ok(())
    }

    /// How much is waiting.
    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        let row = self
            .session
            .client()
            .query_one(
                "SELECT (SELECT count(*) FROM (SELECT FROM rowcast.outbox LIMIT $1) AS counted),
                        (SELECT (extract(epoch FROM clock_timestamp() - occurred_at) * 1000000)::bigint
                           FROM rowcast.outbox ORDER BY id LIMIT 1),
                        pg_notification_queue_usage(),
                        (SELECT last_value FROM rowcast.unusable_merchants)",
                &[&Backlog::COUNTED],
            )
            .await
            .map_err(StoreError::from_statement)?;
        Ok(Backlog {
            rows: row.try_get(0)?,
            oldest_age_micros: row.try_get(1)?,
            notification_queue: row.try_get(2)?,
            unusable_merchants: row.try_get(3)?,
        })
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.session.close().await;
    }
}
