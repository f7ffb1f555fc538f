//! Adoptions in words: what is there, what to run, what changes for clients. What they rest on is [`super::guess`]'s.

use std::{collections::BTreeSet, fmt::Write as _};

use super::guess::{Adoption, Caller, Data, Trigger, split};

const NONE: &str = "no trigger of a table here calls pg_notify or says NOTIFY\n";

const FOR_CLIENTS: &str = "\
What changes for clients, whatever the table:
- An event is {room, cursor, id, type, at, data}: the fields of the row stand in `data`, under their columns' names.
- Nothing is lost: a client that was away resumes from its last cursor. On `resync` it fetches anew.
- Each change arrives once, in the order of the commits, and only if the transaction committed.
- An update comes only when a column that is sent has changed, and names those in `changed`. A row that moves to another
  merchant is `deleted` for the first and `created` for the second; `deleted` carries the columns of the old row.
- There is no limit of 7,999 bytes. A row with more than 256 KiB of JSON is sent as its key, with `truncated`.
";

/// The whole report.
pub(super) fn report(adoptions: &[Adoption], callers: &[Caller]) -> String {
    let mut text = String::new();
    for adoption in adoptions {
        one(adoption, &mut text);
    }
    functions(callers, &mut text);
    if adoptions.is_empty() {
        return NONE.to_owned() + &text;
    }
    text.push_str(FOR_CLIENTS);
    let channels: BTreeSet<&String> = adoptions
        .iter()
        .flat_map(|adoption| &adoption.triggers)
        .flat_map(|trigger| &trigger.notices)
        .flat_map(|notice| &notice.channels)
        .chain(callers.iter().flat_map(|caller| &caller.channels))
        .collect();
    _ = writeln!(
        text,
        "\nNothing was changed. Until a table is watched, the listener can take its notifications as they are (plain mode). \
         They stay\nat most once, each event's data is the whole payload, and that must name the merchant:\n\n    [listener]\n    \
         channels = {}",
        serde_json::json!(channels).to_string().replace(",\"", ", \"")
    );
    text
}

/// What no table's change causes.
fn functions(callers: &[Caller], text: &mut String) {
    if callers.is_empty() {
        return;
    }
    text.push_str(
        "Functions that notify when your application calls them; rowcast.publish takes their place:\n\n",
    );
    for caller in callers {
        let channels: Vec<&str> = caller.channels.iter().chain(&caller.unknown).map(String::as_str).collect();
        _ = writeln!(text, "  {}: {}", caller.function, channels.join(", "));
    }
    text.push('\n');
}

// Writing to a String cannot fail.
fn one(adoption: &Adoption, text: &mut String) {
    _ = writeln!(text, "{}\n", adoption.table);
    for trigger in &adoption.triggers {
        describe(trigger, text);
    }
    findings(adoption, text);
    match (&adoption.obstacle, adoption.watched) {
        (Some(obstacle), _) => _ = writeln!(text, "\n  It can not be watched: {obstacle}.\n"),
        (None, true) => {
            _ = writeln!(text, "\n  It is watched already. Once no client needs the notifications:\n");
            swap(adoption, false, text);
        }
        (None, false) => {
            payload_function(adoption, text);
            _ = writeln!(
                text,
                "\n  To see what would be installed:\n\n    {} --dry-run\n",
                command(adoption)
            );
            _ = writeln!(text, "  To watch it, beside the triggers:\n\n    {}\n", command(adoption));
            _ = writeln!(text, "  Or to put it in their place, in one transaction:\n");
            swap(adoption, true, text);
            names(adoption, text);
        }
    }
}

fn describe(trigger: &Trigger, text: &mut String) {
    _ = writeln!(text, "  trigger   {} calls {}", trigger.quoted_name, trigger.function);
    if !trigger.enabled {
        _ = writeln!(text, "            it is disabled");
    }
    for notice in &trigger.notices {
        let channels: Vec<&str> = notice.channels.iter().map(String::as_str).collect();
        let types: Vec<&str> = notice.types.iter().map(String::as_str).collect();
        let channels = if channels.is_empty() { "not known".to_owned() } else { channels.join(", ") };
        let types = if types.is_empty() { String::new() } else { format!(", type {}", types.join(" or ")) };
        _ = writeln!(text, "            {}: channel {channels}{types}", notice.operation);
    }
    for unknown in &trigger.unknown {
        _ = writeln!(text, "            not known: {unknown}");
    }
    if trigger.conditional {
        _ = writeln!(
            text,
            "            it fires under a condition, which watching does not have: {}",
            trigger.definition
        );
    }
    if trigger.notices.iter().any(|notice| notice.operation == "truncate") {
        _ = writeln!(
            text,
            "            instead of an event for TRUNCATE, every client is told to fetch anew"
        );
    }
}

fn findings(adoption: &Adoption, text: &mut String) {
    match &adoption.merchant {
        Some(merchant) => _ = writeln!(text, "  merchant  {}: {}", merchant.column, merchant.because),
        None => {
            _ = writeln!(
                text,
                "  merchant  not known: which of its columns names the room? {}",
                adoption.columns.join(", ")
            );
        }
    }
    _ = match &adoption.data {
        Data::Row => writeln!(text, "  payload   the whole row"),
        Data::Columns(names) => writeln!(text, "  payload   the columns {}", names.join(", ")),
        Data::Made(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, expr)| format!("{name} = {expr}")).collect();
            writeln!(text, "  payload   {}", fields.join(", "))
        }
        Data::Unknown => writeln!(text, "  payload   not known: all columns are sent"),
    };
}

