//! What a table's notifying triggers come to in Rowcast's terms. Everything here is a guess from names and sources, and
//! says what it rests on; nothing is asked of a database.

use std::collections::{BTreeMap, BTreeSet};

use rowcast_store::{NotifyingFunction, NotifyingTrigger};
use serde::Serialize;
use sqlparser::ast::Expr;

use super::source::{self, Channel, Firing, Source};

/// Fields in which payloads usually name the merchant; the first is what plain mode reads.
const ROOM_FIELDS: [&str; 6] = ["merchantId", "merchant_id", "merchant", "tenantId", "tenant_id", "tenant"];
/// Fields in which payloads usually name the type; the first is what plain mode reads.
const TYPE_FIELDS: [&str; 4] = ["type", "event", "eventType", "event_type"];
/// What is said of a source that has not even SQL's tokens.
const UNREADABLE: &str = "its source is not PL/pgSQL that can be read here";
/// Last words of types, and what Rowcast says for them.
const SUFFIXES: [(&str, &str); 14] = [
    ("created", "created"),
    ("create", "created"),
    ("inserted", "created"),
    ("insert", "created"),
    ("added", "created"),
    ("new", "created"),
    ("updated", "updated"),
    ("update", "updated"),
    ("changed", "updated"),
    ("modified", "updated"),
    ("deleted", "deleted"),
    ("delete", "deleted"),
    ("removed", "deleted"),
    ("cancelled", "updated"),
];

/// A table with its notifying triggers.
#[derive(Debug, Serialize)]
pub(super) struct Adoption {
    /// Qualified, and quoted where PostgreSQL needs it.
    pub table: String,
    #[serde(skip)]
    pub quoted_schema: String,
    /// Its name alone, as it is.
    #[serde(skip)]
    pub table_name: String,
    /// Why it can not be watched as it is.
    pub obstacle: Option<String>,
    /// Whether it is watched already.
    pub watched: bool,
    pub triggers: Vec<Trigger>,
    pub merchant: Option<Merchant>,
    /// The table's columns.
    pub columns: Vec<String>,
    /// First part of the events' types, where it is not the table's name.
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// Of `insert`, `update`, `delete`.
    pub operations: Vec<String>,
    pub data: Data,
}

#[derive(Debug, Serialize)]
pub(super) struct Trigger {
    pub name: String,
    #[serde(skip)]
    pub quoted_name: String,
    pub function: String,
    pub definition: String,
    pub conditional: bool,
    pub enabled: bool,
    /// What it notifies, by operation.
    pub notices: Vec<Notice>,
    /// Expressions of channels, or types, whose value is not known.
    pub unknown: Vec<String>,
}

/// A function of the application's that notifies when it is called.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Caller {
    pub function: String,
    /// Where the arguments do not decide.
    pub channels: BTreeSet<String>,
    /// Expressions of channels whose value is not known.
    pub unknown: Vec<String>,
}

/// What one operation notifies.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Notice {
    pub operation: String,
    pub channels: BTreeSet<String>,
    /// The payload's own types.
    pub types: BTreeSet<String>,
}

/// The column that names the room.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Merchant {
    pub column: String,
    pub because: String,
}

/// What the payload holds of the row.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Data {
    /// All of it.
    Row,
    /// Columns under their own names.
    Columns(Vec<String>),
    /// Other names, or values that are no columns: a payload function can make them. Field, and the expression as it
    /// stands there.
    Made(Vec<(String, String)>),
    /// It could not be read.
    Unknown,
}

/// One adoption a table.
pub(super) fn adoptions(triggers: Vec<NotifyingTrigger>) -> Vec<Adoption> {
    let mut tables: BTreeMap<String, Vec<NotifyingTrigger>> = BTreeMap::new();
    for trigger in triggers {
        // A word in a comment is no notification.
        if Source::read(&trigger.source).is_none_or(|source| !source.channels().is_empty()) {
            tables.entry(trigger.table.clone()).or_default().push(trigger);
        }
    }
    tables.into_values().map(|triggers| adoption(&triggers)).collect()
}

