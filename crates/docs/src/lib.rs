//! The configuration's reference, made from the configuration's own types: their names, their defaults, and the comments
//! on their fields. What else stands in `docs/` is written by hand; the tests of this crate try it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value};

/// Where the reference stands within its page.
const BEGIN: &str = "<!-- From here on written by `make docs`, from the code. -->";
const END: &str = "<!-- To here. -->";

/// A key of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `edge.listen`.
    pub key: String,
    /// `ROWCAST_EDGE__LISTEN`.
    pub variable: String,
    /// As a file would say it; nothing where there is none.
    pub default: String,
    /// The comment on its field.
    pub comment: String,
    /// Who reads it.
    pub readers: Vec<&'static str>,
}

impl Setting {
    /// The comment without the variable's name, and without the default, which stand in columns of their own.
    fn meaning(&self) -> String {
        let text = self.comment.strip_prefix(&format!("`{}`: ", self.variable)).unwrap_or(&self.comment);
        let default = &self.default;
        let names = match default.is_empty() {
            true => vec!["empty".to_owned(), "none".to_owned()],
            false => vec![format!("`{default}`"), default.clone()],
        };
        let phrases = names.iter().flat_map(|name| {
            [
                format!(", {name} by default"),
                format!("; {name} by default"),
                format!(", {name}"),
                format!("; {name}"),
            ]
        });
        for phrase in phrases {
            let Some((before, after)) = text.split_once(&phrase) else { continue };
            if after.is_empty() || after.starts_with(['.', ',', ';', ':']) {
                return format!("{before}{after}");
            }
        }
        text.to_owned()
    }

    fn section(&self) -> &str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }
}

/// All settings of all processes, section by section.
///
/// # Errors
/// When a type's schema is not that of a configuration.
pub fn settings() -> Result<Vec<Setting>> {
    let mut all = BTreeMap::new();
    add::<rowcast_listener::Config>("listener", &mut all)?;
    add::<rowcast_edge::config::Config>("edge", &mut all)?;
    add::<rowcast_cli::config::Config>("command", &mut all)?;
    let mut all: Vec<Setting> = all.into_values().collect();
    // What stands above all sections in a file does so here.
    all.sort_by_key(|setting| !setting.section().is_empty());
    Ok(all)
}

fn add<T: JsonSchema + Serialize + Default>(
    reader: &'static str,
    all: &mut BTreeMap<String, Setting>,
) -> Result<()> {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = generator.into_generator().into_root_schema_for::<T>().to_value();
    let defaults = serde_json::to_value(T::default())?;
    let mut leaves = Vec::new();
    walk("", &schema, &defaults, &mut leaves)?;
    for setting in leaves {
        all.entry(setting.key.clone()).or_insert(setting).readers.push(reader);
    }
    Ok(())
}

fn walk(prefix: &str, schema: &Value, defaults: &Value, leaves: &mut Vec<Setting>) -> Result<()> {
    let properties = properties(schema).with_context(|| format!("{prefix}: a section has properties"))?;
    for (name, property) in properties {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let default = &defaults[name];
        if properties_of_section(property, default) {
            walk(&key, property, default, leaves)?;
            continue;
        }
        let comment = property["description"].as_str().with_context(|| format!("{key} has a comment"))?;
        leaves.push(Setting {
            variable: format!("ROWCAST_{}", key.to_uppercase().replace('.', "__")),
            default: shown(default),
            comment: comment.split_whitespace().collect::<Vec<_>>().join(" "),
            readers: Vec::new(),
            key,
        });
    }
    Ok(())
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn properties_of_section(property: &Value, default: &Value) -> bool {
    default.is_object() && properties(property).is_some()
}

/// Secrets hide themselves in the defaults too: there is nothing to show.
fn shown(default: &Value) -> String {
    match default {
        Value::String(text) if text.starts_with("***") => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Null => String::new(),
        Value::Object(table) if table.is_empty() => String::new(),
        other => other.to_string(),
    }
}

/// The tables, one a section.
///
/// # Errors
/// As [`settings`].
pub fn reference() -> Result<String> {
    let all = settings()?;
    let mut text = String::new();
    let mut open = None;
    for setting in &all {
        // Writing to a String cannot fail.
        if open.replace(setting.section()) != Some(setting.section()) {
            let title = match setting.section() {
                "" => "Above all sections".to_owned(),
                section => format!("`[{section}]`"),
            };
            _ = writeln!(text, "\n### {title}\n\nRead by: {}.\n", setting.readers.join(", "));
            _ = writeln!(text, "| variable | default | |\n| --- | --- | --- |");
        }
        let default =
            if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
        _ = writeln!(
            text,
            "| `{}` | {default} | {} |",
            setting.variable,
            setting.meaning().replace('|', "\\|")
        );
    }
    Ok(text)
}

/// The page that holds the reference.
pub fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md")
}

/// The page with its tables as the code has them now.
///
/// # Errors
/// When the page has no place for them.
pub fn renewed(page: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("the page has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the page has no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", reference()?))
}
