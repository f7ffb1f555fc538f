//! Watched tables as TypeScript. Pure: what a table has is asked elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use rowcast_store::{Column, JsonType};

use super::Table;

const HEAD: &str = r#"// Written by `rowcast types`. Do not edit it: run the command again when a watched table has changed.
//
// Numbers are JavaScript's: of a bigint or numeric beyond 2^53 the last digits are lost, and NaN and infinities of numeric,
// real and double precision arrive as text. Dates and times arrive as text: ISO 8601, a timestamp without time zone
// without an offset.
"#;

const TAIL: &str = r#"
export type EventType = keyof Events;

/** What all events have. Cursors are opaque: store the last one, and resume with it. */
interface Frame<T extends EventType> {
  op: "event";
  room: string;
  cursor: string;
  id: string;
  type: T;
  /** When the statement ran: RFC 3339, UTC, microseconds. */
  at: string;
}

/** In `.updated` alone: the columns that changed. */
type Changed<T extends EventType> = T extends keyof Changes ? { changed: Changes[T][] } : { changed?: undefined };

/** An event as it arrives. Ask for `type` and for `truncated`, and `data` has that event's type. */
export type RowcastEvent<T extends EventType = EventType> = {
  [K in T]: Frame<K> & Changed<K> & ({ truncated?: undefined; data: Events[K] } | { truncated: true; data: Keys[K] });
}[T];
"#;

/// Names of a table's interfaces.
struct Names {
    row: String,
    key: String,
}

/// The whole file.
pub(super) fn render(tables: &[Table]) -> String {
    let mut text = HEAD.to_owned();
    let mut events = Map::default();
    let mut keys = Map::default();
    let mut changes = Map::default();
    let mut taken = BTreeSet::new();
    for table in tables {
        let names = names(&table.watched.type_, &mut taken);
        interfaces(table, &names, &mut text);
        for suffix in suffixes(&table.watched.operations) {
            let type_ = format!("{}.{suffix}", table.watched.type_);
            let by_function = table.watched.payload.as_ref().filter(|_| suffix != "deleted");
            match by_function {
                Some(function) => events.add_unknown(
                    &type_,
                    &format!(
                        "What {function} returns, which is not known here; a {} where it fails.",
                        names.row
                    ),
                ),
                None => events.add(&type_, &names.row),
            }
            keys.add(&type_, &names.key);
            if suffix == "updated" {
                changes.add(&type_, &format!("keyof {}", names.row));
            }
        }
    }
    events.write("Events", "The data of each type of event of a watched table.", &mut text);
    keys.write(
        "Keys",
        "What stands in place of the data where an event is `truncated`, because the row has more than 256 KiB of JSON: \
         the row's key. Fetch the row.",
        &mut text,
    );
    changes.write("Changes", "The columns that each type of event may name as changed.", &mut text);
    text.push_str(TAIL);
    text
}

/// What an operation can lead to. An update that moves a row to another key or merchant is a removal and an arrival.
fn suffixes(operations: &[String]) -> Vec<&'static str> {
    let does = |operation: &str| operations.iter().any(|one| one == operation);
    [
        ("created", does("insert") || does("update")),
        ("updated", does("update")),
        ("deleted", does("delete") || does("update")),
    ]
    .into_iter()
    .filter_map(|(suffix, is)| is.then_some(suffix))
    .collect()
}

fn interfaces(table: &Table, names: &Names, text: &mut String) {
    let shown = comment(&table.watched.table);
    // Writing to a String cannot fail.
    _ = writeln!(
        text,
        "\n/** A row of {shown}; `{}` names its room. */\nexport interface {} {{",
        comment(&table.watched.merchant_column),
        names.row
    );
    table.columns.iter().for_each(|column| field(column, text));
    _ = writeln!(text, "}}\n\n/** The key of a row of {shown}. */\nexport interface {} {{", names.key);
    let is_key = |column: &&Column| table.watched.key_columns.contains(&column.name);
    table.columns.iter().filter(is_key).for_each(|column| field(column, text));
    _ = writeln!(text, "}}");
}

fn field(column: &Column, text: &mut String) {
    let null = if column.nullable && column.json != JsonType::Any { " | null" } else { "" };
    let name = property(&column.name);
    _ = writeln!(
        text,
        "  /** {} */\n  {name}: {}{null};",
        comment(&column.sql_type),
        expression(&column.json)
    );
}

