//! The doorbell: whether committing transactions ring, and when the leader reads next. A state machine without IO: the
//! same code runs in the leader and under seeded schedules in tests.
//!
//! A ring costs the application: a committing NOTIFY holds one lock of the whole cluster. So commits ring only while
//! the leader wants to sleep between them:
//!
//! 1. [`Doorbell::order`] goes with every read, and sets or silences the bell in the same statement.
//! 2. After setting it the leader asks for the transactions that write to the outbox at that moment
//!    ([`Doorbell::wants_writers`]): only these can have found it silent.
//! 3. It reads on until it has read all that those wrote. Only then does it sleep.
//!
//! When commits come faster than rings are worth, it silences the bell and reads on a timer.
//!
//! Where sessions do not ring (transactions can be prepared there, or PostgreSQL's queue of notifications is full), the
//! timer is all there is. It then costs latency or queries, and which of them depends on how long nothing came: the
//! next read is due after a hundredth of that time, so that after a row the following ones are found within
//! milliseconds, and an idle system is asked no more often than the configuration allows.

use std::time::{Duration, Instant};

use rowcast_store::reading::Snapshot;
use rowcast_store::{Bell, Ring};

/// How far ahead the bell is set.
const AHEAD: Duration = Duration::from_secs(3);
/// It is set anew when less than this is left: once for each proof of the lock.
const LEAST_AHEAD: Duration = Duration::from_millis(2_500);
/// What may pass between PostgreSQL's clock and the setting of the bell, besides the time of the statement.
const SLACK: Duration = Duration::from_millis(100);
/// `rowcast.ring` takes a time further away for a clock that was set back.
const FARTHEST_MILLIS: i64 = 10_000;
/// Commits are counted so long before the bell is silenced: above 500 a second it is.
const LOUD_WINDOW: Duration = Duration::from_millis(200);
const LOUD_COMMITS: u64 = 100;
/// And so long before it is set again: below 250 a second it is.
const QUIET_WINDOW: Duration = Duration::from_millis(500);
const QUIET_COMMITS: u64 = 125;
/// Above this PostgreSQL's queue of notifications is left alone, and below the second one it is used again.
const QUEUE_FULL: f64 = 0.25;
const QUEUE_FREE: f64 = 0.2;
/// Between reads while there is traffic: the first after a page with rows, the second after an empty one.
const BUSY: Duration = Duration::from_millis(5);
pub(crate) const EMPTY: Duration = Duration::from_millis(10);
/// And while it is silent because commits come fast: at 8,000 a second, half as many reads save a seventh of what an
/// event costs the leader, Redis and the session that reads.
const LOUD: Duration = Duration::from_millis(10);
/// Of the time in which nothing came, the part that the next read may be late where nobody rings.
const IDLE_PART: u32 = 100;
/// And of the time for which a writer has been waited for that does not end.
const AWAITED_PART: u32 = 200;
/// Between reads that only prove the lock.
pub const PROOF_INTERVAL: Duration = Duration::from_millis(700);

/// The doorbell, as the leader knows it.
#[derive(Debug)]
pub struct Doorbell {
    /// Sessions ring by themselves; otherwise only those that were told to, and the leader reads on a timer as well.
    rings_by_default: bool,
    /// Between reads on a timer, at most.
    slowest: Duration,
    state: State,
    /// What the statement under way does to it.
    ordered: Ring,
    /// Redis takes what is read.
    redis: bool,
    queue_is_full: bool,
    loud: bool,
    counting_since: Instant,
    counted: u64,
    set_at: Instant,
    /// When rows last came.
    rows_at: Instant,
    last_was_empty: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It may be set, by an earlier leader or by a statement whose answer was lost.
    Unknown,
    /// Nobody rings.
    Silent,
    /// It was set: who writes at this moment is to be asked.
    Set,
    /// It is set, and these may have found it silent.
    Awaiting { writers: Vec<u64>, since: Instant },
    /// Every commit that has not been read will ring.
    Rings,
}

impl Doorbell {
    /// For a new leader; Redis counts as away until [`Doorbell::on_redis`] says otherwise. On a timer it reads at least
    /// once in `slowest`.
    pub fn new(now: Instant, rings_by_default: bool, slowest: Duration) -> Self {
        Self {
            rings_by_default,
            slowest: slowest.clamp(EMPTY, PROOF_INTERVAL),
            state: State::Unknown,
            ordered: Ring::Leave,
            redis: false,
            queue_is_full: false,
            loud: false,
            counting_since: now,
            counted: 0,
            set_at: now,
            rows_at: now,
            last_was_empty: false,
        }
    }

    /// Whether Redis takes what is read. While it does not, nobody needs to ring. Says whether that is new.
    pub fn on_redis(&mut self, takes: bool) -> bool {
        std::mem::replace(&mut self.redis, takes) != takes
    }

