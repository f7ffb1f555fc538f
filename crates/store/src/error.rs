//! What can go wrong between Rowcast and PostgreSQL.

use tokio_postgres::error::SqlState;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address could not be read.
    #[error("the database address can not be read: {0}")]
    Address(#[source] tokio_postgres::Error),
    /// A parameter of the address can not be used.
    #[error("the database address can not be used: {0}")]
    Parameter(String),
    /// A certificate or a key can not be used.
    #[error("TLS to PostgreSQL: {0}")]
    Tls(#[from] rowcast_tls::TlsError),
    /// TLS did not come about; with what to do.
    #[error("no TLS with PostgreSQL: {0}")]
    Handshake(String),
    /// No connection came about.
    #[error("could not connect to PostgreSQL: {}", explain(.0))]
    Connect(#[source] tokio_postgres::Error),
    /// No connection came about in time.
    #[error("could not connect to PostgreSQL within {0:?}")]
    ConnectTimeout(std::time::Duration),
    /// PostgreSQL refused a statement, or the connection broke.
    #[error("PostgreSQL: {}", explain(.0))]
    Postgres(#[source] tokio_postgres::Error),
    /// The connection has ended.
    #[error("the connection to PostgreSQL has ended: {0}")]
    Ended(String),
    /// Session state does not survive between two statements. With what gave it away.
    #[error(
        "this address leads through a pooler that does not keep a session for each client, such as PgBouncer with \
         pool_mode = transaction ({0}). Rowcast needs sessions of its own: give it PostgreSQL's direct address, or \
         that of a pool with pool_mode = session"
    )]
    Pooler(String),
    /// A session can be had, and beside it no other.
    #[error(
        "PostgreSQL did not answer a second session within {0:?}. If this address leads through a pooler, its pool is \
         too small: a listener keeps two sessions and needs a third for a moment. Give it PostgreSQL's direct address, \
         or a larger pool"
    )]
    NoSecondSession(std::time::Duration),
    /// A host's name leads nowhere.
    #[error("could not connect to PostgreSQL: {0} can not be resolved: {1}")]
    Unresolved(String, #[source] std::io::Error),
    /// None of several servers is one to write to. With each one's reason.
    #[error("none of the hosts of this address is a PostgreSQL to write to: {}", each(.0))]
    NoPrimary(Vec<(String, StoreError)>),
    /// A primary that takes no writes: it was fenced, or the role or the database is set so.
    #[error("this PostgreSQL takes no writes: {0}. Rowcast needs a primary that does")]
    ReadOnly(String),
    /// A primary that nobody stopped when a standby of it was promoted, or one that was restored from before that.
    #[error(
        "this PostgreSQL was replaced: it is on timeline {own} of its cluster, and there is a primary, or was a leader, on \
         timeline {newer}. Stop it, or make it a standby of that one"
    )]
    Replaced {
        /// Its own.
        own: i64,
        /// The later one.
        newer: i64,
    },
    /// Sessions that belong together came to different servers.
    #[error(
        "two sessions of one address came to two servers, as behind a proxy while PostgreSQL fails over: both are given up"
    )]
    OtherServer,
    /// A hot standby can neither be listened on nor written to.
    #[error("this PostgreSQL is a standby in recovery: Rowcast needs the primary")]
    NotPrimary,
    /// Notifications of the application's can not be read from such a database.
    #[error(
        "this database has no encoding (SQL_ASCII), so notifications may hold bytes that are not text: plain mode \
         (listener.channels) needs a database with an encoding, such as UTF8"
    )]
    NoEncoding,
    /// The schema is missing or older than this program.
    #[error("the schema rowcast is not there, or not complete: run `rowcast migrate`")]
    NotMigrated,
    /// A migration failed.
    #[error("migration: {}", chain(&**.0))]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A migration that was applied is not the one that this version has.
    #[error(
        "migration {0} was applied in another form than this version's: the schema was made by a build from before a release, \
         and these change in place. Nothing was changed. Use a new database (`rowcast dev`: a new folder), or unwatch the \
         tables and drop the schemas rowcast and rowcast_triggers with all they hold, then migrate and watch again"
    )]
    MigrationDiffers(String),
    /// What a migration needs stayed locked.
    #[error(
        "the migration could not get its locks within {tried_for:?}: it waited for {holders}. Nothing is half done: run it \
         again, or give it longer (database.migrate_retry_for)"
    )]
    MigrationLocked {
        /// For how long it was tried.
        tried_for: std::time::Duration,
        /// Who stood in the way, as far as it is known.
        holders: String,
    },
    /// The server sent something that this program does not understand.
    #[error("PostgreSQL answered with something unexpected: {0}")]
    Unexpected(String),
}

