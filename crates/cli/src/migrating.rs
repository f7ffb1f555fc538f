//! The command `migrate`. The migrations and their running are the store's.

use std::io::Write;

use rowcast_store::{MigrateOptions, Migration, MigrationState, Waiting};

use crate::{
    args::{MigrateArgs, MigrateCommand, StatusArgs},
    columns,
    config::Config,
    database::{explained, url},
};

/// The command `migrate`, with what is below it.
pub(crate) async fn migrate(args: MigrateArgs, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(MigrateCommand::Status(args)) = args.command {
        return status(args, out).await;
    }
    let url = url(&args.database)?;
    let config = Config::load(args.database.config.as_deref())?.database;
    let options = MigrateOptions {
        lock_timeout: args.lock_timeout.unwrap_or(config.migrate_lock_timeout),
        retry_for: args.retry_for.unwrap_or(config.migrate_retry_for),
    };
    if args.dry_run {
        let tried = rowcast_store::try_migrations(&url, options, say).await;
        return Ok(write_trial(&tried.map_err(|error| explained(error, &url))?, out)?);
    }
    let report =
        rowcast_store::migrate_with(&url, options, say).await.map_err(|error| explained(error, &url))?;
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

/// On standard error, which is not part of the outcome.
fn say(waiting: &Waiting) {
    eprintln!("rowcast: {waiting}");
}

/// As a script: what is not a statement is a comment.
fn write_trial(tried: &[(String, String)], out: &mut impl Write) -> std::io::Result<()> {
    if tried.is_empty() {
        return writeln!(out, "-- Nothing to do: all migrations were applied.");
    }
    writeln!(
        out,
        "-- {} to apply: tried in a transaction that was rolled back; nothing has changed.",
        if tried.len() == 1 { "1 migration".to_owned() } else { format!("{} migrations", tried.len()) }
    )?;
    for (name, sql) in tried {
        writeln!(out, "\n-- {name}\n\n{}", sql.trim_end())?;
    }
    Ok(())
}

/// The command `migrate status`.
async fn status(args: StatusArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let all = rowcast_store::migrations(&url).await.map_err(|error| explained(error, &url))?;
    let pending = all.iter().filter(|one| one.state == MigrationState::Pending).count();
    if args.json {
        let list: Vec<serde_json::Value> = all.iter().map(as_json).collect();
        let json = serde_json::json!({ "pending": pending, "migrations": list });
        writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
        return Ok(());
    }
    let rows = all.iter().map(|one| [one.version.to_string(), one.name.clone(), in_words(&one.state)]);
    columns::write(["VERSION", "NAME", "STATE"], rows, out)?;
    match pending {
        0 => writeln!(out, "\nup to date")?,
        _ => writeln!(out, "\n{pending} to apply: run `rowcast migrate`")?,
    }
    Ok(())
}

fn in_words(state: &MigrationState) -> String {
    match state {
        MigrationState::Applied(on) => format!("applied {on}"),
        MigrationState::Pending => "pending".to_owned(),
        MigrationState::Different(on) => {
            format!("applied {on}, but it was another: this program is not of the same making")
        }
        MigrationState::Unknown(on) => format!("applied {on} by a newer Rowcast"),
    }
}

fn as_json(migration: &Migration) -> serde_json::Value {
    let (state, on) = match &migration.state {
        MigrationState::Applied(on) => ("applied", Some(on)),
        MigrationState::Pending => ("pending", None),
        MigrationState::Different(on) => ("different", Some(on)),
        MigrationState::Unknown(on) => ("unknown", Some(on)),
    };
    serde_json::json!({
        "version": migration.version,
        "name": migration.name,
        "state": state,
        "applied_on": on,
    })
}
