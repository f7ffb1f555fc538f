//! The statements that read the outbox, and its rows. How the reads follow each other is in [`crate::reading`].

use std::error::Error;
use std::str::FromStr;
use std::time::Instant;

use tokio_postgres::types::{FromSql, Type, accepts};
use tokio_postgres::{Client, Statement};

use crate::StoreError;
use crate::cleaner::RowKey;
use crate::migration::has_column;
use crate::reading::{Difference, Placed, Snapshot, Window};
use crate::values::{Timestamp, Xid};

/// One event as it lies in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number. Ascending within a room's changes of one row; not in the order of commits.
    pub id: i64,
    /// The transaction that wrote it.
    pub tx: u64,
    /// When, in µs since 1970 on PostgreSQL's clock.
    pub occurred_at_micros: i64,
    /// Where it belongs: 1–200 bytes.
    pub room: String,
    /// For instance `booking.created`.
    pub type_: String,
    /// JSON text.
    pub data: String,
    /// The names of the changed columns, of an update.
    pub changed: Option<Vec<String>>,
    /// `data` is only a reference, because the row was too large.
    pub truncated: bool,
    /// W3C trace context of the application's transaction.
    pub traceparent: Option<String>,
}

impl Row {
    /// What identifies the row for deletion.
    pub fn key(&self) -> RowKey {
        RowKey { id: self.id, occurred_at_micros: self.occurred_at_micros }
    }
}

impl Placed for Row {
    fn id(&self) -> i64 {
        self.id
    }

    fn room(&self) -> &str {
        &self.room
    }
}

/// The answer to one read.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// By ascending id within one difference.
    pub rows: Vec<Row>,
    /// More is waiting: read again at once.
    pub more: bool,
    /// When the last snapshot was asked for that did not see the rows; not known in the first difference.
    pub unseen_at: Option<Instant>,
    /// The rows are of rooms that are read apart.
    pub apart: bool,
    /// How many rooms are read apart; of each more is waiting.
    pub rooms_apart: usize,
    /// And since when, at the earliest.
    pub behind: Option<Instant>,
    /// PostgreSQL's clock at the read, in µs since 1970. Lag is this minus `occurred_at_micros`.
    pub server_now_micros: i64,
    /// A committed transaction asks that the generation be raised ([`crate::Cleaner::settle_raise_requests`]).
    pub raise_requested: bool,
    /// When a trigger last lost events that no raised generation has answered for yet, in µs since 1970
    /// ([`crate::Cleaner::settle_losses`]).
    pub last_loss_micros: Option<i64>,
    /// The doorbell as the statement found it.
    pub bell: Bell,
}

impl Page {
    /// It belongs to the first difference: an earlier leader may have published some of the rows.
    pub fn first(&self) -> bool {
        self.unseen_at.is_none()
    }
}

/// What a statement of the leader's does to the doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// Nothing.
    Leave,
    /// Commits ring for so many ms from now.
    For(u32),
    /// Nobody rings any more.
    Off,
}

impl Ring {
    fn parameter(self) -> Option<i64> {
        match self {
            Self::Leave => None,
            Self::For(millis) => Some(i64::from(millis)),
            Self::Off => Some(0),
        }
    }
}

/// The doorbell as a statement found it, before it changed anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bell {
    /// For how long commits would still ring, in ms; zero or less where nobody rings.
    pub left_millis: i64,
    /// How full PostgreSQL's queue of notifications is, 0–1.
    pub queue: f64,
}

/// The rows of one statement and what came with them.
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    pub(crate) snapshot: Snapshot,
    pub(crate) bell: Bell,
    /// After the snapshot was taken: the number that the next transaction was going to get.
    pub(crate) next_tx: u64,
    /// And the highest id that had been given out.
    pub(crate) given_out: i64,
    /// How many rows were looked at, and in a window the id of the last one.
    pub(crate) looked_at: usize,
    pub(crate) last: Option<i64>,
    pub(crate) server_now_micros: i64,
    pub(crate) backend_pid: i32,
    pub(crate) raise_requested: bool,
    pub(crate) last_loss_micros: Option<i64>,
    /// There may be rows among them that a crash would take back.
    pub(crate) asynchronous: bool,
}

const ABOUT: &str = "now.snapshot::text, now.clock, pg_backend_pid(), now.raise_requested, now.last_loss,
    bell.left_millis, bell.queue, now.next_tx, now.given_out";
