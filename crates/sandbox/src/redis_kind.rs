//! Kinds of servers that speak Redis's protocol. Where they are is `binaries`' affair, how they are started `redis`'s.

use std::fmt;

use crate::{Missing, find_redis_kind, redis_kind_unavailable};

/// Whose server is to be started. All but the system's come from `scripts/tools.sh`, and were built without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisKind {
    /// The one that the system has, Redis or Valkey; with TLS, as Debian builds it.
    #[default]
    System,
    /// Redis 6.2.
    Redis62,
    /// Redis 8.
    Redis8,
    /// Valkey 8.
    Valkey8,
    /// Valkey 9.
    Valkey9,
}

impl RedisKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::System, Self::Redis62, Self::Redis8, Self::Valkey8, Self::Valkey9];

    /// Whether this machine has one. Where `make setup` tried and could not bring it, a line says that tests are skipped.
    ///
    /// # Errors
    /// When nobody tried.
    pub fn is_here(self) -> Result<bool, Missing> {
        match (find_redis_kind(self), redis_kind_unavailable(self)) {
            (Ok(_), _) => Ok(true),
            (Err(_), Some(reason)) => {
                eprintln!("SKIPPED: there is no {self} here ({reason})");
                Ok(false)
            }
            (Err(missing), None) => Err(missing),
        }
    }

    /// Its name in `target/tools`.
    pub(crate) fn tool(self) -> Option<&'static str> {
        match self {
            Self::System => None,
            Self::Redis62 => Some("redis-6.2"),
            Self::Redis8 => Some("redis-8"),
            Self::Valkey8 => Some("valkey-8"),
            Self::Valkey9 => Some("valkey-9"),
        }
    }

    /// How its version begins, as the server tells it (`valkey_version` where there is one, else `redis_version`).
    pub fn version(self) -> Option<&'static str> {
        self.tool()?.split_once('-').map(|(_, version)| version)
    }
}

impl fmt::Display for RedisKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "Redis",
            Self::Redis62 => "Redis 6.2",
            Self::Redis8 => "Redis 8",
            Self::Valkey8 => "Valkey 8",
            Self::Valkey9 => "Valkey 9",
        })
    }
}
