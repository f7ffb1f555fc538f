//! One connection to PostgreSQL with the task that drives it. What is said over it is not here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rowcast_tls::{ClientFiles, Trust, client_config};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::Address;
use crate::hosts::{self, Role, Server};
use crate::{CONTROL_CHANNEL, DOORBELL_CHANNEL, LEADER_CHANNEL, StoreError};

/// How a connection is made.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long a connection attempt may take, for each of an address's servers, where it does not say so itself.
    pub connect_timeout: Duration,
    /// How long sent data may stay unacknowledged before the connection counts as lost.
    pub tcp_user_timeout: Duration,
    /// What is needed of the server.
    pub needs: Needs,
    /// Of this cluster's primaries, none on an earlier timeline: it was replaced.
    pub not_before: Option<Lineage>,
}

/// Which history a primary goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The cluster; the same for all its standbys.
    pub system_identifier: String,
    /// Raised by every promotion.
    pub timeline: i64,
}

impl Lineage {
    /// Whether this primary was replaced by that one.
    pub fn is_before(&self, other: &Self) -> bool {
        self.system_identifier == other.system_identifier && self.timeline < other.timeline
    }
}

/// What is needed of a server, besides an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// That it is a primary and takes writes, whatever the address says.
    Primary,
    /// What the address says (`target_session_attrs`). Where that is nothing, a primary is preferred.
    Address,
}

impl SessionOptions {
    /// The defaults, under a name: 3 s to connect, 3 s without acknowledgement, to a primary.
    pub fn new(application_name: impl Into<String>) -> Self {
        Self {
            application_name: application_name.into(),
            connect_timeout: Duration::from_secs(3),
            tcp_user_timeout: Duration::from_secs(3),
            needs: Needs::Primary,
            not_before: None,
        }
    }

    /// The same for who may only want to look.
    pub fn as_addressed(self) -> Self {
        Self { needs: Needs::Address, ..self }
    }
}

/// A notification on a channel of the application's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The channel, as `pg_notify` was given it.
    pub channel: String,
    /// Whatever was sent: at most 7,999 bytes, and not necessarily JSON.
    pub payload: String,
}

/// The notifications of channels of the application's ([`Session::subscribe`]).
pub struct Subscription {
    notes: mpsc::Receiver<Note>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// The next one; `None` once the connection has ended.
    pub async fn next(&mut self) -> Option<Note> {
        self.notes.recv().await
    }