/// Looks at the doorbell, then sets it: for so many ms, or to none where the parameter is 0. Not a transaction's: it
/// holds at once.
const BELL: &str = "bell AS MATERIALIZED (
    SELECT was.left_millis, pg_notification_queue_usage() AS queue,
           CASE WHEN $1::bigint > 0 THEN setval('rowcast.doorbell', was.millis + $1::bigint)
                WHEN $1::bigint = 0 THEN setval('rowcast.doorbell', 0) END
      FROM (SELECT d.last_value - t.millis AS left_millis, t.millis
              FROM rowcast.doorbell AS d,
                   (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS millis) AS t) AS was)";
/// `age` counts from the next transaction's number, without taking one, or from the own one where there is one.
const NOW: &str = "now AS MATERIALIZED (
    SELECT pg_current_snapshot() AS snapshot, clock_timestamp() AS clock,
           age('3'::xid)::bigint + 3 AS next_tx,
           coalesce(pg_sequence_last_value('rowcast.outbox_id_seq'), 0) AS given_out,
           EXISTS (SELECT FROM rowcast.raise_request) AS raise_requested,
           (SELECT max(occurred_at) FROM rowcast.trigger_error WHERE lost AND NOT settled) AS last_loss)";
const COLUMNS: &str = "id, tx, occurred_at, room, type, data, changed, truncated, traceparent";
/// Makes all that is visible by now durable, here and not on standbys: those are another history when they are promoted.
const FLUSH: &str =
    "SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'rowcast', '')";

/// The prepared reads of one session.
pub(crate) struct Reads {
    difference: Statement,
    window: Statement,
    proof: Statement,
    writers: Statement,
}

