//! The command `publish`: an event by hand.

use std::io::{Read as _, Write};

use anyhow::{Context as _, bail};

use crate::{
    args::PublishArgs,
    database::{connect, explained, url},
};

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
}
