//! How much an attacker may do: attacks that are only "as much as one machine can send" say nothing about the other side
//! when both share a machine.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Rates that all connections of an attack share.
#[derive(Debug)]
pub struct Pace {
    connections: Rate,
    bytes: Rate,
}

impl Pace {
    /// So many new connections and bytes a second; 0 is no limit.
    pub fn new(connections_a_second: f64, bytes_a_second: f64) -> Self {
        Self { connections: Rate::new(connections_a_second), bytes: Rate::new(bytes_a_second) }
    }

    /// Waits until another connection may be opened.
    pub async fn connection(&self) {
        self.connections.take(1).await;
    }

    /// Waits until so many more bytes may be sent.
    pub async fn bytes(&self, count: usize) {
        self.bytes.take(count).await;
    }
}

#[derive(Debug)]
struct Rate {
    each: Duration,
    next: Mutex<Option<Instant>>,
}

impl Rate {
    fn new(a_second: f64) -> Self {
        let each = if a_second > 0.0 { Duration::from_secs_f64(1.0 / a_second) } else { Duration::ZERO };
        Self { each, next: Mutex::new(None) }
    }

    async fn take(&self, count: usize) {
        if self.each.is_zero() {
            // Others have their turn even so.
            return tokio::task::yield_now().await;
        }
        let cost = self.each.mul_f64(count as f64);
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + cost);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pace_is_kept_by_all_together() {
        let pace = Pace::new(100.0, 0.0);
        let begun = Instant::now();
        for _ in 0..6 {
            pace.connection().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(45), "{:?}", begun.elapsed());
    }
}
