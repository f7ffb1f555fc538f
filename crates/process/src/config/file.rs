//! The configuration file as settings. The `config` crate parses TOML, YAML and JSON.

use std::path::Path;

use config::{File, Source};
use serde_json::Value;

use super::{
    Setting,
    error::{ConfigError, Origin, type_name},
    tree::{Known, Schema},
};

/// Reads the file's settings, refusing keys that are not known.
pub(super) fn read(path: &Path, schema: &Schema) -> Result<Vec<Setting>, ConfigError> {
    let fail = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    // The config crate tries other extensions when the file is missing, and its words for that mislead.
    std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    let root = File::from(path).collect().map_err(|error| fail(without_source(&error.to_string())))?;

    let mut settings = Vec::new();
    for (key, value) in root {
        let value: Value = value.try_deserialize().map_err(|_| fail(format!("`{key}` cannot be read")))?;
        flatten(vec![key], value, path, schema, &mut settings)?;
    }
    // The parser's map has no order; errors should not change from run to run.
    settings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(settings)
}

fn flatten(
    path: Vec<String>,
    value: Value,
    file: &Path,
    schema: &Schema,
    out: &mut Vec<Setting>,
) -> Result<(), ConfigError> {
    let origin = Origin::File(file.to_owned());
    match (schema.find(&path), value) {
        (Known::Other, _) => Ok(()),
        (Known::Unknown, _) => Err(schema.unknown(&path, origin)),
        (Known::Section, Value::Object(map)) => {
            for (key, child) in map {
                let mut below = path.clone();
                below.push(key);
                flatten(below, child, file, schema, out)?;
            }
            Ok(())
        }
        // A section written and left empty, as YAML has it.
        (Known::Section, Value::Null) => Ok(()),
        (Known::Section, other) => Err(ConfigError::Value {
            key: path.join("."),
            origin,
            reason: format!("got {}, expected a section", type_name(&other)),
        }),
        (Known::Leaf(_) | Known::Free, value) => {
            out.push(Setting { path, readings: vec![value], origin });
            Ok(())
        }
    }
}

/// A parser's message without the excerpt of the file, which may hold a secret.
fn without_source(message: &str) -> String {
    let excerpt = |line: &&str| {
        line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|')
    };
    let kept: Vec<&str> = message.lines().filter(|line| !excerpt(line) && !line.trim().is_empty()).collect();
    kept.join("; ")
}