fn expression(json: &JsonType) -> String {
    match json {
        JsonType::Number => "number".to_owned(),
        JsonType::Boolean => "boolean".to_owned(),
        JsonType::Text => "string".to_owned(),
        JsonType::Any => "unknown".to_owned(),
        JsonType::OneOf(texts) if texts.is_empty() => "never".to_owned(),
        JsonType::OneOf(texts) => texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(" | "),
        // An element that is a list itself is never NULL: PostgreSQL's lists are rectangular.
        JsonType::List(of) if matches!(**of, JsonType::List(_)) => format!("{}[]", expression(of)),
        JsonType::List(of) if **of == JsonType::Any => "unknown[]".to_owned(),
        JsonType::List(of) => format!("({} | null)[]", expression(of)),
        JsonType::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, json)| {
                    let null = if *json == JsonType::Any { "" } else { " | null" };
                    format!("{}: {}{null}", property(name), expression(json))
                })
                .collect();
            format!("{{ {} }}", fields.join("; "))
        }
    }
}

/// A type by each key, several of one key together.
#[derive(Default)]
struct Map(BTreeMap<String, (BTreeSet<String>, Vec<String>)>);

impl Map {
    fn add(&mut self, key: &str, type_: &str) {
        self.0.entry(key.to_owned()).or_default().0.insert(type_.to_owned());
    }

    fn add_unknown(&mut self, key: &str, why: &str) {
        self.add(key, "unknown");
        self.0.entry(key.to_owned()).or_default().1.push(why.to_owned());
    }

    fn write(&self, name: &str, about: &str, text: &mut String) {
        _ = writeln!(text, "\n/** {about} */\nexport interface {name} {{");
        for (key, (types, notes)) in &self.0 {
            for note in notes {
                _ = writeln!(text, "  /** {} */", comment(note));
            }
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            _ = writeln!(text, "  {}: {};", quoted(key), types.join(" | "));
        }
        _ = writeln!(text, "}}");
    }
}

/// `booking-item` becomes BookingItemRow; a name that is taken gets a number.
fn names(type_: &str, taken: &mut BTreeSet<String>) -> Names {
    let mut base = String::new();
    for part in
        type_.split(|c: char| !(c.is_alphabetic() || c.is_ascii_digit())).filter(|part| !part.is_empty())
    {
        let mut letters = part.chars();
        base.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        base.extend(letters);
    }
    if !base.starts_with(char::is_alphabetic) {
        base.insert_str(0, "Table");
    }
    let mut name = base.clone();
    let mut number = 1;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{base}{number}");
    }
    Names { row: format!("{name}Row"), key: format!("{name}Key") }
}

fn property(name: &str) -> String {
    let mut letters = name.chars();
    let plain = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if plain { name.to_owned() } else { quoted(name) }
}

/// JSON's texts are TypeScript's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Text that can not end the comment that it stands in.
fn comment(text: &str) -> String {
    text.replace("*/", "*\u{200b}/").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_type_and_never_collide() {
        let mut taken = BTreeSet::new();
        for (type_, expected) in [
            ("booking", "BookingRow"),
            ("Booking", "Booking2Row"),
            ("order-item", "OrderItemRow"),
            ("shop.order_item", "ShopOrderItemRow"),
            ("99", "Table99Row"),
            ("***", "TableRow"),
            ("größe", "GrößeRow"),
            ("m²", "MRow"),
        ] {
            assert_eq!(names(type_, &mut taken).row, expected);
        }
    }

    #[test]
    fn an_update_can_bring_all_three_types() {
        let of =
            |operations: &[&str]| suffixes(&operations.iter().map(|&one| one.into()).collect::<Vec<_>>());
        assert_eq!(of(&["insert"]), ["created"]);
        assert_eq!(of(&["insert", "delete"]), ["created", "deleted"]);
        assert_eq!(of(&["update"]), ["created", "updated", "deleted"]);
    }

    #[test]
    fn odd_names_are_quoted_and_end_no_comment() {
        assert_eq!(property("startTime"), "startTime");
        assert_eq!(property("0 \"a\""), r#""0 \"a\"""#);
        assert!(!comment("a */ b\nc").contains("*/") && !comment("a\nb").contains('\n'));
    }
}
