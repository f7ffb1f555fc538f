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
//! transaction keeps from being cleaned away: a window begins above the ids that had been given out before any
//! transaction from P's `xmax` on had its number ([`Mark::id`]). Below there are only rows of the transactions that P
//! lists as running, and these are asked for by their transaction.
//!
//! A large difference must not hold up what commits after it. So rooms of which too much is in memory already can be
//! read apart ([`Reading::set_apart`]): the windows go on without them, and quickly. Their rows are asked for from the
//! place where they were left, in turn with the rest, as a lane with a P and an S of its own; when that S is reached, the
//! next is what the others have reached by then. A lane whose rest fits into one page ends: its rooms are at the same P as
//! all others. Within a room the order is the same as without; between rooms there is none.

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::time::Instant;

/// Which transactions had ended at a moment, as PostgreSQL's `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All below had ended.
    pub xmin: u64,
    /// All from here on had not ended; some of them may have been running, as PostgreSQL counts from the last one that
    /// has ended.
    pub xmax: u64,
    /// Those between the two that had not ended, ascending.
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
    /// Transactions from the snapshot's `xmax` on have ids above this one.
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
    /// Rows, in any order, that `since` did not see and the present snapshot does.
    Difference(Difference<'a>),
    /// Rows by ascending id.
    Window(Window<'a>),
}

/// Up to `limit` + 1 rows that `since` did not see and the present snapshot does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference<'a> {
    /// P.
    pub since: &'a Snapshot,
    /// The rows of these rooms are left out.
    pub without: Vec<&'a str>,
    /// How many rows it returns.
    pub limit: usize,
    /// How many it looks at, those of other rooms among them; one more says that they do not fit.
    pub looks: usize,
}

/// Of the next `looks` rows by ascending id of those below the first `limit` that `since` did not see and `until` does.
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
    /// The rows of these rooms alone are returned (`only`), or those of all others.
    pub rooms: Vec<&'a str>,
    /// Which of the two.
    pub only: bool,
    /// How many rows it returns.
    pub limit: usize,
    /// How many it looks at.
    pub looks: usize,
}

/// A row, as far as reading looks at it.
pub trait Placed {
    /// Its number.
    fn id(&self) -> i64;
    /// Its room.
    fn room(&self) -> &str;
}

/// What an answer brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion<R> {
    /// The rows to deliver.
    pub rows: Vec<R>,
    /// When the last snapshot was asked for that did not see them; not known in a leader's first difference.
    pub unseen_at: Option<Instant>,
    /// They are of rooms that are read apart.
    pub apart: bool,
}

/// How far reading has come.
#[derive(Debug, Clone)]
pub struct Reading {
    seen: Mark,
    ids: Ids,
    sweep: Option<Sweep>,
    /// Rooms that the present sweep leaves out, and the last id of each that it has passed.
    apart: BTreeMap<String, i64>,
    /// The first one is the next, or the one that was asked for.
    lanes: VecDeque<Lane>,
    asked: Asked,
    lane_was_last: bool,
}

/// Which ids a transaction can have, by its number. It takes the number first, then draws ids.
#[derive(Debug, Clone)]
struct Ids {
    /// The highest one that had been given out by the last answer.
    given_out: i64,
    /// Transactions from the last snapshot's `xmax` on have ids above this one.
    settled: i64,
    /// Transactions from this number on have ids above that one: it settles when snapshots have come so far.
    next: Option<(u64, i64)>,
}

impl Ids {
    /// Takes an answer's highest id. Returns the one before it.
    fn give_out(&mut self, given_out: i64) -> i64 {
        if given_out < self.given_out {
            // Somebody has begun the ids anew.
            *self = Self { given_out, settled: 0, next: None };
            return 0;
        }
        std::mem::replace(&mut self.given_out, given_out)
    }

    /// Takes a snapshot, and what was found after it: the number that the next transaction was going to get, and the
    /// highest id. Returns what [`Mark::id`] asks for.
    fn settle(&mut self, snapshot: &Snapshot, next_tx: u64, given_out: i64) -> i64 {
        let before = self.give_out(given_out);
        // In one statement nobody says what is looked at first; but the answer before this one came before it.
        if let Some((_, id)) = self.next.take_if(|(tx, _)| *tx <= snapshot.xmax) {
            self.settled = id;
        }
        if next_tx <= snapshot.xmax {
            self.settled = before;
        } else {
            self.next.get_or_insert((next_tx, before));
        }
        self.settled
    }
}

/// A difference that is read by windows.
#[derive(Debug, Clone)]
struct Sweep {
    until: Mark,
    /// Up to this id only rows of transactions that P found running are of interest.
    low: i64,
    /// S sees no id above.
    last: i64,
    after: i64,
}

