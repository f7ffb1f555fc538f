//! Plain mode's settings: which channels, and where in their payloads room and type stand.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::ListenerConfig;

/// PostgreSQL's bound on a channel's name, in bytes.
const MAX_CHANNEL_BYTES: usize = 63;

/// Where in a payload something may stand, the first that is there counts: keys joined by dots (`data.merchantId`), or
/// a JSON pointer (`/data/merchantId`) where a key has a dot in it.
pub type Paths = Vec<String>;

/// A channel: its name, or a table that says more.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a channel is its name, or a table of `channel` and any of `room`, `room_field`, `type` and `type_field`"
)]
pub enum Channel {
    /// Its name alone; `plain_room_field` and `plain_type_field` apply.
    Name(String),
    /// Its name and more.
    Table(ChannelTable),
}

/// A channel whose payloads are like no other's.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelTable {
    /// The channel's name, exactly as `pg_notify` is given it: `Booking_INSERT`.
    pub channel: String,
    /// The room of all its events, whatever the payload says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// Where the room stands in its payloads, in place of `plain_room_field`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_more")]
    pub room_field: Paths,
    /// The type of all its events, whatever the payload says.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Where the type stands in its payloads, in place of `plain_type_field`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_more")]
    pub type_field: Paths,
}

impl Channel {
    /// As a table.
    pub(super) fn table(&self) -> ChannelTable {
        match self {
            Self::Name(name) => ChannelTable { channel: name.clone(), ..ChannelTable::default() },
            Self::Table(table) => table.clone(),
        }
    }
}

/// Reads a list of paths; a single one may stand without brackets.
pub(crate) fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Paths, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a path or a list of paths")]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(path) => vec![path],
        OneOrMore::More(paths) => paths,
    })
}

/// Checks what the types do not say.
pub(crate) fn validate(config: &ListenerConfig) -> anyhow::Result<()> {
    for (key, paths) in [
        ("listener.plain_room_field", &config.plain_room_field),
        ("listener.plain_type_field", &config.plain_type_field),
    ] {
        anyhow::ensure!(!paths.is_empty(), "`{key}` is empty; name the field, as in \"merchantId\"");
        check_paths(key, paths)?;
    }
    let mut names = std::collections::HashSet::new();
    for table in config.channels.iter().map(Channel::table) {
        let name = &table.channel;
        anyhow::ensure!(
            (1..=MAX_CHANNEL_BYTES).contains(&name.len()) && !name.contains('\0'),
            "`listener.channels`: {name:?} can not be a channel: its name has 1 to {MAX_CHANNEL_BYTES} bytes"
        );
        anyhow::ensure!(
            ![rowcast_store::DOORBELL_CHANNEL, rowcast_store::LEADER_CHANNEL].contains(&name.as_str()),
            "`listener.channels`: {name:?} is Rowcast's own channel"
        );
        anyhow::ensure!(names.insert(name.clone()), "`listener.channels`: {name:?} is there twice");
        check_paths("listener.channels", table.room_field.iter().chain(&table.type_field))?;
        if let Some(room) = &table.room {
            rowcast_protocol::RoomName::parse(room)
                .map_err(|error| anyhow::anyhow!("`listener.channels`: {name:?}: {error}"))?;
        }
        let constant = table.type_.as_deref();
        if let Some(fault) = constant.and_then(super::decode::type_fault) {
            anyhow::bail!("`listener.channels`: {name:?}: its type {constant:?} is refused: {fault}");
        }
    }
    Ok(())
}

fn check_paths<'a>(key: &str, paths: impl IntoIterator<Item = &'a String>) -> anyhow::Result<()> {
    for path in paths {
        let empty = !path.starts_with('/') && path.split('.').any(str::is_empty);
        anyhow::ensure!(
            !empty,
            "`{key}`: {path:?} is no path; it looks like merchantId, data.merchantId or /data/merchantId"
        );
        anyhow::ensure!(
            path.starts_with('/') || !path.contains(','),
            "`{key}`: {path:?} is one path; several are a list, as in [\"merchantId\", \"data.merchantId\"]"
        );
    }
    Ok(())
}
