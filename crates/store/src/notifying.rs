//! Triggers of the application's that notify by themselves, as the catalogue tells them. What their functions mean is
//! guessed elsewhere.

use crate::{StoreError, Watches};

/// A trigger whose function calls `pg_notify` or says NOTIFY, itself or through a function that it calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyingTrigger {
    /// Its table, qualified, and quoted where PostgreSQL needs it.
    pub table: String,
    /// Schema of its table, unquoted.
    pub schema: String,
    /// The same, quoted where PostgreSQL needs it.
    pub quoted_schema: String,
    /// Its table's name, unquoted.
    pub table_name: String,
    /// Why `rowcast.watch` refuses the table, where that can be seen here: `a view`, `no primary key`.
    pub obstacle: Option<String>,
    /// Whether the table is watched already.
    pub watched: bool,
    /// The table's columns, each with the table that it refers to.
    pub columns: Vec<(String, Option<String>)>,
    /// Its name, unquoted.
    pub name: String,
    /// Its name, quoted where PostgreSQL needs it.
    pub quoted_name: String,
    /// Its definition.
    pub definition: String,
    /// Its function, with the types of its arguments.
    pub function: String,
    /// The function's body, then those of functions that it calls and that notify.
    pub source: String,
    /// Of `insert`, `update`, `delete`, `truncate`.
    pub operations: Vec<String>,
    /// Its arguments (`TG_ARGV`).
    pub arguments: Vec<String>,
    /// It has a WHEN condition, or names columns.
    pub conditional: bool,
    /// Whether it is enabled.
    pub enabled: bool,
}

/// A function that notifies and is no trigger's, nor called by one: the application calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyingFunction {
    /// With the types of its arguments.
    pub function: String,
    /// Its body.
    pub source: String,
}

impl Watches {
    /// Functions that notify when the application calls them, by name.
    pub async fn notifying_functions(&self) -> Result<Vec<NotifyingFunction>, StoreError> {
        let rows = self.client().query(&format!("{NOTIFYING} {FUNCTIONS}"), &[]).await?;
        rows.iter()
            .map(|row| Ok(NotifyingFunction { function: row.try_get(0)?, source: row.try_get(1)? }))
            .collect()
    }

    /// All of them, by table. Works before Rowcast's schema is there.
    pub async fn notifying_triggers(&self) -> Result<Vec<NotifyingTrigger>, StoreError> {
        let watched: Vec<String> = match self.list().await {
            Ok(list) => list.into_iter().map(|watched| watched.table).collect(),
            Err(StoreError::NotMigrated) => Vec::new(),
            Err(error) => return Err(error),
        };
        let rows = self.client().query(&format!("{NOTIFYING} {TRIGGERS}"), &[]).await?;
        rows.iter()
            .map(|row| {
                let shown: String = row.try_get("shown")?;
                let names: Vec<String> = row.try_get("column_names")?;
                let targets: Vec<Option<String>> = row.try_get("column_targets")?;
                let arguments: Vec<u8> = row.try_get("tgargs")?;
                Ok(NotifyingTrigger {
                    table: row.try_get("relation")?,
                    schema: row.try_get("nspname")?,
                    quoted_schema: row.try_get("quoted_schema")?,
                    table_name: row.try_get("relname")?,
                    obstacle: row.try_get("obstacle")?,
                    watched: watched.contains(&shown),
                    columns: names.into_iter().zip(targets).collect(),
                    name: row.try_get("tgname")?,
                    quoted_name: row.try_get("quoted_name")?,
                    definition: row.try_get("definition")?,
                    function: row.try_get("function")?,
                    source: row.try_get("source")?,
                    operations: row.try_get("operations")?,
                    arguments: split_arguments(&arguments),
                    conditional: row.try_get("conditional")?,
                    enabled: row.try_get("enabled")?,
                })
            })
            .collect()
    }
}

/// Each ends with a zero byte.
fn split_arguments(bytes: &[u8]) -> Vec<String> {
    let mut parts: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    parts.pop();
    parts
}

/// A first sieve: words in comments pass it too.
const NOTIFYING: &str = r#"
WITH notifying AS MATERIALIZED (
    SELECT p.oid, p.prosrc, format('\m%s\M"?\s*\(', regexp_replace(p.proname, '(\W)', '\\\1', 'g')) AS call
      FROM pg_proc AS p
      JOIN pg_namespace AS n ON n.oid = p.pronamespace
      JOIN pg_language AS l ON l.oid = p.prolang
     WHERE n.nspname NOT IN ('rowcast', 'rowcast_triggers', 'pg_catalog', 'information_schema')
       AND l.lanname NOT IN ('c', 'internal') AND p.prosrc ~* '(\mpg_notify\M"?\s*\(|\mNOTIFY\s)'
)"#;

const TRIGGERS: &str = r#"
, found AS (
    SELECT t.*, concat(p.prosrc, called.sources) AS source
      FROM pg_trigger AS t
      JOIN pg_proc AS p ON p.oid = t.tgfoid
      JOIN pg_namespace AS n ON n.oid = p.pronamespace
     CROSS JOIN LATERAL (SELECT string_agg(E'\n' || c.prosrc, '' ORDER BY c.oid) AS sources FROM notifying AS c
                          WHERE c.oid <> p.oid AND p.prosrc ~* c.call) AS called
     WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND n.nspname NOT IN ('rowcast', 'rowcast_triggers')
       AND (p.oid IN (SELECT oid FROM notifying) OR called.sources IS NOT NULL)
)
SELECT format('%I.%I', n.nspname, c.relname) AS relation, c.oid::regclass::text AS shown, n.nspname::text,
       quote_ident(n.nspname) AS quoted_schema, c.relname::text,
       CASE WHEN c.relkind NOT IN ('r', 'p') THEN
                CASE c.relkind WHEN 'v' THEN 'it is a view' WHEN 'f' THEN 'it is a foreign table' ELSE 'it is not a table' END
            WHEN NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary) THEN 'it has no primary key'
            END AS obstacle,
       ARRAY(SELECT a.attname::text FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS column_names,
       ARRAY(SELECT (SELECT r.relname::text FROM pg_constraint AS k JOIN pg_class AS r ON r.oid = k.confrelid
                      WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum] LIMIT 1)
               FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS column_targets,
       f.tgname::text, quote_ident(f.tgname) AS quoted_name, pg_get_triggerdef(f.oid) AS definition,
       f.tgfoid::regprocedure::text AS function, f.source,
       array_remove(ARRAY[CASE WHEN f.tgtype & 4 <> 0 THEN 'insert' END, CASE WHEN f.tgtype & 16 <> 0 THEN 'update' END,
                          CASE WHEN f.tgtype & 8 <> 0 THEN 'delete' END, CASE WHEN f.tgtype & 32 <> 0 THEN 'truncate' END],
                    NULL) AS operations,
       f.tgargs, f.tgqual IS NOT NULL OR f.tgattr::text <> '' AS conditional, f.tgenabled NOT IN ('D', 'R') AS enabled
  FROM found AS f JOIN pg_class AS c ON c.oid = f.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 ORDER BY n.nspname, c.relname, f.tgname"#;

const FUNCTIONS: &str = "
SELECT f.oid::regprocedure::text, f.prosrc
  FROM notifying AS f
  JOIN pg_proc AS p ON p.oid = f.oid
 WHERE p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
   AND NOT EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS c ON c.oid = t.tgfoid
                    WHERE NOT t.tgisinternal AND c.prosrc ~* f.call)
 ORDER BY 1";