impl StoreError {
    /// PostgreSQL's error code, where it gave one.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) | Self::Connect(error) => error.code(),
            _ => None,
        }
    }

    /// A few words for a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address(_) | Self::Parameter(_) => "address",
            Self::Tls(_) | Self::Handshake(_) => "tls",
            Self::Connect(_) | Self::ConnectTimeout(_) | Self::Unresolved(..) => "connect",
            Self::NoPrimary(hosts) => {
                // That some are down says less than that a standby answers and no primary does.
                let kinds = || hosts.iter().map(|(_, error)| error.kind());
                kinds().find(|kind| *kind != "connect").unwrap_or("connect")
            }
            Self::ReadOnly(_) => "read_only",
            Self::OtherServer => "other_server",
            Self::Replaced { .. } => "replaced",
            Self::Postgres(error) if error.code().is_some() => "refused",
            Self::Postgres(_) | Self::Ended(_) => "connection",
            Self::Pooler(_) => "pooler",
            Self::NoSecondSession(_) => "second_session",
            Self::NotPrimary => "not_primary",
            Self::NoEncoding => "no_encoding",
            Self::NotMigrated => "not_migrated",
            Self::Migration(_) | Self::MigrationDiffers(_) | Self::MigrationLocked { .. } => "migration",
            Self::Unexpected(_) => "unexpected",
        }
    }

    /// Tells what went wrong with TLS from the rest.
    pub(crate) fn from_connect(error: tokio_postgres::Error) -> Self {
        const CA: &str = "sslrootcert (database.tls.ca)";
        const CERT: &str = "sslcert and sslkey (database.tls.cert, database.tls.key)";
        if let Some(text) = rowcast_tls::explain(&error, CA, CERT) {
            return Self::Handshake(text);
        }
        match chain(&error) {
            text if text.contains("server does not support TLS") => Self::Handshake(
                "the server, or whatever answers in its place, speaks none, and sslmode asks for it: turn ssl on there"
                    .to_owned(),
            ),
            text if text.contains("no hostname provided for TLS") => Self::Handshake(
                "the address has a hostaddr and no host: give the host whose name is in the certificate".to_owned(),
            ),
            _ => Self::Connect(error),
        }
    }

    /// Says `NotMigrated` where a statement failed because the schema, a table or a function is missing.
    pub(crate) fn from_statement(error: tokio_postgres::Error) -> Self {
        let missing = [
            SqlState::UNDEFINED_TABLE,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_COLUMN,
        ];
        match error.code() {
            Some(code) if missing.contains(code) => Self::NotMigrated,
            _ => error.into(),
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        // A statement that was prepared in this session is always there, and its name is free before.
        let lost = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
        match error.code() {
            Some(code) if lost.contains(code) => Self::Pooler(explain(&error)),
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Self::ReadOnly(explain(&error)),
            _ => Self::Postgres(error),
        }
    }
}

fn each(hosts: &[(String, StoreError)]) -> String {
    let words: Vec<String> = hosts.iter().map(|(host, error)| format!("{host}: {error}")).collect();
    words.join("; ")
}

/// The server's own words with detail and hint, or the whole chain of causes.
fn explain(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return chain(error);
    };
    let mut text = db.message().to_owned();
    for (label, part) in [("detail", db.detail()), ("hint", db.hint())] {
        if let Some(part) = part {
            text.push_str(&format!(" ({label}: {part})"));
        }
    }
    text
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
