//! The leader's look at watched tables, once a minute: partitions without triggers, disabled triggers, columns that are
//! gone. What is found is in `rowcast.drift()`; here is what follows from it for metrics, logs and the light.

use std::convert::Infallible;
use std::time::Duration;

use rowcast_process::metrics::{Metrics, MetricsError};
use rowcast_process::prometheus::{IntCounter, IntGaugeVec};
use rowcast_store::{Drift, SessionOptions, StoreError};

use crate::history;
use crate::term::Term;

/// Between two looks. The first comes with the lead.
const INTERVAL: Duration = Duration::from_secs(60);
/// With these, changes are not sent although nothing fails: the light must say so. The others are told by the triggers
/// themselves, or lose nothing.
const SILENT: [&str; 4] = ["partition", "trigger_disabled", "trigger_missing", "foreign"];

/// What is counted.
pub(crate) struct DriftMetrics {
    findings: IntGaugeVec,
    mended: IntCounter,
    failed: IntCounter,
}

impl DriftMetrics {
    /// Makes and registers them.
    pub fn new(on: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            findings: on.gauge_vec(
                "rowcast_listener_drift",
                "Watched tables that are not as they were when they were watched, at the last look.",
                &["kind"],
            )?,
            mended: on.counter(
                "rowcast_listener_partitions_mended_total",
                "Partitions that it gave triggers, or took them from.",
            )?,
            failed: on.counter("rowcast_listener_drift_failures_total", "Looks that failed.")?,
        })
    }

    fn on_look(&self, before: &[Drift], found: &[Drift], mended: i32) {
        self.findings.reset();
        for drift in found {
            self.findings.with_label_values(&[&drift.kind]).inc();
        }
        for drift in found.iter().filter(|drift| !before.contains(drift)) {
            tracing::warn!(
                relation = drift.relation,
                kind = drift.kind,
                "a watched table has changed: {}",
                drift.detail
            );
        }
        self.mended.inc_by(u64::try_from(mended).unwrap_or(0));
        if mended > 0 {
            tracing::info!(
                mended,
                "new partitions were given their triggers, or detached ones relieved of them"
            );
        }
    }

    fn on_failure(&self, error: &StoreError) {
        self.failed.inc();
        tracing::warn!(kind = error.kind(), "watched tables could not be looked at: {error}");
    }
}

/// Looks until the term ends. A look that fails does not end it.
pub(crate) async fn run(term: &Term<'_>) -> Infallible {
    let mut known = Vec::new();
    loop {
        match look(term, &known).await {
            Ok(found) => known = found,
            Err(error) => term.setting.metrics.drift.on_failure(&error),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn look(term: &Term<'_>, known: &[Drift]) -> Result<Vec<Drift>, StoreError> {
    let near = term.cleaner.session();
    let options = SessionOptions::new("rowcast-listener drift");
    let seen = rowcast_store::inspect(near, &options).await?;
    term.setting.metrics.drift.on_look(known, &seen.found, seen.mended);
    term.core().drift = impairment(&seen.found);
    if seen.unrecorded {
        history::raise(term, "triggers lost events that could not be recorded").await?;
        rowcast_store::settle_unrecorded(near, &options).await?;
    }
    Ok(seen.found)
}

fn impairment(found: &[Drift]) -> Option<String> {
    let silent = found.iter().find(|drift| SILENT.contains(&drift.kind.as_str()))?;
    Some(format!("{}: {}", silent.relation, silent.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loses_changes_in_silence_turns_the_light() {
        let drift =
            |kind: &str| Drift { relation: "t".to_owned(), kind: kind.to_owned(), detail: "why".to_owned() };
        assert_eq!(impairment(&[]), None);
        assert_eq!(impairment(&[drift("column_new"), drift("owner"), drift("column_missing")]), None);
        assert_eq!(impairment(&[drift("column_new"), drift("trigger_disabled")]).as_deref(), Some("t: why"));
    }
}
