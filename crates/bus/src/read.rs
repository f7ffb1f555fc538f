//! The edges' connection: heads and logs of rooms. It changes nothing in Redis.

use bytes::Bytes;
use redis::Value;
use redis::aio::MultiplexedConnection;
use rowcast_protocol::{Epoch, Heartbeat, Mirror, Offset, Record, RoomName, Sheet, StreamId};

use crate::connect::BusConfig;
use crate::error::BusError;
use crate::info::role;
use crate::keys::Keys;
use crate::topology::Server;

/// Where a room's history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The stream.
    pub stream: StreamId,
    /// The last event's offset.
    pub offset: Offset,
    /// The leader that appended it.
    pub epoch: Epoch,
}

/// A room's head and a run of its log, read one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The head, if the room has one.
    pub head: Option<Head>,
    /// Entries of the log in order. They can begin later than asked for when the log does not reach back.
    pub records: Vec<Record>,
}

/// Which run of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// At most so many of the newest entries.
    Last(usize),
    /// At most `count` entries after an offset.
    After {
        /// The offset.
        offset: Offset,
        /// The bound.
        count: usize,
    },
}

/// A connection that reads. Cheap to clone; clones share one socket.
#[derive(Clone)]
pub struct ReadLink {
    connection: MultiplexedConnection,
    keys: Keys,
    server: Server,
    /// It may ask the server for its role.
    asks_role: bool,
}

impl ReadLink {
    /// Connects to the one server that the URL names.
    ///
    /// # Errors
    /// It can not be reached, or is a replica.
    pub async fn connect(config: &BusConfig) -> Result<Self, BusError> {
        Self::connect_to(config, &config.only()).await
    }

    /// Connects to one of the servers.
    ///
    /// # Errors
    /// It can not be reached, or is a replica.
    pub async fn connect_to(config: &BusConfig, server: &Server) -> Result<Self, BusError> {
        let connection = config.connect(server).await?;
        let (keys, server) = (config.keys.clone(), server.clone());
        let mut link = Self { connection, keys, server, asks_role: true };
        link.ping().await?;
        Ok(link)
    }

    /// Reads a room's head and then a run of its log, which can go beyond that head.
    ///
    /// No transaction: a Redis whose memory is full refuses MULTI, and reading must go on.
    pub async fn load(&mut self, room: &RoomName, range: Range) -> Result<Loaded, BusError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HMGET").arg(self.keys.head(room)).arg(&["s", "o", "e"]);
        let log = self.keys.log(room);
        match range {
            Range::Last(count) => {
                pipeline.cmd("XREVRANGE").arg(log).arg("+").arg("-").arg("COUNT").arg(count)
            }
            Range::After { offset, count } => {
                let from = format!("{}-0", offset.next());
                pipeline.cmd("XRANGE").arg(log).arg(from).arg("+").arg("COUNT").arg(count)
            }
        };
        let (head, entries): (Value, Value) =
            pipeline.query_async(&mut self.connection).await.map_err(BusError::from)?;
        let mut records = parse_entries(entries)?;
        if matches!(range, Range::Last(_)) {
            records.reverse();
        }
        Ok(Loaded { head: parse_head(&head)?, records })
    }

    /// Reads the heads of many rooms in one pipeline, in order. One that cannot be read is that room's trouble.
    pub async fn heads(
        &mut self,
        rooms: &[RoomName],
    ) -> Result<Vec<Result<Option<Head>, BusError>>, BusError> {
        let mut pipeline = redis::pipe();
        for room in rooms {
            pipeline.cmd("HMGET").arg(self.keys.head(room)).arg(&["s", "o", "e"]);
        }
        let answers = self.connection.send_packed_commands(&pipeline, 0, rooms.len()).await;
        Ok(answers.map_err(BusError::Link)?.iter().map(parse_head).collect())
    }

    /// The last heartbeat that any leader sent, if Redis keeps one.
    pub async fn last_heartbeat(&mut self) -> Result<Option<Heartbeat>, BusError> {
        let json: Option<String> = redis::cmd("HGET")
            .arg(self.keys.state(&self.server))
            .arg("h")
            .query_async(&mut self.connection)
            .await
            .map_err(BusError::from)?;
        json.map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| BusError::Unexpected { command: "HGET state", detail: error.to_string() })
    }

    /// A sheet as a leader has mirrored it; none where none has, or where it is gone.
    pub async fn mirror(&mut self, sheet: Sheet) -> Result<Option<Mirror>, BusError> {
        let fields = [format!("v:{}", sheet.name()), format!("m:{}", sheet.name())];
        let (version, content): (Option<u64>, Option<String>) = redis::cmd("HMGET")
            .arg(self.keys.state(&self.server))
            .arg(&fields)
            .query_async(&mut self.connection)
            .await
            .map_err(BusError::from)?;
        Ok(version.zip(content).map(|(version, content)| Mirror { sheet, version, content }))
    }

    /// Whether the server answers, and is a master still: a replica takes no events, and a demoted master has late ones.
    ///
    /// # Errors
    /// It does not, or is not.
    pub async fn ping(&mut self) -> Result<(), BusError> {
        if self.asks_role {
            match role(&mut self.connection).await {
                Ok(role) => return self.judge_role(&role),
                // Not every service has the command, and not every user may say it.
                Err(BusError::Refused(refusal)) => {
                    tracing::warn!(server = %self.server, %refusal, "can not ask Redis whether it is a master; taking it for one");
                    self.asks_role = false;
                }
                Err(error) => return Err(error),
            }
        }
        redis::cmd("PING").query_async::<()>(&mut self.connection).await.map_err(BusError::from)
    }

    fn judge_role(&self, role: &str) -> Result<(), BusError> {
        match role {
            "master" => Ok(()),
            "sentinel" => {
                let reason =
                    "it is a Sentinel; begin the address with redis+sentinel://, and name the master";
                Err(BusError::Nowhere(format!("{}: {reason}", self.server)))
            }
            _ => Err(BusError::Replica(self.server.to_string())),
        }
    }
}

