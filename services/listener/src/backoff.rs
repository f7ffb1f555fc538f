//! How long to wait before trying again: growing, jittered, bounded, without end.

use std::time::Duration;

/// Waits between attempts.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// The first wait is about `least`, the longest `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least }
    }

    /// The next wait: between half of it and the whole, so that replicas do not come back together.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.most);
        wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        assert!(backoff.wait() <= Duration::from_millis(50));
        let longest = (0..50).map(|_| backoff.wait()).max().expect("fifty");
        assert!(longest > Duration::from_millis(500) && longest <= Duration::from_secs(1));
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(50));
    }
}
