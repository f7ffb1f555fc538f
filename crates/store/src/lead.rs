//! Leadership: a session advisory lock on the connection that reads the outbox. When to try, and what a leader does,
//! is the listener's.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Instant;

use rowcast_protocol::Epoch;
use tokio_postgres::Client;

use crate::outbox::{Answer, Bell, Page, Reads, Ring};
use crate::pooler::{own_process, same_process};
use crate::reading::{Mark, Query, Reading, Snapshot};
use crate::session::{Session, SessionOptions};
use crate::values::Xid;
use crate::{CONTROL_CHANNEL, DOORBELL_CHANNEL, LEADER_CHANNEL, LEADER_LOCK, LOCK_CLASS, StoreError};

/// What every session that may hold the lock says first. A stopped process loses it after these 3 s: keepalives and
/// `tcp_user_timeout` do not notice one whose kernel still answers. One that was stopped while a result was on its way to
/// it is not idle, and no time limit of statements ends a server process that waits to send: only `tcp_user_timeout` does,
/// which counts from when the process's kernel takes no more.
const SESSION: &str = "SET idle_session_timeout = '3s'; SET idle_in_transaction_session_timeout = '3s';
    SET tcp_user_timeout = '3s'; SET tcp_keepalives_idle = '5s'; SET tcp_keepalives_interval = '2s';
    SET tcp_keepalives_count = 2; SET lock_timeout = '2s'; SET statement_timeout = '30s'";

/// A connection that waits for the lead. It listens for a leaving leader on [`LEADER_CHANNEL`], and must be asked
/// ([`Standby::try_lead`]) at least once a second, or PostgreSQL ends it.
pub struct Standby {
    session: Session,
    backend_pid: i32,
}

/// What came of an attempt.
#[allow(clippy::large_enum_variant, reason = "there is one of them at a time")]
pub enum Election {
    /// This process leads now.
    Elected(Box<LeadSession>),
    /// Another one does.
    Standby(Standby),
}

impl Standby {
    /// Connects, to a primary that takes writes. Refuses a pooler that does not keep sessions. What slips through shows
    /// later: every attempt and every read compares the server process again.
    pub async fn connect(url: &str, options: &SessionOptions) -> Result<Self, StoreError> {
        let session = Session::open(url, options).await?;
        let backend_pid = own_process(&session, options).await?;
        session.client().batch_execute(SESSION).await?;
        session.client().batch_execute(&format!("LISTEN {LEADER_CHANNEL}")).await?;
        Ok(Self { session, backend_pid })
    }

    /// Tries to take the lock, without waiting for it. Once taken: draws the epoch, reads the floor, prepares the
    /// reads and LISTENs, all on this session. An error means that this connection is to be given up.
    pub async fn try_lead(self) -> Result<Election, StoreError> {
        let row = self
            .session
            .client()
            .query_one(
                "SELECT pg_backend_pid(), CASE WHEN pg_backend_pid() = $3 THEN pg_try_advisory_lock($1, $2) END",
                &[&LOCK_CLASS, &LEADER_LOCK, &self.backend_pid],
            )
            .await?;
        same_process(self.backend_pid, row.try_get(0)?)?;
        if !row.try_get::<_, bool>(1)? {
            return Ok(Election::Standby(self));
        }
        LeadSession::begin(self).await.map(|lead| Election::Elected(Box::new(lead)))
    }

    /// The connection, for its signals ([`Session::departure`], [`Session::ended`]).
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.session.close().await;
    }
}

/// The connection that holds the lock, and reads. PostgreSQL ends it when it is silent for 3 s.
pub struct LeadSession {
    session: Session,
    backend_pid: i32,
    epoch: Epoch,
    rings_by_default: bool,
    reads: Reads,
    reading: Reading,
}

