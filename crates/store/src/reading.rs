//! Which rows to ask for next, and what an answer means. A state machine without IO: production and the seeded
//! schedules of the tests run the same code.
//!
//! The order of ids is not the order of commits, so "after the last id" would miss late commits. Instead every read
//! asks for the difference of two snapshots: what the server's present snapshot sees and the last one, P, did not.
//!
//! 1. [`Query::Difference`]: all rows of transactions that P did not see. If they fit into one page, that is all, and
//!    the answer's snapshot becomes P.
//! 2. If they do not fit, the answer's snapshot S is kept as the aim and the rows are asked for anew by ascending id,
//!    page by page, leaving out what S does not see ([`Query::Window`]). When the last id is passed, S becomes P.
//!
//! So within one difference rows come by ascending id, and no row comes twice. What a page may cost is bounded by the
//! limit, however large the backlog.

use std::str::FromStr;

/// Which transactions had ended at a moment, as PostgreSQL's `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All below had ended.
    pub xmin: u64,
    /// All from here on had not begun.
    pub xmax: u64,
    /// Those between the two that were running, ascending.
    pub running: Vec<u64>,
}

impl Snapshot {
    /// The snapshot that has seen everything below a transaction and nothing else.
    pub fn below(floor: u64) -> Self {
        Self { xmin: floor, xmax: floor, running: Vec::new() }
    }

    /// Whether a transaction had ended.
    pub fn sees(&self, tx: u64) -> bool {
        tx < self.xmin || (tx < self.xmax && self.running.binary_search(&tx).is_err())
    }
}

impl std::fmt::Display for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (n, tx) in self.running.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            write!(f, "{tx}")?;
        }
        Ok(())
    }
}

/// A text is not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a snapshot")]
pub struct InvalidSnapshot(String);

impl FromStr for Snapshot {
    type Err = InvalidSnapshot;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSnapshot(text.chars().take(100).collect());
        let number = |part: &str| part.parse::<u64>().map_err(|_| invalid());
        let [xmin, xmax, running] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err(invalid());
        };
        let mut running =
            running.split(',').filter(|part| !part.is_empty()).map(number).collect::<Result<Vec<_>, _>>()?;
        running.sort_unstable();
        Ok(Self { xmin: number(xmin)?, xmax: number(xmax)?, running })
    }
}

/// What to ask PostgreSQL next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query<'a> {
    /// Up to `limit` + 1 rows, in any order, that `since` did not see and the present snapshot does.
    Difference {
        /// P.
        since: &'a Snapshot,
    },
    /// The next `limit` rows by id after `after`, whatever their transaction; of these, by ascending id, the ones
    /// that `since` did not see and `until` does.
    Window {
        /// P.
        since: &'a Snapshot,
        /// S.
        until: &'a Snapshot,
        /// The last id that has been passed.
        after: i64,
    },
}

/// How far reading has come.
#[derive(Debug, Clone)]
pub struct Reading {
    seen: Snapshot,
    sweep: Option<Sweep>,
}

#[derive(Debug, Clone)]
struct Sweep {
    until: Snapshot,
    after: i64,
}

impl Reading {
    /// Begins at the durable floor: everything from that transaction on has yet to be read.
    pub fn from_floor(floor: u64) -> Self {
        Self { seen: Snapshot::below(floor), sweep: None }
    }

    /// What to ask next. Asking again without an answer in between is harmless.
    pub fn query(&self) -> Query<'_> {
        match &self.sweep {
            None => Query::Difference { since: &self.seen },
            Some(sweep) => Query::Window { since: &self.seen, until: &sweep.until, after: sweep.after },
        }
    }

    /// Takes the answer to [`Query::Difference`]: the snapshot it was made under and its rows. Returns the rows to
    /// deliver; none where there were more than `limit`, which are then asked for by windows.
    pub fn on_difference<R>(
        &mut self,
        snapshot: Snapshot,
        mut rows: Vec<R>,
        limit: usize,
        id: impl Fn(&R) -> i64,
    ) -> Vec<R> {
        if rows.len() > limit {
            self.sweep = Some(Sweep { until: snapshot, after: i64::MIN });
            return Vec::new();
        }
        rows.sort_unstable_by_key(id);
        self.seen = snapshot;
        rows
    }

    /// Takes the answer to [`Query::Window`]: the last id that was looked at, or nothing where no row was left.
    pub fn on_window(&mut self, last: Option<i64>) {
        match (last, self.sweep.take()) {
            (Some(last), Some(sweep)) => {
                self.sweep = Some(Sweep { after: last.max(sweep.after), ..sweep });
            }
            (None, Some(sweep)) => self.seen = sweep.until,
            (_, None) => {}
        }
    }

    /// Whether more of the present difference is waiting: read on without waiting for the doorbell.
    pub fn more(&self) -> bool {
        self.sweep.is_some()
    }

    /// The number below which nothing is left to read or to delete, given the smallest transaction of the rows that
    /// were delivered and are not yet durably deleted.
    pub fn floor(&self, oldest_undeleted: Option<u64>) -> u64 {
        self.seen.xmin.min(oldest_undeleted.unwrap_or(u64::MAX))
    }

    /// P: all that this one sees has been delivered.
    pub fn seen(&self) -> &Snapshot {
        &self.seen
    }
}