    /// Whether every commit that has not been read yet will ring.
    pub fn rings(&self) -> bool {
        self.rings_by_default && self.state == State::Rings
    }

    /// Whether a ring is a reason to read before the interval has passed.
    pub fn heeds_rings(&self) -> bool {
        matches!(self.state, State::Rings | State::Awaiting { .. })
    }

    /// What the next statement is to do. If that statement fails or its answer is lost, the leader is one no more.
    pub fn order(&mut self, now: Instant) -> Ring {
        let wanted = self.redis && !self.loud && !self.queue_is_full;
        let ring = match (wanted, &self.state) {
            (true, State::Unknown | State::Silent) => set(),
            (true, _) if now.saturating_duration_since(self.set_at) + LEAST_AHEAD >= AHEAD => set(),
            (true, _) | (false, State::Silent) => Ring::Leave,
            (false, _) => Ring::Off,
        };
        self.ordered = ring;
        ring
    }

    /// The statement that was sent at `sent` with the last order has been answered; `found` is what it found before.
    pub fn on_answer(&mut self, sent: Instant, now: Instant, found: Bell) {
        let full = if self.queue_is_full { QUEUE_FREE } else { QUEUE_FULL };
        self.queue_is_full = found.queue > full;
        let believed = matches!(self.state, State::Set | State::Awaiting { .. } | State::Rings);
        // Until it was set again somebody may have found it run out.
        let took = now.saturating_duration_since(sent) + SLACK;
        let least = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let held = (least..=FARTHEST_MILLIS).contains(&found.left_millis);
        match std::mem::replace(&mut self.ordered, Ring::Leave) {
            Ring::Off => self.state = State::Silent,
            Ring::For(_) => {
                self.set_at = sent;
                if !(believed && held) {
                    self.state = State::Set;
                }
            }
            Ring::Leave if believed && !held => self.state = State::Unknown,
            Ring::Leave => {}
        }
    }

    /// Whether the transactions that write to the outbox are to be asked for now.
    pub fn wants_writers(&self) -> bool {
        self.state == State::Set
    }

    /// The transactions that write to the outbox, asked for when [`Doorbell::wants_writers`] said so.
    pub fn on_writers(&mut self, now: Instant, writers: Vec<u64>) {
        if self.state == State::Set {
            self.state = State::Awaiting { writers, since: now };
        }
    }

    /// A read that was sent at `sent` returned rows of so many transactions; by now everything is read that `seen`
    /// sees. `rings` came since the last read.
    pub fn on_read(&mut self, sent: Instant, seen: &Snapshot, transactions: u64, rings: u64) {
        self.last_was_empty = transactions == 0;
        if transactions > 0 {
            self.rows_at = sent;
        }
        if let State::Awaiting { writers, since } = &mut self.state
            // One that ended before it was asked for needs a read that began after the question.
            && sent >= *since
        {
            writers.retain(|tx| !seen.sees(*tx));
            if writers.is_empty() {
                self.state = State::Rings;
            }
        }
        self.count(sent, transactions.max(rings));
    }

    fn count(&mut self, now: Instant, commits: u64) {
        self.counted += commits;
        let passed = now.saturating_duration_since(self.counting_since);
        let (window, turns) = if self.loud {
            (QUIET_WINDOW, passed >= QUIET_WINDOW && self.counted < QUIET_COMMITS)
        } else {
            (LOUD_WINDOW, self.counted >= LOUD_COMMITS)
        };
        if turns {
            self.loud = !self.loud;
        }
        if turns || passed >= window {
            self.counting_since = now;
            self.counted = 0;
        }
    }

    /// How long after the sending of the last read the next one is due, if nobody rings before.
    pub fn interval(&self, now: Instant) -> Duration {
        let traffic = if self.last_was_empty { EMPTY } else { BUSY };
        let idle = now.saturating_duration_since(self.rows_at);
        let timer = (idle / IDLE_PART).clamp(traffic, self.slowest);
        match &self.state {
            _ if !self.redis => PROOF_INTERVAL,
            State::Unknown | State::Set => Duration::ZERO,
            State::Awaiting { since, .. } => {
                (now.saturating_duration_since(*since) / AWAITED_PART).clamp(BUSY, self.slowest)
            }
            State::Silent if self.loud => LOUD,
            State::Silent if self.queue_is_full => timer,
            State::Silent => Duration::ZERO,
            State::Rings if self.loud || self.queue_is_full => Duration::ZERO,
            State::Rings if self.rings_by_default => PROOF_INTERVAL,
            State::Rings => timer,
        }
    }
}

fn set() -> Ring {
    Ring::For(u32::try_from(AHEAD.as_millis()).expect("a few seconds"))
}

#[cfg(test)]
mod tests;
