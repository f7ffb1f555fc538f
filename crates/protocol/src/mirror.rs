//! What the leader mirrors from PostgreSQL into Redis, so that edges, which have no way to PostgreSQL, can go by it:
//! sheets, each with a version that rises with every change of it. A heartbeat tells the versions; an edge that holds
//! another one loads the sheet. How it is written and read is the bus's.

use serde::{Deserialize, Serialize};

/// What can be mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sheet {
    /// [`Switches`].
    Switches,
    /// [`crate::Revocations`].
    Revocations,
}

impl Sheet {
    /// All of them.
    pub const ALL: [Sheet; 2] = [Self::Switches, Self::Revocations];

    /// Its name in PostgreSQL and in Redis.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switches => "switches",
            Self::Revocations => "revocations",
        }
    }
}

/// A sheet as it was at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Which.
    pub sheet: Sheet,
    /// 1 and above; 0 stands for "nothing is known of it" ([`crate::Heartbeat::version`]).
    pub version: u64,
    /// JSON, of the sheet's own form.
    pub content: String,
}

/// What can be turned off and on at run time. Unknown switches are ignored and missing ones are on, so that neighbouring
/// versions understand each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switches {
    /// Sockets are open to clients; off, all of them poll.
    pub websocket: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { websocket: true }
    }
}

impl Switches {
    /// Reads a sheet's content.
    ///
    /// # Errors
    /// When it is not of the form `{"websocket":true}`.
    pub fn parse(content: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_have_the_names_that_postgresql_and_redis_know() {
        assert_eq!(Sheet::ALL.map(Sheet::name), ["switches", "revocations"]);
    }

    #[test]
    fn neighbouring_versions_understand_each_others_switches() {
        let parse = |text| Switches::parse(text).expect("readable");
        assert_eq!(parse("{}"), Switches { websocket: true }, "one that is not named is on");
        assert_eq!(parse(r#"{"later":false,"websocket":false}"#), Switches { websocket: false });
        assert!(Switches::parse(r#"{"websocket":"perhaps"}"#).is_err());
    }
}
