//! What the listener counts and says. Where something is both, it is one call.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rowcast_bus::{BusError, Refusal, Server};
use rowcast_process::metrics::{LATENCY_BUCKETS, Metrics, MetricsError};
use rowcast_process::prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};
use rowcast_protocol::{Epoch, Generation, Sheet};
use rowcast_store::StoreError;

use crate::drift::DriftMetrics;
use crate::plain::PlainMetrics;
use crate::redis_advice::RedisAdvice;
use crate::term::Lost;

/// While Redis goes on refusing for the same reason, that is said so often.
const SAID_AGAIN: Duration = Duration::from_secs(5);

/// The listener's metrics.
pub(crate) struct ListenerMetrics {
    pub leader: IntGauge,
    pub epoch: IntGauge,
    pub generation: IntGauge,
    pub published: IntCounter,
    pub deleted: IntCounter,
    pub batch: Histogram,
    pub read_seconds: Histogram,
    pub publish_seconds: Histogram,
    pub delete_seconds: Histogram,
    pub lag_seconds: Gauge,
    pub doorbell: IntGauge,
    pub rings: IntCounter,
    pub pending: IntGauge,
    pub rooms_apart: IntGauge,
    pub heartbeats: IntCounter,
    switches: IntGauge,
    revocations: IntGauge,
    sheets_failed: IntCounter,
    pub moved: IntCounter,
    pub streams: IntCounter,
    pub plain: PlainMetrics,
    pub drift: DriftMetrics,
    pub redis: RedisAdvice,
    take_overs: IntCounter,
    terms_lost: IntCounterVec,
    refusals: IntCounterVec,
    /// The last code that the log has, and since when.
    refusal_said: Mutex<Option<(&'static str, Instant)>>,
    redis_lost: IntCounter,
    dead_letters: IntCounterVec,
    generations: IntCounter,
    losses: IntCounter,
}

impl ListenerMetrics {
    /// Makes and registers them.
    pub fn new(on: &Metrics) -> Result<Self, MetricsError> {
        let times = LATENCY_BUCKETS;
        let sizes: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
        Ok(Self {
            leader: on.gauge("rowcast_listener_leader", "1 while this process leads.")?,
            epoch: on.gauge("rowcast_listener_epoch", "The epoch under which it leads or last led.")?,
            generation: on.gauge("rowcast_listener_generation", "The number of the present history.")?,
            published: on.counter("rowcast_listener_events_published_total", "Events that Redis has.")?,
            deleted: on.counter("rowcast_listener_rows_deleted_total", "Rows deleted from the outbox.")?,
            batch: on.histogram(
                "rowcast_listener_batch_commands",
                "Commands in a pipeline to Redis.",
                sizes,
            )?,
            read_seconds: on.histogram("rowcast_listener_read_seconds", "One read of the outbox.", times)?,
            publish_seconds: on.histogram(
                "rowcast_listener_publish_seconds",
                "One pipeline to Redis.",
                times,
            )?,
            delete_seconds: on.histogram(
                "rowcast_listener_delete_seconds",
                "One durable deletion.",
                times,
            )?,
            doorbell: on.gauge(
                "rowcast_listener_doorbell",
                "1 while every commit rings; 0 while the outbox is read on a timer, or Redis is away.",
            )?,
            rings: on.counter("rowcast_listener_rings_total", "Commits that rang.")?,
            lag_seconds: on.float_gauge(
                "rowcast_listener_lag_seconds",
                "Age of the oldest visible row that is not in Redis, at the last heartbeat.",
            )?,
            pending: on.gauge("rowcast_listener_rows_pending", "Rows read and not yet in Redis.")?,
            rooms_apart: on.gauge(
                "rowcast_listener_rooms_apart",
                "Rooms of which so much is waiting that they are read apart from all others.",
            )?,
            heartbeats: on.counter("rowcast_listener_heartbeats_total", "Heartbeats that Redis took.")?,
            switches: on.gauge(
                "rowcast_listener_switches_version",
                "The version of the switches that edges find in Redis, by its last heartbeat.",
            )?,
            revocations: on.gauge(
                "rowcast_listener_revocations_version",
                "The version of the revocations that edges find in Redis, by its last heartbeat.",
            )?,
            sheets_failed: on.counter(
                "rowcast_listener_sheets_unread_total",
                "Times that what edges go by could not be read in PostgreSQL.",
            )?,
            moved: on.counter("rowcast_listener_moved_total", "Commands that found another head.")?,
            streams: on.counter("rowcast_listener_streams_total", "Streams begun in Redis.")?,
            plain: PlainMetrics::new(on)?,
            drift: DriftMetrics::new(on)?,
            redis: RedisAdvice::new(on)?,
            take_overs: on.counter("rowcast_listener_take_overs_total", "Times that it took the lead.")?,
            terms_lost: on.counter_vec(
                "rowcast_listener_terms_lost_total",
                "Times that it lost the lead, or could not take it up.",
                &["reason"],
            )?,
            refusals: on.counter_vec(
                "rowcast_listener_redis_refusals_total",
                "Commands that Redis refused.",
                &["code"],
            )?,
            refusal_said: Mutex::default(),
            redis_lost: on.counter("rowcast_listener_redis_lost_total", "Redis lost, or not reached.")?,
            dead_letters: on.counter_vec(
                "rowcast_listener_dead_letters_total",
                "Rows that can not be published.",
                &["reason"],
            )?,
            generations: on
                .counter("rowcast_listener_generations_total", "Times that it raised the generation.")?,
            losses: on
                .counter("rowcast_listener_trigger_losses_total", "Failures of triggers that lost events.")?,
        })
    }

