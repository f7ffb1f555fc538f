//! The environment as settings: `ROWCAST_EDGE__LISTEN` is `edge.listen`, and `ROWCAST_REDIS__URL_FILE` names a file
//! that holds `redis.url`.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Number, Value};

use super::{
    Setting,
    error::{ConfigError, Origin},
    tree::{Known, Schema},
};

const PREFIX: &str = "ROWCAST_";
const LEVEL: &str = "__";
const FILE_SUFFIX: &str = "_FILE";

/// Variables that are arguments and not settings.
const ARGUMENTS: &[&str] = &["ROWCAST_CONFIG"];

/// The variable of a dotted key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', LEVEL))
}

/// The process's environment. A value that is not UTF-8 becomes text that no setting accepts silently: its broken
/// bytes are replaced.
pub(super) fn of_process() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// Reads the environment's settings, refusing keys that are not known.
pub(super) fn read(
    environment: &BTreeMap<String, String>,
    schema: &Schema,
) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (name, text) in environment {
        let Some(key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if ARGUMENTS.contains(&name.as_str()) || is_service_link(name, text) {
            continue;
        }
        let path = path_of(key);
        let origin = Origin::Environment(name.clone());
        match schema.find(&path) {
            Known::Other => {}
            Known::Leaf(default) => {
                settings.push(Setting { readings: readings(default, text), path, origin });
            }
            Known::Free => {
                settings.push(Setting { readings: readings(&Value::Null, text), path, origin });
            }
            Known::Section => {
                let reason = format!("it is a section: set its keys, as in {name}{LEVEL}…");
                return Err(ConfigError::Value { key: path.join("."), origin, reason });
            }
            Known::Unknown => match from_file(name, text, environment, schema)? {
                Some(setting) => settings.push(setting),
                None => return Err(schema.unknown(&path, origin)),
            },
        }
    }
    Ok(settings)
}

/// A setting whose value is in the file that the variable names, if `name` is such a variable.
fn from_file(
    name: &str,
    file: &str,
    environment: &BTreeMap<String, String>,
    schema: &Schema,
) -> Result<Option<Setting>, ConfigError> {
    let Some(direct) = name.strip_suffix(FILE_SUFFIX) else {
        return Ok(None);
    };
    let path = path_of(direct.strip_prefix(PREFIX).unwrap_or_default());
    let default = match schema.find(&path) {
        Known::Leaf(default) => default,
        _ => return Ok(None),
    };
    let origin = Origin::Environment(name.to_owned());
    if environment.contains_key(direct) {
        let reason = format!("{direct} is set too; only one of them can count");
        return Err(ConfigError::Value { key: path.join("."), origin, reason });
    }
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError::File {
        path: PathBuf::from(file),
        reason: format!("{error} (named by {name})"),
    })?;
    let text = text.trim_end_matches(['\r', '\n']);
    Ok(Some(Setting { readings: readings(default, text), path, origin }))
}

fn path_of(key: &str) -> Vec<String> {
    key.to_lowercase().split(LEVEL).map(str::to_owned).collect()
}

/// What a text may stand for, by the type of the default, the likeliest first.
fn readings(default: &Value, text: &str) -> Vec<Value> {
    let as_text = Value::String(text.to_owned());
    let as_json = serde_json::from_str::<Value>(text).ok();
    match default {
        Value::String(_) => vec![as_text],
        Value::Bool(_) => vec![text.parse::<bool>().map(Value::Bool).unwrap_or(as_text)],
        Value::Number(_) => vec![text.parse::<Number>().map(Value::Number).unwrap_or(as_text)],
        Value::Array(_) if !text.trim_start().starts_with('[') => {
            let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
            let texts = items.iter().map(|item| Value::String((*item).to_owned())).collect();
            let parsed =
                items.iter().map(|item| serde_json::from_str::<Value>(item)).collect::<Result<_, _>>();
            [Some(Value::Array(texts)), parsed.ok().map(Value::Array)].into_iter().flatten().collect()
        }
        Value::Array(_) | Value::Object(_) => vec![as_json.unwrap_or(as_text)],
        Value::Null => [Some(as_text), as_json].into_iter().flatten().collect(),
    }
}

/// Kubernetes sets `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT=tcp://…` and more for every service of a namespace, so a
/// service named rowcast-edge fills our own name space. None of that is a setting.
fn is_service_link(name: &str, value: &str) -> bool {
    let protocol = |text: &str| ["tcp://", "udp://", "sctp://"].iter().any(|p| text.starts_with(p));
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") {
        return true;
    }
    if name.ends_with("_PORT") && protocol(value) {
        return true;
    }
    let Some((_, port)) = name.split_once("_PORT_") else {
        return false;
    };
    let mut parts = port.split('_');
    let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
    number && parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part))
}
