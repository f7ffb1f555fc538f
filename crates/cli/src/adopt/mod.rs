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
    let found =
        async { Ok((watches.notifying_triggers().await?, watches.notifying_functions().await?)) }.await;
    watches.close().await;
    let (triggers, functions) = found.map_err(|error| explained(error, &url))?;
    let (adoptions, callers) = (guess::adoptions(triggers), guess::callers(functions));
    if args.json {
        let all = serde_json::json!({ "tables": adoptions, "functions": callers });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        out.write_all(report::report(&adoptions, &callers).as_bytes())?;
    }
    Ok(())
}
