//! The leader's connection: commands in, replies out, in the same order. It neither reconnects nor retries.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use rowcast_protocol::{Epoch, EventId, Generation, Heartbeat, Mirror, Offset, RoomName, StreamId};

use crate::connect::BusConfig;
use crate::error::{BusError, Refusal};
use crate::info::{info_field, role};
use crate::keys::Keys;
use crate::read::Head;
use crate::script::Scripts;
use crate::topology::Server;

/// How long a room's history is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Entries that a log keeps at least.
    pub log_entries: u64,
    /// How long a log outlives its last event.
    pub log_lifetime: Duration,
    /// How long a head does; far longer.
    pub head_lifetime: Duration,
}

/// What the leader has Redis do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Tell a room's head and the ids of its log's last events.
    Sync {
        /// The room.
        room: RoomName,
        /// How many ids at most.
        last: usize,
    },
    /// Add an event, if the head is where it is expected.
    Append {
        /// The room.
        room: RoomName,
        /// The leader.
        epoch: Epoch,
        /// The stream that must be the head's.
        stream: StreamId,
        /// The offset that must be the head's; the event gets the next one.
        expected: Offset,
        /// The event's identity.
        id: EventId,
        /// The encoded [`rowcast_protocol::Record`].
        record: Vec<u8>,
    },
    /// Begin a stream with its first event: where there is no head, or in place of exactly that one.
    Create {
        /// The room.
        room: RoomName,
        /// The leader.
        epoch: Epoch,
        /// The new stream.
        stream: StreamId,
        /// The head to be replaced.
        replaces: Option<(StreamId, Offset)>,
        /// The event's identity.
        id: EventId,
        /// The encoded [`rowcast_protocol::Record`], with offset 1.
        record: Vec<u8>,
    },
    /// Tell whether this leader's claim ([`PublishLink::claim`]) still stands; where it does not, the keys are gone.
    /// What was found missing earlier in the same pipeline was missing for that reason or another, and a flush that
    /// came later changes nothing about it.
    Check(Epoch),
    /// Write down what edges go by, while this leader's claim stands ([`crate::ReadLink::mirror`] reads it).
    Mirror(Epoch, Mirror),
    /// Say that all is well.
    Heartbeat(Heartbeat),
}

/// What Redis answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To `Sync`.
    Synced {
        /// The head, if the room has one.
        head: Option<Head>,
        /// How long ago the last event was appended.
        since_append: Duration,
        /// The ids of the last events, newest first.
        ids: Vec<EventId>,
        /// Those of them in whose place stands a resync.
        resyncs: Vec<EventId>,
    },
    /// Appended or created; for a heartbeat: published; for a mirror: written; for a check or a claim: it stands.
    Done,
    /// The head, or the claim, is another one; nothing was changed.
    Moved,
    /// A newer leader has been there; nothing was changed.
    Fenced(Epoch),
    /// The heartbeat was held up on its way, and was not published.
    TooLate,
    /// Another database has its history here; nothing was changed.
    Foreign(String),
    /// The same database has its history here on this later timeline; nothing was changed.
    Replaced(i64),
    /// Redis can not do it now; nothing was changed.
    Refused(Refusal),
}

impl Reply {
    /// A [`Reply::Synced`] of a room without a head.
    pub fn absent() -> Self {
        Self::Synced { head: None, since_append: Duration::ZERO, ids: Vec::new(), resyncs: Vec::new() }
    }
}

/// Who a Redis server is, and whose history it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// `run_id`, which changes with every start.
    pub run_id: String,
    /// `master_replid`, which changes when a replica becomes a master, and now and then without that.
    pub replication_id: String,
    /// Whether it was a replica, and became a master by taking another's place.
    pub was_promoted: bool,
    /// `redis_version`.
    pub version: String,
    /// `role`.
    pub role: String,
    /// All that it says of itself (`INFO`).
    pub info: String,
    /// The last leader that went on with the history here; none in one that is empty, or was emptied.
    pub claimed: Option<Epoch>,
    /// The database that this leader read.
    pub origin: Option<String>,
    /// The generation of the last heartbeat.
    pub generation: Option<Generation>,
}

