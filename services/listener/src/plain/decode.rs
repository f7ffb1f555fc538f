//! A notification as an event: its room, its type, or why it can not be one. No IO.

use std::collections::HashMap;

use rowcast_protocol::RoomName;
use rowcast_protocol::socketio::RESERVED_TYPES;
use rowcast_store::Note;
use serde_json::Value;

use super::settings::{Channel, ChannelTable, Paths};
use crate::config::ListenerConfig;

/// As in `rowcast.type_fault`.
const MAX_TYPE_BYTES: usize = 150;
/// What a trigger sends in place of a row that `pg_notify` would not take, by the seed of many such triggers.
const TOO_LARGE: &str = "payload_too_large";

/// Where an event belongs. Its data is the whole payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The room's name.
    pub room: String,
    /// The event's type.
    pub event_type: String,
    /// The payload says of itself that it is only a reference.
    pub truncated: bool,
}

/// Why a notification is no event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody configured it.
    #[error("a channel that is not configured")]
    Channel,
    /// Too large to be carried.
    #[error("its payload has {bytes} bytes, more than listener.max_event_bytes")]
    Oversize {
        /// Of the payload.
        bytes: usize,
    },
    /// Not a JSON object, and why.
    #[error("its payload is not a JSON object: {0}")]
    Malformed(String),
    /// No room, and why.
    #[error("its payload names no usable room: {0}")]
    Room(String),
    /// A type that rows could not have either.
    #[error("its type {type_:?} is refused: {fault}")]
    Type {
        /// Its begin.
        type_: String,
        /// What is wrong with it.
        fault: String,
    },
}

impl Refusal {
    /// A metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Oversize { .. } => "oversize",
            Self::Malformed(_) => "malformed",
            Self::Room(_) => "room",
            Self::Type { .. } => "type",
        }
    }
}

/// The configured channels.
#[derive(Debug)]
pub struct Channels {
    by_name: HashMap<String, ChannelTable>,
    room_field: Paths,
    type_field: Paths,
    max_bytes: usize,
}

impl Channels {
    /// Those of a configuration.
    pub fn new(config: &ListenerConfig) -> Self {
        let tables = config.channels.iter().map(Channel::table);
        Self {
            by_name: tables.map(|table| (table.channel.clone(), table)).collect(),
            room_field: config.plain_room_field.clone(),
            type_field: config.plain_type_field.clone(),
            max_bytes: usize::try_from(config.max_event_bytes).unwrap_or(usize::MAX),
        }
    }

    /// Their names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.by_name.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// What a notification is.
    ///
    /// # Errors
    /// Why it is no event.
    pub fn decode(&self, note: &Note) -> Result<Event, Refusal> {
        let table = self.by_name.get(&note.channel).ok_or(Refusal::Channel)?;
        let bytes = note.payload.len();
        if bytes > self.max_bytes {
            return Err(Refusal::Oversize { bytes });
        }
        let payload: Value =
            serde_json::from_str(&note.payload).map_err(|error| Refusal::Malformed(error.to_string()))?;
        if !payload.is_object() {
            return Err(Refusal::Malformed("it is another kind of JSON".to_owned()));
        }
        Ok(Event {
            room: self.room(table, &payload)?,
            event_type: self.event_type(table, &payload)?,
            truncated: payload.get("error").and_then(Value::as_str) == Some(TOO_LARGE),
        })
    }

    fn room(&self, table: &ChannelTable, payload: &Value) -> Result<String, Refusal> {
        if let Some(room) = &table.room {
            return Ok(room.clone());
        }
        let paths = if table.room_field.is_empty() { &self.room_field } else { &table.room_field };
        let room = match first(payload, paths) {
            Some(Value::String(text)) => text.clone(),
            // Beyond 64 bits JSON's numbers lose digits here, and would name another room.
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
            Some(_) => {
                return Err(Refusal::Room(format!("{} is neither text nor a whole number", list(paths))));
            }
            None => return Err(Refusal::Room(format!("{} is not there", list(paths)))),
        };
        match RoomName::parse(&room) {
            Ok(_) => Ok(room),
            Err(error) => Err(Refusal::Room(error.to_string())),
        }
    }

    /// The payload's own type; where it has none, the channel says what happened.
    fn event_type(&self, table: &ChannelTable, payload: &Value) -> Result<String, Refusal> {
        if let Some(constant) = &table.type_ {
            return Ok(constant.clone());
        }
        let paths = if table.type_field.is_empty() { &self.type_field } else { &table.type_field };
        let type_ = match first(payload, paths) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => {
                let fault = "it is not text".to_owned();
                return Err(Refusal::Type { type_: other.to_string().chars().take(40).collect(), fault });
            }
            None => table.channel.clone(),
        };
        match type_fault(&type_) {
            Some(fault) => Err(Refusal::Type { type_: type_.chars().take(40).collect(), fault }),
            None => Ok(type_),
        }
    }
}

/// The first of these that is there. NULL counts as not there: it is what a column without a value becomes.
fn first<'a>(payload: &'a Value, paths: &Paths) -> Option<&'a Value> {
    paths.iter().filter_map(|path| at(payload, path)).find(|value| !value.is_null())
}

fn at<'a>(payload: &'a Value, path: &str) -> Option<&'a Value> {
    if path.starts_with('/') {
        return payload.pointer(path);
    }
    path.split('.').try_fold(payload, |value, key| value.get(key))
}

fn list(paths: &Paths) -> String {
    paths.join(" or ")
}

/// Why a text can not be an event's type, as the database has it for rows.
pub(super) fn type_fault(type_: &str) -> Option<String> {
    if !(1..=MAX_TYPE_BYTES).contains(&type_.len()) {
        Some(format!("it must have 1 to {MAX_TYPE_BYTES} bytes"))
    } else if RESERVED_TYPES.contains(&type_) {
        Some("Socket.IO keeps it for itself".to_owned())
    } else if type_.starts_with("rowcast.") {
        Some("names that begin with \"rowcast.\" are Rowcast's own".to_owned())
    } else if type_.chars().any(char::is_control) {
        Some("it must not contain control characters".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
