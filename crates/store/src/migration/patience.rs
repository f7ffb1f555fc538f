//! Waiting for what stands in a migration's way, and saying what it is. What is tried again is not here.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::MigrateOptions;
use crate::StoreError;

/// The first pause between attempts, and how long it grows at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// More holders of locks are not named.
const NAMED: i64 = 3;

/// What a migration waits for, for whoever watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Who or what stands in the way, in words.
    pub for_what: String,
    /// How long until the next attempt; nothing where it waits in the database.
    pub next: Option<Duration>,
    /// How long it goes on.
    pub left: Duration,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {}", self.for_what)?;
        if let Some(next) = self.next {
            write!(f, "; the next attempt is in {next:?}")?;
        }
        write!(f, "; giving up in {} s", self.left.as_secs())
    }
}

/// How much of the patience is left.
pub(super) struct Patience<F> {
    options: MigrateOptions,
    end: Instant,
    pause: Duration,
    say: F,
}

impl<F: FnMut(&Waiting)> Patience<F> {
    pub fn new(options: MigrateOptions, say: F) -> Self {
        Self { options, end: Instant::now() + options.retry_for, pause: PAUSE.0, say }
    }

    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    pub fn say_that_another_migrates(&mut self) {
        let for_what = "another `rowcast migrate` that is running".to_owned();
        let waiting = Waiting { for_what, next: None, left: self.left() };
        (self.say)(&waiting);
    }

    /// Waits a little if the error is one that passes; gives it back if it is another, or the patience is over.
    pub async fn wait(&mut self, client: &Client, error: StoreError) -> Result<(), StoreError> {
        if !passes(&error) {
            return Err(error);
        }
        // Without an answer it is not known who holds them; that they are held is.
        let for_what = holders(client, self.options.lock_timeout).await.unwrap_or_default();
        let for_what = if for_what.is_empty() { "locks that others hold".to_owned() } else { for_what };
        if self.left() <= self.pause {
            return Err(self.over(for_what));
        }
        let waiting = Waiting { for_what, next: Some(self.pause), left: self.left() };
        (self.say)(&waiting);
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        Ok(())
    }

    pub fn over(&self, holders: String) -> StoreError {
        StoreError::MigrationLocked { tried_for: self.options.retry_for, holders }
    }
}

/// Who may have stood in the way for so long: whoever holds locks on Rowcast's tables, or on tables that it watches, in a
/// transaction that is older. The oldest come first.
async fn holders(client: &Client, waited: Duration) -> Result<String, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT format('process %s (%s)%s, which holds %s', a.pid,
                           concat_ws(', ', a.usename, nullif(a.application_name, '')),
                           ', in a transaction for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::int || ' s',
                           string_agg(DISTINCT format('%s on %s', l.mode, l.relation::regclass), ', '))
               FROM pg_locks AS l
               JOIN pg_stat_activity AS a ON a.pid = l.pid
               JOIN pg_class AS c ON c.oid = l.relation
              WHERE l.granted AND l.pid <> pg_backend_pid()
                AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
                AND (a.xact_start IS NULL OR a.xact_start < clock_timestamp() - make_interval(secs => $2))
                AND (c.relnamespace IN (to_regnamespace('rowcast'), to_regnamespace('rowcast_triggers'))
                     OR EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
                                 WHERE t.tgrelid = c.oid AND p.pronamespace = to_regnamespace('rowcast_triggers')))
              GROUP BY a.pid, a.usename, a.application_name, a.xact_start
              ORDER BY a.xact_start
              LIMIT $1",
            &[&NAMED, &waited.as_secs_f64()],
        )
        .await?;
    let names = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    Ok(names.join("; "))
}

/// Locks that were not free in time, and roles that another database is changing at this moment.
fn passes(error: &StoreError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            let message = error.as_db_error().map_or("", |error| error.message());
            return is_lock_not_available(error)
                || error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
                || message.contains("concurrently updated");
        }
        cause = error.source();
    }
    false
}

pub(super) fn is_lock_not_available(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}
