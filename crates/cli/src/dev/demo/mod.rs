//! The demo: a shop whose bookings come and change by themselves, and what its merchants' clients see of it.

mod bookings;
mod shop;
mod viewer;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::say::Say;
pub use bookings::{BookingError, Bookings, Wish};
pub use shop::open;

use crate::devfile::DevFile;

/// The merchants, and with that the rooms.
pub const MERCHANTS: [&str; 2] = ["salon-anna", "barber-ben"];

/// Latencies beyond these many are not kept for the summary: hours of demo.
const MAX_LATENCIES: usize = 200_000;

/// What the viewers have seen.
#[derive(Debug, Default)]
pub struct Tally {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    by_merchant: BTreeMap<String, u64>,
    /// In milliseconds.
    latencies: Vec<f64>,
}

impl Tally {
    fn count(&self, merchant: &str, latency: Option<f64>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.by_merchant.entry(merchant.to_owned()).or_default() += 1;
        if seen.latencies.len() < MAX_LATENCIES {
            seen.latencies.extend(latency);
        }
    }

    /// Whether every merchant saw an event.
    pub fn flowed(&self) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        MERCHANTS.iter().all(|merchant| seen.by_merchant.contains_key(*merchant))
    }

    /// In a line, for people.
    pub fn summary(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let total: u64 = seen.by_merchant.values().sum();
        let mut latencies = seen.latencies.clone();
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied();
        match (at(0.5), at(0.99)) {
            (Some(median), Some(most)) => format!(
                "{total} events reached {} merchants; from commit to client half took up to {median:.1} ms, 99 % up to {most:.1} ms",
                seen.by_merchant.len()
            ),
            _ => "no event reached a client".to_owned(),
        }
    }
}

/// Runs the shop, whose database is at this address, until it is dropped.
///
/// # Errors
/// It only ends by one.
pub async fn run(dev: &DevFile, shop: &str, tally: &Tally, say: Say) -> anyhow::Error {
    say.line("the shop is open: \"Booking\" is watched for two merchants; Ctrl-C ends");
    let [anna, ben] = MERCHANTS.map(|merchant| viewer::watch(dev, merchant, tally, say));
    tokio::select! {
        error = anna => error,
        error = ben => error,
        error = writer::write(shop, say) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_flowed_when_every_merchant_saw_one() {
        let tally = Tally::default();
        assert!(!tally.flowed());
        assert_eq!(tally.summary(), "no event reached a client");
        tally.count(MERCHANTS[0], Some(1.0));
        assert!(!tally.flowed());
        tally.count(MERCHANTS[1], Some(3.0));
        assert!(tally.flowed());
        assert!(tally.summary().starts_with("2 events reached 2 merchants"), "{}", tally.summary());
    }
}
