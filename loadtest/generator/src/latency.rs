//! Latencies in microseconds.

use hdrhistogram::Histogram;

use crate::report::Quantiles;

/// Longer ones count as this long.
const LONGEST: u64 = 600_000_000;

/// Two figures of each event's way to each client.
pub(crate) struct Latency {
    /// From the moment before the statement was sent.
    pub(crate) sent: Histogram<u64>,
    /// From the event's `at`.
    pub(crate) at: Histogram<u64>,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self { sent: histogram(), at: histogram() }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (own, other) in [(&mut self.sent, &other.sent), (&mut self.at, &other.at)] {
            own.add(other).expect("all histograms here have the same bounds");
        }
    }
}

/// From a microsecond to ten minutes, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are valid")
}

pub(crate) fn record(histogram: &mut Histogram<u64>, microseconds: u64) {
    histogram.saturating_record(microseconds.clamp(1, LONGEST));
}

pub(crate) fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    Quantiles {
        count: histogram.len(),
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p99_ms: at(0.99),
        max_ms: histogram.max() as f64 / 1_000.0,
    }
}
