//! One way to connect: time limits on everything, keepalive, no delay, no reconnecting behind anybody's back. TLS is
//! spoken here and not by the library, so that certificates are judged in one way towards all servers.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::{TcpSettings, socket2::SockRef, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo};
use rowcast_tls::rustls::pki_types::ServerName;
use rowcast_tls::tokio_rustls::{TlsConnector, client::TlsStream};
use rowcast_tls::{ClientFiles, Trust, client_config};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::error::BusError;
use crate::keys::Keys;
use crate::place::{Kind, Place};
use crate::topology::Server;

/// Where Redis is and how long to wait for it.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// `redis://[user:password@]host:port[/db]`; `rediss://` speaks TLS. `redis+sentinel://…/<master>` asks Sentinels for the
    /// master, `redis+cluster://` is a Cluster.
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
        let place = self.place()?;
        if place.tls {
            client_config(&self.tls, Trust::Full)?;
        } else if self.tls != ClientFiles::default() {
            return Err(BusError::TlsUnused);
        }
        if matches!(place.kind, Kind::Cluster { .. }) && self.keys.has_brace() {
            return Err(BusError::Url(
                "redis.prefix must not contain braces where Redis is a Cluster".to_owned(),
            ));
        }
        Ok(())
    }

    pub(crate) fn place(&self) -> Result<Place, BusError> {
        Place::parse(&self.url)
    }

    /// The server of an address that names one.
    pub fn only(&self) -> Server {
        Server::only(None)
    }

    /// A connection for commands, and the limit for each answer.
    pub(crate) async fn connect(&self, server: &Server) -> Result<MultiplexedConnection, BusError> {
        let place = self.place()?;
        self.open(place.to(server.address.as_ref()), place.tls).await
    }

    pub(crate) async fn open(
        &self,
        info: ConnectionInfo,
        tls: bool,
    ) -> Result<MultiplexedConnection, BusError> {
        self.open_with(info, tls, self.limits()).await
    }

    /// A connection for subscriptions.
    pub(crate) async fn connect_pubsub(&self, server: &Server) -> Result<PubSub, BusError> {
        let place = self.place()?;
        let info = place.to(server.address.as_ref()).set_tcp_settings(tcp_settings());
        self.in_time(async {
            let connected = match place.tls {
                true => PubSub::new(info.redis_settings(), self.open_tls(&info).await?).await,
                false => redis::Client::open(info).map_err(BusError::Link)?.get_async_pubsub().await,
            };
            connected.map_err(BusError::from_connect)
        })
        .await
    }

    /// A connection for sharded subscriptions, and what arrives on it: the library knows these in the newer protocol only.
    /// What is pushed waits without a bound, as that of the other kind does.
    pub(crate) async fn connect_sharded(
        &self,
        server: &Server,
    ) -> Result<(MultiplexedConnection, mpsc::UnboundedReceiver<PushInfo>), BusError> {
        let place = self.place()?;
        let info = place.to(server.address.as_ref());
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let (pushed, pushes) = mpsc::unbounded_channel();
        let config = self.limits().set_push_sender(pushed);
        Ok((self.open_with(info.set_redis_settings(settings), place.tls, config).await?, pushes))
    }

    fn limits(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout))
    }

    async fn open_with(
        &self,
        info: ConnectionInfo,
        tls: bool,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, BusError> {
        let info = info.set_tcp_settings(tcp_settings());
        if !tls {
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

    async fn in_time<T>(&self, connecting: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
        tokio::time::timeout(self.connect_timeout, connecting).await.map_err(|_| BusError::timed_out())?
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
