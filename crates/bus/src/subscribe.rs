//! The edges' subscriptions: one connection, a channel a room and one for heartbeats.

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};

use crate::connect::BusConfig;
use crate::error::BusError;

/// Something published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// On which channel.
    pub channel: String,
    /// What.
    pub payload: Bytes,
}

/// The half that asks for channels. Each call returns when Redis has acknowledged it, so that whatever is
/// published from then on arrives.
#[derive(Clone)]
pub struct Subscriptions {
    sink: PubSubSink,
    limit: std::time::Duration,
}

/// The half on which messages arrive.
///
/// The library behind it buffers without a bound between the socket and [`Subscription::next`], so whoever owns
/// it must take messages out without waiting for anything else.
pub struct Subscription {
    stream: PubSubStream,
}

/// Opens a connection for subscriptions.
pub async fn subscribe(config: &BusConfig) -> Result<(Subscriptions, Subscription), BusError> {
    let (sink, stream) = config.connect_pubsub().await?.split();
    Ok((Subscriptions { sink, limit: config.response_timeout }, Subscription { stream }))
}

impl Subscriptions {
    /// Subscribes to channels.
    pub async fn add(&mut self, channels: &[String]) -> Result<(), BusError> {
        within(self.limit, self.sink.subscribe(channels)).await
    }

    /// Leaves channels.
    pub async fn remove(&mut self, channels: &[String]) -> Result<(), BusError> {
        within(self.limit, self.sink.unsubscribe(channels)).await
    }

    /// Whether the connection still carries anything: a half-open one shows only here.
    pub async fn ping(&mut self) -> Result<(), BusError> {
        within(self.limit, self.sink.ping::<()>()).await
    }
}

impl Subscription {
    /// The next message; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Message> {
        let message = self.stream.next().await?;
        Some(Message {
            channel: message.get_channel_name().to_owned(),
            payload: Bytes::copy_from_slice(message.get_payload_bytes()),
        })
    }
}

async fn within<T>(
    limit: std::time::Duration,
    call: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, BusError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(BusError::from),
        Err(_) => Err(BusError::Link(std::io::Error::from(std::io::ErrorKind::TimedOut).into())),
    }
}