/// Functions that notify when the application calls them.
pub(super) fn callers(functions: Vec<NotifyingFunction>) -> Vec<Caller> {
    let nowhere = Firing { schema: "", table: "", trigger: "", operation: "", arguments: &[] };
    let caller = |function: NotifyingFunction| {
        let mut caller =
            Caller { function: function.function, channels: BTreeSet::new(), unknown: Vec::new() };
        let Some(source) = Source::read(&function.source) else {
            caller.unknown.push(UNREADABLE.to_owned());
            return Some(caller);
        };
        for channel in source.channels() {
            match channel {
                Channel::Name(name) => drop(caller.channels.insert(name)),
                Channel::Unreadable(text) => caller.unknown.push(text),
                Channel::Computed(expr) => match source.values(&expr, &nowhere) {
                    Some(values) => caller.channels.extend(values),
                    None => caller.unknown.push(format!("channel {expr}")),
                },
            }
        }
        // A word in a comment is no notification.
        (!caller.channels.is_empty() || !caller.unknown.is_empty()).then_some(caller)
    };
    functions.into_iter().filter_map(caller).collect()
}

fn adoption(triggers: &[NotifyingTrigger]) -> Adoption {
    let first = &triggers[0];
    let columns: Vec<String> = first.columns.iter().map(|(name, _)| name.clone()).collect();
    let sources: Vec<Option<Source>> = triggers.iter().map(|trigger| Source::read(&trigger.source)).collect();
    let readable: Vec<&Source> = sources.iter().flatten().collect();
    let pairs: Vec<(String, Expr)> = readable.iter().flat_map(|source| source.pairs()).collect();
    let told: Vec<Trigger> =
        triggers.iter().zip(&sources).map(|(trigger, source)| tell(trigger, source.as_ref())).collect();
    let types: BTreeSet<&str> =
        told.iter().flat_map(|trigger| &trigger.notices).flat_map(|n| &n.types).map(String::as_str).collect();
    let does = |operation: &&str| triggers.iter().any(|t| t.operations.iter().any(|one| one == operation));
    Adoption {
        table: first.table.clone(),
        quoted_schema: first.quoted_schema.clone(),
        table_name: first.table_name.clone(),
        obstacle: first.obstacle.clone(),
        watched: first.watched,
        merchant: merchant(first, &readable, &pairs),
        type_: common_base(&types).filter(|base| *base != first.table_name),
        operations: ["insert", "update", "delete"]
            .iter()
            .filter(|one| does(one))
            .map(|&one| one.into())
            .collect(),
        data: if readable.len() < sources.len() { Data::Unknown } else { data(&readable, &pairs, &columns) },
        triggers: told,
        columns,
    }
}

fn tell(trigger: &NotifyingTrigger, source: Option<&Source>) -> Trigger {
    let mut unknown = BTreeSet::new();
    let mut notices = Vec::new();
    for operation in &trigger.operations {
        let upper = operation.to_uppercase();
        let firing = Firing {
            schema: &trigger.schema,
            table: &trigger.table_name,
            trigger: &trigger.name,
            operation: &upper,
            arguments: &trigger.arguments,
        };
        let mut notice =
            Notice { operation: operation.clone(), channels: BTreeSet::new(), types: BTreeSet::new() };
        let Some(source) = source else { continue };
        for channel in source.channels() {
            match channel {
                Channel::Name(name) => drop(notice.channels.insert(name)),
                Channel::Unreadable(text) => drop(unknown.insert(text)),
                Channel::Computed(expr) => match source.values(&expr, &firing) {
                    Some(values) => notice.channels.extend(values),
                    None => drop(unknown.insert(format!("channel {expr}"))),
                },
            }
        }
        let pairs = source.pairs();
        for (name, expr) in pairs.iter().filter(|(name, _)| TYPE_FIELDS.contains(&name.as_str())) {
            match source.values(expr, &firing) {
                Some(values) => notice.types.extend(values),
                None => drop(unknown.insert(format!("{name}: {expr}"))),
            }
        }
        notices.push(notice);
    }
    if source.is_none() {
        unknown.insert(UNREADABLE.to_owned());
    }
    Trigger {
        name: trigger.name.clone(),
        quoted_name: trigger.quoted_name.clone(),
        function: trigger.function.clone(),
        definition: trigger.definition.clone(),
        conditional: trigger.conditional,
        enabled: trigger.enabled,
        notices,
        unknown: unknown.into_iter().collect(),
    }
}

