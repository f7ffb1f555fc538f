//! One connection to PostgreSQL with the task that drives it. What is said over it is not here.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket, tls::NoTlsStream};

use crate::{DOORBELL_CHANNEL, LEADER_CHANNEL, StoreError};

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

/// A connection and its driver. Dropping it closes both.
///
/// Notifications arrive as two coalescing signals: any number of them between two looks is one. Nothing queues up,
/// so a reader that is busy costs no memory; what has to be read is in the outbox.
pub struct Session {
    client: Client,
    doorbell: Arc<Notify>,
    departure: Arc<Notify>,
    ended: watch::Receiver<Option<String>>,
    driver: Driver,
}

/// Connects with the options; the caller drives the connection.
pub async fn connect(
    url: &str,
    options: &SessionOptions,
) -> Result<(Client, tokio_postgres::Connection<Socket, NoTlsStream>), StoreError> {
    let mut config = Config::from_str(url).map_err(StoreError::Address)?;
    config
        .application_name(&options.application_name)
        .connect_timeout(options.connect_timeout)
        .tcp_user_timeout(options.tcp_user_timeout)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(2);
    match tokio::time::timeout(options.connect_timeout, config.connect(NoTls)).await {
        Ok(connected) => connected.map_err(StoreError::Connect),
        Err(_) => Err(StoreError::ConnectTimeout(options.connect_timeout)),
    }
}

impl Session {
    /// Connects, and drives the connection in a task that this session owns.
    pub async fn open(url: &str, options: &SessionOptions) -> Result<Self, StoreError> {
        let (client, connection) = connect(url, options).await?;
        let doorbell = Arc::new(Notify::new());
        let departure = Arc::new(Notify::new());
        let (ended_tx, ended) = watch::channel(None);
        let driver = tokio::spawn(drive(connection, doorbell.clone(), departure.clone(), ended_tx));
        Ok(Self { client, doorbell, departure, ended, driver: Driver(driver) })
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

    /// The signal that a leader has announced its leaving.
    pub fn departure(&self) -> &Arc<Notify> {
        &self.departure
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

async fn drive(
    mut connection: tokio_postgres::Connection<Socket, NoTlsStream>,
    doorbell: Arc<Notify>,
    departure: Arc<Notify>,
    ended: watch::Sender<Option<String>>,
) {
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let reason = loop {
        match messages.next().await {
            Some(Ok(AsyncMessage::Notification(note))) => match note.channel() {
                DOORBELL_CHANNEL => doorbell.notify_one(),
                LEADER_CHANNEL => departure.notify_one(),
                other => tracing::debug!(channel = other, "a notification that nobody asked for"),
            },
            Some(Ok(AsyncMessage::Notice(notice))) => tracing::debug!(%notice, "PostgreSQL says"),
            Some(Ok(_)) => {}
            Some(Err(error)) => break StoreError::Postgres(error).to_string(),
            None => break "it was closed".to_owned(),
        }
    };
    ended.send_replace(Some(reason));
}