impl LeadSession {
    async fn begin(standby: Standby) -> Result<Self, StoreError> {
        let Standby { session, backend_pid } = standby;
        let client = session.client();
        // Listening comes before the first read: what commits in between rings.
        let listen =
            format!("UNLISTEN {LEADER_CHANNEL}; LISTEN {DOORBELL_CHANNEL}; LISTEN {CONTROL_CHANNEL}");
        client.batch_execute(&listen).await?;
        let row = client
            .query_one(
                "SELECT nextval('rowcast.leader_epoch'),
                        CASE coalesce(current_setting('rowcast.doorbell', true), '')
                            WHEN 'on' THEN true WHEN 'off' THEN false
                            ELSE current_setting('max_prepared_transactions') = '0' END",
                &[],
            )
            .await
            .map_err(StoreError::from_statement)?;
        let epoch = Epoch(unsigned(row.try_get(0)?)?);
        let rings_by_default = row.try_get(1)?;
        let reads = Reads::prepare(client).await?;
        let reading = begin_reading(client).await?;
        // Setting the doorbell must not wait for a disk: it means nothing after a crash.
        client.batch_execute("SET synchronous_commit = off").await?;
        Ok(Self { session, backend_pid, epoch, rings_by_default, reads, reading })
    }

    /// The number of this leadership.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether sessions of this database ring while the doorbell is set. They do not where transactions can be
    /// prepared (`max_prepared_transactions`), unless the database is told `rowcast.doorbell = on`.
    pub fn rings_by_default(&self) -> bool {
        self.rings_by_default
    }

    /// Reads the next page, sets the doorbell, and by that proves that the lock is still held: an error means that it
    /// may not be. Stamp the proof with the time at which this was called, not at which it returned.
    ///
    /// May be cancelled: what was not returned is read again. Without new rows the page is empty. The limit bounds
    /// what a statement looks at; a page has at most that many rows. `lanes`: rooms that are read apart may have their
    /// turn.
    pub async fn read(&mut self, limit: NonZeroUsize, lanes: bool, ring: Ring) -> Result<Page, StoreError> {
        let limit = limit.get();
        let client = self.session.client();
        let asked_at = Instant::now();
        let (portion, about) = match self.reading.query(limit, lanes) {
            Query::Difference(asked) => {
                let mut answer = self.reads.difference(client, ring, &asked).await?;
                same_process(self.backend_pid, answer.backend_pid)?;
                let (rows, snapshot) = (std::mem::take(&mut answer.rows), answer.snapshot.clone());
                let Answer { next_tx, given_out, looked_at, .. } = answer;
                (self.reading.on_difference(asked_at, snapshot, next_tx, given_out, looked_at, rows), answer)
            }
            Query::Window(asked) => {
                let mut answer = self.reads.window(client, ring, &asked).await?;
                same_process(self.backend_pid, answer.backend_pid)?;
                let rows = std::mem::take(&mut answer.rows);
                (self.reading.on_window(answer.given_out, answer.looked_at, answer.last, rows), answer)
            }
        };
        Ok(Page {
            rows: portion.rows,
            more: self.reading.more(),
            unseen_at: portion.unseen_at,
            apart: portion.apart,
            rooms_apart: self.reading.rooms_apart(),
            behind: self.reading.behind(),
            server_now_micros: about.server_now_micros,
            raise_requested: about.raise_requested,
            last_loss_micros: about.last_loss_micros,
            bell: about.bell,
        })
    }

    /// Proves that the lock is still held, as [`LeadSession::read`] does, without reading.
    pub async fn prove(&self, ring: Ring) -> Result<Bell, StoreError> {
        let (pid, bell) = self.reads.proof(self.session.client(), ring).await?;
        same_process(self.backend_pid, pid)?;
        Ok(bell)
    }

    /// The transactions that may have inserted into the outbox and had not ended, prepared ones included. Asked after
    /// the doorbell was set, these are all that may have found it silent before.
    pub async fn writers(&self) -> Result<Vec<u64>, StoreError> {
        let (pid, writers) = self.reads.writers(self.session.client()).await?;
        same_process(self.backend_pid, pid)?;
        Ok(writers)
    }

    /// Reads rooms apart from here on: too much of them is waiting ([`crate::reading`]). Does nothing where no more of
    /// the present difference is waiting.
    pub fn set_apart(&mut self, rooms: impl IntoIterator<Item = String>) {
        self.reading.set_apart(rooms);
    }

