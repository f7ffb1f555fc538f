//! The registry that is passed down, and constructors that register what they make. Each component makes its own
//! metrics once; there are no global ones.

use std::time::{Duration, Instant};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use crate::procfs::ProcessCollector;

/// Content type of [`Metrics::encode`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// Buckets from 0.1 ms to 10 s for times on the way of an event, in seconds.
pub const LATENCY_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Why a metric could not be made or written: a malformed or doubled name.
#[derive(Debug, thiserror::Error)]
#[error("metric {name}: {error}")]
pub struct MetricsError {
    name: String,
    error: prometheus::Error,
}

/// The metrics of one process. Clones are the same registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry with the process's own metrics and `rowcast_build_info{service,version}`.
    ///
    /// # Errors
    /// Never in practice; a malformed name would be one.
    pub fn new(service: &str, version: &str) -> Result<Self, MetricsError> {
        let metrics = Self { registry: Registry::new() };
        let name = "process";
        let collector = ProcessCollector::new().map_err(|error| failed(name, error))?;
        metrics.registry.register(Box::new(collector)).map_err(|error| failed(name, error))?;
        let info =
            metrics.gauge_vec("rowcast_build_info", "Always 1; says what runs.", &["service", "version"])?;
        info.with_label_values(&[service, version]).set(1);
        Ok(metrics)
    }

    /// A counter; its name ends in `_total`.
    ///
    /// # Errors
    /// When the name is malformed or taken, as for all below.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.add(name, IntCounter::with_opts(Opts::new(name, help)))
    }

    /// A counter with labels of few values each.
    ///
    /// # Errors
    /// When the name is malformed or taken.
    pub fn counter_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.add(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A counter of fractions, such as seconds, with labels of few values each.
    ///
    /// # Errors
    /// When the name is malformed or taken.
    pub fn float_counter_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<prometheus::CounterVec, MetricsError> {
        self.add(name, prometheus::CounterVec::new(Opts::new(name, help), labels))
    }

    /// A gauge.
    ///
    /// # Errors
    /// When the name is malformed or taken.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.add(name, IntGauge::with_opts(Opts::new(name, help)))
    }

    /// A gauge of fractions, such as seconds.
    ///
    /// # Errors
    /// When the name is malformed or taken.
    pub fn float_gauge(&self, name: &str, help: &str) -> Result<prometheus::Gauge, MetricsError> {
        self.add(name, prometheus::Gauge::with_opts(Opts::new(name, help)))
    }

    /// A gauge with labels of few values each.
    ///
    /// # Errors
    /// When the name is malformed or taken.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.add(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A histogram; a time's name ends in `_seconds`.
    ///
    /// # Errors
    /// When the name is malformed or taken, or the buckets do not rise.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricsError> {
        self.add(name, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    /// A histogram with labels of few values each.
    ///
    /// # Errors
    /// When the name is malformed or taken, or the buckets do not rise.
    pub fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        self.add(name, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }

    /// The registry itself, for collectors of one's own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics in Prometheus's text format.
    ///
    /// # Errors
    /// When a collector returns something that cannot be written.
    pub fn encode(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(|error| failed("(all)", error))
    }

    fn add<M>(&self, name: &str, made: prometheus::Result<M>) -> Result<M, MetricsError>
    where
        M: Collector + Clone + 'static,
    {
        let metric = made.map_err(|error| failed(name, error))?;
        self.registry.register(Box::new(metric.clone())).map_err(|error| failed(name, error))?;
        Ok(metric)
    }
}

/// The seconds since `start`, for a histogram.
pub fn seconds_since(start: Instant) -> f64 {
    seconds(start.elapsed())
}

/// A duration in seconds, for a histogram.
pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn failed(name: &str, error: prometheus::Error) -> MetricsError {
    MetricsError { name: name.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_and_its_build_are_described() {
        let metrics = Metrics::new("edge", "1.2.3").unwrap();
        metrics.counter("rowcast_sample_total", "Samples.").unwrap().inc();
        let text = metrics.encode().unwrap();
        assert!(text.contains("rowcast_build_info{service=\"edge\",version=\"1.2.3\"} 1"), "{text}");
        assert!(text.contains("rowcast_sample_total 1"), "{text}");
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 3600.0);
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") < value("process_max_fds"));
    }

    #[test]
    fn a_taken_name_is_an_error_that_names_it() {
        let metrics = Metrics::new("edge", "1").unwrap();
        metrics.gauge("rowcast_sample", "One.").unwrap();
        let error = metrics.gauge("rowcast_sample", "Two.").unwrap_err();
        assert!(error.to_string().contains("rowcast_sample"));
    }
}
