//! The leader's reading: every read is the proof of the lock as well. It waits for the doorbell, and not for long.

use std::time::{Duration, Instant};

use rowcast_process::metrics::seconds_since;
use rowcast_protocol::Epoch;
use rowcast_store::{LeadSession, StoreError};
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout};

use crate::election::PROOF_LIFETIME;
use crate::term::{Lost, Term};

/// Reads follow each other at least so often: they prove the lock.
const PROOF_INTERVAL: Duration = Duration::from_millis(700);
/// Reads follow each other at most so often under load: one that comes later brings more.
const LEAST_INTERVAL: Duration = Duration::from_millis(2);

/// Reads until the lead is lost.
pub(crate) async fn run(term: &Term<'_>, session: &mut LeadSession) -> Lost {
    match read(term, session).await {
        Ok(never) => match never {},
        Err(lost) => lost,
    }
}

async fn read(term: &Term<'_>, session: &mut LeadSession) -> Result<std::convert::Infallible, Lost> {
    let doorbell = session.session().doorbell().clone();
    let page_rows = term.setting.config.listener.read_rows.min(term.setting.config.listener.max_rows);
    loop {
        let sent = Instant::now();
        // Without room a row is read all the same: a read that returns nothing would prove less.
        let limit = term.core().publisher.capacity().clamp(1, page_rows);
        let page = timeout(PROOF_LIFETIME, session.read(limit)).await.map_err(|_| Lost::ProofTooOld)??;
        term.setting.metrics.read_seconds.observe(seconds_since(sent));
        let more = page.more;
        let (asked, fenced) = {
            let mut core = term.core();
            let asked = core.on_page(sent, Instant::now(), page, session.floor(None));
            (asked, core.publisher.fenced())
        };
        if asked.new_loss {
            term.setting.metrics.on_trigger_loss();
        }
        term.to_send.notify_one();
        term.to_clean.notify_one();
        if let Some(newer) = fenced {
            outbid(term, session, newer).await?;
        }
        until_next(term, &doorbell, sent, more, page_rows).await;
    }
}

async fn until_next(term: &Term<'_>, doorbell: &Notify, sent: Instant, more: bool, page_rows: usize) {
    let latest = tokio::time::Instant::from_std(sent + PROOF_INTERVAL);
    let enough = |term: &Term<'_>| term.core().publisher.capacity() >= page_rows.div_ceil(2);
    while !enough(term) {
        tokio::select! {
            () = term.to_read.notified() => {}
            () = sleep_until(latest) => return,
        }
    }
    if more {
        return;
    }
    tokio::select! {
        () = doorbell.notified() => sleep_until(tokio::time::Instant::from_std(sent + LEAST_INTERVAL)).await,
        () = term.to_read.notified() => {}
        () = sleep_until(latest) => {}
    }
}

/// Redis has heard of a newer epoch although this session holds the lock, as the read just before has shown: this
/// database gives out old epochs, so it was restored, and history with it.
async fn outbid(term: &Term<'_>, session: &mut LeadSession, newer: Epoch) -> Result<(), StoreError> {
    let epoch = session.raise_epoch_above(newer).await?;
    let cause = format!("Redis has heard of epoch {newer}, which this database had not given out yet");
    let generation = term.cleaner.raise_generation(&cause).await?;
    term.setting.metrics.on_generation_raised(generation, &cause);
    term.setting.metrics.epoch.set(crate::metrics::gauge(epoch.0));
    {
        let mut core = term.core();
        core.set_generation(generation, Instant::now());
        core.publisher.renew_epoch(epoch);
    }
    term.to_send.notify_one();
    Ok(())
}
