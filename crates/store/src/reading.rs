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
//! So within one difference rows come by ascending id, and no row comes twice.
//!
//! What a statement costs is bounded by the limit, however large the backlog, and however many deleted rows an old
//! transaction keeps from being cleaned away: a window begins above the ids that were given out when P was taken
//! ([`Mark::id`]). Below there are only rows of the transactions that P found running, and these are asked for by their
//! transaction.

use std::str::FromStr;
use std::time::Instant;

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

/// A moment up to which everything has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// All rows of the transactions that it sees have been.
    pub snapshot: Snapshot,
    /// Whoever had not begun by then gets ids above this one.
    pub id: i64,
    /// When the snapshot was asked for, at the latest; not known of an earlier leader's.
    pub at: Option<Instant>,
}

impl Mark {
    /// One of an earlier leader.
    pub fn left(snapshot: Snapshot, id: i64) -> Self {
        Self { snapshot, id, at: None }
    }

    /// Before everything.
    pub fn start() -> Self {
        Self::left(Snapshot::below(3), 0)
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
    /// Rows by ascending id.
    Window(Window<'a>),
}

/// The next `limit` rows by ascending id of those below; of these the ones that `since` did not see and `until` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window<'a> {
    /// P.
    pub since: &'a Snapshot,
    /// S.
    pub until: &'a Snapshot,
    /// The transactions that P found running and S did not.
    pub ended: Vec<u64>,
    /// The last id that has been passed.
    pub after: i64,
    /// Up to this id only rows of `ended` are looked at.
    pub low: i64,
    /// Above it all rows are, up to this one.
    pub upto: i64,
}

/// A row, as far as reading looks at it.
pub trait Placed {
    /// Its number.
    fn id(&self) -> i64;
}

/// How far reading has come.
#[derive(Debug, Clone)]
pub struct Reading {
    seen: Mark,
    /// The highest id that had been given out by the last answer.
    given_out: i64,
    sweep: Option<Sweep>,
    asked: Asked,
}

#[derive(Debug, Clone)]
struct Sweep {
    until: Mark,
    /// Up to this id only rows of transactions that P found running are of interest.
    low: i64,
    /// S sees no id above.
    last: i64,
    after: i64,
}

/// The bounds of the question under way.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    limit: usize,
    upto: i64,
}

/// A window is so many times as many ids wide as rows are asked for: gaps are passed quickly, and there is a bound to
/// what lies between and is not to be seen.
const WIDTH: i64 = 10;

impl Reading {
    /// Begins where an earlier leader left off; the highest id that has been given out by now is known.
    pub fn from_floor(floor: Mark, given_out: i64) -> Self {
        Self { given_out, seen: floor, sweep: None, asked: Asked::default() }
    }

    /// What to ask next, for at most `limit` rows. Asking again without an answer in between is harmless.
    pub fn query(&mut self, limit: usize) -> Query<'_> {
        self.asked.limit = limit;
        let since = &self.seen.snapshot;
        let Some(sweep) = &self.sweep else { return Query::Difference { since } };
        let low = sweep.low;
        let wide = i64::try_from(limit).unwrap_or(i64::MAX).saturating_mul(WIDTH);
        self.asked.upto = sweep.after.max(low).saturating_add(wide).min(sweep.last).max(low);
        let until = &sweep.until.snapshot;
        Query::Window(Window {
            since,
            until,
            ended: since.running.iter().copied().filter(|tx| until.sees(*tx)).collect(),
            after: sweep.after,
            low,
            upto: self.asked.upto,
        })
    }

    /// Takes the answer to [`Query::Difference`], asked at `at`: the snapshot it was made under, the highest id that
    /// had been given out after that, and the rows. Returns those to deliver; none where there were more than the
    /// limit, which are then asked for by windows.
    pub fn on_difference<R: Placed>(
        &mut self,
        at: Instant,
        snapshot: Snapshot,
        given_out: i64,
        mut rows: Vec<R>,
    ) -> Vec<R> {
        // Whoever begins after this snapshot draws ids above what the answer before it has told.
        let mark = Mark { snapshot, id: self.given_out.min(given_out), at: Some(at) };
        self.given_out = given_out;
        if rows.len() > self.asked.limit {
            // Somebody has begun the numbers anew.
            let low = if given_out < self.seen.id { 0 } else { self.seen.id };
            self.sweep = Some(Sweep { until: mark, low, last: given_out, after: i64::MIN });
            return Vec::new();
        }
        rows.sort_unstable_by_key(Placed::id);
        self.seen = mark;
        rows
    }

    /// Takes the answer to [`Query::Window`]: the highest id that had been given out, and how many rows were looked at
    /// and the last of these.
    pub fn on_window(&mut self, given_out: i64, looked_at: usize, last: Option<i64>) {
        self.given_out = given_out;
        let Some(sweep) = &mut self.sweep else { return };
        sweep.after = match last {
            Some(last) if looked_at >= self.asked.limit => last,
            _ => self.asked.upto,
        };
        if sweep.after >= sweep.last
            && let Some(sweep) = self.sweep.take()
        {
            self.seen = sweep.until;
        }
    }

    /// Whether more of the present difference is waiting: read on without waiting for the doorbell.
    pub fn more(&self) -> bool {
        self.sweep.is_some()
    }

    /// P: all that this one sees has been delivered.
    pub fn seen(&self) -> &Mark {
        &self.seen
    }
}
