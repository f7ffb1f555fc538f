//! Configuration: defaults → file → environment. What a process's own sections mean is theirs, not ours.
//!
//! A configuration is a struct whose parts all carry `#[serde(default, deny_unknown_fields)]` and implement
//! `Default`. Its serialised default is the list of known keys: a key that is not in it is an error. An empty
//! table in it takes any key, and so does what is below a `None`.
//!
//! Durations and sizes are text with a unit (`"250ms"`, `"256KiB"`; see [`duration`] and [`size`]): a reader sees
//! what is meant, and a bare number is refused rather than taken for the wrong unit.

mod auth;
mod environment;
mod error;
mod file;
mod print;
mod secret;
pub mod shared;
mod tree;
mod units;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use error::{ConfigError, Origin};
pub use print::print;
pub use secret::{Secret, SecretUrl};
pub use units::{duration, size};

/// Top-level keys of the one file and environment that all processes share. A process checks its own in depth
/// and passes over the others.
pub const SECTIONS: &[&str] = &[
    "installation",
    "log",
    "admin",
    "database",
    "redis",
    "listener",
    "edge",
    "auth",
    "tail",
    "dev",
    "loadtest",
];

/// Where [`load`] looks.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// A TOML, YAML or JSON file, by its extension.
    pub file: Option<PathBuf>,
    /// Top-level keys that belong to other processes: known, and passed over.
    pub other_sections: &'static [&'static str],
    /// The environment, by name.
    pub environment: BTreeMap<String, String>,
}

impl LoadOptions {
    /// The file given, the process's environment and [`SECTIONS`].
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, other_sections: SECTIONS, environment: environment::of_process() }
    }
}

/// One key that the file or the environment sets.
struct Setting {
    path: Vec<String>,
    /// Readings of the value, the likeliest first: an environment variable does not say its type.
    readings: Vec<Value>,
    origin: Origin,
}

/// Loads `T` from its defaults, the file and the environment, the later over the earlier.
///
/// # Errors
/// The first thing that is wrong, with the key and where it was set: an unreadable file, an unknown key (with
/// the nearest known one), a value of a wrong type or out of range. Values are never quoted where they may be secret.
pub fn load<T>(options: LoadOptions) -> Result<T, ConfigError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let schema = tree::Schema::of(&T::default(), options.other_sections)?;
    let base = schema.defaults();
    let mut settings = match &options.file {
        Some(path) => file::read(path, &schema)?,
        None => Vec::new(),
    };
    settings.extend(environment::read(&options.environment, &schema)?);

    let mut merged = base.clone();
    for setting in settings {
        let value = fitting::<T>(&base, &setting, &schema)?;
        tree::set(&mut merged, &setting.path, value);
    }
    serde_json::from_value(merged).map_err(|error| ConfigError::Whole { reason: error.to_string() })
}

/// The first reading of a setting that `T` accepts, or what is wrong with it.
fn fitting<T: DeserializeOwned>(
    base: &Value,
    setting: &Setting,
    schema: &tree::Schema,
) -> Result<Value, ConfigError> {
    let mut first_error = None;
    for reading in &setting.readings {
        let mut probe = base.clone();
        tree::set(&mut probe, &setting.path, reading.clone());
        match serde_json::from_value::<T>(probe) {
            Ok(_) => return Ok(reading.clone()),
            Err(error) => {
                first_error.get_or_insert((reading, error));
            }
        }
    }
    let (reading, error) = first_error.expect("a setting has at least one reading");
    Err(ConfigError::Value {
        key: setting.path.join("."),
        origin: setting.origin.clone(),
        reason: error::reason(reading, &error.to_string(), schema.is_secret(&setting.path)),
    })
}

#[cfg(test)]
mod tests;
