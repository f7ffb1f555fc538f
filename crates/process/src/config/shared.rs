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

/// Section `database.tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseTlsConfig {
    /// `ROWCAST_DATABASE__TLS__MODE`: as libpq's `sslmode`: `disable`, `prefer`, `require`, `verify-ca` or `verify-full`, which is
    /// the one to use. Empty by default: what the URL says, else `verify-full` where a CA is named, else `prefer`. Where the URL
    /// says one too, the stronger counts.
    pub mode: String,
    /// `ROWCAST_DATABASE__TLS__CA`: the file (PEM) of the CA that signed the server's certificate, as `sslrootcert`; empty by
    /// default: those that this system trusts.
    pub ca: String,
    /// `ROWCAST_DATABASE__TLS__CERT`: the file (PEM) of a client certificate and its chain, as `sslcert`; empty by default.
    pub cert: String,
    /// `ROWCAST_DATABASE__TLS__KEY`: the file (PEM) of its private key, as `sslkey`; empty by default.
    pub key: String,
}

/// Section `database`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `ROWCAST_DATABASE__URL`: PostgreSQL's URL, required by those who use it; empty by default. It may name several hosts
    /// (`postgres://app@one:5432,two:5432/shop`): the first that is a primary and takes writes is used, each has `connect_timeout`
    /// seconds to answer (3 unless the URL says so), and `target_session_attrs` may be `any`, `primary` or `read-write`.
    pub url: SecretUrl,
    /// TLS to PostgreSQL, where it does not stand in the URL.
    pub tls: DatabaseTlsConfig,
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
            tls: DatabaseTlsConfig::default(),
            migrate_lock_timeout: Duration::from_millis(200),
            migrate_retry_for: Duration::from_secs(60),
        }
    }
}

impl DatabaseConfig {
    /// The URL with what the settings say of TLS written behind it, as its own parameters.
    pub fn address(&self) -> SecretUrl {
        let tls = &self.tls;
        let mut address = self.url.expose().to_owned();
        for (key, value) in
            [("sslmode", &tls.mode), ("sslrootcert", &tls.ca), ("sslcert", &tls.cert), ("sslkey", &tls.key)]
        {
            if value.is_empty() || address.is_empty() {
                continue;
            }
            match address.contains("://") {
                true => {
                    let authority = address.find('@').unwrap_or(0);
                    let mark = if address[authority..].contains('?') { '&' } else { '?' };
                    let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
                    // A plus sign would be one.
                    address.push_str(&format!("{mark}{key}={}", value.replace('+', "%20")));
                }
                false => {
                    let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
                    address.push_str(&format!(" {key}='{quoted}'"));
                }
            }
        }
        SecretUrl::new(address)
    }
}

/// Section `redis.tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTlsConfig {
    /// `ROWCAST_REDIS__TLS__CA`: the file (PEM) of the CA that signed the server's certificate; empty by default: those that
    /// this system trusts.
    pub ca: String,
    /// `ROWCAST_REDIS__TLS__CERT`: the file (PEM) of a client certificate and its chain; empty by default.
    pub cert: String,
    /// `ROWCAST_REDIS__TLS__KEY`: the file (PEM) of its private key; empty by default.
    pub key: String,
}

/// Section `redis`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `ROWCAST_REDIS__URL`: Redis's URL, `redis://127.0.0.1:6379` by default. `redis+sentinel://s1:26379,s2:26379/name` asks Sentinels
    /// for the master of that name, `redis+cluster://n1:6379,n2:6379` finds a Cluster; docs/topologies.md has them all. `rediss://`,
    /// `rediss+sentinel://` and `rediss+cluster://` speak TLS, and always prove that the server is the one that is named.
    pub url: SecretUrl,
    /// TLS to Redis, for `rediss://`.
    pub tls: RedisTlsConfig,
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
            tls: RedisTlsConfig::default(),
            prefix: "rowcast".to_owned(),
            log_max_entries: 1000,
            log_ttl: Duration::from_secs(3600),
            head_ttl: Duration::from_secs(7 * 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_tls_become_parameters_of_the_address() {
        let tls = DatabaseTlsConfig {
            mode: "verify-full".to_owned(),
            ca: "/etc/a b+c'.crt".to_owned(),
            ..DatabaseTlsConfig::default()
        };
        for (url, address) in [
            (
                "postgres://app:p?w@db/shop",
                "postgres://app:p?w@db/shop?sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20b%2Bc%27.crt",
            ),
            (
                "postgres://db/shop?sslmode=require",
                "postgres://db/shop?sslmode=require&sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20b%2Bc%27.crt",
            ),
            ("host=db", "host=db sslmode='verify-full' sslrootcert='/etc/a b+c\\'.crt'"),
            ("", ""),
        ] {
            let config = DatabaseConfig { url: url.into(), tls: tls.clone(), ..DatabaseConfig::default() };
            assert_eq!(config.address().expose(), address);
        }
        let config = DatabaseConfig { url: "postgres://db/shop".into(), ..DatabaseConfig::default() };
        assert_eq!(config.address().expose(), "postgres://db/shop");
    }
}
