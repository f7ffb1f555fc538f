//! How many rows one read asks for. A read that takes as long as the proof of the lock lasts costs the lead, and would cost
//! it again: rows are as large as the application makes them, and links as slow as they are. No IO.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::election::PROOF_LIFETIME;

/// The present size; it outlives terms.
#[derive(Debug)]
pub(crate) struct Pages {
    most: usize,
    rows: AtomicUsize,
    /// A read was begun and has not ended.
    under_way: AtomicBool,
}

impl Pages {
    /// At most so many rows, and so many to begin with.
    pub fn new(most: usize) -> Self {
        Self { most, rows: AtomicUsize::new(most), under_way: AtomicBool::new(false) }
    }

    /// How many rows to ask for.
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// A read is sent. Where the one before has never ended, it was too large, or the link broke: half of it is tried.
    pub fn begin(&self) {
        if self.under_way.swap(true, Ordering::Relaxed) {
            self.set(self.rows() / 2);
        }
    }

    /// It has ended, and took so long. Only one that left `more` says that larger ones would be as good.
    pub fn end(&self, took: Duration, more: bool) {
        self.under_way.store(false, Ordering::Relaxed);
        if took > PROOF_LIFETIME / 2 {
            self.set(self.rows() / 2);
        } else if more && took < PROOF_LIFETIME / 8 {
            self.set(self.rows() * 2);
        }
    }

    fn set(&self, rows: usize) {
        let rows = rows.clamp(1, self.most);
        if self.rows.swap(rows, Ordering::Relaxed) > rows {
            tracing::info!(rows, "a read of the outbox took long, or never ended: the next ones are smaller");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_never_ends_is_tried_with_fewer_rows_and_quick_ones_grow_again() {
        let pages = Pages::new(1_000);
        pages.begin();
        pages.end(Duration::from_millis(2), true);
        assert_eq!(pages.rows(), 1_000, "never more than is configured");
        pages.begin();
        pages.begin();
        assert_eq!(pages.rows(), 500, "the term ended before the read did");
        pages.end(Duration::from_millis(1_600), true);
        assert_eq!(pages.rows(), 250, "that was close");
        pages.begin();
        pages.end(Duration::from_millis(800), true);
        assert_eq!(pages.rows(), 250);
        pages.begin();
        pages.end(Duration::from_millis(2), false);
        assert_eq!(pages.rows(), 250, "it had little to read");
        pages.begin();
        pages.end(Duration::from_millis(300), true);
        assert_eq!(pages.rows(), 500);
        for _ in 0..20 {
            pages.begin();
        }
        assert_eq!(pages.rows(), 1);
    }
}
