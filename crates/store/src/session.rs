//! One connection to PostgreSQL with the task that drives it. What is said over it is not here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rowcast_tls::{ClientFiles, Trust, client_config};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::Address;
use crate::{CONTROL_CHANNEL, DOORBELL_CHANNEL, LEADER_CHANNEL, StoreError};

/// How a connection is made.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long a connection attempt may take, all addresses together.
    pub connect_timeout: Duration,
    /// How long sent data may stay unacknowledged before the connection counts as lost.
    pub tcp_user_timeout: Duration,
}

impl SessionOptions {
    /// The defaults, under a name: 3 s to connect, 3 s without acknowledgement.
    pub fn new(application_name: impl Into<String>) -> Self {
        Self {
            application_name: application_name.into(),
            connect_timeout: Duration::from_secs(3),
            tcp_user_timeout: Duration::from_secs(3),
        }
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
    driver: Driver,
}

/// A connection, with or without TLS.
type Connection = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Connects with the options; the caller drives the connection. Files of certificates are read each time, so that those
/// that were replaced count from the next connection on.
async fn connect(url: &str, options: &SessionOptions) -> Result<(Client, Connection), StoreError> {
    let Address { mut config, trust, files } = Address::parse(url)?;
    config
        .application_name(&options.application_name)
        .connect_timeout(options.connect_timeout)
        .tcp_user_timeout(options.tcp_user_timeout)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(2);
    let tls = match trust {
        Some(trust) => client_config(&files, trust)?,
        // It is never asked.
        None => client_config(&ClientFiles::default(), Trust::Anyone)?,
    };
    let connecting = config.connect(MakeRustlsConnect::new(tls));
    match tokio::time::timeout(options.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(StoreError::from_connect),
        Err(_) => Err(StoreError::ConnectTimeout(options.connect_timeout)),
    }
}

/// Whether an address can be used, with its files; and where it leads elsewhere without proof of who answers there, a
/// warning to pass on.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(url: &str) -> Result<Option<&'static str>, StoreError> {
    let address = Address::parse(url)?;
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
    /// Connects, and drives the connection in a task that this session owns.
    pub async fn open(url: &str, options: &SessionOptions) -> Result<Self, StoreError> {
        let (client, connection) = connect(url, options).await?;
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
        let driver = tokio::spawn(drive(connection, heard, ended_tx));
        Ok(Self { client, doorbell, rings, departure, control, subscriber, ended, driver: Driver(driver) })
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

async fn drive(mut connection: Connection, heard: Heard, ended: watch::Sender<Option<String>>) {
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let reason = loop {
        match messages.next().await {
            Some(Ok(AsyncMessage::Notification(note))) => heard.note(note.channel(), note.payload()),
            Some(Ok(AsyncMessage::Notice(notice))) => tracing::debug!(%notice, "PostgreSQL says"),
            Some(Ok(_)) => {}
            Some(Err(error)) => break StoreError::Postgres(error).to_string(),
            None => break "it was closed".to_owned(),
        }
    };
    ended.send_replace(Some(reason));
}
