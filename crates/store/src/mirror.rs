//! What is set in PostgreSQL at run time and mirrored into Redis for the edges. Reading it for the leader, and reading and setting
//! switches for the command line; revocations are set in [`crate::revocations`]. Writing it to Redis is the listener's.

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

/// A query of a sheet's content, as JSON.
fn content(sheet: Sheet) -> &'static str {
    match sheet {
        Sheet::Switches => {
            "SELECT coalesce(json_object_agg(s.name, s.is_on ORDER BY s.name), '{}')::text FROM rowcast.switches AS s"
        }
        // Put together by hand: json_object_agg would write six bytes more for each.
        Sheet::Revocations => {
            "SELECT '{' || coalesce(string_agg(k.part, ','), '') || '}' FROM (
                SELECT to_json(r.kind) || ':{' || string_agg(to_json(r.value) || ':' || CASE
                           WHEN r.issued_before = 'infinity' THEN 'null'
                           ELSE (extract(epoch FROM r.issued_before) * 1000000)::bigint::text END, ',') || '}' AS part
                  FROM rowcast.revocations AS r GROUP BY r.kind) AS k"
        }
    }
}

impl Cleaner {
    /// A sheet as it is now; none where it has still the version that is known. One statement: version and content belong
    /// together.
    pub async fn load_sheet(&self, sheet: Sheet, known: Option<u64>) -> Result<Option<Mirror>, StoreError> {
        let known = known.and_then(|version| i64::try_from(version).ok());
        let query = format!(
            "SELECT m.version, CASE WHEN m.version IS DISTINCT FROM $2 THEN ({}) END
               FROM rowcast.mirror AS m WHERE m.sheet = $1",
            content(sheet)
        );
        let row = self
            .session()
            .client()
            .query_opt(&query, &[&sheet.name(), &known])
            .await
            .map_err(StoreError::from_statement)?
            .ok_or_else(|| {
                StoreError::Unexpected(format!("rowcast.mirror has no row for {}", sheet.name()))
            })?;
        let (version, content) = (unsigned(row.try_get(0)?)?, row.try_get::<_, Option<String>>(1)?);
        Ok(content.map(|content| Mirror { sheet, version, content }))
    }

    /// Edges were told of this version of a sheet: whoever has changed it may be waiting for that.
    pub async fn note_told(&self, sheet: Sheet, version: u64) -> Result<(), StoreError> {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        self.session()
            .client()
            .execute(
                "UPDATE rowcast.mirror SET told = $2 WHERE sheet = $1 AND told <> $2",
                &[&sheet.name(), &version],
            )
            .await
            .map_err(StoreError::from_statement)?;
        Ok(())
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
