//! The commands that work on the database: `migrate`, `watch`, `unwatch`, `watches`, `publish`. Their SQL is in
//! `rowcast-store`; here are the words around it.

use std::io::{Read as _, Write};

use anyhow::{Context as _, anyhow, bail};
use rowcast_store::{StoreError, WatchOptions, Watched, Watches};
use tokio_postgres::{config::Host, error::SqlState};

use crate::{
    args::{DatabaseArgs, MigrateArgs, OnError, PublishArgs, UnwatchArgs, WatchArgs, WatchesArgs},
    devfile::DevFile,
};

/// The command `migrate`.
pub(crate) async fn migrate(args: MigrateArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let report = rowcast_store::migrate(&url).await.map_err(|error| explained(error, &url))?;
    if args.json {
        let json = serde_json::json!({ "version": report.version, "applied": report.applied });
        writeln!(out, "{json}")?;
    } else if report.applied.is_empty() {
        writeln!(out, "nothing to do: the schema is at version {}", report.version)?;
    } else {
        for name in &report.applied {
            writeln!(out, "applied {name}")?;
        }
        writeln!(out, "the schema is at version {}", report.version)?;
    }
    Ok(())
}

/// The command `watch`.
pub(crate) async fn watch(args: WatchArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let options = WatchOptions {
        table: args.table.clone(),
        merchant_column: args.merchant_column,
        type_: args.type_,
        columns: args.columns,
        operations: args
            .operations
            .map(|operations| operations.iter().map(|operation| operation.as_str().to_owned()).collect()),
        payload: args.payload,
        on_error: match args.on_error {
            OnError::Warn => rowcast_store::OnError::Warn,
            OnError::Fail => rowcast_store::OnError::Fail,
        },
    };
    let watches = connect(&url).await?;
    let watched = watches.watch(&options).await;
    watches.close().await;
    watched.map_err(|error| about_table(error, &url, &args.table))?;
    writeln!(out, "watching {}", args.table)?;
    Ok(())
}

/// The command `unwatch`.
pub(crate) async fn unwatch(args: UnwatchArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let watches = connect(&url).await?;
    let was_watched = watches.unwatch(&args.table).await;
    watches.close().await;
    match was_watched.map_err(|error| about_table(error, &url, &args.table))? {
        true => writeln!(out, "no longer watching {}", args.table)?,
        false => writeln!(out, "{} was not watched", args.table)?,
    }
    Ok(())
}

/// The command `watches`.
pub(crate) async fn watches(args: WatchesArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let watches = connect(&url).await?;
    let list = watches.list().await;
    watches.close().await;
    let list = list.map_err(|error| explained(error, &url))?;
    if args.json {
        let list: Vec<serde_json::Value> = list.iter().map(as_json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&list)?)?;
    } else if list.is_empty() {
        writeln!(out, "no table is watched; begin with `rowcast watch TABLE MERCHANT_COLUMN`")?;
    } else {
        write_table(&list, out)?;
    }
    Ok(())
}

/// The command `publish`.
pub(crate) async fn publish(args: PublishArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let data = match args.data.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            text
        }
        text => text.to_owned(),
    };
    check_json(&data)?;
    let watches = connect(&url).await?;
    let published = watches.publish(&args.room, &args.type_, &data).await;
    watches.close().await;
    published.map_err(|error| explained(error, &url))?;
    writeln!(out, "published {} to room {}", args.type_, args.room)?;
    Ok(())
}

fn url(args: &DatabaseArgs) -> anyhow::Result<String> {
    match (&args.dev, args.database_url.as_deref()) {
        (Some(folder), _) => Ok(DevFile::read(folder)?.database_url),
        (None, Some(url)) if !url.is_empty() => Ok(url.to_owned()),
        (None, _) => bail!(
            "which database? Give --database-url postgres://user:password@host/name, set ROWCAST_DATABASE__URL, or name \
             the --dev folder of a running `rowcast dev`"
        ),
    }
}

async fn connect(url: &str) -> anyhow::Result<Watches> {
    Watches::connect(url).await.map_err(|error| explained(error, url))
}