/// Under what a leader goes on with the history in a server.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The leader.
    pub epoch: Epoch,
    /// The claim that it found ([`ServerIdentity::claimed`]).
    pub found: Option<Epoch>,
    /// The database that it reads.
    pub origin: &'a str,
    /// Another database whose place it takes; or itself, on a timeline that is not the latest.
    pub replaces: &'a str,
    /// PostgreSQL's timeline: the later one of two primaries counts.
    pub timeline: i64,
}

/// The leader's connection to one Redis.
pub struct PublishLink {
    connection: MultiplexedConnection,
    keys: Keys,
    server: Server,
    retention: Retention,
    scripts: Scripts,
    /// How long a heartbeat may be under way: by then the link counts as broken.
    response_timeout: Duration,
    /// What the server's clock showed in answer to a question that was sent at that moment. A heartbeat counts by it: what
    /// is late can not be known here.
    clock: Option<(Instant, u64)>,
}

impl PublishLink {
    /// Connects to the one server that the URL names, and loads the scripts.
    ///
    /// # Errors
    /// It can not be reached, or refuses.
    pub async fn connect(config: &BusConfig, retention: Retention) -> Result<Self, BusError> {
        Self::connect_to(config, &config.only(), retention).await
    }

    /// Connects to one of the servers, and loads the scripts.
    ///
    /// # Errors
    /// It can not be reached, or refuses.
    pub async fn connect_to(
        config: &BusConfig,
        server: &Server,
        retention: Retention,
    ) -> Result<Self, BusError> {
        let connection = config.connect(server).await?;
        let mut link = Self {
            connection,
            keys: config.keys.clone(),
            server: server.clone(),
            retention,
            scripts: Scripts::new(),
            response_timeout: config.response_timeout,
            clock: None,
        };
        link.load_scripts().await?;
        Ok(link)
    }

    /// Makes Redis know the scripts; needed again when it answered `NOSCRIPT`.
    pub async fn load_scripts(&mut self) -> Result<(), BusError> {
        let loading = Scripts::load();
        let digests: Vec<String> = loading.query_async(&mut self.connection).await.map_err(BusError::from)?;
        tracing::debug!(scripts = digests.len(), "Redis knows the scripts");
        Ok(())
    }

    /// Asks the server who it is.
    ///
    /// # Errors
    /// It can not be reached, or refuses.
    pub async fn identity(&mut self) -> Result<ServerIdentity, BusError> {
        let mut asked = redis::pipe();
        asked.cmd("INFO").cmd("HMGET").arg(self.state()).arg(&["c", "d", "h"]).cmd("TIME");
        type Kept = (Option<u64>, Option<String>, Option<String>);
        let sent = Instant::now();
        let (info, (claimed, origin, heartbeat), (seconds, micros)): (String, Kept, (u64, u64)) =
            asked.query_async(&mut self.connection).await.map_err(BusError::from)?;
        self.clock = Some((sent, seconds * 1_000 + micros / 1_000));
        let field = |name| info_field(&info, name).map(str::to_owned);
        let run_id = field("run_id").ok_or_else(|| BusError::Unexpected {
            command: "INFO",
            detail: "there is no run_id in it".to_owned(),
        })?;
        let role = match field("role") {
            Some(role) => role,
            // Not every service tells it with the rest.
            None => role(&mut self.connection).await?,
        };
        let or_unknown = |name| field(name).unwrap_or_else(|| "unknown".to_owned());
        // Forty zeros stand for none.
        let earlier = field("master_replid2").unwrap_or_default();
        let heartbeat = heartbeat.and_then(|json| serde_json::from_str::<Heartbeat>(&json).ok());
        Ok(ServerIdentity {
            run_id,
            replication_id: field("master_replid").unwrap_or_default(),
            was_promoted: earlier.chars().any(|digit| digit != '0'),
            version: or_unknown("redis_version"),
            role,
            claimed: claimed.map(Epoch),
            origin,
            generation: heartbeat.map(|heartbeat| heartbeat.generation()),
            info,
        })
    }