impl Reads {
    /// Prepares them. The session is told to use its indexes whatever the statistics say: those of a table whose
    /// rows live for milliseconds are always wrong. A database without an encoding hands out its bytes as they are:
    /// PostgreSQL would refuse the whole read for one that is not UTF-8.
    pub(crate) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        client
            .batch_execute(
                "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off;
                 SET plan_cache_mode = force_generic_plan; SET max_parallel_workers_per_gather = 0;
                 SELECT set_config('client_encoding', 'SQL_ASCII', false)
                  WHERE current_setting('server_encoding') = 'SQL_ASCII'",
            )
            .await?;
        // Before migration V9 there is no such column, and nobody knows.
        let known = has_column(client, "rowcast.outbox", "asynchronous").await?;
        let columns = format!("{COLUMNS}, {}", if known { "asynchronous" } else { "false AS asynchronous" });
        // Of the transactions that were running at P only the ended ones are looked up: the rows of a long one
        // that goes on would be visited by every read.
        let difference = format!(
            "WITH {NOW}, {BELL},
             ended AS MATERIALIZED (
                SELECT coalesce(array_agg(tx), '{{}}') AS txs FROM now, unnest($3::xid8[]) AS tx
                 WHERE pg_visible_in_snapshot(tx, now.snapshot)),
             fresh AS MATERIALIZED (
                (SELECT {columns} FROM rowcast.outbox WHERE tx >= $2::xid8 LIMIT $4::bigint)
                UNION ALL
                (SELECT {columns} FROM rowcast.outbox WHERE tx = ANY ((SELECT txs FROM ended)::xid8[]) LIMIT $4::bigint)),
             wanted AS MATERIALIZED (
                SELECT * FROM fresh WHERE room IN (SELECT unnest($5::text[])) IS FALSE LIMIT $6::bigint)
             {}",
            answer("(SELECT count(*) FROM fresh), NULL::bigint", "wanted")
        );
        // Row comparisons, so that only the index by transaction fits, whatever the planner thinks of the others.
        let window = format!(
            "WITH {NOW}, {BELL},
             looked_at AS MATERIALIZED (
                (SELECT o.* FROM unnest($3::xid8[]) AS t (tx) CROSS JOIN LATERAL (
                    SELECT {columns} FROM rowcast.outbox AS o
                     WHERE (o.tx, o.id) > (t.tx, $6::bigint) AND (o.tx, o.id) <= (t.tx, $7::bigint)
                     ORDER BY o.tx, o.id LIMIT $4::bigint) AS o
                  ORDER BY o.id LIMIT $4::bigint)
                UNION ALL
                (SELECT {columns} FROM rowcast.outbox
                  WHERE id > greatest($6::bigint, $7::bigint) AND id <= $8::bigint ORDER BY id LIMIT $4::bigint)
                ORDER BY id LIMIT $4::bigint),
             wanted AS MATERIALIZED (
                SELECT * FROM looked_at
                 WHERE (tx >= $2::xid8 OR tx = ANY ($3::xid8[])) AND pg_visible_in_snapshot(tx, $5::text::pg_snapshot)
                   AND (room IN (SELECT unnest($9::text[]))) = $10
                 ORDER BY id LIMIT $11::bigint)
             {}",
            answer("(SELECT count(*) FROM looked_at), (SELECT max(id) FROM looked_at)", "wanted")
        );
        let proof = format!("WITH {BELL} SELECT pg_backend_pid(), bell.left_millis, bell.queue FROM bell");
        let writers_sql = writers();
        let (difference, window, proof, writers) = tokio::try_join!(
            client.prepare(&difference),
            client.prepare(&window),
            client.prepare(&proof),
            client.prepare(&writers_sql)
        )
        .map_err(StoreError::from_statement)?;
        Ok(Self { difference, window, proof, writers })
    }

    /// Rows in any order.
    pub(crate) async fn difference(
        &self,
        client: &Client,
        ring: Ring,
        asked: &Difference<'_>,
    ) -> Result<Answer, StoreError> {
        let rows = client
            .query(
                &self.difference,
                &[
                    &ring.parameter(),
                    &Xid(asked.since.xmax),
                    &xids(&asked.since.running),
                    &bound(asked.looks.saturating_add(1)),
                    &asked.without,
                    &bound(asked.limit.saturating_add(1)),
                ],
            )
            .await?;
        durable(client, decode(&rows)?).await
    }

    /// Rows by ascending id.
    pub(crate) async fn window(
        &self,
        client: &Client,
        ring: Ring,
        asked: &Window<'_>,
    ) -> Result<Answer, StoreError> {
        let rows = client
            .query(
                &self.window,
                &[
                    &ring.parameter(),
                    &Xid(asked.since.xmax),
                    &xids(&asked.ended),
                    &bound(asked.looks),
                    &asked.until.to_string(),
                    &asked.after,
                    &asked.low,
                    &asked.upto,
                    &asked.rooms,
                    &asked.only,
                    &bound(asked.limit),
                ],
            )
            .await?;
        let mut answer = decode(&rows)?;
        answer.rows.sort_unstable_by_key(|row| row.id);
        durable(client, answer).await
    }

    /// The server process and the doorbell.
    pub(crate) async fn proof(&self, client: &Client, ring: Ring) -> Result<(i32, Bell), StoreError> {
        let row = client.query_one(&self.proof, &[&ring.parameter()]).await?;
        Ok((row.try_get(0)?, Bell { left_millis: row.try_get(1)?, queue: row.try_get(2)? }))
    }

    /// The transactions that may have inserted into the outbox and have not ended.
    pub(crate) async fn writers(&self, client: &Client) -> Result<(i32, Vec<u64>), StoreError> {
        let row = client.query_one(&self.writers, &[]).await?;
        let xmax = row.try_get::<_, Xid>(1)?.0;
        let ids: Vec<i64> = row.try_get(2)?;
        Ok((row.try_get(0)?, ids.into_iter().map(|id| widen(id, xmax)).collect()))
    }
}

/// An answer that no crash takes back: nobody is to be told of what will not have happened.
async fn durable(client: &Client, answer: Answer) -> Result<Answer, StoreError> {
    if answer.asynchronous {
        client.batch_execute(FLUSH).await?;
    }
    Ok(answer)
}

/// A head row about the statement itself, then the events: what they have in common is not sent with each.
fn answer(looked_at: &str, events: &str) -> String {
    format!(
        "SELECT {ABOUT}, {looked_at}, {events}.* FROM now CROSS JOIN bell LEFT JOIN {events} ON false
         UNION ALL
         SELECT {ABOUT}, NULL, NULL, {events}.* FROM {events} LEFT JOIN (now CROSS JOIN bell) ON false"
    )
}