/// Rooms that are read apart.
#[derive(Debug, Clone)]
struct Lane {
    since: Mark,
    /// Up to which id each was read in the present sweep.
    rooms: BTreeMap<String, i64>,
    sweep: Option<Sweep>,
}

/// The bounds of the question under way.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    lane: bool,
    limit: usize,
    looks: usize,
    upto: i64,
}

/// A window is so many times as many ids wide as rows are asked for: gaps are passed quickly, and there is a bound to
/// what lies between and is not to be seen. So many times as many rows are looked at where only some rooms are wanted.
const WIDTH: usize = 10;
/// Rooms that are read apart, at most. More are read with all others, as fast as they are taken.
const MOST_APART: usize = 1_000;

impl Reading {
    /// Begins where an earlier leader left off; the highest id that has been given out by now is known.
    pub fn from_floor(floor: Mark, given_out: i64) -> Self {
        let ids = Ids { given_out, settled: floor.id, next: None };
        Self {
            seen: floor,
            ids,
            sweep: None,
            apart: BTreeMap::new(),
            lanes: VecDeque::new(),
            asked: Asked::default(),
            lane_was_last: false,
        }
    }

    /// What to ask next, for at most `limit` rows; where `lanes` says so, rooms that are read apart have their turn.
    /// Asking again without an answer in between is harmless.
    pub fn query(&mut self, limit: usize, lanes: bool) -> Query<'_> {
        self.asked = Asked { lane: false, limit, looks: limit.saturating_mul(WIDTH), upto: 0 };
        if lanes && !self.lane_was_last && self.turn_to_a_lane() {
            self.asked.lane = true;
            let Lane { since, rooms, sweep: Some(sweep) } = &self.lanes[0] else {
                unreachable!("a lane that has its turn has a sweep");
            };
            let rooms = rooms.keys().map(String::as_str).collect();
            return Query::Window(sweep.window(&since.snapshot, rooms, true, &mut self.asked));
        }
        let elsewhere = self.lanes.iter().flat_map(|lane| lane.rooms.keys());
        let without: Vec<&str> = elsewhere.chain(self.apart.keys()).map(String::as_str).collect();
        if without.is_empty() {
            self.asked.looks = limit;
        }
        let since = &self.seen.snapshot;
        match &self.sweep {
            None => Query::Difference(Difference { since, without, limit, looks: self.asked.looks }),
            Some(sweep) => Query::Window(sweep.window(since, without, false, &mut self.asked)),
        }
    }

    /// Puts the next lane that has something to read in front.
    fn turn_to_a_lane(&mut self) -> bool {
        let Some(index) = self.lanes.iter().position(|lane| lane.sweep.is_some() || lane.since != self.seen)
        else {
            return false;
        };
        self.lanes.rotate_left(index);
        let lane = &mut self.lanes[0];
        if lane.sweep.is_none() {
            lane.sweep = Some(Sweep::new(&lane.since, self.seen.clone(), self.ids.given_out));
        }
        true
    }

    /// Takes the answer to [`Query::Difference`], asked at `at`: the snapshot it was made under; after that, the number
    /// that the next transaction was going to get and the highest id that had been given out; how many rows were looked
    /// at, and the rows. Delivers none where there were more than the limit; they are then asked for by windows.
    pub fn on_difference<R: Placed>(
        &mut self,
        at: Instant,
        snapshot: Snapshot,
        next_tx: u64,
        given_out: i64,
        looked_at: usize,
        mut rows: Vec<R>,
    ) -> Portion<R> {
        let id = self.ids.settle(&snapshot, next_tx, given_out);
        let mark = Mark { snapshot, id, at: Some(at) };
        let unseen_at = self.seen.at;
        self.lane_was_last = false;
        if looked_at > self.asked.looks || rows.len() > self.asked.limit {
            self.sweep = Some(Sweep::new(&self.seen, mark, given_out));
            rows.clear();
        } else {
            rows.sort_unstable_by_key(Placed::id);
            self.seen = mark;
        }
        Portion { rows, unseen_at, apart: false }
    }

    /// Takes the answer to [`Query::Window`]: the highest id that had been given out, how many rows were looked at and
    /// the last of these, and the rows by ascending id.
    pub fn on_window<R: Placed>(
        &mut self,
        given_out: i64,
        looked_at: usize,
        last: Option<i64>,
        rows: Vec<R>,
    ) -> Portion<R> {
        self.ids.give_out(given_out);
        self.lane_was_last = self.asked.lane;
        let passed = match (rows.last(), last) {
            (Some(row), _) if rows.len() >= self.asked.limit => row.id(),
            (_, Some(last)) if looked_at >= self.asked.looks => last,
            _ => self.asked.upto,
        };
        if self.asked.lane { self.on_lane(passed, rows) } else { self.on_sweep(passed, rows) }
    }

    fn on_sweep<R>(&mut self, passed: i64, rows: Vec<R>) -> Portion<R> {
        let portion = Portion { rows, unseen_at: self.seen.at, apart: false };
        let Some(mut sweep) = self.sweep.take() else { return portion };
        sweep.after = passed;
        if sweep.after < sweep.last {
            self.sweep = Some(sweep);
            return portion;
        }
        let since = std::mem::replace(&mut self.seen, sweep.until.clone());
        let rooms = std::mem::take(&mut self.apart);
        if let Some(first) = rooms.values().min() {
            // From where the first of them was left.
            let sweep = Some(Sweep { after: *first, ..sweep });
            self.lanes.push_back(Lane { since, rooms, sweep });
        }
        portion
    }

    fn on_lane<R: Placed>(&mut self, passed: i64, mut rows: Vec<R>) -> Portion<R> {
        let Some(mut lane) = self.lanes.pop_front() else {
            return Portion { rows, unseen_at: None, apart: true };
        };
        rows.retain(|row| lane.rooms.get(row.room()).is_none_or(|passed| row.id() > *passed));
        let portion = Portion { rows, unseen_at: lane.since.at, apart: true };
        if let Some(sweep) = &mut lane.sweep {
            sweep.after = passed;
        }
        if let Some(sweep) = lane.sweep.take_if(|sweep| sweep.after >= sweep.last) {
            lane.since = sweep.until;
            lane.rooms.values_mut().for_each(|passed| *passed = i64::MIN);
        }
        let together = lane.since == self.seen && self.sweep.is_none();
        if !together {
            self.lanes.push_back(lane);
        }
        portion
    }

    /// Reads some rooms apart from here on, if a difference is being read that is not a leader's first: of that one all
    /// rows come in the order of their ids.
    pub fn set_apart(&mut self, rooms: impl IntoIterator<Item = String>) {
        let Some(sweep) = self.sweep.as_ref().filter(|_| self.seen.at.is_some()) else { return };
        let already = |room: &String| self.lanes.iter().any(|lane| lane.rooms.contains_key(room));
        let left = MOST_APART.saturating_sub(self.rooms_apart());
        for room in rooms.into_iter().filter(|room| !already(room)).take(left) {
            self.apart.entry(room).or_insert(sweep.after);
        }
    }

    /// How many rooms are read apart.
    pub fn rooms_apart(&self) -> usize {
        self.apart.len() + self.lanes.iter().map(|lane| lane.rooms.len()).sum::<usize>()
    }

    /// Whether more of the present difference is waiting: read on without waiting for the doorbell.
    pub fn more(&self) -> bool {
        self.sweep.is_some()
    }

    /// P: all that this one sees has been delivered, or will be of rooms that are read apart.
    pub fn seen(&self) -> &Mark {
        &self.seen
    }

    /// All that this one sees has been delivered.
    pub fn complete(&self) -> &Mark {
        let lanes = self.lanes.iter().map(|lane| &lane.since);
        // Of two snapshots the earlier one knows fewer transactions, or finds more of them running.
        let age = |mark: &&Mark| (mark.snapshot.xmax, std::cmp::Reverse(mark.snapshot.running.len()));
        lanes.min_by_key(age).unwrap_or(&self.seen)
    }

    /// When the last snapshot was asked for that had not seen what some room is still to be read of.
    pub fn behind(&self) -> Option<Instant> {
        (self.rooms_apart() > 0).then(|| self.complete().at).flatten()
    }
}

impl Sweep {
    fn new(since: &Mark, until: Mark, given_out: i64) -> Self {
        // Somebody has begun the numbers anew.
        let low = if given_out < since.id { 0 } else { since.id };
        Self { until, low, last: given_out, after: i64::MIN }
    }

    fn window<'a>(
        &'a self,
        since: &'a Snapshot,
        rooms: Vec<&'a str>,
        only: bool,
        asked: &mut Asked,
    ) -> Window<'a> {
        let width = i64::try_from(asked.limit.saturating_mul(WIDTH)).unwrap_or(i64::MAX);
        asked.upto = self.after.max(self.low).saturating_add(width).min(self.last).max(self.low);
        let until = &self.until.snapshot;
        Window {
            since,
            until,
            ended: since.running.iter().copied().filter(|tx| until.sees(*tx)).collect(),
            after: self.after,
            low: self.low,
            upto: asked.upto,
            rooms,
            only,
            limit: asked.limit,
            looks: asked.looks,
        }
    }
}
