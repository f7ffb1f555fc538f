//! Plain mode: what existing triggers send with `pg_notify` becomes events, at most once.
//!
//! The channels are heard on the session that holds the leader's lock: two leaders never hear the same notification.
//! What is heard goes straight into the publisher, past the outbox. So it is lost when nobody leads, when this process
//! ends before Redis has answered, or when too much waits; what a payload means is in [`decode`].

mod decode;
mod metrics;
mod settings;

use std::time::{Duration, Instant, SystemTime};

use rowcast_protocol::{EventId, Micros};
use rowcast_store::{Note, Session, StoreError, Subscription};

use crate::config::ListenerConfig;
use crate::publisher::{Past, Row};
use crate::term::Term;

pub use decode::{Channels, Event, Refusal};
pub(crate) use metrics::PlainMetrics;
pub use settings::{Channel, ChannelTable, Paths};
pub(crate) use settings::{one_or_more, validate};

/// Notifications that wait to be taken (8 MB at most). What comes above it is dropped and counted.
const WAITING: usize = 1_000;
/// How often dropped notifications are counted when none arrives.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// What a leader hears.
pub(crate) struct Plain {
    subscription: Subscription,
    channels: Channels,
    /// The number of the next event, below zero: rows of the outbox are above it. Each term begins at the time in
    /// microseconds, so that no two terms give out the same.
    next: i64,
}

/// LISTENs, where channels are configured.
pub(crate) async fn listen(
    config: &ListenerConfig,
    metrics: &PlainMetrics,
    session: &Session,
) -> Result<Option<Plain>, StoreError> {
    let channels = Channels::new(config);
    let names = channels.names();
    if names.is_empty() {
        return Ok(None);
    }
    match session.subscribe(&names, WAITING).await {
        Ok(subscription) => {
            tracing::info!(channels = names.join(","), "plain mode: listening");
            Ok(Some(Plain { subscription, channels, next: -now_micros() }))
        }
        // The outbox is read all the same.
        Err(error @ StoreError::NoEncoding) => {
            metrics.on_unusable(&error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes what is heard, as long as the term lasts. The end of the connection is the reader's to tell.
pub(crate) async fn run(term: &Term<'_>, plain: Option<Plain>) -> std::convert::Infallible {
    let Some(mut plain) = plain else { return std::future::pending().await };
    let metrics = &term.setting.metrics.plain;
    loop {
        let note = tokio::time::timeout(COUNT_INTERVAL, plain.subscription.next()).await;
        metrics.on_dropped(plain.subscription.take_dropped());
        match note {
            Ok(Some(note)) => take(term, &mut plain, &note),
            Ok(None) => return std::future::pending().await,
            Err(_) => {}
        }
    }
}

fn take(term: &Term<'_>, plain: &mut Plain, note: &Note) {
    let metrics = &term.setting.metrics.plain;
    let event = match plain.channels.decode(note) {
        Ok(event) => event,
        Err(refusal) => return metrics.on_refused(&note.channel, &refusal),
    };
    let row = Row {
        id: EventId { row: plain.next, occurred_at: now_micros() },
        // None of the outbox's: the floor does not wait for it.
        round: u64::MAX,
        room: event.room,
        event_type: event.event_type,
        data: note.payload.clone(),
        changed: None,
        truncated: event.truncated,
        visible: Past::at(Instant::now()),
        written: None,
    };
    let taken = {
        let mut core = term.core();
        // Half of what may be in memory is the outbox's.
        let room = core.publisher.capacity() > term.setting.config.listener.max_rows / 2;
        if room {
            core.publisher.enqueue([row]);
        }
        room
    };
    if taken {
        plain.next -= 1;
        metrics.on_taken(&note.channel, event.truncated);
        term.to_send.notify_waiters();
    } else {
        metrics.on_dropped(1);
    }
}

/// Whether a published row came from a notification: then the outbox does not hold it.
pub(crate) fn is_plain(id: EventId) -> bool {
    id.row < 0
}

fn now_micros() -> i64 {
    Micros::from_system_time(SystemTime::now()).0
}
