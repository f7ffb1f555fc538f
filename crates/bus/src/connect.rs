//! One way to connect: time limits on everything, keepalive, no delay, no reconnecting behind anybody's back.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, IntoConnectionInfo};

use crate::error::BusError;
use crate::keys::Keys;

/// Where Redis is and how long to wait for it.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// `redis://[user:password@]host:port[/db]`.
    pub url: String,
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
        Self { url: url.into(), keys, connect_timeout: limit, response_timeout: limit }
    }

    pub(crate) fn client(&self) -> Result<redis::Client, BusError> {
        let unusable = |error: redis::RedisError| BusError::Url(error.to_string());
        let keepalive =
            TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(5));
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        let info = self.url.as_str().into_connection_info().map_err(unusable)?.set_tcp_settings(tcp);
        redis::Client::open(info).map_err(unusable)
    }

    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, BusError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        self.client()?.get_multiplexed_async_connection_with_config(&config).await.map_err(BusError::Link)
    }
}
