//! The command line: names, help, examples. What the commands do is in the modules named after them.

mod revoke;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rowcast_process::config::duration;

pub use revoke::{LiftArgs, ListArgs, RevokeArgs, RevokeCommand, WhatArgs};

const AFTER_HELP: &str = "\
Exit status: 0 done, 1 failed (the reason is on standard error), 2 wrong arguments.

Examples:
  rowcast dev --dir ./demo
  rowcast migrate --database-url postgres://app@127.0.0.1/shop
  rowcast watch 'public.\"Booking\"' merchantId --type booking
  rowcast publish m1 report.ready '{\"id\": 7}'
  rowcast token --merchant m1 --expires-in 1h
  rowcast tail --url http://127.0.0.1:8080 --merchant m1";

/// Carries committed PostgreSQL changes to browsers.
#[derive(Debug, Parser)]
#[command(name = "rowcast", version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// Say more on standard error.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create Rowcast's schema in the database, or bring it up to date.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
Safe to run again, and by several at once. It waits for locks in short attempts, so that the application does not queue \
up behind it, and says on standard error who holds them.

Examples:
  rowcast migrate --database-url postgres://app@127.0.0.1/shop
  rowcast migrate --dry-run
  rowcast migrate status"
    )]
    Migrate(MigrateArgs),
    /// Deliver a table's committed changes to its merchants' clients.
    #[command(after_help = "\
Safe to run again: it replaces what was watched before. TABLE is written as in SQL, so names with capitals need \
double quotes inside single ones; MERCHANT_COLUMN and --columns are plain names.

Examples:
  rowcast watch booking merchant_id
  rowcast watch 'public.\"Booking\"' merchantId --type booking --columns id,status,startsAt
  rowcast watch invoice merchant_id --operations insert,update --payload invoice_payload --on-error fail
  rowcast watch booking merchant_id --dry-run

A dry run needs the same rights, takes the same locks for a moment, and fails with the same errors.")]
    Watch(WatchArgs),
    /// Stop watching a table; the application goes on undisturbed.
    #[command(after_help = "Example:\n  rowcast unwatch 'public.\"Booking\"'")]
    Unwatch(UnwatchArgs),
    /// List the watched tables, and what has changed about them since.
    #[command(after_help = "\
Below the list stands what is no longer as `watch` left it, such as partitions without triggers, renamed columns or \
disabled triggers. The leader looks once a minute too.")]
    Watches(WatchesArgs),
    /// List triggers that call pg_notify, and what watching would put in their place.
    #[command(after_help = "\
It changes nothing. Merchant column, type and columns are read from the triggers' functions where that is possible; what \
is not known is said. Rowcast's schema need not be there yet.")]
    Adopt(AdoptArgs),
    /// Write TypeScript types of the watched tables' events.
    #[command(after_help = "\
They follow the columns as they are now and what PostgreSQL's row_to_json makes of them. What a payload function returns \
is not known, so its events have data of type unknown.

Examples:
  rowcast types
  rowcast types --out src/rowcast-events.ts")]
    Types(TypesArgs),
    /// Send an event of your own to a room.
    #[command(after_help = "\
Examples:
  rowcast publish m1 report.ready '{\"id\": 7}'
  jq -n '{id: 7}' | rowcast publish m1 report.ready -")]
    Publish(PublishArgs),
    /// List what can be turned off and on at run time, or turn it.
    #[command(after_help = "\
The one switch is websocket: off, all clients poll, on every edge. It is the way back if sockets make trouble; nothing is \
lost on the way there or back. It stays as it is until it is turned again, through restarts of everything.

The database user is the schema's owner or a member of the role rowcast_operator.

Examples:
  rowcast switch
  rowcast switch websocket off
  rowcast switch websocket on --database-url postgres://app@127.0.0.1/shop")]
    Switch(SwitchArgs),
    /// Have tokens count no more, before their end: by subject, token id or room.
    #[command(args_conflicts_with_subcommands = true, after_help = revoke::AFTER_HELP)]
    Revoke(RevokeArgs),
    /// Print a signed token for a client.
    #[command(after_help = "\
