//! Whether this process may publish. The lock itself is PostgreSQL's; this is what the process may believe of it, by
//! its own clock. No IO.

use std::time::{Duration, Instant};

/// How long one proof of the lock is good for, from the moment at which it was asked for. PostgreSQL frees the lock of
/// a session that has been silent for 3 s at the earliest.
pub const PROOF_LIFETIME: Duration = Duration::from_secs(3);

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// It waits for the lock.
    Standby,
    /// It holds the lock.
    Leading {
        /// When the statement was sent that last proved it.
        proved_at: Instant,
    },
    /// It held the lock and can not prove that it still does. There is no way back: the lock is taken anew, under a
    /// new epoch.
    Deposed,
}

impl Leadership {
    /// It has the lock; the statement that took it was sent at `asked_at`.
    pub fn elected(&mut self, asked_at: Instant) {
        *self = Self::Leading { proved_at: asked_at };
    }

    /// A statement that was sent at `asked_at` on the lock's own session has succeeded.
    pub fn proved(&mut self, asked_at: Instant) {
        if let Self::Leading { proved_at } = self {
            *proved_at = asked_at.max(*proved_at);
        }
    }

    /// Whether anything may be published at this moment. To be asked immediately before sending.
    pub fn may_publish(&mut self, now: Instant) -> bool {
        match *self {
            Self::Leading { proved_at } if now.saturating_duration_since(proved_at) < PROOF_LIFETIME => true,
            Self::Leading { .. } => {
                *self = Self::Deposed;
                false
            }
            Self::Standby | Self::Deposed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_was_stopped_for_three_seconds_publishes_nothing_before_it_is_elected_anew() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut leadership = Leadership::Standby;
        assert!(!leadership.may_publish(at(0)));
        leadership.elected(at(0));
        leadership.proved(at(700));
        assert!(leadership.may_publish(at(3_699)));
        assert!(!leadership.may_publish(at(3_700)));
        // The answer to a statement from before the pause arrives after it.
        leadership.proved(at(3_690));
        assert!(!leadership.may_publish(at(3_710)));
        leadership.elected(at(3_800));
        assert!(leadership.may_publish(at(3_801)));
    }

    #[test]
    fn a_proof_counts_from_its_sending_whenever_it_arrives() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut leadership = Leadership::Standby;
        leadership.elected(at(0));
        leadership.proved(at(2_000));
        leadership.proved(at(1_000));
        assert!(leadership.may_publish(at(4_900)));
        assert!(!leadership.may_publish(at(5_000)));
    }
}
