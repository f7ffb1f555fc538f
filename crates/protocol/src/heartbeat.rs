//! What the leader says once a second, through the same connection and queue as the events.

use serde::{Deserialize, Serialize};

use crate::mirror::Sheet;
use crate::position::{Epoch, Generation};

/// One heartbeat. Unknown fields are ignored and missing ones have defaults, so that neighbouring versions
/// understand each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's epoch.
    pub epoch: u64,
    /// The history's number; an edge that hears a higher one tells every session to fetch anew.
    pub generation: u64,
    /// Age of the oldest committed event that is not yet in Redis, in milliseconds; 0 when none waits.
    pub lag_ms: u64,
    /// The leader's clock in microseconds since 1970, for the skew that an operator sees; never for decisions.
    #[serde(default)]
    pub at: i64,
    /// Set while the leader knows that history has a hole: why the light is Delayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impaired: Option<String>,
    /// The version of the switches that this leader has mirrored ([`crate::Switches`]); 0 from one that knows of none.
    #[serde(default)]
    pub switches: u64,
    /// The same of the revocations ([`crate::Revocations`]).
    #[serde(default)]
    pub revocations: u64,
}

impl Heartbeat {
    /// The leader's epoch, typed.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// The generation, typed.
    pub fn generation(&self) -> Generation {
        Generation(self.generation)
    }

    /// The version of a sheet that this leader has mirrored; 0 from one that knows of none.
    pub fn version(&self, sheet: Sheet) -> u64 {
        match sheet {
            Sheet::Switches => self.switches,
            Sheet::Revocations => self.revocations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_of_an_earlier_version_is_understood_and_knows_of_no_sheet() {
        let heard: Heartbeat =
            serde_json::from_str(r#"{"epoch":3,"generation":2,"lag_ms":0,"later":1}"#).expect("readable");
        assert_eq!((heard.epoch, heard.generation), (3, 2));
        assert!(Sheet::ALL.iter().all(|sheet| heard.version(*sheet) == 0));
    }
}
