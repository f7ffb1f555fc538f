//! What a client is given and what it gives back. What it does is in the module above.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::{Backoff, Delivery, InvalidUrl, Resync, Status, Step, Welcome};

/// Where tokens come from.
#[derive(Clone)]
pub enum TokenSource {
    /// One token. When it is refused there is no other.
    Fixed(String),
    /// Asked anew for every attempt, and when a token is about to expire.
    Renewable(Arc<dyn Fn() -> anyhow::Result<String> + Send + Sync>),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(***)",
            Self::Renewable(_) => "Renewable",
        })
    }
}

impl TokenSource {
    pub(super) fn token(&self) -> Result<String, ClientError> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::Renewable(sign) => sign().map_err(|error| ClientError::Token(format!("{error:#}"))),
        }
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// `ws://host:port/path`, or `http://host:port` for its `/ws`.
    pub url: String,
    /// Where tokens come from.
    pub token: TokenSource,
    /// Only these types, when given.
    pub types: Option<Vec<String>>,
    /// Cursors to go on from, by room.
    pub resume: BTreeMap<String, String>,
    /// Delays between attempts.
    pub backoff: Backoff,
}

impl Options {
    /// Everything, from now on.
    pub fn new(url: impl Into<String>, token: TokenSource) -> Self {
        Self { url: url.into(), token, types: None, resume: BTreeMap::new(), backoff: Backoff::default() }
    }
}

/// What happens to a client, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// Signed in.
    Welcome(Welcome),
    /// An event of a room. Repeats are dropped before this, and counted.
    Delivery(Delivery, Step),
    /// History does not reach back.
    Resync(Resync),
    /// The way behind the edge broke, or works again.
    Status(Status),
    /// The token ends in so many seconds; a renewable one is being renewed.
    TokenExpiring(u64),
    /// The new token was taken; it ends then.
    Refreshed {
        /// RFC 3339.
        expires_at: String,
    },
    /// The server announces that it will close.
    Bye {
        /// The close code.
        code: u16,
    },
    /// There is no connection; the next attempt follows by itself.
    Disconnected {
        /// Why, for people.
        reason: String,
        /// The close code, where the server gave one.
        code: Option<u16>,
        /// The delay before the next attempt.
        retry_in: Duration,
    },
}

/// Why a client gave up: trying again would not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// No token could be had.
    #[error("no token: {0}")]
    Token(String),
    /// The server refuses the connection for good.
    #[error("the server refused the connection: {reason}")]
    Refused {
        /// The close code, or the HTTP status.
        code: u16,
        /// The server's reason and what it means.
        reason: String,
    },
}

/// What a client has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Events returned.
    pub events: u64,
    /// Events dropped because they came before.
    pub repeats: u64,
    /// Events whose predecessor is missing; not counted under a type filter, where that is normal.
    pub gaps: u64,
    /// Resyncs.
    pub resyncs: u64,
    /// Connections beyond the first.
    pub reconnects: u64,
}
