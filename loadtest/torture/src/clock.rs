//! The run's clock: all times of a report are since its start.

use std::time::Duration;

use tokio::time::Instant;

/// Counts from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) async fn reach(&self, at: Duration) {
        tokio::time::sleep_until(self.0 + at).await;
    }
}
