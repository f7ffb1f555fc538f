//! Sections that more than one process reads. What only one process needs is that process's own.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretUrl;
pub use super::auth::{AuthConfig, IssuerConfig};

/// The default of the top-level key `installation` (`ROWCAST_INSTALLATION`).
pub fn default_installation() -> String {
    "default".to_owned()
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Lines for people.
    Text,
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `ROWCAST_LOG__FORMAT`: `json` (default) or `text`.
    pub format: LogFormat,
    /// `ROWCAST_LOG__LEVEL`: `error`, `warn`, `info` (default), `debug`, `trace`, or a filter by module such as
    /// `info,rowcast_edge=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned() }
    }
}

/// Section `admin`: the port for `/live`, `/ready` and `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// `ROWCAST_ADMIN__LISTEN`: address and port, `0.0.0.0:9090` by default; port 0 takes a free one.
    pub listen: String,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: "0.0.0.0:9090".to_owned() }
    }
}

/// Section `database`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `ROWCAST_DATABASE__URL`: PostgreSQL's URL, required by those who use it; empty by default.
    pub url: SecretUrl,
    /// `ROWCAST_DATABASE__MIGRATE_LOCK_TIMEOUT`: how long each statement of `rowcast migrate` waits for a lock, `200ms` by
    /// default. For so long, statements of the application may queue up behind it.
    #[serde(with = "super::duration")]
    #[schemars(with = "String")]
    pub migrate_lock_timeout: Duration,
    /// `ROWCAST_DATABASE__MIGRATE_RETRY_FOR`: for how long `rowcast migrate` tries again when it did not get a lock, `1m` by
    /// default.
    #[serde(with = "super::duration")]
    #[schemars(with = "String")]
    pub migrate_retry_for: Duration,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: SecretUrl::default(),
            migrate_lock_timeout: Duration::from_millis(200),
            migrate_retry_for: Duration::from_secs(60),
        }
    }
}

/// Section `redis`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `ROWCAST_REDIS__URL`: Redis's URL, `redis://127.0.0.1:6379` by default.
    pub url: SecretUrl,
    /// `ROWCAST_REDIS__PREFIX`: the first part of every key and channel, `rowcast` by default. Together with
    /// `ROWCAST_INSTALLATION` it keeps several installations, and other applications, apart in one Redis.
    pub prefix: String,
    /// `ROWCAST_REDIS__LOG_MAX_ENTRIES`: about how many events a room's log keeps, 1000 by default.
    pub log_max_entries: u64,
    /// `ROWCAST_REDIS__LOG_TTL`: how long a room's log outlives its last event, `1h` by default.
    #[serde(with = "super::duration")]
    #[schemars(with = "String")]
    pub log_ttl: Duration,
    /// `ROWCAST_REDIS__HEAD_TTL`: how long a room's head outlives its last event, `7d` by default; far longer than
    /// `log_ttl`, so that a forgotten log is told from a new room.
    #[serde(with = "super::duration")]
    #[schemars(with = "String")]
    pub head_ttl: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: SecretUrl::new("redis://127.0.0.1:6379"),
            prefix: "rowcast".to_owned(),
            log_max_entries: 1000,
            log_ttl: Duration::from_secs(3600),
            head_ttl: Duration::from_secs(7 * 86_400),
        }
    }
}
