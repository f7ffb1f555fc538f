//! The command `migrate`. The migrations and their running are the store's.

use std::io::Write;

use crate::{
    args::MigrateArgs,
    database::{explained, url},
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
