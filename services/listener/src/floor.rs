//! From where a next leader would have to read: a mark up to which everything was read and is durably deleted. No IO.
//!
//! Rows are counted by the round in which they were read. A round ends with a candidate: what had been read completely
//! by then. It holds when all rows of this round and those before are deleted; then the next round's may follow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rowcast_store::reading::Mark;

/// Between two that are made durable: each costs a commit, and a leader that begins a second earlier reads a little more.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is read and not deleted, and what follows from it.
#[derive(Debug)]
pub(crate) struct Floor {
    seen: Mark,
    /// Rows read and not durably deleted, by their round.
    undeleted: BTreeMap<u64, usize>,
    round: u64,
    candidate: Option<Candidate>,
    /// Rows that were deleted so far, and when the durable mark was taken.
    deleted: u64,
    durable: u64,
    written_at: Option<Instant>,
}

#[derive(Debug)]
struct Candidate {
    mark: Mark,
    /// Its round and those before must be gone.
    round: u64,
    /// Rows that had been deleted when it was taken.
    deleted: u64,
}

impl Floor {
    /// Nothing has been read yet.
    pub fn new() -> Self {
        Self {
            seen: Mark::start(),
            undeleted: BTreeMap::new(),
            round: 0,
            candidate: None,
            deleted: 0,
            durable: 0,
            written_at: None,
        }
    }

    /// So many rows were read, and by now everything up to a mark. Returns the rows' round.
    pub fn on_read(&mut self, rows: usize, seen: &Mark) -> u64 {
        if rows > 0 {
            *self.undeleted.entry(self.round).or_default() += rows;
        }
        self.seen.clone_from(seen);
        let round = self.round;
        // One from before any deletion since the durable mark would gain nothing.
        if self.candidate.as_ref().is_none_or(|candidate| candidate.deleted <= self.durable) {
            self.candidate = Some(Candidate { mark: seen.clone(), round, deleted: self.deleted });
            self.round += 1;
        }
        round
    }

    /// A row of a round was durably deleted.
    pub fn on_deleted(&mut self, round: u64) {
        if let Some(count) = self.undeleted.get_mut(&round) {
            self.deleted += 1;
            *count -= 1;
            if *count == 0 {
                self.undeleted.remove(&round);
            }
        }
    }

    /// What may be made durable, and how many rows had been deleted when it was taken.
    fn holds(&self) -> Option<(&Mark, u64)> {
        let Some((oldest, _)) = self.undeleted.first_key_value() else {
            return Some((&self.seen, self.deleted));
        };
        let candidate = self.candidate.as_ref().filter(|candidate| candidate.round < *oldest)?;
        Some((&candidate.mark, candidate.deleted))
    }

    /// When a mark is to be made durable; `None` while a next leader would gain nothing by one.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let gains = self.holds().is_some_and(|(_, deleted)| deleted > self.durable);
        gains.then(|| self.written_at.map_or(now, |at| at + INTERVAL))
    }

    /// The mark to make durable now, due or not.
    pub fn take(&mut self, now: Instant) -> Option<Mark> {
        let (mark, deleted) = self.holds().filter(|(_, deleted)| *deleted > self.durable)?;
        let mark = mark.clone();
        self.durable = deleted;
        self.candidate = None;
        self.written_at = Some(now);
        Some(mark)
    }

    /// It could not be written.
    pub fn failed(&mut self) {
        self.durable = 0;
    }
}

#[cfg(test)]
mod tests {
    use rowcast_store::reading::Snapshot;

    use super::*;

    fn mark(xmax: u64) -> Mark {
        Mark::left(Snapshot::below(xmax), 0)
    }

    #[test]
    fn it_follows_what_is_deleted_and_never_passes_what_is_not() {
        let mut floor = Floor::new();
        let start = Instant::now();
        assert_eq!(floor.take(start), None, "nothing is gained");
        assert_eq!([floor.on_read(2, &mark(10)), floor.on_read(1, &mark(20))], [0, 1]);
        floor.on_deleted(1);
        assert_eq!((floor.due(start), floor.take(start)), (None, None), "an older row is left");
        assert_eq!(floor.on_read(1, &mark(30)), 2);
        floor.on_deleted(0);
        floor.on_deleted(0);
        assert_eq!(floor.take(start), None, "a row of its own round is left");
        assert_eq!(floor.on_read(1, &mark(40)), 3);
        floor.on_deleted(2);
        assert_eq!((floor.due(start), floor.take(start)), (Some(start), Some(mark(30))), "its round is gone");
        assert_eq!(floor.take(start), None, "the row of the last round is left");
        floor.on_deleted(3);
        assert_eq!(
            (floor.due(start), floor.take(start)),
            (Some(start + INTERVAL), Some(mark(40))),
            "all are gone"
        );
        floor.on_read(0, &mark(50));
        assert_eq!(floor.due(start), None, "an idle one writes nothing");
        floor.failed();
        assert_eq!(floor.take(start), Some(mark(50)), "again, and further");
    }
}