fn merchant(adoption: &Adoption) -> &str {
    adoption.merchant.as_ref().map_or("MERCHANT_COLUMN", |merchant| &merchant.column)
}

fn all_operations(adoption: &Adoption) -> bool {
    // A trigger for TRUNCATE alone says nothing about the others.
    adoption.operations.is_empty() || adoption.operations.len() == 3
}

fn command(adoption: &Adoption) -> String {
    let mut words = vec!["rowcast watch".to_owned(), shell(&adoption.table), shell(merchant(adoption))];
    if let Some(type_) = &adoption.type_ {
        words.push(format!("--type {}", shell(type_)));
    }
    if let Data::Columns(names) = &adoption.data {
        words.push(format!("--columns {}", shell(&names.join(","))));
    }
    if !all_operations(adoption) {
        words.push(format!("--operations {}", adoption.operations.join(",")));
    }
    if let Some(function) = payload_name(adoption) {
        words.push(format!("--payload {}", shell(&function)));
    }
    words.join(" ")
}

fn swap(adoption: &Adoption, watch: bool, text: &mut String) {
    let indent = "    ";
    _ = writeln!(text, "{indent}BEGIN;\n{indent}SET LOCAL lock_timeout = '2s';");
    if watch {
        let mut arguments = vec![literal(&adoption.table), literal(merchant(adoption))];
        if let Some(type_) = &adoption.type_ {
            arguments.push(format!("type => {}", literal(type_)));
        }
        if let Data::Columns(names) = &adoption.data {
            let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
            arguments.push(format!("columns => ARRAY[{}]", names.join(", ")));
        }
        if !all_operations(adoption) {
            arguments.push(format!("operations => '{{{}}}'", adoption.operations.join(",")));
        }
        if let Some(function) = payload_name(adoption) {
            arguments.push(format!("payload => {}", literal(&function)));
        }
        _ = writeln!(text, "{indent}SELECT rowcast.watch({});", arguments.join(", "));
    }
    for trigger in &adoption.triggers {
        _ = writeln!(text, "{indent}DROP TRIGGER {} ON {};", trigger.quoted_name, adoption.table);
    }
    _ = writeln!(text, "{indent}COMMIT;\n");
}

/// A beginning of the function that would make what the trigger made.
fn payload_function(adoption: &Adoption, text: &mut String) {
    let (Data::Made(fields), Some(name)) = (&adoption.data, payload_name(adoption)) else { return };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, expr)| format!("        {}, {}", literal(name), of_argument(expr)))
        .collect();
    _ = writeln!(
        text,
        "\n  Some fields are no columns of the row, so a function is needed that makes the data; without it (and without\n  \
         --payload) all columns are sent. It may join other tables. A beginning, in which what the trigger took from its\n  \
         variables has to be written anew; it must belong to the table's owner:\n"
    );
    _ = writeln!(
        text,
        "    CREATE FUNCTION {name}(r {}) RETURNS json\n    LANGUAGE sql STABLE SET search_path = {}, pg_temp AS $$\n      \
         SELECT json_build_object(\n{})\n    $$;",
        adoption.table,
        adoption.quoted_schema,
        pairs.join(",\n")
    );
}

fn payload_name(adoption: &Adoption) -> Option<String> {
    let Data::Made(_) = adoption.data else { return None };
    let mut name: String = adoption.table_name.to_lowercase();
    name.retain(|c| c.is_ascii_alphanumeric() || c == '_');
    Some(format!("{}.{}_payload", adoption.quoted_schema, if name.is_empty() { "row" } else { &name }))
}

/// NEW and OLD are the function's argument there.
fn of_argument(expr: &str) -> String {
    let mut text = String::new();
    let mut rest = expr;
    let row = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.find("new.").into_iter().chain(lower.find("old.")).min()
    };
    while let Some(at) = row(rest) {
        let (before, after) = rest.split_at(at);
        let is_whole_word = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
        text.push_str(before);
        text.push_str(if is_whole_word { "r." } else { &after[..4] });
        rest = &after[4..];
    }
    text + rest
}

fn names(adoption: &Adoption, text: &mut String) {
    let base = adoption.type_.clone().unwrap_or_else(|| adoption.table_name.clone());
    let mut lines = Vec::new();
    for notice in adoption.triggers.iter().flat_map(|trigger| &trigger.notices) {
        let by_operation = match notice.operation.as_str() {
            "insert" => "created",
            "update" => "updated",
            "delete" => "deleted",
            _ => continue,
        };
        let before = if notice.types.is_empty() { &notice.channels } else { &notice.types };
        for name in before {
            // A payload whose types are many says by the type, not by the operation, what happened.
            let change = match (notice.types.len(), split(name)) {
                (2.., Some((_, change))) => change,
                _ => by_operation,
            };
            let line = format!("    {name} becomes {base}.{change}");
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    if !lines.is_empty() {
        _ = writeln!(text, "  For its clients:\n\n{}\n", lines.join("\n"));
    }
}

/// As a word of a shell's.
fn shell(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.,/:".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// As SQL writes a text.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