/// Says where, and what to do about it. The password of the address is not shown.
fn explained(error: StoreError, url: &str) -> anyhow::Error {
    let place = place(url);
    let advice = match &error {
        StoreError::Address(_) => {
            return anyhow!("{error}; it looks like postgres://user:password@host:5432/database");
        }
        StoreError::ConnectTimeout(_) => {
            "is the address right, and is nothing between here and there in the way?"
        }
        StoreError::Connect(_) => match error.code() {
            None => "is PostgreSQL running there, and is the address right?",
            Some(code) if *code == SqlState::INVALID_PASSWORD => "check user and password of the address",
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
                "create the database, or correct its name"
            }
            Some(_) => "",
        },
        StoreError::NotMigrated => "",
        _ => match error.code() {
            Some(code) if *code == SqlState::INVALID_SCHEMA_NAME || *code == SqlState::UNDEFINED_FUNCTION => {
                "is the schema there, and up to date? `rowcast migrate` sees to it"
            }
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                "connect as the table's owner (watch, unwatch), as a member of rowcast_publisher (publish), or as one who \
                 may create schemas and roles (migrate)"
            }
            _ => "",
        },
    };
    match advice {
        "" => anyhow!("{place}: {error}"),
        advice => anyhow!("{place}: {error}; {advice}"),
    }
}

fn about_table(error: StoreError, url: &str, table: &str) -> anyhow::Error {
    let folded = !table.contains('"') && table.chars().any(char::is_uppercase);
    match error.code() {
        Some(code) if *code == SqlState::UNDEFINED_TABLE && folded => {
            let quoted: Vec<String> = table.split('.').map(|part| format!("\"{part}\"")).collect();
            anyhow!(
                "{}: {error}; PostgreSQL reads names without double quotes as lower case: did you mean '{}'?",
                place(url),
                quoted.join(".")
            )
        }
        _ => explained(error, url),
    }
}

/// Host, port and database of an address.
fn place(url: &str) -> String {
    let Ok(config) = url.parse::<tokio_postgres::Config>() else { return "PostgreSQL".to_owned() };
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
            }
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
    format!(
        "database {database:?} at {}",
        if hosts.is_empty() { "localhost".to_owned() } else { hosts.join(",") }
    )
}

/// Checks JSON before it goes to the database, whose own words do not show where the fault is.
fn check_json(text: &str) -> anyhow::Result<()> {
    let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) else { return Ok(()) };
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before: String = line.chars().take(error.column().saturating_sub(1)).collect();
    let start = before.chars().count().saturating_sub(40);
    let shown: String = line.chars().skip(start).take(70).collect();
    let indent = before.chars().count() - start;
    bail!(
        "the event's data is not JSON: {error}\n  {shown}\n  {}^\nText needs double quotes, and the shell needs single ones \
         around the whole: '{{\"id\": 7}}'",
        " ".repeat(indent)
    )
}

fn as_json(watched: &Watched) -> serde_json::Value {
    serde_json::json!({
        "table": watched.table,
        "merchant_column": watched.merchant_column,
        "type": watched.type_,
        "key_columns": watched.key_columns,
        "columns": watched.columns,
        "operations": watched.operations,
        "payload": watched.payload,
        "on_error": watched.on_error,
    })
}

fn write_table(list: &[Watched], out: &mut impl Write) -> std::io::Result<()> {
    let head =
        ["TABLE", "MERCHANT", "TYPE", "OPERATIONS", "ON ERROR", "PAYLOAD", "COLUMNS"].map(str::to_owned);
    let rows = list.iter().map(|watched| {
        [
            watched.table.clone(),
            watched.merchant_column.clone(),
            watched.type_.clone(),
            watched.operations.join(","),
            watched.on_error.clone(),
            watched.payload.clone().unwrap_or_else(|| "-".to_owned()),
            watched.columns.join(","),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    for row in &rows {
        let (last, cells) = row.split_last().expect("a row has seven cells");
        for (column, cell) in cells.iter().enumerate() {
            write!(out, "{cell:<width$}  ", width = width(column))?;
        }
        writeln!(out, "{last}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_json_is_shown_where_it_breaks() {
        let message = check_json(r#"{"id": 7, status: "new"}"#).unwrap_err().to_string();
        let lines: Vec<&str> = message.lines().collect();
        assert!(lines[0].contains("line 1 column 11"), "{message}");
        assert_eq!(&lines[1][lines[2].find('^').unwrap()..][..6], "status");
        assert!(check_json("").is_err());
        check_json("[1, \"two\"]").unwrap();
    }

    #[test]
    fn a_place_shows_host_and_database_and_no_password() {
        let place = place("postgres://app:hush@db.example:5433/shop");
        assert_eq!(place, "database \"shop\" at db.example:5433");
    }
}
