//! What is counted of issuers' keys. An issuer's name is a label: there are as many as the configuration names.

use std::time::{SystemTime, UNIX_EPOCH};

use rowcast_process::metrics::{Metrics as Registry, MetricsError};
use rowcast_process::prometheus::{IntCounterVec, IntGaugeVec};

/// Counts of all issuers.
pub struct IssuerMetrics {
    fetches: IntCounterVec,
    fetched_at: IntGaugeVec,
    keys: IntGaugeVec,
    passed_over: IntGaugeVec,
}

impl IssuerMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            fetches: registry.counter_vec(
                "rowcast_edge_jwks_fetches_total",
                "Fetches of issuers' keys, by result.",
                &["issuer", "result"],
            )?,
            fetched_at: registry.gauge_vec(
                "rowcast_edge_jwks_fetched_timestamp_seconds",
                "When the issuer's keys were fetched last; their age is time() less this.",
                &["issuer"],
            )?,
            keys: registry.gauge_vec(
                "rowcast_edge_jwks_keys",
                "Keys that the issuer's tokens can be verified with.",
                &["issuer"],
            )?,
            passed_over: registry.gauge_vec(
                "rowcast_edge_jwks_passed_over",
                "Entries of the issuer's key set that are no key for tokens, or that stand there twice.",
                &["issuer"],
            )?,
        })
    }

    /// A fetch has ended.
    pub fn fetch(&self, issuer: &str, result: &str) {
        self.fetches.with_label_values(&[issuer, result]).inc();
    }

    /// These keys count from now on.
    pub fn known(&self, issuer: &str, keys: usize, passed_over: usize) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.fetched_at.with_label_values(&[issuer]).set(seconds.cast_signed());
        self.keys.with_label_values(&[issuer]).set(keys as i64);
        self.passed_over.with_label_values(&[issuer]).set(passed_over as i64);
    }
}
