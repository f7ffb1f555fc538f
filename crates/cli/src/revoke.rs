//! The command `revoke`: tokens that count no more, in the database, from where the leader tells the edges.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::bail;
use rowcast_protocol::{Micros, Sheet};
use rowcast_store::{Before, NewRevocation, Revocation, StoreError, Watches};
use serde_json::{Value, json};

use crate::args::{LiftArgs, ListArgs, RevokeArgs, RevokeCommand};
use crate::columns;
use crate::database::{connect, explained, url};

/// How often it is asked whether the edges were told.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The command `revoke`.
pub(crate) async fn revoke(args: RevokeArgs, out: &mut impl Write) -> anyhow::Result<()> {
    match &args.command {
        Some(RevokeCommand::List(list)) => write_list(list, out).await,
        Some(RevokeCommand::Lift(what)) => lift(what, out).await,
        None => revoke_what(&args, out).await,
    }
}

/// Does something in the database, and explains what goes wrong there.
async fn at<T>(
    args: &crate::args::DatabaseArgs,
    act: impl AsyncFnOnce(&Watches) -> Result<T, StoreError>,
) -> anyhow::Result<T> {
    let url = url(args)?;
    let watches = connect(&url).await?;
    let done = act(&watches).await;
    watches.close().await;
    done.map_err(|error| explained(error, &url))
}

async fn revoke_what(args: &RevokeArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let Some((kind, value)) = args.what.given() else {
        bail!("whose tokens? Give --subject, --token-id or --room")
    };
    let new = NewRevocation {
        kind,
        value: value.to_owned(),
        issued_before: args.before,
        reason: args.reason.clone(),
        keep_seconds: args.keep.map(|keep| i64::try_from(keep.as_secs()).unwrap_or(i64::MAX)),
    };
    let (made, version, told) = at(&args.database, async |watches| {
        let (made, version) = watches.revoke(&new).await?;
        Ok((made, version, wait_until_told(watches, version, args.wait).await?))
    })
    .await?;
    if args.json {
        let mut all = as_json(&made);
        (all["version"], all["told"]) = (version.into(), told.is_some().into());
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        writeln!(out, "revoked: {} (number {}, version {version})", described(&made), made.id)?;
        writeln!(out, "{}", forgotten(&made))?;
    }
    say_told(
        told,
        version,
        args.wait,
        args.json,
        "Every socket, stream and page with such a token is ended",
        out,
    )?;
    if !args.json {
        writeln!(out, "Back: rowcast revoke lift {}", made.id)?;
    }
    Ok(())
}

/// How long it took until a leader had told the edges of a version; none where it took too long.
async fn wait_until_told(
    watches: &Watches,
    version: u64,
    wait: Duration,
) -> Result<Option<Duration>, StoreError> {
    let begun = Instant::now();
    loop {
        let (_, told) = watches.sheet_versions(Sheet::Revocations).await?;
        if told >= version {
            return Ok(Some(begun.elapsed()));
        }
        if begun.elapsed() >= wait {
            return Ok(None);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// What that means. Not to have told the edges is a failure: whoever revokes counts on it.
fn say_told(
    told: Option<Duration>,
    version: u64,
    wait: Duration,
    quiet: bool,
    happens: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match told {
        Some(_) if quiet => Ok(()),
        Some(took) => Ok(writeln!(
            out,
            "The edges were told after {} ms. {happens} within a second; rowcast_edge_revocations_version is {version} then.",
            took.as_millis()
        )?),
        None if wait.is_zero() => Ok(()),
        None => bail!(
            "it is kept (version {version}), but within {} no listener has told the edges of it: they go on as before until one \
             leads and has a link to Redis. Look at rowcast_listener_leader and rowcast_listener_revocations_version",
            rowcast_process::config::duration::format(wait)
        ),
    }
}

async fn write_list(args: &ListArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let all = at(&args.database, async |watches| watches.revocations().await).await?;
    if args.json {
        let all = json!({ "revocations": all.iter().map(as_json).collect::<Vec<_>>() });
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    } else if all.is_empty() {
        writeln!(out, "no tokens are revoked")?;
    } else {
        let rows = all.into_iter().map(|one| {
            [
                one.id.to_string(),
                one.kind.clone(),
                one.value.escape_debug().to_string(),
                issued_before(&one),
                one.expires_at.map_or("never".to_owned(), |at| at.to_string()),
                one.created_by.escape_debug().to_string(),
                one.reason.unwrap_or_default().escape_debug().to_string(),
            ]
        });
        let head = ["NUMBER", "KIND", "VALUE", "ISSUED BEFORE", "FORGOTTEN", "BY", "REASON"];
        columns::write(head, rows, out)?;
    }
    Ok(())
}

async fn lift(args: &LiftArgs, out: &mut impl Write) -> anyhow::Result<()> {
    if args.id.is_none() && args.what.given().is_none() {
        bail!("which one? Give its number in `rowcast revoke list`, or --subject, --token-id or --room")
    }
    let (lifted, version, told) = at(&args.database, async |watches| {
        let what = match (args.what.given(), args.id) {
            (Some((kind, value)), _) => Some((kind.name().to_owned(), value.to_owned())),
            (None, Some(id)) => watches.revocation(id).await?.map(|one| (one.kind, one.value)),
            (None, None) => None,
        };
        let lifted = match &what {
            Some((kind, value)) if watches.lift_revocation(kind, value).await? => what,
            _ => None,
        };
        let (version, _) = watches.sheet_versions(Sheet::Revocations).await?;
        let wait = if lifted.is_some() { args.wait } else { Duration::ZERO };
        Ok((lifted, version, wait_until_told(watches, version, wait).await?))
    })
    .await?;
    let Some((kind, value)) = lifted else {
        bail!("there is no such revocation; `rowcast revoke list` shows those that there are")
    };
    writeln!(out, "lifted: {kind} {value:?} (version {version})")?;
    say_told(told, version, args.wait, false, "Tokens that it alone had revoked let in again", out)
}

fn issued_before(one: &Revocation) -> String {
    match one.issued_before {
        Before::Always => "any time".to_owned(),
        Before::Time(time) => time.to_string(),
    }
}

fn described(one: &Revocation) -> String {
    let tokens = match one.kind.as_str() {
        "room" => "tokens that name room",
        "token_id" => "tokens with id",
        _ => "tokens of subject",
    };
    match one.issued_before {
        Before::Always => format!("all {tokens} {:?}, whenever issued", one.value),
        Before::Time(time) => format!("{tokens} {:?} issued before {time}", one.value),
    }
}

fn forgotten(one: &Revocation) -> String {
    match one.expires_at {
        None => "It is kept until it is lifted.".to_owned(),
        Some(at) => format!("It is forgotten after {at}: no token that it revokes may live longer (--for)."),
    }
}

fn as_json(one: &Revocation) -> Value {
    let time = |time: Option<Micros>| time.map(|time| time.to_string());
    let before = match one.issued_before {
        Before::Always => None,
        Before::Time(before) => Some(before),
    };
    json!({
        "id": one.id, "kind": one.kind, "value": one.value, "issued_before": time(before), "forgotten_after": time(one.expires_at),
        "reason": one.reason, "created_at": one.created_at.to_string(), "created_by": one.created_by,
    })
}