    /// What has been read, but for rooms that are read apart: what those will be read up to at least.
    pub fn seen(&self) -> &Mark {
        self.reading.seen()
    }

    /// What has been read: every row of the transactions that this mark's snapshot sees was returned. Once these rows
    /// are durably deleted it may be made the floor ([`crate::Cleaner::set_floor`]).
    pub fn complete(&self) -> &Mark {
        self.reading.complete()
    }

    /// Raises the epoch above one that Redis has seen (a restored database gives out old ones), and draws anew.
    pub async fn raise_epoch_above(&mut self, seen: Epoch) -> Result<Epoch, StoreError> {
        let seen = i64::try_from(seen.0)
            .map_err(|_| StoreError::Unexpected(format!("epoch {seen} leaves no room above it")))?;
        let client = self.session.client();
        client.batch_execute("SET synchronous_commit = on").await?;
        client
            .execute(
                "SELECT setval('rowcast.leader_epoch', $1) FROM rowcast.leader_epoch WHERE last_value < $1",
                &[&seen],
            )
            .await?;
        let row = client.query_one("SELECT nextval('rowcast.leader_epoch'), pg_backend_pid()", &[]).await?;
        same_process(self.backend_pid, row.try_get(1)?)?;
        client.batch_execute("SET synchronous_commit = off").await?;
        self.epoch = Epoch(unsigned(row.try_get(0)?)?);
        Ok(self.epoch)
    }

    /// The connection, for its signals ([`Session::doorbell`], [`Session::ended`]).
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A planned stop: silences the doorbell, gives the lock back, tells the standbys, and closes.
    pub async fn unlock_and_announce(self) -> Result<(), StoreError> {
        // The announcement goes out at the statement's commit, after the lock is free.
        self.session
            .client()
            .execute(
                "SELECT setval('rowcast.doorbell', 0), pg_advisory_unlock($1, $2), pg_notify($3, '')",
                &[&LOCK_CLASS, &LEADER_LOCK, &LEADER_CHANNEL],
            )
            .await?;
        self.session.close().await;
        Ok(())
    }
}

/// Where the leader before left off. Only the newest floor counts; the dead rows there are all older.
async fn begin_reading(client: &Client) -> Result<Reading, StoreError> {
    let row = client
        .query_one(
            "SELECT coalesce(pg_sequence_last_value('rowcast.outbox_id_seq'), 0), floor.snapshot::text, floor.id
               FROM (SELECT) AS here LEFT JOIN
                    (SELECT snapshot, id FROM rowcast.floor ORDER BY n DESC LIMIT 1) AS floor ON true",
            &[],
        )
        .await
        .map_err(StoreError::from_statement)?;
    let floor = match row.try_get::<_, Option<&str>>(1)? {
        None => Mark::start(),
        Some(snapshot) => {
            let snapshot = Snapshot::from_str(snapshot);
            let snapshot = snapshot.map_err(|error| StoreError::Unexpected(format!("floor: {error}")))?;
            let id = row.try_get(2)?;
            let began_anew = ids_began_anew(client, &snapshot, id).await?;
            Mark::left(snapshot, if began_anew { 0 } else { id })
        }
    };
    Ok(Reading::from_floor(floor, row.try_get(0)?))
}

/// Whether somebody has set the numbers back (`TRUNCATE … RESTART IDENTITY`): what is above the floor by its transaction
/// lies below it by its id, and would never be read.
async fn ids_began_anew(client: &Client, floor: &Snapshot, id: i64) -> Result<bool, StoreError> {
    let below = "SELECT EXISTS (SELECT FROM rowcast.outbox WHERE tx >= $1 AND id <= $2)";
    let row = client.query_one(below, &[&Xid(floor.xmax), &id]).await.map_err(StoreError::from_statement)?;
    Ok(row.try_get(0)?)
}

pub(crate) fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number)
        .map_err(|_| StoreError::Unexpected(format!("{number} where a positive number belongs")))
}
