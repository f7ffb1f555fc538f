//! The arguments of `revoke`.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use rowcast_process::config::duration;
use rowcast_protocol::{Micros, RevocationKind, RoomName};
use rowcast_store::Before;

use super::DatabaseArgs;

/// Below `revoke` in the help.
pub(super) const AFTER_HELP: &str = "\
Every socket, stream and waiting page whose token it names is ended (4401, \"the token was revoked\"), on every edge, and no new one \
gets in. It holds through restarts of everything, until it is lifted or forgotten.

A token is hit if it was issued (iat) before --before; one without iat counts as older than any time. Without --before, that \
is now and a second more for --subject and --room, since iat has whole seconds, so a client may have to ask for a new token \
twice; for --token-id it is forever. A token that names several rooms is revoked as a whole with any of them. Said again, \
times only move forward.

The database user is the schema's owner or a member of the role rowcast_operator. SELECT rowcast.revoke('subject', 'ana') \
does the same in a transaction of your application's: make it the last thing before COMMIT.

Exit status 1 also where it was kept and no listener has told the edges within --wait.

Examples:
  rowcast revoke --subject ana --reason 'laptop stolen'
  rowcast revoke --token-id 7f9c2ba4 --for 30d
  rowcast revoke --room m1 --before 2026-01-31T12:00:00Z
  rowcast revoke --subject ana --before forever
  rowcast revoke list
  rowcast revoke lift --subject ana";

/// Arguments of `revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Something else than revoking.
    #[command(subcommand)]
    pub command: Option<RevokeCommand>,
    /// Which tokens.
    #[command(flatten)]
    pub what: WhatArgs,
    /// Those issued before this: RFC 3339, now, now-1h, now+30s or forever.
    #[arg(long, value_name = "TIME", value_parser = before)]
    pub before: Option<Before>,
    /// Why, for people.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How long it is kept, at least as long as a token can live: such as 30d, or forever [default: 366d].
    #[arg(long = "for", value_name = "DURATION", value_parser = keep)]
    pub keep: Option<Duration>,
    /// How long to wait for the edges to be told.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub wait: Duration,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Commands below `revoke`.
#[derive(Debug, Subcommand)]
pub enum RevokeCommand {
    /// List the revocations that are in force.
    List(ListArgs),
    /// Lift a revocation: tokens that it alone revoked count again.
    Lift(LiftArgs),
}

/// Arguments of `revoke list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `revoke lift`.
#[derive(Debug, Args)]
pub struct LiftArgs {
    /// Its number in `revoke list`.
    #[arg(conflicts_with = "what")]
    pub id: Option<i64>,
    /// Or what it revokes.
    #[command(flatten)]
    pub what: WhatArgs,
    /// How long to wait for the edges to be told.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub wait: Duration,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// By what tokens are revoked.
#[derive(Debug, Args)]
#[group(id = "what", multiple = false)]
pub struct WhatArgs {
    /// All tokens of this subject (sub).
    #[arg(long, value_name = "SUBJECT", value_parser = value)]
    pub subject: Option<String>,
    /// The token with this id (jti).
    #[arg(long, value_name = "ID", value_parser = value)]
    pub token_id: Option<String>,
    /// All tokens that name this room: a merchant's id.
    #[arg(long, value_name = "ROOM", value_parser = room)]
    pub room: Option<String>,
}

impl WhatArgs {
    /// Which one was given.
    pub fn given(&self) -> Option<(RevocationKind, &str)> {
        use RevocationKind::{Room, Subject, TokenId};
        [(Subject, &self.subject), (TokenId, &self.token_id), (Room, &self.room)]
            .into_iter()
            .find_map(|(kind, value)| Some((kind, value.as_deref()?)))
    }
}

fn value(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty, and names no token".to_owned()),
        1..=1024 => Ok(text.to_owned()),
        bytes => Err(format!("it has {bytes} bytes, and at most 1024 can be kept")),
    }
}

fn room(text: &str) -> Result<String, String> {
    RoomName::parse(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

fn before(text: &str) -> Result<Before, String> {
    if text == "forever" {
        return Ok(Before::Always);
    }
    let shifted = text.strip_prefix("now").and_then(|shift| {
        let now = Micros::from_system_time(SystemTime::now()).0;
        let (sign, amount) = match shift.split_at_checked(1) {
            None => return Some(now),
            Some(("+", amount)) => (1, amount),
            Some(("-", amount)) => (-1, amount),
            Some(_) => return None,
        };
        let micros = i64::try_from(duration::parse(amount).ok()?.as_micros()).ok()?;
        now.checked_add(sign * micros)
    });
    let time = shifted.map(Micros).or_else(|| Micros::parse(text));
    time.map(Before::Time).ok_or_else(|| {
        format!("{text:?} is no time: give 2026-01-31T12:00:00Z, now, now-1h, now+30s or forever")
    })
}

/// What PostgreSQL takes for "for good" is anything above 1,000 years.
fn keep(text: &str) -> Result<Duration, String> {
    const FOR_GOOD: Duration = Duration::from_secs(2_000 * 366 * 86_400);
    if text == "forever" { Ok(FOR_GOOD) } else { duration::parse(text).map(|keep| keep.min(FOR_GOOD)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_one_from_now_or_forever() {
        let micros = |text| match before(text) {
            Ok(Before::Time(time)) => time.0,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(micros("2026-01-31T13:00:00+01:00"), micros("2026-01-31T12:00:00Z"));
        let now = micros("now");
        assert!((micros("now-1h") - (now - 3_600_000_000)).abs() < 60_000_000);
        assert!((micros("now+30s") - (now + 30_000_000)).abs() < 60_000_000);
        assert_eq!(before("forever"), Ok(Before::Always));
        for text in ["", "soon", "now-", "now+1", "now*2s", "nowadays", "2026-01-31", "1700000000"] {
            assert!(before(text).is_err_and(|error| error.contains("now-1h")), "{text}");
        }
    }

    #[test]
    fn what_names_no_token_is_refused() {
        for text in ["", &"x".repeat(1_025)] {
            assert!(value(text).is_err());
        }
        assert!(room("").is_err() && room(&"x".repeat(201)).is_err());
        assert!(keep("forever") > keep("365000d") && keep("5").is_err());
    }
}