/// Takes the answer to `HMGET` for a room's head; none where the room has none.
///
/// # Errors
/// It has another form.
pub fn parse_head(value: &Value) -> Result<Option<Head>, BusError> {
    let unexpected = || BusError::Unexpected { command: "HMGET head", detail: brief(value) };
    let Value::Array(fields) = value else {
        return Err(unexpected());
    };
    if fields.first() == Some(&Value::Nil) {
        return Ok(None);
    }
    let field = |index: usize| match fields.get(index) {
        Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    let head = || {
        Some(Head {
            stream: field(0)?.parse().ok()?,
            offset: Offset(field(1)?.parse().ok()?),
            epoch: Epoch(field(2)?.parse().ok()?),
        })
    };
    head().map(Some).ok_or_else(unexpected)
}

/// Takes the answer to `XRANGE` for the entries of a log; those that cannot be read are left out.
///
/// # Errors
/// It has another form.
pub fn parse_entries(value: Value) -> Result<Vec<Record>, BusError> {
    let Value::Array(entries) = value else {
        return Err(BusError::Unexpected { command: "XRANGE", detail: brief(&value) });
    };
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let record = record_bytes(entry).map(|bytes| Record::decode(&bytes));
        match record {
            Some(Ok(record)) => records.push(record),
            // Whoever reads sees that an offset is missing, and acts as if it were gone.
            Some(Err(error)) => tracing::error!(%error, "an entry of a log cannot be read"),
            None => tracing::error!("an entry of a log has no record"),
        }
    }
    Ok(records)
}

/// What kind of answer it is. What it holds may be large, and belongs into no log.
fn brief(value: &Value) -> String {
    match value {
        Value::Nil => "nothing".to_owned(),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::BulkString(bytes) => format!("{} bytes", bytes.len()),
        Value::SimpleString(text) => format!("a text of {} bytes", text.len()),
        Value::Int(number) => format!("the number {number}"),
        _ => "another kind of answer".to_owned(),
    }
}

/// An entry is `[entry id, [field, value, …]]`; the record is the value of field `r`.
fn record_bytes(entry: Value) -> Option<Bytes> {
    let Value::Array(parts) = entry else { return None };
    let Some(Value::Array(fields)) = parts.into_iter().nth(1) else {
        return None;
    };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if let (Value::BulkString(name), Value::BulkString(bytes)) = (name, value)
            && name == b"r"
        {
            return Some(bytes.into());
        }
    }
    None
}
