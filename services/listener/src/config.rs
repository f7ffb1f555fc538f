//! The listener's configuration. Sections that other processes read too are in `rowcast-process`.

use std::time::Duration;

use rowcast_bus::{BusConfig, ClientFiles, Keys};
use rowcast_process::config::shared::{
    AdminConfig, DatabaseConfig, LogConfig, RedisConfig, default_installation,
};
use rowcast_process::config::{duration, size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::doorbell::{EMPTY, PROOF_INTERVAL};
use crate::plain::{self, Channel, Paths};
use crate::publisher::Limits;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `ROWCAST_INSTALLATION`: the installation's name, part of every key in Redis, `default` by default. Listeners and edges
    /// of one installation have the same.
    pub installation: String,
    /// Logs.
    pub log: LogConfig,
    /// The admin port.
    pub admin: AdminConfig,
    /// PostgreSQL: the primary itself, not a transaction pooler.
    pub database: DatabaseConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// The listener's own.
    pub listener: ListenerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            installation: default_installation(),
            log: LogConfig::default(),
            admin: AdminConfig::default(),
            database: DatabaseConfig::default(),
            redis: RedisConfig::default(),
            listener: ListenerConfig::default(),
        }
    }
}

/// Section `listener`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerConfig {
    /// `ROWCAST_LISTENER__MAX_ROWS`: rows that are in memory or published and not yet deleted, 20000 by default. Above
    /// it the listener stops reading; the outbox holds the rest.
    pub max_rows: usize,
    /// `ROWCAST_LISTENER__READ_ROWS`: rows that one read returns at most, 1000 by default.
    pub read_rows: usize,
    /// `ROWCAST_LISTENER__TIMER_INTERVAL`: the longest time between two reads where commits do not ring: on a server with
    /// `max_prepared_transactions` above 0. `400ms` by default, at least `10ms` and at most `700ms`. Events are late by a
    /// hundredth of the time for which nothing came before them, and by this at most; an idle system is asked so often.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub timer_interval: Duration,
    /// `ROWCAST_LISTENER__BATCH_COMMANDS`: commands in one pipeline to Redis, 512 by default.
    pub batch_commands: usize,
    /// `ROWCAST_LISTENER__BATCH_BYTES`: size of one pipeline to Redis, about, `1MiB` by default.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub batch_bytes: u64,
    /// `ROWCAST_LISTENER__MAX_EVENT_BYTES`: an event with more JSON than this becomes a dead letter, `1MiB` by default.
    /// Triggers send a reference instead of a row far below it.
    #[serde(with = "size")]
    #[schemars(with = "String")]
    pub max_event_bytes: u64,
    /// `ROWCAST_LISTENER__REMEMBERED_ROOMS`: rooms whose place in Redis is remembered, 100000 by default. A forgotten
    /// one costs one more question to Redis with its next event.
    pub remembered_rooms: usize,
    /// `ROWCAST_LISTENER__CHANNELS`: plain mode: channels that existing triggers notify with JSON, none by default. Each is
    /// a name, or a table of `channel` and any of `room`, `room_field`, `type`, `type_field`, where fields need paths of
    /// their own. Such events are delivered at most once.
    pub channels: Vec<Channel>,
    /// `ROWCAST_LISTENER__PLAIN_ROOM_FIELD`: where the room stands in payloads of plain mode, `merchantId,data.merchantId` by
    /// default; the first path that is there counts.
    #[serde(deserialize_with = "plain::one_or_more")]
    pub plain_room_field: Paths,
    /// `ROWCAST_LISTENER__PLAIN_TYPE_FIELD`: where the type stands in payloads of plain mode, `type` by default; where it is not there, the type is the
    /// channel's name.
    #[serde(deserialize_with = "plain::one_or_more")]
    pub plain_type_field: Paths,
    /// `ROWCAST_LISTENER__REPLACES`: the database whose place in Redis this one takes, as a refused listener names it; empty by default. For
    /// a database that was moved to another cluster by a dump or by `pg_upgrade`, when the old one is gone for good. A copy beside it
    /// gets another `ROWCAST_INSTALLATION` instead.
    pub replaces: String,
    /// `ROWCAST_LISTENER__STOP_TIMEOUT`: how long a stop may take to hand over, `10s` by default.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub stop_timeout: Duration,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            max_rows: 20_000,
            read_rows: 1_000,
            timer_interval: Duration::from_millis(400),
            batch_commands: 512,
            batch_bytes: 1 << 20,
            max_event_bytes: 1 << 20,
            remembered_rooms: 100_000,
            channels: Vec::new(),
            plain_room_field: vec!["merchantId".to_owned(), "data.merchantId".to_owned()],
            plain_type_field: vec!["type".to_owned()],
            replaces: String::new(),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first value that the listener can not work with, by its key.
    pub fn validate(&self) -> anyhow::Result<()> {
        let positive = [
            ("listener.max_rows", self.listener.max_rows as u64, 1),
            ("listener.read_rows", self.listener.read_rows as u64, 1),
            ("listener.batch_commands", self.listener.batch_commands as u64, 1),
            ("listener.batch_bytes", self.listener.batch_bytes, 1),
            ("listener.remembered_rooms", self.listener.remembered_rooms as u64, 1),
            ("redis.log_max_entries", self.redis.log_max_entries, 2),
        ];
        for (key, value, least) in positive {
            anyhow::ensure!(value >= least, "`{key}` is {value}, and must be {least} or more");
        }
        let timer = self.listener.timer_interval;
        anyhow::ensure!(
            (EMPTY..=PROOF_INTERVAL).contains(&timer),
            "`listener.timer_interval` is {timer:?}, and must be {EMPTY:?} to {PROOF_INTERVAL:?}"
        );
        anyhow::ensure!(
            self.database.url.is_set(),
            "`database.url` is not set: give PostgreSQL's address in ROWCAST_DATABASE__URL"
        );
        anyhow::ensure!(
            self.redis.head_ttl > self.redis.log_ttl,
            "`redis.head_ttl` must be longer than `redis.log_ttl`, or a forgotten log looks like a new room"
        );
        anyhow::ensure!(
            !self.installation.is_empty() && !self.installation.contains(['{', '}', ':']),
            "`installation` must not be empty nor contain any of {{ }} :"
        );
        rowcast_store::check_address(self.database.address().expose())?;
        self.bus(Keys::new(&self.redis.prefix, &self.installation)).check()?;
        plain::validate(&self.listener)
    }

    /// Where Redis is.
    pub(crate) fn bus(&self, keys: Keys) -> BusConfig {
        let tls = &self.redis.tls;
        let files = ClientFiles::from_settings(&tls.ca, &tls.cert, &tls.key);
        BusConfig::new(self.redis.url.expose(), keys).with_tls(files)
    }

    /// The publisher's bounds.
    pub(crate) fn limits(&self) -> Limits {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            max_rows: self.listener.max_rows,
            batch_commands: self.listener.batch_commands,
            batch_bytes: count(self.listener.batch_bytes),
            event_bytes: count(self.listener.max_event_bytes),
            log_entries: count(self.redis.log_max_entries),
            rooms: self.listener.remembered_rooms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_lack_only_an_address() {
        let mut config = Config::default();
        assert!(config.validate().unwrap_err().to_string().contains("ROWCAST_DATABASE__URL"));
        config.database.url = "postgres://127.0.0.1/app".into();
        config.validate().expect("valid");
        config.listener.timer_interval = Duration::from_millis(701);
        assert!(config.validate().unwrap_err().to_string().contains("listener.timer_interval"));
        config.listener.timer_interval = Duration::from_millis(10);
        config.redis.head_ttl = config.redis.log_ttl;
        assert!(config.validate().unwrap_err().to_string().contains("redis.head_ttl"));
    }
}