    /// Writes down that this leader goes on with the history here, if the last who did so is still the one that was
    /// found. From then on [`Command::Check`] tells whether that history is still there.
    ///
    /// # Errors
    /// The server can not be reached.
    pub async fn claim(&mut self, claim: Claim<'_>) -> Result<Reply, BusError> {
        let found = claim.found.map_or_else(String::new, |epoch| epoch.0.to_string());
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("EVALSHA")
            .arg(self.scripts.claim.get_hash())
            .arg(1)
            .arg(self.state())
            .arg(claim.epoch.0)
            .arg(found)
            .arg(claim.origin)
            .arg(claim.replaces)
            .arg(claim.timeline);
        let values = self.connection.send_packed_commands(&pipeline, 0, 1).await.map_err(BusError::Link)?;
        scripted(values.into_iter().next().unwrap_or(Value::Nil))
    }

    fn state(&self) -> String {
        self.keys.state(&self.server)
    }

    /// In a Cluster what is published reaches the subscribers of one shard.
    fn publish_command(&self) -> &'static str {
        if self.server.tag.is_some() { "SPUBLISH" } else { "PUBLISH" }
    }

    /// Sends the commands in one pipeline and returns a reply to each, in order. On an error nobody knows which
    /// of them were carried out, and the link must not be used again.
    pub async fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, BusError> {
        let mut pipeline = redis::pipe();
        for command in commands {
            self.add(&mut pipeline, command);
        }
        let sent = Instant::now();
        let values = self.connection.send_packed_commands(&pipeline, 0, commands.len()).await;
        let values = values.map_err(BusError::Link)?;
        if values.len() != commands.len() {
            let detail = format!("{} answers to {} commands", values.len(), commands.len());
            return Err(BusError::Unexpected { command: "a pipeline", detail });
        }
        for (command, value) in commands.iter().zip(&values) {
            if let (Command::Heartbeat(_), Some(shown)) = (command, clock(value)) {
                self.clock = Some((sent, shown));
            }
        }
        commands.iter().zip(values).map(|(command, value)| reply(command, value)).collect()
    }

    /// Until when a heartbeat counts that is sent now, by the server's clock.
    fn deadline(&self) -> String {
        let (Some((sent, shown)), now) = (self.clock, Instant::now()) else { return String::new() };
        (shown + millis(now.saturating_duration_since(sent) + self.response_timeout)).to_string()
    }

    fn add(&self, pipeline: &mut Pipeline, command: &Command) {
        match command {
            Command::Sync { room, last } => {
                pipeline
                    .cmd("EVALSHA")
                    .arg(self.scripts.sync.get_hash())
                    .arg(2)
                    .arg(self.keys.log(room))
                    .arg(self.keys.head(room))
                    .arg(last);
            }
            Command::Append { room, epoch, stream, expected, id, record } => {
                let form = Form { name: "append", expected: *expected, replaces: None };
                self.add_append(pipeline, form, room, *epoch, *stream, *id, record);
            }
            Command::Create { room, epoch, stream, replaces, id, record } => {
                let form = Form { name: "create", expected: Offset::ZERO, replaces: *replaces };
                self.add_append(pipeline, form, room, *epoch, *stream, *id, record);
            }
            Command::Check(_) => {
                pipeline.cmd("HGET").arg(self.state()).arg("c");
            }
            Command::Mirror(epoch, mirror) => {
                pipeline
                    .cmd("EVALSHA")
                    .arg(self.scripts.mirror.get_hash())
                    .arg(1)
                    .arg(self.state())
                    .arg(epoch.0)
                    .arg(mirror.sheet.name())
                    .arg(mirror.version)
                    .arg(&mirror.content);
            }
            Command::Heartbeat(heartbeat) => {
                let json = serde_json::to_string(heartbeat).expect("a heartbeat is plain numbers and texts");
                pipeline
                    .cmd("EVALSHA")
                    .arg(self.scripts.heartbeat.get_hash())
                    .arg(1)
                    .arg(self.state())
                    .arg(heartbeat.epoch)
                    .arg(json)
                    .arg(self.keys.heartbeat(&self.server))
                    .arg(self.publish_command())
                    .arg(self.deadline());
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one command, taken apart once")]
    fn add_append(
        &self,
        pipeline: &mut Pipeline,
        form: Form,
        room: &RoomName,
        epoch: Epoch,
        stream: StreamId,
        id: EventId,
        record: &[u8],
    ) {
        let (replaced_stream, replaced_offset) = match form.replaces {
            Some((stream, offset)) => (stream.to_string(), offset.to_string()),
            None => (String::new(), String::new()),
        };
        pipeline
            .cmd("EVALSHA")
            .arg(self.scripts.append.get_hash())
            .arg(2)
            .arg(self.keys.log(room))
            .arg(self.keys.head(room))
            .arg(form.name)
            .arg(epoch.0)
            .arg(stream.to_string())
            .arg(form.expected.0)
            .arg(id.to_string())
            .arg(record)
            .arg(self.keys.events(room))
            .arg(self.publish_command())
            .arg(self.retention.log_entries)
            .arg(millis(self.retention.log_lifetime))
            .arg(millis(self.retention.head_lifetime))
            .arg(replaced_stream)
            .arg(replaced_offset);
    }
}

struct Form {
    name: &'static str,
    expected: Offset,
    replaces: Option<(StreamId, Offset)>,
}

/// Redis refuses a lifetime of zero.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 16).max(1)
}

fn reply(command: &Command, value: Value) -> Result<Reply, BusError> {
    match (command, &value) {
        (Command::Sync { .. }, Value::Array(items)) => synced(items).ok_or_else(|| unexpected(&value)),
        (Command::Check(epoch), Value::Nil | Value::BulkString(_)) => {
            let claimed = text(&value).and_then(|text| text.parse().ok()).map(Epoch);
            Ok(match claimed {
                Some(claimed) if claimed > *epoch => Reply::Fenced(claimed),
                Some(claimed) if claimed == *epoch => Reply::Done,
                _ => Reply::Moved,
            })
        }
        _ => scripted(value),
    }
}

/// What the scripts that write answer.
fn scripted(value: Value) -> Result<Reply, BusError> {
    if let Value::ServerError(error) = &value {
        return Ok(Reply::Refused(Refusal::of(error)));
    }
    let Value::Array(items) = &value else {
        return Err(unexpected(&value));
    };
    match items.first() {
        Some(Value::Int(0)) => Ok(Reply::Done),
        Some(Value::Int(1)) => Ok(Reply::Moved),
        Some(Value::Int(2)) => {
            let epoch = items.get(1).and_then(text).and_then(|text| text.parse().ok());
            epoch.map(|epoch| Reply::Fenced(Epoch(epoch))).ok_or_else(|| unexpected(&value))
        }
        Some(Value::Int(3)) => Ok(Reply::TooLate),
        Some(Value::Int(4)) => {
            let origin = items.get(1).and_then(text);
            origin.map(|origin| Reply::Foreign(origin.to_owned())).ok_or_else(|| unexpected(&value))
        }
        Some(Value::Int(5)) => {
            let timeline = items.get(1).and_then(text).and_then(|text| text.parse().ok());
            timeline.map(Reply::Replaced).ok_or_else(|| unexpected(&value))
        }
        _ => Err(unexpected(&value)),
    }
}

/// The server's clock, in the answer to a heartbeat.
fn clock(value: &Value) -> Option<u64> {
    match value {
        Value::Array(items) => match &items[..] {
            [Value::Int(0 | 3), shown] => text(shown)?.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn unexpected(value: &Value) -> BusError {
    BusError::Unexpected { command: "a script", detail: format!("{value:.200?}") }
}

fn synced(items: &[Value]) -> Option<Reply> {
    if items.is_empty() {
        return Some(Reply::absent());
    }
    let [stream, offset, epoch, since, Value::Array(ids)] = items else {
        return None;
    };
    let head = Head {
        stream: text(stream)?.parse().ok()?,
        offset: Offset(text(offset)?.parse().ok()?),
        epoch: Epoch(text(epoch)?.parse().ok()?),
    };
    let since: i64 = text(since)?.parse().ok()?;
    let mut resyncs = Vec::new();
    let mut parse = |id: &Value| {
        let id = text(id)?;
        let event = id.trim_start_matches('!').parse().ok()?;
        if id.starts_with('!') {
            resyncs.push(event);
        }
        Some(event)
    };
    let ids = ids.iter().map(&mut parse).collect::<Option<Vec<EventId>>>()?;
    Some(Reply::Synced {
        head: Some(head),
        since_append: Duration::from_millis(u64::try_from(since).unwrap_or(0)),
        ids,
        resyncs,
    })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}
