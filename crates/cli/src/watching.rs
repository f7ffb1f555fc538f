//! The commands `watch`, `unwatch` and `watches`. What watching does is in the migrations.

use std::io::Write;

use rowcast_store::{Drift, Trial, WatchOptions, Watched};

use crate::{
    args::{OnError, UnwatchArgs, WatchArgs, WatchesArgs},
    columns,
    database::{about_table, connect, explained, url},
};

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
    if args.dry_run {
        let trial = watches.try_watch(&options).await;
        watches.close().await;
        write_trial(&trial.map_err(|error| about_table(error, &url, &args.table))?, out)?;
        return Ok(());
    }
    let watched = watches.watch(&options).await;
    watches.close().await;
    watched.map_err(|error| about_table(error, &url, &args.table))?;
    writeln!(out, "watching {}", args.table)?;
    Ok(())
}

/// As a script: what is not a statement is a comment.
fn write_trial(trial: &Trial, out: &mut impl Write) -> std::io::Result<()> {
    let watched = &trial.watched;
    writeln!(
        out,
        "-- Watching {}: tried in a transaction that was rolled back; nothing has changed.",
        watched.table
    )?;
    writeln!(
        out,
        "-- Events of type {}, in the room that {} names.",
        watched.type_, watched.merchant_column
    )?;
    writeln!(out, "-- Sent and compared: {}.", watched.columns.join(", "))?;
    for (title, statements) in [
        ("The triggers of the earlier watch go", &trial.removed),
        ("Trigger functions", &trial.functions),
        ("Triggers", &trial.triggers),
        ("Rights", &trial.grants),
    ] {
        if !statements.is_empty() {
            writeln!(out, "\n-- {title}")?;
        }
        for statement in statements {
            writeln!(out, "{statement};")?;
        }
    }
    if trial.grants.is_empty() {
        writeln!(out, "\n-- No rights need to be given: the table's owner has them.")?;
    }
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
    let found = async { Ok((watches.list().await?, watches.drift().await?)) }.await;
    watches.close().await;
    let (list, drift) = found.map_err(|error| explained(error, &url))?;
    if args.json {
        let list: Vec<serde_json::Value> = list.iter().map(as_json).collect();
        let drift: Vec<serde_json::Value> = drift.iter().map(drift_as_json).collect();
        let all = serde_json::json!({ "watches": list, "drift": drift });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    if list.is_empty() {
        writeln!(out, "no table is watched; begin with `rowcast watch TABLE MERCHANT_COLUMN`")?;
    } else {
        write_list(&list, out)?;
    }
    write_drift(&drift, out)?;
    Ok(())
}

fn write_list(list: &[Watched], out: &mut impl Write) -> std::io::Result<()> {
    let head = ["TABLE", "MERCHANT", "TYPE", "OPERATIONS", "ON ERROR", "PAYLOAD", "COLUMNS"];
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
    columns::write(head, rows, out)
}

fn write_drift(drift: &[(Option<String>, Drift)], out: &mut impl Write) -> std::io::Result<()> {
    if drift.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nNot as `rowcast watch` left it:\n")?;
    let rows = drift.iter().map(|(_, drift)| {
        [drift.relation.clone(), drift.kind.clone(), drift.detail.clone(), remedy(&drift.kind).to_owned()]
    });
    columns::write(["TABLE", "WHAT", "DETAIL", "REMEDY"], rows, out)
}

/// What to do about a kind of drift. The kinds are listed above `rowcast.drift` in the migrations.
fn remedy(kind: &str) -> &'static str {
    match kind {
        "partition" | "detached" => "SELECT rowcast.repair(), as the table's owner",
        "foreign" => "detach it, or unwatch the table",
        "trigger_disabled" => "ALTER TABLE … ENABLE TRIGGER, or watch it again",
        "column_missing" | "payload" => "watch it again, with names that are there",
        "trigger_missing" | "column_new" | "key" | "owner" | "rights" | "outdated" => "watch it again",
        "dropped" => "watch any table again: that forgets the ones that are gone",
        _ => "-",
    }
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

fn drift_as_json((table, drift): &(Option<String>, Drift)) -> serde_json::Value {
    serde_json::json!({
        "table": table,
        "relation": drift.relation,
        "kind": drift.kind,
        "detail": drift.detail,
    })
}
