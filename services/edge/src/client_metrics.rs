//! What clients report of themselves, added up. They lie, so this is a picture of many, and no figure here decides
//! anything.

use rowcast_process::metrics::{LATENCY_BUCKETS, Metrics as Registry, MetricsError};
use rowcast_process::prometheus::{CounterVec, Histogram, IntCounterVec};
use rowcast_protocol::Report;
use serde_json::Value;

/// From a blink to an outage.
const RECONNECT_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0];

/// Metrics made of reports.
pub struct ClientMetrics {
    state_seconds: CounterVec,
    reconnects: Histogram,
    refreshes: IntCounterVec,
    ages: Histogram,
    reports: IntCounterVec,
}

impl ClientMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            state_seconds: registry.float_counter_vec(
                "rowcast_client_state_seconds_total",
                "Time that clients report to have spent in each state.",
                &["state"],
            )?,
            reconnects: registry.histogram(
                "rowcast_client_reconnect_seconds",
                "Time that clients report from the loss of a connection to the next welcome.",
                RECONNECT_BUCKETS,
            )?,
            refreshes: registry.counter_vec(
                "rowcast_client_token_refreshes_total",
                "Refreshes of tokens that clients report, by result.",
                &["result"],
            )?,
            ages: registry.histogram(
                "rowcast_client_event_age_seconds",
                "Age of events when clients showed them, as they report it, from the commit on.",
                LATENCY_BUCKETS,
            )?,
            reports: registry.counter_vec(
                "rowcast_client_reports_total",
                "Reports of clients, by whether they could be read.",
                &["result"],
            )?,
        })
    }

    /// Judges a report and adds it up.
    pub fn take(&self, report: &Value) {
        let Ok(report) = Report::judge(report) else {
            return self.reports.with_label_values(&["malformed"]).inc();
        };
        self.reports.with_label_values(&["taken"]).inc();
        for (state, seconds) in report.states {
            self.state_seconds.with_label_values(&[state]).inc_by(seconds);
        }
        report.reconnects.into_iter().for_each(|seconds| self.reconnects.observe(seconds));
        report.ages.into_iter().for_each(|seconds| self.ages.observe(seconds));
        self.refreshes.with_label_values(&["ok"]).inc_by(report.refreshes_ok);
        self.refreshes.with_label_values(&["failed"]).inc_by(report.refreshes_failed);
    }
}
