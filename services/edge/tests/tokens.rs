//! Good and bad tokens, each sent to a real edge over a socket and over HTTP. What each gets stands in docs/tokens.md, and
//! the page is compared with it: `ROWCAST_WRITE=1 cargo test -p rowcast-edge --test tokens` writes it anew.

mod support;
#[path = "tokens/table.rs"]
mod table;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rowcast_sandbox::wait_until;
use serde_json::json;
use support::{Edge, LIMIT, Stage};
use table::{Case, Outcome, World};

const BEGIN: &str = "<!-- From here on written by the test of this table. -->";
const END: &str = "<!-- To here. -->";

#[tokio::test]
async fn every_token_gets_the_code_that_the_documentation_says() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let world = World::new().await?;
    let settings = world.settings();
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let edge = stage.edge(&settings).await?;
    wait_until("both issuers' keys", LIMIT, || async {
        let keys = edge.metric("rowcast_edge_jwks_fetches_total", "result=\"ok\"").await;
        keys.is_ok_and(|fetched| fetched >= 2.0)
    })
    .await?;
    let cases = table::cases();
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for case in &cases {
        let token = (case.token)(&world);
        let socket = over_a_socket(&edge, &token).await.with_context(|| case.name)?;
        let status = over_http(&edge, &token).await.with_context(|| case.name)?;
        let (expected, expected_status) = (case.outcome.socket(), case.outcome.status());
        if (&socket, status) != (&expected, expected_status) {
            wrong.push(format!(
                "{}: {socket:?} and {status}, not {expected:?} and {expected_status}",
                case.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let log = std::fs::read_to_string(stage.folder.path().join("edge-1.log"))?;
    for secret in world.secrets() {
        assert!(!log.contains(&secret), "a secret or a token stands in the log");
    }
    Ok(())
}

#[test]
fn the_documentation_has_the_table_as_it_is() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tokens.md");
    let page = std::fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(BEGIN).context("the page has a place for the table")?;
    let (_, after) = rest.split_once(END).context("the page has a place for the table")?;
    let renewed = format!("{before}{BEGIN}\n\n{}\n{END}{after}", written(&table::cases()));
    if std::env::var_os("ROWCAST_WRITE").is_some() {
        std::fs::write(&path, &renewed)?;
    } else {
        assert!(
            page == renewed,
            "docs/tokens.md is stale: ROWCAST_WRITE=1 cargo test -p rowcast-edge --test tokens"
        );
    }
    Ok(())
}

/// The code and reason of the close, or that of the welcome: 0.
async fn over_a_socket(edge: &Edge, token: &str) -> Result<(u16, String)> {
    let mut client = edge.sign_in(json!({ "op": "auth", "token": token })).await?;
    // A close comes in place of the welcome, so a welcome is all that need be looked for.
    let first = client.first().await?;
    Ok(first.unwrap_or((0, "welcome".to_owned())))
}

async fn over_http(edge: &Edge, token: &str) -> Result<u16> {
    let path = format!("/v1/events?{}", support::http::form(&[("access_token", token)]));
    Ok(edge.request("GET", &path, &[]).await?.status)
}

fn written(cases: &[Case]) -> String {
    let mut table = String::from("| token | socket | HTTP | reason |\n| --- | --- | --- | --- |\n");
    for case in cases {
        let (code, reason) = case.outcome.socket();
        let code = if code == 0 { "welcome".to_owned() } else { code.to_string() };
        let reason = if matches!(case.outcome, Outcome::Welcome) { "" } else { &reason };
        let name = case.name.replace('|', "\\|");
        // Writing to a String cannot fail.
        _ = writeln!(table, "| {name} | {code} | {} | {reason} |", case.outcome.status());
    }
    table
}
