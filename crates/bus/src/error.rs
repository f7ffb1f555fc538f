//! What can go wrong between here and Redis.

/// The link is of no use any more, or could not be made. The caller makes a new one.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL can not be used.
    #[error("the Redis URL is not usable ({0}); expected redis://[user:password@]host:port[/db]")]
    Url(String),
    /// No connection, or it broke, or an answer took too long.
    #[error("Redis does not answer: {0}")]
    Link(redis::RedisError),
    /// Redis answered, with an error to a command that reads.
    #[error("Redis refused: {0}")]
    Refused(Refusal),
    /// An answer of a shape that the command never gives.
    #[error("Redis answered {command} with something unexpected: {detail}")]
    Unexpected {
        /// The command.
        command: &'static str,
        /// What was wrong about the answer.
        detail: String,
    },
}

/// An error that Redis answered with. All of them are met by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {detail}")]
pub struct Refusal {
    /// Redis's own code: OOM, READONLY, NOSCRIPT, …
    pub code: String,
    /// The rest of the message.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn of(error: &redis::ServerError) -> Self {
        Self { code: error.code().to_owned(), detail: error.details().unwrap_or_default().to_owned() }
    }

    /// A metric label: the codes that are known to happen, `other` for the rest.
    pub fn label(&self) -> &'static str {
        const KNOWN: [&str; 11] = [
            "OOM",
            "READONLY",
            "MISCONF",
            "LOADING",
            "CLUSTERDOWN",
            "TRYAGAIN",
            "BUSY",
            "NOPERM",
            "NOSCRIPT",
            "NOREPLICAS",
            "MASTERDOWN",
        ];
        KNOWN.into_iter().find(|known| *known == self.code).unwrap_or("other")
    }
}

impl From<redis::RedisError> for BusError {
    fn from(error: redis::RedisError) -> Self {
        match error.code() {
            Some(code) if error.kind() != redis::ErrorKind::Io => Self::Refused(Refusal {
                code: code.to_owned(),
                detail: error.detail().unwrap_or_default().to_owned(),
            }),
            _ => Self::Link(error),
        }
    }
}