    /// How many were dropped since this was last asked, because nobody took them in time.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The driver's end of a subscription.
struct Subscriber {
    notes: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

impl Subscriber {
    /// Never waits: the connection's other answers are behind it. What does not fit is dropped and counted.
    fn pass_on(&self, channel: &str, payload: &str) {
        if self.notes.try_send(Note { channel: channel.to_owned(), payload: payload.to_owned() }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A connection and its driver. Dropping it closes both.
///
/// Rowcast's own notifications arrive as three coalescing signals: any number of them between two looks is one. Nothing
/// queues up, so a reader that is busy costs no memory; what has to be read is in the outbox.
pub struct Session {
    client: Client,
    doorbell: Arc<Notify>,
    rings: Arc<AtomicU64>,
    departure: Arc<Notify>,
    control: Arc<Notify>,
    subscriber: Arc<OnceLock<Subscriber>>,
    ended: watch::Receiver<Option<String>>,
    said: Option<Role>,
    reached: Reached,
    driver: Driver,
}

/// A connection, with or without TLS.
type Connection = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A server that was reached, for others of the same.
#[derive(Clone)]
pub(crate) struct Reached {
    /// The way there: one host, its name resolved.
    pub config: Config,
    pub trust: Option<Trust>,
    pub files: ClientFiles,
}

/// Connects with the options; the caller drives the connection. Files of certificates are read each time, so that those
/// that were replaced count from the next connection on.
async fn connect(
    to: &Reached,
    options: &SessionOptions,
    limit: Duration,
) -> Result<(Client, Connection), StoreError> {
    let mut config = to.config.clone();
    config
        .application_name(&options.application_name)
        .connect_timeout(limit)
        .tcp_user_timeout(options.tcp_user_timeout)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(2);
    let tls = match to.trust {
        Some(trust) => client_config(&to.files, trust)?,
        // It is never asked.
        None => client_config(&ClientFiles::default(), Trust::Anyone)?,
    };
    config.connect(MakeRustlsConnect::new(tls)).await.map_err(StoreError::from_connect)
}

/// What the server said of itself when it was connected to, and says whenever it changes; nothing through some poolers.
fn said(connection: &Connection) -> Option<Role> {
    let says = |name: &str| connection.parameter(name).map(|value| value == "on");
    let (recovers, read_only) = (says("in_hot_standby")?, says("default_transaction_read_only")?);
    Some(Role { recovers, read_only })
}

/// Whether an address can be used, with its files; and where it leads elsewhere without proof of who answers there, a
/// warning to pass on.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(url: &str) -> Result<Option<&'static str>, StoreError> {
    let address = Address::parse(url)?;
    Server::all(&address.config)?;
    if let Some(trust) = address.trust {
        client_config(&address.files, trust)?;
    }
    Ok(address.is_exposed().then_some(
        "the connection to PostgreSQL is not proven to lead there, so whoever sits between could read and change what \
         goes over it: use sslmode=verify-full (database.tls.mode)",
    ))
}

/// The address as the library behind this crate takes it, for messages that say where it leads.
pub fn library_config(url: &str) -> Option<tokio_postgres::Config> {
    Address::parse(url).ok().map(|address| address.config)
}

impl Session {
    /// Connects to the first of an address's servers that is what the options need, and drives the connection in a task that
    /// this session owns.
    ///
    /// # Errors
    /// That of the one server; [`StoreError::NoPrimary`] with those of all where there are several.
    pub async fn open(url: &str, options: &SessionOptions) -> Result<Self, StoreError> {
        hosts::connect(url, options).await
    }

    /// Another session at the same place, whatever else the address names: what belongs together must not come to two servers.
    /// Behind a proxy it still may.
    pub async fn beside(&self, options: &SessionOptions) -> Result<Self, StoreError> {
        let limit = options.connect_timeout;
        let opening = tokio::time::timeout(limit, Self::at(&self.reached, options, limit));
        opening.await.unwrap_or(Err(StoreError::ConnectTimeout(limit)))
    }

    pub(crate) async fn at(
        to: &Reached,
        options: &SessionOptions,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let (client, connection) = connect(to, options, limit).await?;
        let said = said(&connection);
        let doorbell = Arc::new(Notify::new());
        let rings = Arc::new(AtomicU64::new(0));
        let departure = Arc::new(Notify::new());
        let control = Arc::new(Notify::new());
        let subscriber = Arc::new(OnceLock::new());
        let (ended_tx, ended) = watch::channel(None);
        let heard = Heard {
            doorbell: doorbell.clone(),
            rings: rings.clone(),
            departure: departure.clone(),
            control: control.clone(),
            subscriber: subscriber.clone(),
        };
        let driver = tokio::spawn(drive(connection, heard, options.needs, ended_tx));
        let (driver, reached) = (Driver(driver), to.clone());
        Ok(Self { client, doorbell, rings, departure, control, subscriber, ended, said, reached, driver })
    }

    /// What the server takes.
    pub(crate) async fn role(&self) -> Result<Role, StoreError> {
        match self.said {
            Some(role) => Ok(role),
            None => Role::ask(&self.client).await,
        }
    }

    /// Which server this is: when its postmaster was started, to the microsecond.
    pub(crate) async fn server(&self) -> Result<String, StoreError> {
        let row = self.client.query_one("SELECT pg_postmaster_start_time()::text", &[]).await?;
        Ok(row.try_get(0)?)
    }

    /// Which history a primary goes on with.
    pub async fn lineage(&self) -> Result<Lineage, StoreError> {
        // The name of the present WAL file begins with the timeline; pg_control_checkpoint() would go on telling
        // the old one for a while after a promotion.
        let query = "SELECT (SELECT system_identifier::text FROM pg_control_system()),
                            ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint::text";
        let answer = self.client.simple_query(query).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).zip(row.get(1)?.parse().ok()),
            _ => None,
        });
        let (system, timeline) =
            row.ok_or_else(|| StoreError::Unexpected("no word on history".to_owned()))?;
        Ok(Lineage { system_identifier: system.to_owned(), timeline })
    }

