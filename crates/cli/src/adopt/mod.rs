//! The command `adopt`: which triggers notify by themselves, and what watching would put in their place. It changes
//! nothing.

mod guess;
mod report;
mod source;
#[cfg(test)]
mod tests;

use std::io::Write;

use crate::{
    args::AdoptArgs,
    database::{connect, explained, url},
};

/// The command `adopt`.
pub(crate) async fn adopt(args: AdoptArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let url = url(&args.database)?;
    let watches = connect(&url).await?;
    let triggers = watches.notifying_triggers().await;
    watches.close().await;
    let adoptions = guess::adoptions(triggers.map_err(|error| explained(error, &url))?);
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&adoptions)?)?;
    } else {
        out.write_all(report::report(&adoptions).as_bytes())?;
    }
    Ok(())
}