Only the token goes to standard output.

Examples:
  rowcast token --merchant m1
  rowcast token --merchant m1 --merchant m2 --subject ana --expires-in 15m --claim 'types=[\"booking.*\"]'
  TOKEN=$(rowcast token --dev ./demo --merchant m1)")]
    Token(TokenArgs),
    /// Show a merchant's events as a client receives them.
    #[command(after_help = "\
It reconnects and resumes by itself, until Ctrl-C. The time beside an event runs from the change in PostgreSQL to its \
arrival here, by the two machines' clocks.

Exit status: 0 ended as asked, 1 refused for good (for instance for its token) or fewer events than --count within \
--for, 2 wrong arguments.

Examples:
  rowcast tail --dev ./demo
  rowcast tail --url http://127.0.0.1:8080 --token \"$TOKEN\" --types 'booking.*'
  rowcast tail --url ws://live.internal/ws --secret \"$SECRET\" --merchant m1 --json")]
    Tail(TailArgs),
    /// Run a whole Rowcast on this machine, with servers of its own and a demo.
    Dev(crate::dev::DevArgs),
}

/// Which database a command works on.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// PostgreSQL's URL, with the rights of whoever owns the tables [env: ROWCAST_DATABASE__URL, or
    /// ROWCAST_DATABASE__URL_FILE, which names a file that holds it].
    #[arg(long, value_name = "URL", conflicts_with = "dev")]
    pub database_url: Option<String>,
    /// Take the database of a `rowcast dev` that runs in this folder instead.
    #[arg(long, value_name = "DIR")]
    pub dev: Option<PathBuf>,
    /// Configuration file (.toml, .yaml or .json), as the processes read it; the environment (ROWCAST_…) overrides it.
    #[arg(long, value_name = "FILE", env = "ROWCAST_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Something else than migrating.
    #[command(subcommand)]
    pub command: Option<MigrateCommand>,
    /// Try the migrations that are missing in a transaction that is rolled back, and print their SQL.
    #[arg(long, conflicts_with = "json")]
    pub dry_run: bool,
    /// How long each statement waits for a lock, such as 200ms [env: ROWCAST_DATABASE__MIGRATE_LOCK_TIMEOUT].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub lock_timeout: Option<Duration>,
    /// For how long it is tried again, such as 1m [env: ROWCAST_DATABASE__MIGRATE_RETRY_FOR].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub retry_for: Option<Duration>,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Commands below `migrate`.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// List the migrations, and whether they were applied.
    Status(StatusArgs),
}

/// Arguments of `migrate status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The table, as SQL writes it: booking, public."Booking".
    pub table: String,
    /// The column whose text is the room, equal to the token's merchantId.
    pub merchant_column: String,
    /// First part of the events' types: TYPE.created, .updated, .deleted [default: the table's name].
    #[arg(long = "type", value_name = "TYPE")]
    pub type_: Option<String>,
    /// Columns to send and to compare [default: all].
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub columns: Option<Vec<String>>,
    /// Which changes to deliver [default: all].
    #[arg(long, value_delimiter = ',', value_name = "OPS")]
    pub operations: Option<Vec<Operation>>,
    /// A function of the row's type that returns the event's data as json.
    #[arg(long, value_name = "FUNCTION")]
    pub payload: Option<String>,
    /// When Rowcast itself fails: let the application's statement succeed with a warning, or fail.
    #[arg(long, value_name = "ACTION", default_value = "warn")]
    pub on_error: OnError,
    /// Try it in a transaction that is rolled back, and print the SQL that it came to.
    #[arg(long)]
    pub dry_run: bool,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// A change of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    /// As the database writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What a failing trigger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum OnError {
    Warn,
    Fail,
}