    /// LISTENs to channels of the application's, once in a session's life. At most `bound` notifications wait; more
    /// are dropped and counted. Refuses a database without an encoding: what it hands out need not be UTF-8, and
    /// such a notification would end the connection.
    ///
    /// # Errors
    /// As any statement; [`StoreError::Unexpected`] where this session has subscribed before.
    pub async fn subscribe(&self, channels: &[String], bound: usize) -> Result<Subscription, StoreError> {
        let encoding =
            self.client.query_one("SELECT current_setting('server_encoding') = 'SQL_ASCII'", &[]).await?;
        if encoding.try_get(0)? {
            return Err(StoreError::NoEncoding);
        }
        let (sender, notes) = mpsc::channel(bound);
        let dropped = Arc::new(AtomicU64::new(0));
        let subscriber = Subscriber { notes: sender, dropped: dropped.clone() };
        if self.subscriber.set(subscriber).is_err() {
            return Err(StoreError::Unexpected("a second subscription of one session".to_owned()));
        }
        let listen: Vec<String> =
            channels.iter().map(|channel| format!("LISTEN \"{}\"", channel.replace('"', "\"\""))).collect();
        self.client.batch_execute(&listen.join("; ")).await?;
        Ok(Subscription { notes, dropped })
    }

    /// For statements.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The signal that a committed transaction has rung.
    pub fn doorbell(&self) -> &Arc<Notify> {
        &self.doorbell
    }

    /// How many committed transactions have rung since this was last asked.
    pub fn take_rings(&self) -> u64 {
        self.rings.swap(0, Ordering::Relaxed)
    }

    /// The signal that a leader has announced its leaving.
    pub fn departure(&self) -> &Arc<Notify> {
        &self.departure
    }

    /// The signal that something has changed of what is mirrored for the edges.
    pub fn control(&self) -> &Arc<Notify> {
        &self.control
    }

    /// Resolves once the connection has ended, with the reason.
    pub fn ended(&self) -> impl Future<Output = StoreError> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            let reason = match ended.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => "its driver panicked or was stopped".to_owned(),
            };
            StoreError::Ended(reason)
        }
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.client.is_closed()
    }

    /// Says goodbye and waits until the connection is closed, at most a second.
    pub async fn close(self) {
        let Self { client, mut driver, .. } = self;
        // A Client that is dropped makes its connection say Terminate; the driver then ends by itself.
        drop(client);
        if tokio::time::timeout(Duration::from_secs(1), &mut driver.0).await.is_err() {
            tracing::debug!("PostgreSQL did not close the connection within a second");
        }
    }
}

/// The task that drives a connection; it ends with its owner.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a connection's notifications go.
struct Heard {
    doorbell: Arc<Notify>,
    rings: Arc<AtomicU64>,
    departure: Arc<Notify>,
    control: Arc<Notify>,
    subscriber: Arc<OnceLock<Subscriber>>,
}

impl Heard {
    fn note(&self, channel: &str, payload: &str) {
        match (channel, self.subscriber.get()) {
            (DOORBELL_CHANNEL, _) => {
                self.rings.fetch_add(1, Ordering::Relaxed);
                self.doorbell.notify_one();
            }
            (LEADER_CHANNEL, _) => self.departure.notify_one(),
            (CONTROL_CHANNEL, _) => self.control.notify_one(),
            (_, Some(subscriber)) => subscriber.pass_on(channel, payload),
            (other, None) => tracing::debug!(channel = other, "a notification that nobody asked for"),
        }
    }
}

async fn drive(mut connection: Connection, heard: Heard, needs: Needs, ended: watch::Sender<Option<String>>) {
    let fenced = AtomicBool::new(false);
    let mut messages = stream::poll_fn(|context| match connection.poll_message(context) {
        // A server that was fenced says so before its next answer is complete.
        Poll::Pending if needs == Needs::Primary && said(&connection).is_some_and(|role| role.read_only) => {
            fenced.store(true, Ordering::Relaxed);
            Poll::Ready(None)
        }
        polled => polled,
    });
    let reason = loop {
        match messages.next().await {
            Some(Ok(AsyncMessage::Notification(note))) => heard.note(note.channel(), note.payload()),
            Some(Ok(AsyncMessage::Notice(notice))) => tracing::debug!(%notice, "PostgreSQL says"),
            Some(Ok(_)) => {}
            Some(Err(error)) => break StoreError::Postgres(error).to_string(),
            None if fenced.load(Ordering::Relaxed) => {
                break "the server takes no writes any more (default_transaction_read_only)".to_owned();
            }
            None => break "it was closed".to_owned(),
        }
    };
    ended.send_replace(Some(reason));
}