/// All locks in one look: a transaction that is being prepared moves its locks, and is seen before or after. Whoever
/// holds the lock without a number of its own has inserted nothing.
fn writers() -> String {
    format!(
        "WITH locks AS MATERIALIZED (SELECT * FROM pg_locks WHERE granted)
         SELECT pg_backend_pid(), pg_snapshot_xmax(pg_current_snapshot()),
                ARRAY(SELECT DISTINCT t.transactionid::text::bigint
                        FROM locks AS l JOIN locks AS t USING (virtualtransaction)
                       WHERE {WRITES} AND t.locktype = 'transactionid' AND t.mode = 'ExclusiveLock')"
    )
}

/// True of a lock `l` of whoever writes to the outbox.
pub(crate) const WRITES: &str = "l.locktype = 'relation' AND l.relation = 'rowcast.outbox'::regclass
    AND l.mode = 'RowExclusiveLock' AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())";

/// A transaction's whole number, given its lower 32 bits and a number that is not 2³¹ away from it.
fn widen(id: i64, near: u64) -> u64 {
    let distance = (id as u32).wrapping_sub(near as u32).cast_signed();
    near.saturating_add_signed(i64::from(distance))
}

fn xids(transactions: &[u64]) -> Vec<Xid> {
    transactions.iter().copied().map(Xid).collect()
}

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn decode(rows: &[tokio_postgres::Row]) -> Result<Answer, StoreError> {
    let first =
        rows.first().ok_or_else(|| StoreError::Unexpected("a read without its head row".to_owned()))?;
    let snapshot =
        Snapshot::from_str(first.try_get(0)?).map_err(|error| StoreError::Unexpected(error.to_string()))?;
    Ok(Answer {
        next_tx: widen(first.try_get(7)?, snapshot.xmax),
        snapshot,
        server_now_micros: first.try_get::<_, Timestamp>(1)?.0,
        backend_pid: first.try_get(2)?,
        raise_requested: first.try_get(3)?,
        last_loss_micros: first.try_get::<_, Option<Timestamp>>(4)?.map(|at| at.0),
        bell: Bell { left_millis: first.try_get(5)?, queue: first.try_get(6)? },
        given_out: first.try_get(8)?,
        looked_at: usize::try_from(first.try_get::<_, Option<i64>>(9)?.unwrap_or(0)).unwrap_or(0),
        last: first.try_get(10)?,
        asynchronous: rows.iter().any(|row| matches!(row.try_get(20), Ok(Some(true)))),
        rows: rows.iter().map(event).filter_map(Result::transpose).collect::<Result<_, _>>()?,
    })
}

/// The event in a row of an answer; nothing where the difference was empty.
fn event(row: &tokio_postgres::Row) -> Result<Option<Row>, StoreError> {
    let Some(id) = row.try_get::<_, Option<i64>>(11)? else {
        return Ok(None);
    };
    Ok(Some(Row {
        id,
        tx: row.try_get::<_, Xid>(12)?.0,
        occurred_at_micros: row.try_get::<_, Timestamp>(13)?.0,
        room: row.try_get::<_, Text>(14)?.0,
        type_: row.try_get::<_, Text>(15)?.0,
        data: row.try_get::<_, Text>(16)?.0,
        changed: row
            .try_get::<_, Option<Vec<Text>>>(17)?
            .map(|names| names.into_iter().map(|name| name.0).collect()),
        truncated: row.try_get(18)?,
        traceparent: row.try_get::<_, Option<Text>>(19)?.map(|text| text.0),
    }))
}

/// `text` or `json` as the text that it is. A database whose encoding is SQL_ASCII may hold bytes that are not UTF-8;
/// they are replaced, because a row that can not be read would hold up all that follow.
struct Text(String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    accepts!(TEXT, JSON);
}

#[cfg(test)]
mod tests {
    use super::widen;

    #[test]
    fn a_transactions_number_is_widened_to_the_nearest_across_wraparounds() {
        const ROUND: u64 = 1 << 32;
        assert_eq!(widen(750, 760), 750);
        assert_eq!(widen(770, 760), 770);
        assert_eq!(widen(3, 5 * ROUND + 10), 5 * ROUND + 3);
        assert_eq!(widen((ROUND - 5) as i64, 5 * ROUND + 10), 5 * ROUND - 5);
        assert_eq!(widen(4, 5 * ROUND - 10), 5 * ROUND + 4);
    }
}