/// Arguments of `unwatch`.
#[derive(Debug, Args)]
pub struct UnwatchArgs {
    /// The table, as SQL writes it.
    pub table: String,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Arguments of `watches`.
#[derive(Debug, Args)]
pub struct WatchesArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `adopt`.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `types`.
#[derive(Debug, Args)]
pub struct TypesArgs {
    /// Write them here instead of to standard output; a file that says the same already is left alone.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The room: a merchant's id.
    pub room: String,
    /// The event's type, such as report.ready.
    #[arg(value_name = "TYPE")]
    pub type_: String,
    /// The event's data as JSON; "-" reads it from standard input.
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    pub data: String,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Arguments of `switch`.
#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// The switch; without one, all are listed.
    #[arg(requires = "state")]
    pub name: Option<String>,
    /// How it is to be.
    pub state: Option<SwitchState>,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Print the switches as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a switch can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum SwitchState {
    On,
    Off,
}

/// What a token says. Shared by `token` and `tail`.
#[derive(Debug, Clone, Args)]
pub struct ClaimArgs {
    /// The HS256 secret that the edges verify with [env: ROWCAST_AUTH__HS256_SECRET, or ROWCAST_AUTH__HS256_SECRET_FILE,
    /// which names a file that holds it; with --kid, that one of ROWCAST_AUTH__SECRETS].
    #[arg(long, conflicts_with = "dev")]
    pub secret: Option<String>,
    /// A PEM with a private key to sign with instead: RSA (RS256), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret", "dev"])]
    pub private_key: Option<PathBuf>,
    /// The name of the key, for the token's header.
    #[arg(long, value_name = "NAME")]
    pub kid: Option<String>,
    /// Configuration file (.toml, .yaml or .json), as the processes read it; the environment (ROWCAST_…) overrides it.
    #[arg(long, value_name = "FILE", env = "ROWCAST_CONFIG")]
    pub config: Option<PathBuf>,
    /// A merchant whose events the token opens; may be repeated.
    #[arg(long, value_name = "ID")]
    pub merchant: Vec<String>,
    /// The claim that names the merchants [env: ROWCAST_AUTH__ROOM_CLAIM; default: merchantId].
    #[arg(long, value_name = "NAME")]
    pub room_claim: Option<String>,
    /// The token's subject.
    #[arg(long, value_name = "NAME", default_value = "rowcast-cli")]
    pub subject: String,
    /// The token's id, by which it can be revoked.
    #[arg(long, value_name = "ID")]
    pub token_id: Option<String>,
    /// Who issues it [env: ROWCAST_AUTH__ISSUER].
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// Whom it is for; may be repeated [env: ROWCAST_AUTH__AUDIENCE, the first].
    #[arg(long, value_name = "NAME")]
    pub audience: Vec<String>,
    /// How long the token is good, such as 15m or 8h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    pub expires_in: Duration,
    /// A further claim; the value is JSON, or else text. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub claim: Vec<String>,
}

/// Arguments of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What the token says.
    #[command(flatten)]
    pub claims: ClaimArgs,
    /// Take the secret of a `rowcast dev` that runs in this folder instead.
    #[arg(long, value_name = "DIR")]
    pub dev: Option<PathBuf>,
}

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The edge or its balancer: http://host:port, or ws://host:port/path [env: ROWCAST_TAIL__URL, without --dev].
    #[arg(long)]
    pub url: Option<String>,
    /// Take address and secret of a `rowcast dev` that runs in this folder.
    #[arg(long, value_name = "DIR")]
    pub dev: Option<PathBuf>,
    /// A token; without it one is signed with --secret for --merchant, and signed anew when it ends [env:
    /// ROWCAST_TAIL__TOKEN, without --merchant].
    #[arg(long, conflicts_with = "merchant")]
    pub token: Option<String>,
    /// What the signed token says.
    #[command(flatten)]
    pub claims: ClaimArgs,
    /// Only these types: exact names, or beginnings as booking.*
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub types: Option<Vec<String>>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// End after so many events; status 1 if they did not come.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// End after this time, such as 30s.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    pub duration: Option<Duration>,
}

#[cfg(test)]
mod tests;
