//! The edges' subscriptions: a connection to each server, a channel a room and one for heartbeats.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use crate::connect::BusConfig;
use crate::error::{BusError, Refusal};
use crate::topology::Server;

/// Something published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// On which channel.
    pub channel: String,
    /// What.
    pub payload: Bytes,
}

/// What a subscription tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Message),
    /// The server has ended a subscription, because its slot went elsewhere, or because it was asked to.
    Dropped(String),
}

/// The half that asks for channels. Each call returns when Redis has acknowledged it, so that whatever is
/// published from then on arrives.
#[derive(Clone)]
pub struct Subscriptions {
    way: Way,
    limit: Duration,
}

#[derive(Clone)]
enum Way {
    Plain(PubSubSink),
    /// In a Cluster: a message reaches the subscribers of the shard that has the channel's slot, and nobody else.
    Sharded(MultiplexedConnection),
}

/// The half on which messages arrive.
///
/// The library behind it buffers without a bound between the socket and [`Subscription::next`], so whoever owns
/// it must take messages out without waiting for anything else.
pub struct Subscription(Arriving);

enum Arriving {
    Plain(PubSubStream),
    Sharded(mpsc::UnboundedReceiver<PushInfo>),
}

/// Opens a connection for subscriptions to the one server that the URL names.
///
/// # Errors
/// It can not be reached.
pub async fn subscribe(config: &BusConfig) -> Result<(Subscriptions, Subscription), BusError> {
    subscribe_at(config, &config.only()).await
}

/// Opens a connection for subscriptions to one of the servers.
///
/// # Errors
/// It can not be reached.
pub async fn subscribe_at(
    config: &BusConfig,
    server: &Server,
) -> Result<(Subscriptions, Subscription), BusError> {
    let (way, arriving) = match server.tag {
        None => {
            let (sink, stream) = config.connect_pubsub(server).await?.split();
            (Way::Plain(sink), Arriving::Plain(stream))
        }
        Some(_) => {
            let (connection, pushes) = config.connect_sharded(server).await?;
            (Way::Sharded(connection), Arriving::Sharded(pushes))
        }
    };
    Ok((Subscriptions { way, limit: config.response_timeout }, Subscription(arriving)))
}

impl Subscriptions {
    /// Subscribes to channels. Says which of them the server refused, by their places: the others are subscribed to.
    ///
    /// # Errors
    /// The connection broke, or is not to be trusted any more.
    pub async fn add(&mut self, channels: &[String]) -> Result<Vec<(usize, Refusal)>, BusError> {
        match &mut self.way {
            Way::Plain(sink) => within(self.limit, sink.subscribe(channels)).await.map(|()| Vec::new()),
            Way::Sharded(connection) => one_by_one(connection, self.limit, &SUBSCRIBING, channels).await,
        }
    }

    /// Leaves channels.
    ///
    /// # Errors
    /// The connection broke, or is not to be trusted any more.
    pub async fn remove(&mut self, channels: &[String]) -> Result<(), BusError> {
        match &mut self.way {
            Way::Plain(sink) => within(self.limit, sink.unsubscribe(channels)).await,
            // A channel whose slot went elsewhere was left already.
            Way::Sharded(connection) => {
                one_by_one(connection, self.limit, &LEAVING, channels).await.map(drop)
            }
        }
    }

    /// Whether the connection still carries anything: a half-open one shows only here. A refusal is carried too: a server
    /// that can not save itself (MISCONF) refuses even this.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&mut self) -> Result<(), BusError> {
        let pong: Result<Value, BusError> = match &mut self.way {
            Way::Plain(sink) => within(self.limit, sink.ping()).await,
            Way::Sharded(connection) => within(self.limit, redis::cmd("PING").query_async(connection)).await,
        };
        match (pong, &self.way) {
            (Err(BusError::Refused(_)), _) | (Ok(_), Way::Plain(_)) => Ok(()),
            (Ok(Value::SimpleString(_)), Way::Sharded(_)) => Ok(()),
            (Ok(_), Way::Sharded(_)) => Err(unexpected("PING")),
            (Err(error), _) => Err(error),
        }
    }
}

/// A command, and how it is answered.
struct Saying {
    command: &'static str,
    answer: PushKind,
}

const SUBSCRIBING: Saying = Saying { command: "SSUBSCRIBE", answer: PushKind::SSubscribe };
const LEAVING: Saying = Saying { command: "SUNSUBSCRIBE", answer: PushKind::SUnsubscribe };

/// Channels of a Cluster have slots, and one command takes channels of one slot. Each answer must be about its channel: where
/// the server dropped another one meanwhile, the library took that for an answer.
async fn one_by_one(
    connection: &mut MultiplexedConnection,
    limit: Duration,
    saying: &Saying,
    channels: &[String],
) -> Result<Vec<(usize, Refusal)>, BusError> {
    let mut pipeline = redis::pipe();
    for channel in channels {
        pipeline.cmd(saying.command).arg(channel);
    }
    let answers = within(limit, connection.send_packed_commands(&pipeline, 0, channels.len())).await?;
    let mut refused = Vec::new();
    for (place, (channel, answer)) in channels.iter().zip(answers).enumerate() {
        match answer {
            Value::Push { kind, data }
                if kind == saying.answer
                    && matches!(data.first(), Some(Value::BulkString(name)) if name == channel.as_bytes()) => {
            }
            Value::ServerError(error) => refused.push((place, Refusal::of(&error))),
            _ => return Err(unexpected(saying.command)),
        }
    }
    Ok(refused)
}

fn unexpected(command: &'static str) -> BusError {
    BusError::Unexpected { command, detail: "an answer to something else".to_owned() }
}

impl Subscription {
    /// What comes next; `None` when the connection has ended. Where one has left channels, that is told too
    /// ([`Heard::Dropped`]): whoever left them knows.
    pub async fn next(&mut self) -> Option<Heard> {
        match &mut self.0 {
            Arriving::Plain(stream) => {
                let message = stream.next().await?;
                Some(Heard::Message(Message {
                    channel: message.get_channel_name().to_owned(),
                    payload: Bytes::copy_from_slice(message.get_payload_bytes()),
                }))
            }
            Arriving::Sharded(pushes) => loop {
                let push = pushes.recv().await?;
                match push.kind {
                    PushKind::SMessage => return Some(Heard::Message(message(push.data)?)),
                    PushKind::SUnsubscribe => {
                        return Some(Heard::Dropped(channel(push.data.into_iter().next()?)?));
                    }
                    PushKind::Disconnection => return None,
                    _ => {}
                }
            },
        }
    }
}

fn message(data: Vec<Value>) -> Option<Message> {
    let mut data = data.into_iter();
    let channel = channel(data.next()?)?;
    match data.next()? {
        Value::BulkString(payload) => Some(Message { channel, payload: payload.into() }),
        _ => None,
    }
}

fn channel(name: Value) -> Option<String> {
    match name {
        Value::BulkString(name) => String::from_utf8(name).ok(),
        _ => None,
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, BusError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(BusError::from),
        Err(_) => Err(BusError::timed_out()),
    }
}
