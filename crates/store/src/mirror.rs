//! What is set in PostgreSQL at run time and mirrored into Redis for the edges: switches. Reading it for the leader,
//! reading and setting it for the command line. Writing it to Redis is the listener's.

use rowcast_protocol::{Mirror, Sheet};

use crate::lead::unsigned;
use crate::{Cleaner, StoreError, Watches};

/// A switch, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Its name.
    pub name: String,
    /// Whether it is on.
    pub is_on: bool,
    /// Since when, in µs since 1970.
    pub since_micros: i64,
}

/// All switches, as they are at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchList {
    /// It rises with every change.
    pub version: u64,
    /// By name.
    pub switches: Vec<Switch>,
}

/// The content of a sheet, in one statement: version and content belong together.
fn content(sheet: Sheet) -> &'static str {
    match sheet {
        Sheet::Switches => {
            "SELECT m.version, (SELECT coalesce(json_object_agg(s.name, s.is_on ORDER BY s.name), '{}')::text
                                  FROM rowcast.switches AS s)
               FROM rowcast.mirror AS m WHERE m.sheet = $1"
        }
    }
}

impl Cleaner {
    /// A sheet as it is now.
    pub async fn load_sheet(&self, sheet: Sheet) -> Result<Mirror, StoreError> {
        let row = self
            .session()
            .client()
            .query_opt(content(sheet), &[&sheet.name()])
            .await
            .map_err(StoreError::from_statement)?
            .ok_or_else(|| {
                StoreError::Unexpected(format!("rowcast.mirror has no row for {}", sheet.name()))
            })?;
        Ok(Mirror { sheet, version: unsigned(row.try_get(0)?)?, content: row.try_get(1)? })
    }
}

impl Watches {
    /// All switches.
    pub async fn switches(&self) -> Result<SwitchList, StoreError> {
        let rows = self
            .client()
            .query(
                "SELECT m.version, s.name, s.is_on, (extract(epoch FROM s.changed_at) * 1000000)::bigint
                   FROM rowcast.mirror AS m, rowcast.switches AS s WHERE m.sheet = $1 ORDER BY s.name",
                &[&Sheet::Switches.name()],
            )
            .await
            .map_err(StoreError::from_statement)?;
        let switch = |row: &tokio_postgres::Row| {
            Ok(Switch { name: row.try_get(1)?, is_on: row.try_get(2)?, since_micros: row.try_get(3)? })
        };
        let version = rows.first().map_or(Ok(0), |row| unsigned(row.try_get(0)?))?;
        Ok(SwitchList { version, switches: rows.iter().map(switch).collect::<Result<_, StoreError>>()? })
    }

    /// Turns a switch; the leader is told. Says whether that changed anything. An unknown name's error lists those that
    /// there are.
    pub async fn set_switch(&self, name: &str, is_on: bool) -> Result<bool, StoreError> {
        let row = self
            .client()
            .query_one("SELECT rowcast.set_switch($1, $2)", &[&name, &is_on])
            .await
            .map_err(StoreError::from_statement)?;
        Ok(row.try_get(0)?)
    }
}