fn merchant(table: &NotifyingTrigger, sources: &[&Source], pairs: &[(String, Expr)]) -> Option<Merchant> {
    let is_column = |name: &String| table.columns.iter().any(|(column, _)| column == name);
    let found = |column: &str, because: String| Some(Merchant { column: column.to_owned(), because });
    for field in ROOM_FIELDS {
        let mut columns = BTreeSet::new();
        for (_, expr) in pairs.iter().filter(|(name, _)| name == field) {
            columns.extend(source::row_columns(expr));
            let variable = source::variable(expr);
            let assigned =
                variable.into_iter().flat_map(|name| sources.iter().flat_map(|s| s.assigned(name)));
            columns.extend(assigned.flatten().flat_map(|expr| source::row_columns(&expr)));
        }
        let columns: Vec<&String> = columns.iter().filter(|name| is_column(name)).collect();
        if let [column] = columns.as_slice() {
            return found(column, format!("the payload's {field} is taken from it"));
        }
    }
    let named = |field: &str| table.columns.iter().find(|(column, _)| column == field);
    if let Some((column, _)) = ROOM_FIELDS.iter().find_map(|field| named(field)) {
        return found(column, "by its name; the payload does not say".to_owned());
    }
    let says = |text: &str| text.to_lowercase().contains("merchant");
    let likely: Vec<&(String, Option<String>)> = table
        .columns
        .iter()
        .filter(|(column, target)| says(column) || target.as_deref().is_some_and(says))
        .collect();
    match likely.as_slice() {
        [(column, Some(target))] => found(column, format!("it refers to {target}; the payload does not say")),
        [(column, None)] => found(column, "by its name; the payload does not say".to_owned()),
        _ => None,
    }
}

fn data(sources: &[&Source], pairs: &[(String, Expr)], columns: &[String]) -> Data {
    let about_row: Vec<&(String, Expr)> = pairs
        .iter()
        .filter(|(name, expr)| !TYPE_FIELDS.contains(&name.as_str()) && !source::is_about_the_event(expr))
        .filter(|(_, expr)| !source::is_whole_row(expr))
        .collect();
    let own_name = |(name, expr): &&&(String, Expr)| {
        source::plain_column(expr).is_some_and(|column| column == *name && columns.contains(&column))
    };
    let made: Vec<(String, String)> = about_row
        .iter()
        .filter(|pair| !own_name(pair))
        .map(|(name, expr)| (name.clone(), expr.to_string()))
        .collect();
    let whole = sources.iter().any(|source| source.sends_row());
    // The name of the room under another name is no reason to write a function: every event says its room.
    let only_room = made.iter().all(|(name, _)| ROOM_FIELDS.contains(&name.as_str()));
    match (whole, about_row.is_empty(), only_room) {
        (true, _, true) => Data::Row,
        (false, true, _) => Data::Unknown,
        (false, false, true) => {
            let names: BTreeSet<&String> = about_row.iter().map(|(name, _)| name).collect();
            Data::Columns(columns.iter().filter(|column| names.contains(column)).cloned().collect())
        }
        (_, _, false) => {
            let mut known = BTreeSet::new();
            let all = about_row.iter().map(|(name, expr)| (name.clone(), expr.to_string()));
            Data::Made(all.filter(|(name, _)| known.insert(name.clone())).collect())
        }
    }
}

/// The first part that all types share, when each ends as types of changes do.
fn common_base(types: &BTreeSet<&str>) -> Option<String> {
    let bases: BTreeSet<&str> =
        types.iter().map(|type_| split(type_).map(|(base, _)| base)).collect::<Option<_>>()?;
    match bases.into_iter().collect::<Vec<_>>().as_slice() {
        [base] => Some((*base).to_owned()),
        _ => None,
    }
}

/// `booking.created`, `BOOKING_NEW`, `booking:insert`: what comes before, and what Rowcast calls the change.
pub(super) fn split(type_: &str) -> Option<(&str, &'static str)> {
    let at = type_.rfind(['.', '_', ':', '-', '/'])?;
    let (base, last) = (&type_[..at], &type_[at + 1..]);
    let (_, change) = SUFFIXES.iter().find(|(word, _)| last.eq_ignore_ascii_case(word))?;
    (!base.is_empty()).then_some((base, *change))
}
