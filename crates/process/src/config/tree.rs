//! The tree of known keys, made from a serialised default, and the search for the nearest one.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    error::{ConfigError, Origin},
    secret::MASK,
};

/// Of a key that is not known, as many characters are compared with those that are.
const LONGEST_LIKENED: usize = 80;

/// The known keys of one process.
pub(super) struct Schema {
    tree: Value,
    others: &'static [&'static str],
}

/// What the schema says of a path.
pub(super) enum Known<'a> {
    /// A value, with its default.
    Leaf(&'a Value),
    /// A section: it has keys and no value of its own.
    Section,
    /// Somewhere below a table that takes any key.
    Free,
    /// It belongs to another process.
    Other,
    /// Nobody knows it.
    Unknown,
}

impl Schema {
    pub fn of(default: &impl Serialize, others: &'static [&'static str]) -> Result<Self, ConfigError> {
        let tree = serde_json::to_value(default)
            .map_err(|error| ConfigError::Whole { reason: format!("the defaults: {error}") })?;
        Ok(Self { tree, others })
    }

    /// The defaults as a tree to lay settings over. Masked secrets are left out: serde's own defaults fill them.
    pub fn defaults(&self) -> Value {
        let mut tree = self.tree.clone();
        remove_masked(&mut tree);
        tree
    }

    pub fn find(&self, path: &[String]) -> Known<'_> {
        let mut node = &self.tree;
        for (depth, key) in path.iter().enumerate() {
            match node {
                Value::Object(map) if map.is_empty() => return Known::Free,
                Value::Null => return Known::Free,
                Value::Object(map) => match map.get(key) {
                    Some(child) => node = child,
                    None if depth == 0 && self.others.contains(&key.as_str()) => return Known::Other,
                    None => return Known::Unknown,
                },
                _ => return Known::Unknown,
            }
        }
        match node {
            Value::Object(map) if !map.is_empty() => Known::Section,
            leaf => Known::Leaf(leaf),
        }
    }

    /// Whether a value there may be secret: so it is said to be, or nobody says what it is.
    pub fn is_secret(&self, path: &[String]) -> bool {
        let named = path.last().is_some_and(|key| {
            ["secret", "password", "token", "key", "url"].iter().any(|word| key.to_lowercase().contains(word))
        });
        named
            || match self.find(path) {
                Known::Leaf(value) => is_masked(value),
                _ => true,
            }
    }

    /// The error for a key that is not known.
    pub fn unknown(&self, path: &[String], origin: Origin) -> ConfigError {
        let key = path.join(".");
        let mut known: Vec<String> = self.others.iter().map(|section| (*section).to_owned()).collect();
        list_keys(&self.tree, "", &mut known);
        // What likeness costs grows with both texts, and no known key is as long.
        let begin: String = key.chars().take(LONGEST_LIKENED).collect();
        let nearest = known
            .into_iter()
            .map(|candidate| (likeness(&candidate, &begin), candidate))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, candidate)| match origin {
                Origin::File(_) => format!("`{candidate}`"),
                Origin::Environment(_) => {
                    format!("`{candidate}` ({})", super::environment::variable(&candidate))
                }
            })
            .unwrap_or_else(|| "none: this process has no settings".to_owned());
        ConfigError::UnknownKey { key, origin, nearest }
    }
}

/// Likeness from 0 to 1. A right last word in a wrong section counts as well as a slip of the pen.
fn likeness(known: &str, given: &str) -> f64 {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let plain = |key: &str| key.replace('_', ".").to_lowercase();
    let whole = strsim::normalized_damerau_levenshtein(&plain(known), &plain(given));
    let word = strsim::normalized_damerau_levenshtein(&last(known), &last(given));
    whole + 0.25 * word
}

fn list_keys(node: &Value, prefix: &str, out: &mut Vec<String>) {
    if let Value::Object(map) = node {
        for (key, child) in map {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            list_keys(child, &path, out);
            out.push(path);
        }
    }
}

fn is_masked(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(MASK),
        Value::Array(items) => items.iter().any(is_masked),
        _ => false,
    }
}

fn remove_masked(node: &mut Value) {
    if let Value::Object(map) = node {
        map.retain(|_, child| !is_masked(child));
        map.values_mut().for_each(remove_masked);
    }
}

/// Sets the value at `path`, making the tables on the way.
pub(super) fn set(tree: &mut Value, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    if let Value::Object(map) = tree {
        set(map.entry(key.clone()).or_insert(Value::Null), rest, value);
    }
}
