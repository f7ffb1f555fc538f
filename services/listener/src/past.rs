//! Moments in the past, known by their age. Ages come from other machines' clocks; what is compared are durations.

use std::time::{Duration, Instant};

/// Clocks of PostgreSQL, Redis and the leader run at their own speed; ages closer than this are not compared.
const AGE_MARGIN: Duration = Duration::from_secs(1);

/// A moment in the past; `None` is one before all that this machine's clock can tell, and comes first in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Past(Option<Instant>);

impl Past {
    /// `age` before `now`.
    pub fn ago(now: Instant, age: Duration) -> Self {
        Self(now.checked_sub(age))
    }

    /// That moment.
    pub fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// How long ago it was; as long as this clock can tell.
    pub fn age(self, now: Instant) -> Duration {
        self.0.map_or(Duration::MAX, |moment| now.saturating_duration_since(moment))
    }

    /// The later of the two.
    pub fn or_later(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// Whether it is later, whatever the clocks that measured the two make of a second.
    pub fn is_surely_after(self, other: Past) -> bool {
        match (self.0, other.0) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(this), Some(other)) => this > other + AGE_MARGIN,
        }
    }
}
