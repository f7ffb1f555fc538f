//! What plain mode counts and says. A trigger that is wrong is wrong at every row, so its log lines are few: one for
//! each reason and half minute.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rowcast_process::metrics::{Metrics, MetricsError};
use rowcast_process::prometheus::{IntCounter, IntCounterVec};
use rowcast_store::StoreError;

use super::decode::Refusal;

/// Between two log lines of the same reason.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Plain mode's metrics.
pub(crate) struct PlainMetrics {
    taken: IntCounterVec,
    truncated: IntCounter,
    refused: IntCounterVec,
    /// For each reason: when it was last logged, and how many were not since.
    said: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl PlainMetrics {
    /// Makes and registers them.
    pub fn new(on: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            taken: on.counter_vec(
                "rowcast_listener_plain_events_total",
                "Notifications of configured channels that became events.",
                &["channel"],
            )?,
            truncated: on.counter(
                "rowcast_listener_plain_truncated_total",
                "Of them, those whose payload says that it was too large and is only a reference.",
            )?,
            refused: on.counter_vec(
                "rowcast_listener_plain_refused_total",
                "Notifications that could not become events, or that too many others were waiting before.",
                &["reason"],
            )?,
            said: Mutex::default(),
        })
    }

    pub(super) fn on_taken(&self, channel: &str, truncated: bool) {
        // Channels are few: only configured ones come here.
        self.taken.with_label_values(&[channel]).inc();
        self.truncated.inc_by(u64::from(truncated));
    }

    pub(super) fn on_refused(&self, channel: &str, refusal: &Refusal) {
        self.refused.with_label_values(&[refusal.reason()]).inc();
        if let Some(unsaid) = self.may_say(refusal.reason()) {
            tracing::warn!(channel, unsaid, "a notification is no event: {refusal}");
        }
    }

    pub(super) fn on_dropped(&self, count: u64) {
        if count == 0 {
            return;
        }
        self.refused.with_label_values(&["queue_full"]).inc_by(count);
        if let Some(unsaid) = self.may_say("queue_full") {
            tracing::warn!(count, unsaid, "notifications were dropped: too many wait for Redis");
        }
    }

    pub(super) fn on_unusable(&self, error: &StoreError) {
        tracing::error!("plain mode is off: {error}");
    }

    /// How many lines of this reason were left out before this one; `None` where this one is left out as well.
    fn may_say(&self, reason: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match said.get_mut(reason) {
            Some((at, unsaid)) if now.saturating_duration_since(*at) < LOG_INTERVAL => {
                *unsaid += 1;
                None
            }
            Some((at, unsaid)) => {
                *at = now;
                Some(std::mem::take(unsaid))
            }
            None => {
                said.insert(reason, (now, 0));
                Some(0)
            }
        }
    }
}
