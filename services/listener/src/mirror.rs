//! The leader's way from PostgreSQL to the edges for what is set at run time: it loads sheets when it takes the lead and
//! when it is told of a change, and has the publisher write them to Redis. What stands there is `publisher::mirrors`'.

use std::convert::Infallible;
use std::time::Duration;

use rowcast_protocol::{Mirror, Sheet};
use rowcast_store::{Cleaner, StoreError};
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::term::Term;

/// Looked at so often without being told: whoever changes a sheet by hand may have switched its trigger off.
const INTERVAL: Duration = Duration::from_secs(60);

/// All sheets as they are now.
pub(crate) async fn load(cleaner: &Cleaner) -> Result<Vec<Mirror>, StoreError> {
    let mut sheets = Vec::new();
    for sheet in Sheet::ALL {
        sheets.push(cleaner.load_sheet(sheet).await?);
    }
    Ok(sheets)
}

/// Follows changes until the term ends. A look that fails is tried again, and does not end it.
pub(crate) async fn run(term: &Term<'_>, control: &Notify) -> Infallible {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        tokio::select! {
            () = control.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        loop {
            match load(&term.cleaner).await {
                Ok(sheets) => break take(term, sheets),
                Err(error) => term.setting.metrics.on_sheets_unread(&error),
            }
            tokio::time::sleep(backoff.wait()).await;
        }
        backoff.reset();
    }
}

fn take(term: &Term<'_>, sheets: Vec<Mirror>) {
    for mirror in sheets {
        let (sheet, version) = (mirror.sheet, mirror.version);
        if term.core().mirror(mirror) {
            tracing::info!(sheet = sheet.name(), version, "changed; edges are told");
            term.to_send.notify_one();
        }
    }
}
