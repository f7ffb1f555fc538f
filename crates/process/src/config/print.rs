//! The configuration in force as TOML. Secrets hide themselves when they are serialised.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::ConfigError;

/// The configuration as TOML, secrets hidden; keys that are not set are comments.
///
/// # Errors
/// When `config` does not serialise to a table.
pub fn print(config: &impl Serialize) -> Result<String, ConfigError> {
    let fail = |reason: String| ConfigError::Whole { reason };
    match serde_json::to_value(config).map_err(|error| fail(error.to_string()))? {
        Value::Object(map) => {
            let mut out = String::new();
            write_table(&map, "", &mut out);
            Ok(out)
        }
        _ => Err(fail("it is not a table".to_owned())),
    }
}

fn write_table(map: &Map<String, Value>, prefix: &str, out: &mut String) {
    let is_table = |value: &Value| matches!(value, Value::Object(_));
    // Writing to a String cannot fail.
    for (key, value) in map.iter().filter(|(_, value)| !is_table(value)) {
        match value {
            Value::Null => _ = writeln!(out, "# {} is not set", bare(key)),
            value => _ = writeln!(out, "{} = {}", bare(key), inline(value)),
        }
    }
    for (key, value) in map {
        if let Value::Object(table) = value {
            let path = if prefix.is_empty() { bare(key) } else { format!("{prefix}.{}", bare(key)) };
            let gap = if out.is_empty() { "" } else { "\n" };
            _ = writeln!(out, "{gap}[{path}]");
            write_table(table, &path, out);
        }
    }
}

fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

/// JSON's texts, numbers and lists are TOML's too; only tables differ.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let items: Vec<String> =
                map.iter().map(|(key, value)| format!("{} = {}", bare(key), inline(value))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) => Value::String(text.clone()).to_string().replace('\u{7f}', "\\u007f"),
        other => other.to_string(),
    }
}
