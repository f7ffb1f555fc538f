//! The leader's way from PostgreSQL to the edges for what is set at run time: it loads sheets when it takes the lead and
//! when it is told of a change, and has the publisher write them to Redis. What stands there is `publisher::mirrors`'.

use std::convert::Infallible;
use std::time::Duration;

use rowcast_protocol::{Mirror, Sheet};
use rowcast_store::{Cleaner, StoreError};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::backoff::Backoff;
use crate::term::Term;

/// Looked at so often without being told: whoever changes a sheet by hand may have switched its trigger off.
const INTERVAL: Duration = Duration::from_secs(60);

/// All sheets as they are now; without those of which that version is known.
pub(crate) async fn load(
    cleaner: &Cleaner,
    known: impl Fn(Sheet) -> Option<u64>,
) -> Result<Vec<Mirror>, StoreError> {
    let mut sheets = Vec::new();
    for sheet in Sheet::ALL {
        sheets.extend(cleaner.load_sheet(sheet, known(sheet)).await?);
    }
    Ok(sheets)
}

/// Follows changes until the term ends, and notes in PostgreSQL what edges were told of. What fails is tried again, and
/// does not end it.
pub(crate) async fn run(term: &Term<'_>, control: &Notify) -> Infallible {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut looks = interval_at(Instant::now() + INTERVAL, INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut noted = [None; Sheet::ALL.len()];
    loop {
        let told = tokio::select! {
            () = control.notified() => false,
            _ = looks.tick() => false,
            () = term.told.notified() => true,
        };
        loop {
            let done = if told { note(term, &mut noted).await } else { look(term).await };
            match done {
                Ok(()) => break,
                Err(error) => term.setting.metrics.on_sheets_failed(&error),
            }
            tokio::time::sleep(backoff.wait()).await;
        }
        backoff.reset();
    }
}

async fn look(term: &Term<'_>) -> Result<(), StoreError> {
    let known = |sheet| term.core().publisher.wanted(sheet);
    for mirror in load(&term.cleaner, known).await? {
        let (sheet, version) = (mirror.sheet, mirror.version);
        if term.core().mirror(mirror) {
            tracing::info!(sheet = sheet.name(), version, "changed; edges are told");
            term.to_send.notify_waiters();
        }
    }
    Ok(())
}

async fn note(term: &Term<'_>, noted: &mut [Option<u64>; Sheet::ALL.len()]) -> Result<(), StoreError> {
    for (sheet, noted) in Sheet::ALL.into_iter().zip(noted) {
        let version = term.core().publisher.standing(sheet);
        if *noted != Some(version) {
            term.cleaner.note_told(sheet, version).await?;
            *noted = Some(version);
        }
    }
    Ok(())
}
