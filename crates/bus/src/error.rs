//! What can go wrong between here and Redis.

/// The link is of no use any more, or could not be made. The caller makes a new one.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL can not be used.
    #[error(
        "the Redis URL is not usable ({0}); expected redis://[user:password@]host:port[/db], redis+sentinel:// or redis+cluster://"
    )]
    Url(String),
    /// A certificate or a key can not be used.
    #[error("TLS to Redis: {0}")]
    Tls(#[from] rowcast_tls::TlsError),
    /// Certificates for a connection without TLS.
    #[error("redis.tls names certificates, and redis.url asks for no TLS: begin it with rediss://")]
    TlsUnused,
    /// TLS did not come about; with what to do.
    #[error("no TLS with Redis: {0}")]
    Handshake(String),
    /// Nobody could tell which servers there are.
    #[error("no Redis server is known: {0}")]
    Nowhere(String),
    /// A replica where a master belongs: it serves what is late, and takes nothing.
    #[error(
        "Redis at {0} is a replica, and a master is needed: it was demoted, or redis.url names the wrong one"
    )]
    Replica(String),
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

impl BusError {
    pub(crate) fn timed_out() -> Self {
        Self::Link(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
    }

    /// Tells what went wrong with TLS from the rest.
    pub(crate) fn from_connect(error: redis::RedisError) -> Self {
        match rowcast_tls::explain(&error, "redis.tls.ca", "redis.tls.cert and redis.tls.key") {
            Some(text) => Self::Handshake(text),
            // The library keeps Redis's own words to itself.
            None if error.kind() == redis::ErrorKind::AuthenticationFailed => Self::Refused(Refusal {
                code: "WRONGPASS".to_owned(),
                detail: "user or password is wrong, or the user is off".to_owned(),
            }),
            None => Self::from(error),
        }
    }
}

/// An error that Redis answered with. All of them are met by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {detail}{}", self.advice())]
pub struct Refusal {
    /// Redis's own code: OOM, READONLY, NOSCRIPT, …
    pub code: String,
    /// The rest of the message.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn of(error: &redis::ServerError) -> Self {
        Self::new(error.code(), error.details().unwrap_or_default())
    }

    /// Until 7.0, Redis tells of a command that it refused within a script in the words of its own, behind the script's line:
    /// `ERR Error running script (…): @user_script:23: @user_script: 23: -OOM command not allowed …`.
    fn new(code: &str, detail: &str) -> Self {
        let within = detail.strip_prefix("Error running script").filter(|_| code == "ERR");
        let said = within.and_then(|detail| detail.split_once(": -")?.1.split_once(' '));
        let (code, detail) = said.unwrap_or((code, detail));
        Self { code: code.to_owned(), detail: detail.to_owned() }
    }

    fn advice(&self) -> &'static str {
        match self.code.as_str() {
            "NOPERM" => {
                "; the user in redis.url may not do this: docs/transport-security.md has the rights that it needs"
            }
            "NOAUTH" => {
                "; give redis.url a user and a password (of Sentinels in ?sentinel_user=…&sentinel_password=…)"
            }
            "WRONGPASS" => {
                "; check user and password in redis.url (of Sentinels in ?sentinel_user=…&sentinel_password=…)"
            }
            "MOVED" => {
                "; this is a node of a Cluster: begin redis.url with redis+cluster:// (where it does so, slots are on their way)"
            }
            "ERR" if self.detail.starts_with("unknown command") => {
                "; this is a Sentinel (begin redis.url with redis+sentinel://), or a service without what Rowcast needs: \
                 docs/topologies.md"
            }
            _ => "",
        }
    }

    /// Whether another server is the one to ask: this one was demoted, or has given the slot away.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.code.as_str(), "READONLY" | "MOVED" | "CLUSTERDOWN")
    }

    /// Whether it is about the room's slot in a Cluster, and passes.
    pub fn is_of_slot(&self) -> bool {
        matches!(self.code.as_str(), "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN")
    }

    /// A metric label: the codes that are known to happen, `other` for the rest.
    pub fn label(&self) -> &'static str {
        const KNOWN: [&str; 14] = [
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
            "MOVED",
            "ASK",
            "FOREIGN",
        ];
        KNOWN.into_iter().find(|known| *known == self.code).unwrap_or("other")
    }
}

impl From<redis::RedisError> for BusError {
    fn from(error: redis::RedisError) -> Self {
        if error.code().is_none() || error.kind() == redis::ErrorKind::Io {
            return Self::Link(error);
        }
        let refusal = Refusal {
            code: error.code().unwrap_or_default().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
        };
        // Of a pipeline, only this has the words.
        let first =
            error.into_server_errors().and_then(|all| all.first().map(|(_, error)| Refusal::of(error)));
        Self::Refused(first.unwrap_or(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_within_a_script_has_its_own_code_in_older_servers_too() {
        let within = "Error running script (call to f_fb73755c): @user_script:23: @user_script: 23: ";
        let refusal =
            Refusal::new("ERR", &format!("{within}-READONLY You can't write against a read only replica."));
        assert_eq!(
            (refusal.label(), refusal.detail.starts_with("You can't")),
            ("READONLY", true),
            "{refusal}"
        );
        for detail in
            [&format!("{within}WRONGTYPE Operation"), "unknown command: -OOM x", "Error running script"]
        {
            assert_eq!(Refusal::new("ERR", detail).code, "ERR", "{detail}");
        }
        assert_eq!(Refusal::new("OOM", "command not allowed").label(), "OOM");
    }
}
