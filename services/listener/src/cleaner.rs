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
    if due {
        delete_published(term).await?;
    }
    let due = term.core().floor.due(now).is_some_and(|at| at <= now);
    if due { move_floor(term).await } else { Ok(()) }
}

async fn until_due(term: &Term<'_>) {
    loop {
        let (settle, due) = {
            let (core, now) = (term.core(), Instant::now());
            let due = core.delete_at(now).into_iter().chain(core.floor.due(now)).min();
            (core.raise_requested || core.losses_are_quiet, due)
        };
        match due {
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

/// The last of a planned stop: deletes what was published, durably, and moves the floor after it.
pub(crate) async fn clean(term: &Term<'_>) -> Result<(), StoreError> {
    delete_published(term).await?;
    move_floor(term).await
}

async fn delete_published(term: &Term<'_>) -> Result<(), StoreError> {
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
    term.core().on_deleted(Instant::now(), &rows);
    term.to_send.notify_waiters();
    term.to_read.notify_one();
    Ok(())
}

async fn move_floor(term: &Term<'_>) -> Result<(), StoreError> {
    let mark = term.core().floor.take(Instant::now());
    let Some(mark) = mark else { return Ok(()) };
    let written = term.cleaner.set_floor(&mark).await;
    if written.is_err() {
        term.core().floor.failed();
    }
    written
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