    /// It leads.
    pub fn on_lead(&self, epoch: Epoch) {
        self.take_overs.inc();
        self.leader.set(1);
        self.epoch.set(gauge(epoch.0));
        tracing::info!(%epoch, "leading");
    }

    /// It leads no more, and handed over.
    pub fn on_handed_over(&self) {
        self.leader.set(0);
        tracing::info!("handed over");
    }

    /// It leads no more, or could not begin to.
    pub fn on_lost(&self, lost: &Lost) {
        let led = self.leader.get() == 1;
        self.leader.set(0);
        self.terms_lost.with_label_values(&[lost.kind()]).inc();
        if led {
            tracing::warn!(reason = lost.kind(), "lost the lead: {lost}");
        } else {
            tracing::warn!(reason = lost.kind(), "could not stand for the lead: {lost}");
        }
    }

    /// Redis refused commands of a batch. They are tried again many times a second, which is not worth a line each.
    pub fn on_refused(&self, refused: &[Refusal]) {
        for refusal in refused {
            self.refusals.with_label_values(&[refusal.label()]).inc();
        }
        let Some(first) = refused.first() else { return };
        let now = Instant::now();
        let mut said = self.refusal_said.lock().unwrap_or_else(PoisonError::into_inner);
        let again = |(code, at): (&str, Instant)| code != first.label() || now - at >= SAID_AGAIN;
        if said.is_none_or(again) {
            *said = Some((first.label(), now));
            tracing::warn!(code = first.label(), commands = refused.len(), "Redis refuses: {first}");
        }
    }

    /// Redis does not know the scripts any more.
    pub fn on_scripts_missing(&self) {
        self.refusals.with_label_values(&["NOSCRIPT"]).inc();
        tracing::info!("Redis has forgotten the scripts; loading them again");
    }

    /// The link to Redis broke or could not be made.
    pub fn on_redis_lost(&self, server: &Server, error: &BusError) {
        self.redis_lost.inc();
        if let BusError::Refused(refusal) = error {
            self.refusals.with_label_values(&[refusal.label()]).inc();
        }
        tracing::warn!(%server, "no link to Redis: {error}");
    }

    /// Nobody could tell which servers there are; those that are known are gone on with.
    pub fn on_servers_unknown(&self, error: &BusError) {
        self.redis_lost.inc();
        tracing::warn!("{error}");
    }

    /// The version of a sheet that edges find in Redis.
    pub fn sheet(&self, sheet: Sheet) -> &IntGauge {
        match sheet {
            Sheet::Switches => &self.switches,
            Sheet::Revocations => &self.revocations,
        }
    }

    /// What edges go by could not be read, or that they were told not be noted.
    pub fn on_sheets_failed(&self, error: &StoreError) {
        self.sheets_failed.inc();
        tracing::warn!(
            kind = error.kind(),
            "what edges go by could not be followed in PostgreSQL; trying again: {error}"
        );
    }

    /// A row can not be published.
    pub fn on_dead_letter(&self, row: i64, reason: &str) {
        self.dead_letters.with_label_values(&[reason]).inc();
        tracing::warn!(row, reason, "a row became a dead letter; its room fetches anew");
    }

    /// The generation was raised.
    pub fn on_generation_raised(&self, generation: Generation, cause: &str) {
        self.generations.inc();
        self.generation.set(gauge(generation.0));
        tracing::warn!(%generation, cause, "generation raised: every client fetches anew");
    }

    /// Triggers lost events.
    pub fn on_trigger_loss(&self) {
        self.losses.inc();
        tracing::warn!("a trigger failed and lost events (rowcast.trigger_error): the light goes to Delayed");
    }
}

/// Prometheus's integers are signed.
pub(crate) fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
