//! The columns that a watch sends, and what `row_to_json` makes of their types.

use std::collections::HashMap;

use crate::{StoreError, Watched, Watches};

/// What `row_to_json` makes of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonType {
    /// A number; NaN and infinities are text.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Text.
    Text,
    /// Any JSON: json columns, types with a cast to json, and a composite type within itself.
    Any,
    /// One of these texts.
    OneOf(Vec<String>),
    /// A list, whose elements may be NULL.
    List(Box<JsonType>),
    /// An object, whose values may be NULL.
    Object(Vec<(String, JsonType)>),
}

/// A column of a watched table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as PostgreSQL writes it.
    pub sql_type: String,
    /// What arrives.
    pub json: JsonType,
    /// Whether NULL may arrive. Key and merchant are never NULL in an event.
    pub nullable: bool,
}

impl Watches {
    /// The columns that a watch sends, in the table's order, as far as they are still there.
    pub async fn columns(&self, watched: &Watched) -> Result<Vec<Column>, StoreError> {
        let rows = self
            .client()
            .query(
                "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.atttypid, a.attndims::int4,
                        NOT (a.attnotnull OR t.typnotnull OR a.attname::text = ANY ($3))
                   FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                  WHERE a.attrelid = $1::text::regclass AND a.attname::text = ANY ($2) AND a.attnum > 0
                    AND NOT a.attisdropped
                  ORDER BY a.attnum",
                &[&watched.table, &watched.columns, &never_null(watched)],
            )
            .await?;
        let mut known = HashMap::new();
        let mut columns = Vec::with_capacity(rows.len());
        for row in &rows {
            let json = self.json_type(row.try_get(2)?, &mut known).await?;
            columns.push(Column {
                name: row.try_get(0)?,
                sql_type: row.try_get(1)?,
                json: nested(json, row.try_get(3)?),
                nullable: row.try_get(4)?,
            });
        }
        Ok(columns)
    }

    /// As `json_categorize_type` of PostgreSQL decides: domains by what they are made of, a function that casts to json
    /// where a type is not one of its own.
    async fn json_type(&self, oid: u32, known: &mut HashMap<u32, JsonType>) -> Result<JsonType, StoreError> {
        if let Some(found) = known.get(&oid) {
            return Ok(found.clone());
        }
        // A composite type that contains itself ends here.
        known.insert(oid, JsonType::Any);
        let row = self.client().query_one(CATEGORY, &[&oid]).await?;
        let found = match row.try_get::<_, &str>(0)? {
            "domain" => Box::pin(self.json_type(row.try_get(1)?, known)).await?,
            "number" => JsonType::Number,
            "boolean" => JsonType::Boolean,
            "any" => JsonType::Any,
            "enum" => JsonType::OneOf(row.try_get(3)?),
            "list" => JsonType::List(Box::new(Box::pin(self.json_type(row.try_get(2)?, known)).await?)),
            "object" => {
                let names: Vec<String> = row.try_get(4)?;
                let oids: Vec<u32> = row.try_get(5)?;
                let mut fields = Vec::with_capacity(names.len());
                for (name, oid) in names.into_iter().zip(oids) {
                    fields.push((name, Box::pin(self.json_type(oid, known)).await?));
                }
                JsonType::Object(fields)
            }
            _ => JsonType::Text,
        };
        known.insert(oid, found.clone());
        Ok(found)
    }
}

fn never_null(watched: &Watched) -> Vec<String> {
    watched.key_columns.iter().chain([&watched.merchant_column]).cloned().collect()
}

/// A list of a declared number of dimensions. PostgreSQL does not enforce the number, and has one type for all.
fn nested(json: JsonType, dimensions: i32) -> JsonType {
    match json {
        JsonType::List(_) => (1..dimensions).fold(json, |inner, _| JsonType::List(Box::new(inner))),
        other => other,
    }
}

/// 16384 is the first identifier that is not PostgreSQL's own.
const CATEGORY: &str = "
    SELECT CASE
           WHEN t.typtype = 'd' THEN 'domain'
           WHEN t.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype,
                          'numeric'::regtype) THEN 'number'
           WHEN t.oid = 'bool'::regtype THEN 'boolean'
           WHEN t.oid IN ('json'::regtype, 'jsonb'::regtype) THEN 'any'
           WHEN t.typelem <> 0 AND t.typsubscript = 'array_subscript_handler'::regproc THEN 'list'
           WHEN t.typtype = 'c' THEN 'object'
           WHEN t.oid = 'record'::regtype THEN 'any'
           WHEN t.oid >= 16384 AND EXISTS (SELECT FROM pg_cast AS c WHERE c.castsource = t.oid
                                              AND c.casttarget = 'json'::regtype AND c.castmethod = 'f') THEN 'any'
           WHEN t.typtype = 'e' THEN 'enum'
           ELSE 'text' END,
           t.typbasetype, t.typelem,
           ARRAY(SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
           ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND t.typrelid <> 0
                    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           ARRAY(SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND t.typrelid <> 0
                    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
      FROM pg_type AS t WHERE t.oid = $1";
