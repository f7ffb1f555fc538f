//! What can be wrong with a configuration, said so that the reader can mend it and no secret is shown.

use std::{fmt, path::PathBuf};

use serde_json::Value;

use super::secret::MASK_REFUSED;

/// Where a key was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(f, "in {}", path.display()),
            Origin::Environment(name) => write!(f, "from the environment variable {name}"),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or parsed, or a `…_FILE` variable names one that cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong, with the line where it is known.
        reason: String,
    },
    /// A key that no process knows.
    #[error("unknown key `{key}` {origin}; the nearest known key is {nearest}")]
    UnknownKey {
        /// The key, its levels joined by dots.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// The nearest known key, written as it would be written there.
        nearest: String,
    },
    /// A value of a wrong type or out of range.
    #[error("`{key}` {origin}: {reason}")]
    Value {
        /// The key, its levels joined by dots.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// What it is and what was expected.
        reason: String,
    },
    /// Values that are right one by one and not together.
    #[error("the configuration does not fit together: {reason}")]
    Whole {
        /// What went wrong.
        reason: String,
    },
}

/// Words for a value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// Turns serde's words into ours. Serde quotes the value, which may be secret, so only what was expected is kept.
pub(super) fn reason(value: &Value, message: &str, secret: bool) -> String {
    let got = type_name(value);
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if message.starts_with("invalid value") => {
            format!("got {got} that is out of range, expected {expected}")
        }
        Some((_, expected)) => format!("got {got}, expected {}", in_words(expected)),
        None if message.starts_with(MASK_REFUSED) => MASK_REFUSED.to_owned(),
        None if secret => format!("got {got} that cannot be used here"),
        None => format!("got {got}: {message}"),
    }
}

/// Rust's names for types, for people who do not write Rust.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        "a map" => "a table",
        other => other,
    }
}
