//! The leader's reading: every read is the proof of the lock as well. When it is due the doorbell decides.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Instant;

use rowcast_process::metrics::seconds_since;
use rowcast_protocol::Epoch;
use rowcast_store::{LeadSession, Page, StoreError};
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout};

use crate::doorbell::PROOF_INTERVAL;
use crate::election::PROOF_LIFETIME;
use crate::term::{Lost, Term};

/// Reads until the lead is lost.
pub(crate) async fn run(term: &Term<'_>, session: &mut LeadSession) -> Lost {
    match read(term, session).await {
        Ok(never) => match never {},
        Err(lost) => lost,
    }
}

async fn read(term: &Term<'_>, session: &mut LeadSession) -> Result<std::convert::Infallible, Lost> {
    let doorbell = session.session().doorbell().clone();
    let pages = &term.setting.pages;
    let mut waiting = Waiting::Nothing;
    loop {
        let sent = Instant::now();
        let (ring, room, lanes) = {
            let mut core = term.core();
            let room = core.publisher.capacity().min(pages.rows());
            (core.doorbell.order(sent), NonZeroUsize::new(room), core.takes_lanes())
        };
        waiting = match room {
            Some(limit) => {
                pages.begin();
                let page = within(session.read(limit, lanes, ring)).await?;
                pages.end(sent.elapsed(), page.more);
                term.setting.metrics.read_seconds.observe(seconds_since(sent));
                take(term, session, sent, page)
            }
            None => {
                let bell = within(session.prove(ring)).await?;
                let mut core = term.core();
                core.leadership.proved(sent);
                core.doorbell.on_answer(sent, Instant::now(), bell);
                // A proof reads nothing: what was left is left.
                waiting
            }
        };
        let wants_writers = term.core().doorbell.wants_writers();
        if wants_writers {
            let writers = within(session.writers()).await?;
            term.core().doorbell.on_writers(Instant::now(), writers);
        }
        let fenced = {
            let core = term.core();
            core.publisher.fenced().filter(|_| !core.publisher.is_waiting())
        };
        if let Some(newer) = fenced {
            outbid(term, session, newer).await?;
        }
        until_next(term, &doorbell, sent, waiting, pages.rows()).await;
    }
}

async fn within<T>(statement: impl Future<Output = Result<T, StoreError>>) -> Result<T, Lost> {
    Ok(timeout(PROOF_LIFETIME, statement).await.map_err(|_| Lost::ProofTooOld)??)
}

/// What is known to be left to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// Only rows of rooms that are read apart.
    Lanes,
    More,
}

/// Takes a page that was asked for at `sent`.
fn take(term: &Term<'_>, session: &mut LeadSession, sent: Instant, page: Page) -> Waiting {
    let now = Instant::now();
    let waiting = match page {
        Page { more: true, .. } => Waiting::More,
        Page { rooms_apart: 0, .. } => Waiting::Nothing,
        Page { .. } => Waiting::Lanes,
    };
    term.setting.metrics.rooms_apart.set(i64::try_from(page.rooms_apart).unwrap_or(i64::MAX));
    let asked = {
        let mut core = term.core();
        core.doorbell.on_answer(sent, now, page.bell);
        if !page.apart {
            let transactions = page.rows.iter().map(|row| row.tx).collect::<HashSet<_>>().len() as u64;
            let rings = session.session().take_rings();
            term.setting.metrics.rings.inc_by(rings);
            core.doorbell.on_read(sent, &session.seen().snapshot, transactions, rings);
        }
        term.setting.metrics.doorbell.set(i64::from(core.doorbell.rings()));
        core.on_page(sent, now, page, session.complete())
    };
    session.set_apart(asked.apart);
    if asked.new_loss {
        term.setting.metrics.on_trigger_loss();
    }
    term.to_send.notify_waiters();
    term.to_clean.notify_one();
    waiting
}

async fn until_next(term: &Term<'_>, doorbell: &Notify, sent: Instant, waiting: Waiting, page_rows: usize) {
    let latest = tokio::time::Instant::from_std(sent + PROOF_INTERVAL);
    let enough = |term: &Term<'_>| term.core().publisher.capacity() >= page_rows.div_ceil(2);
    while !enough(term) {
        tokio::select! {
            () = term.to_read.notified() => {}
            () = sleep_until(latest) => return,
        }
    }
    match waiting {
        Waiting::More => {}
        Waiting::Nothing => until_rung(term, doorbell, sent).await,
        Waiting::Lanes => tokio::select! {
            () = until_lanes_are_taken(term) => {}
            () = until_rung(term, doorbell, sent) => {}
        },
    }
}

async fn until_lanes_are_taken(term: &Term<'_>) {
    while !term.core().takes_lanes() {
        term.to_read.notified().await;
    }
}

/// Until the next read is due though nothing is known to be left.
async fn until_rung(term: &Term<'_>, doorbell: &Notify, sent: Instant) {
    let (interval, heeds_rings) = {
        let core = term.core();
        (core.doorbell.interval(Instant::now()), core.doorbell.heeds_rings())
    };
    let due = tokio::time::Instant::from_std(sent + interval);
    if !heeds_rings {
        // The bell is being set or was silenced: rings of before would bring the timer nothing.
        tokio::select! {
            () = term.redis_changed.notified() => {}
            () = sleep_until(due) => {}
        }
        return;
    }
    tokio::select! {
        () = doorbell.notified() => {}
        () = term.redis_changed.notified() => {}
        () = sleep_until(due) => {}
    }
}

/// Redis has heard of a newer epoch although this session holds the lock, as the read just before has shown: this
/// database gives out old epochs, so it was restored, and history with it.
async fn outbid(term: &Term<'_>, session: &mut LeadSession, newer: Epoch) -> Result<(), StoreError> {
    let epoch = session.raise_epoch_above(newer).await?;
    let cause = format!("Redis has heard of epoch {newer}, which this database had not given out yet");
    let generation = term.cleaner.raise_generation_above_all(&cause).await?;
    term.setting.metrics.on_generation_raised(generation, &cause);
    term.setting.metrics.epoch.set(crate::metrics::gauge(epoch.0));
    {
        let mut core = term.core();
        core.set_generation(generation, Instant::now());
        core.publisher.renew_epoch(epoch);
    }
    term.to_send.notify_waiters();
    Ok(())
}
