//! What a leader makes durable while it publishes: deletions, dead letters, the floor, raised generations.

use std::time::{Duration, Instant};

use rowcast_process::metrics::seconds_since;
use rowcast_store::{RowKey, StoreError};

use crate::backoff::Backoff;
use crate::history;
use crate::plain;
use crate::publisher::Published;
use crate::term::{Lost, Term};

/// Cleans until the sender has ended (`Ok`) or the lead is lost. The last rows are left to [`clean`].
pub(crate) async fn run(term: &Term<'_>) -> Result<(), Lost> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    loop {
        tokio::select! {
            biased;
            () = term.sent_all.notified() => return Ok(()),
            () = until_due(term) => {}
        }
        match once(term).await {
            Ok(()) => backoff.reset(),
            // PostgreSQL answers, and refuses (a lock on the outbox, a full disk): publishing goes on to its bounds.
            Err(error) if error.kind() == "refused" => {
                tracing::warn!("what was published can not be cleaned up yet: {error}");
                tokio::time::sleep(backoff.wait()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn once(term: &Term<'_>) -> Result<(), StoreError> {
    history::settle(term).await?;
    let now = Instant::now();
    let due = term.core().delete_at(now).is_some_and(|at| at <= now);
    if due { clean(term).await } else { Ok(()) }
}

async fn until_due(term: &Term<'_>) {
    loop {
        let (settle, delete_at) = {
            let core = term.core();
            (core.raise_requested || core.losses_are_quiet, core.delete_at(Instant::now()))
        };
        match delete_at {
            _ if settle => return,
            Some(at) if at <= Instant::now() => return,
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = term.to_clean.notified() => {}
            },
            None => term.to_clean.notified().await,
        }
    }
}

/// Deletes what was published, durably, and moves the floor after it.
pub(crate) async fn clean(term: &Term<'_>) -> Result<(), StoreError> {
    let rows = term.core().take_undeleted();
    if rows.is_empty() {
        return Ok(());
    }
    let began = Instant::now();
    if let Err(error) = delete(term, &rows).await {
        term.core().give_back(Instant::now(), rows);
        return Err(error);
    }
    term.setting.metrics.delete_seconds.observe(seconds_since(began));
    term.setting.metrics.deleted.inc_by(rows.len() as u64);
    let floor = term.core().on_deleted(Instant::now(), &rows);
    term.to_send.notify_one();
    term.to_read.notify_one();
    term.cleaner.set_floor(floor).await
}

async fn delete(term: &Term<'_>, rows: &[Published]) -> Result<(), StoreError> {
    // What plain mode heard never stood in the outbox.
    let stored = || rows.iter().filter(|row| !plain::is_plain(row.id));
    for row in stored() {
        if let Some(reason) = row.poison {
            term.cleaner.dead_letter(key(row), reason).await?;
            term.setting.metrics.on_dead_letter(row.id.row, reason);
        }
    }
    let keys: Vec<RowKey> = stored().map(key).collect();
    if !keys.is_empty() {
        term.cleaner.delete(&keys).await?;
    }
    Ok(())
}

fn key(row: &Published) -> RowKey {
    RowKey { id: row.id.row, occurred_at_micros: row.id.occurred_at }
}
