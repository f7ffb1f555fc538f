//! One way to connect: time limits on everything, keepalive, no delay, no reconnecting behind anybody's back. TLS is
//! spoken here and not by the library, so that certificates are judged in one way towards all servers.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::{TcpSettings, socket2::SockRef, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};
use rowcast_tls::rustls::pki_types::ServerName;
use rowcast_tls::tokio_rustls::{TlsConnector, client::TlsStream};
use rowcast_tls::{ClientFiles, Trust, client_config};
use tokio::net::TcpStream;

use crate::error::BusError;
use crate::keys::Keys;

const TLS_SCHEMES: [&str; 2] = ["rediss://", "valkeys://"];

/// Where Redis is and how long to wait for it.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// `redis://[user:password@]host:port[/db]`; `rediss://` speaks TLS.
    pub url: String,
    /// For `rediss://`: whom to trust, and what to show of oneself. Read for each connection.
    pub tls: ClientFiles,
    /// The names of keys.
    pub keys: Keys,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long an answer may take before the link counts as broken.
    pub response_timeout: Duration,
}

impl BusConfig {
    /// With the usual limits: 2 s to connect, 2 s for an answer.
    pub fn new(url: impl Into<String>, keys: Keys) -> Self {
        let limit = Duration::from_secs(2);
        let tls = ClientFiles::default();
        Self { url: url.into(), tls, keys, connect_timeout: limit, response_timeout: limit }
    }

    /// The same with certificates.
    pub fn with_tls(self, tls: ClientFiles) -> Self {
        Self { tls, ..self }
    }

    /// Whether the address and the files can be used.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), BusError> {
        if self.is_tls() {
            client_config(&self.tls, Trust::Full)?;
        } else if self.tls != ClientFiles::default() {
            return Err(BusError::TlsUnused);
        }
        self.info().map(drop)
    }

    fn is_tls(&self) -> bool {
        TLS_SCHEMES.iter().any(|scheme| self.url.starts_with(scheme))
    }

    fn info(&self) -> Result<ConnectionInfo, BusError> {
        if self.url.contains("#insecure") {
            let reason = "#insecure would take anybody for the server; name its CA in redis.tls.ca instead";
            return Err(BusError::Url(reason.to_owned()));
        }
        let unusable = |error: RedisError| BusError::Url(error.to_string());
        let plain = match self.url.split_once("://") {
            // The library was built without TLS, and refuses such an address.
            Some((_, rest)) if self.is_tls() => format!("redis://{rest}"),
            _ => self.url.clone(),
        };
        Ok(plain.as_str().into_connection_info().map_err(unusable)?.set_tcp_settings(tcp_settings()))
    }

    /// A connection for commands, and the limit for each answer.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, BusError> {
        let info = self.info()?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        if !self.is_tls() {
            let client = redis::Client::open(info).map_err(BusError::Link)?;
            return client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map_err(BusError::from_connect);
        }
        self.in_time(async {
            let stream = self.open_tls(&info).await?;
            let settings = info.redis_settings();
            let connecting = MultiplexedConnection::new_with_config(settings, stream, config).await;
            let (connection, driver) = connecting.map_err(BusError::from_connect)?;
            // It ends with the connection's last clone, or with the stream.
            tokio::spawn(driver);
            Ok(connection)
        })
        .await
    }

    /// A connection for subscriptions.
    pub(crate) async fn connect_pubsub(&self) -> Result<PubSub, BusError> {
        let info = self.info()?;
        self.in_time(async {
            let connected = match self.is_tls() {
                true => PubSub::new(info.redis_settings(), self.open_tls(&info).await?).await,
                false => redis::Client::open(info).map_err(BusError::Link)?.get_async_pubsub().await,
            };
            connected.map_err(BusError::from_connect)
        })
        .await
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
        let timed_out = || BusError::Link(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        tokio::time::timeout(self.connect_timeout, connecting).await.map_err(|_| timed_out())?
    }

    async fn open_tls(&self, info: &ConnectionInfo) -> Result<TlsStream<TcpStream>, BusError> {
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            return Err(BusError::Url("TLS needs a host and a port".to_owned()));
        };
        let name = ServerName::try_from(host.clone())
            .map_err(|error| BusError::Url(format!("{host} can not be a certificate's name: {error}")))?;
        let config = client_config(&self.tls, Trust::Full)?;
        let io = |error: std::io::Error| BusError::from_connect(error.into());
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        SockRef::from(&stream).set_tcp_keepalive(&keepalive()).map_err(io)?;
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        connector.connect(name, stream).await.map_err(io)
    }
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(5))
}

fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive())
}
