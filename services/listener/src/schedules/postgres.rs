//! A model of PostgreSQL as far as the outbox goes: transactions that overlap and commit in any order, snapshots, rows,
//! the durable floor. Changes of one object wait for each other, as a row's lock makes them.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use rowcast_protocol::EventId;
use rowcast_store::reading::{Mark, Query, Reading, Snapshot, Window};
use rowcast_store::{Bell, Page, Row};

use super::random::Random;

/// One committed or pending change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub room: String,
    pub object: u64,
    pub version: u64,
    tx: u64,
    at: i64,
}

#[derive(Debug, Default)]
pub(super) struct Postgres {
    next_tx: u64,
    latest_ended: u64,
    next_id: i64,
    running: Vec<u64>,
    aborted: Vec<u64>,
    outbox: BTreeMap<i64, Change>,
    changes: HashMap<i64, Change>,
    /// Which running transaction holds an object, and its last version.
    locks: HashMap<u64, u64>,
    versions: HashMap<u64, u64>,
    floor: Option<Mark>,
    pub epoch: u64,
}

/// Which rows a window's statement comes by.
fn looks_at(window: &Window<'_>, id: i64, tx: u64) -> bool {
    let reached = if id <= window.low { window.ended.contains(&tx) } else { id <= window.upto };
    reached && id > window.after
}

const OBJECTS: u64 = 6;
const ROOMS: u64 = 3;

impl Postgres {
    pub fn new() -> Self {
        Self { next_tx: 10, latest_ended: 9, next_id: 1, ..Self::default() }
    }

    pub fn begin(&mut self) {
        if self.running.len() < 4 {
            self.running.push(self.next_tx);
            self.next_tx += 1;
        }
    }

    /// Some running transaction changes an object that no other holds, so many times.
    pub fn change_something(&mut self, random: &mut Random, now: i64, times: usize) {
        if self.running.is_empty() {
            return;
        }
        let tx = self.running[random.below(self.running.len())];
        let object = random.next() % OBJECTS;
        if *self.locks.entry(object).or_insert(tx) != tx {
            return;
        }
        for _ in 0..times {
            let version = self.versions.entry(object).or_default();
            *version += 1;
            let room = format!("room-{}", object % ROOMS);
            let change = Change { room, object, version: *version, tx, at: now };
            self.outbox.insert(self.next_id, change.clone());
            self.changes.insert(self.next_id, change);
            self.next_id += 1;
        }
    }

    /// Some running transaction ends. Says whether a younger one had ended before it.
    pub fn end_something(&mut self, random: &mut Random) -> bool {
        if self.running.is_empty() {
            return false;
        }
        let tx = self.running.remove(random.below(self.running.len()));
        self.latest_ended = self.latest_ended.max(tx);
        if random.once_in(8) {
            self.aborted.push(tx);
            self.outbox.retain(|_, change| change.tx != tx);
        }
        self.locks.retain(|_, holder| *holder != tx);
        (tx + 1..self.next_tx).any(|younger| !self.running.contains(&younger))
    }

    pub fn end_all(&mut self, random: &mut Random) {
        while !self.running.is_empty() {
            self.end_something(random);
        }
    }

    fn snapshot(&self) -> Snapshot {
        let xmax = self.latest_ended + 1;
        let running: Vec<u64> = self.running.iter().copied().filter(|tx| *tx < xmax).collect();
        Snapshot { xmin: running.first().copied().unwrap_or(xmax), xmax, running }
    }

    /// What `LeadSession::read` does, with the two statements done by hand.
    pub fn read(&self, reading: &mut Reading, limit: usize, lanes: bool, at: Instant, now: i64) -> Page {
        let present = self.snapshot();
        let given_out = self.next_id - 1;
        let portion = match reading.query(limit, lanes) {
            Query::Difference(asked) => {
                let mut some = self.rows(|_, tx| !asked.since.sees(tx) && present.sees(tx));
                some.truncate(asked.looks + 1);
                let looked_at = some.len();
                some.retain(|row| !asked.without.contains(&row.room.as_str()));
                some.truncate(asked.limit + 1);
                reading.on_difference(at, present, self.next_tx, given_out, looked_at, some)
            }
            Query::Window(asked) => {
                let mut some = self.rows(|id, tx| present.sees(tx) && looks_at(&asked, id, tx));
                some.truncate(asked.looks);
                let (looked_at, last) = (some.len(), some.last().map(|row| row.id));
                some.retain(|row| !asked.since.sees(row.tx) && asked.until.sees(row.tx));
                some.retain(|row| asked.rooms.contains(&row.room.as_str()) == asked.only);
                some.truncate(asked.limit);
                reading.on_window(given_out, looked_at, last, some)
            }
        };
        Page {
            rows: portion.rows,
            more: reading.more(),
            unseen_at: portion.unseen_at,
            apart: portion.apart,
            rooms_apart: reading.rooms_apart(),
            behind: reading.behind(),
            server_now_micros: now,
            raise_requested: false,
            last_loss_micros: None,
            bell: Bell { left_millis: 0, queue: 0.0 },
        }
    }

    fn rows(&self, wanted: impl Fn(i64, u64) -> bool) -> Vec<Row> {
        let rows = self.outbox.iter().filter(|(id, change)| wanted(**id, change.tx));
        rows.map(|(id, change)| Row {
            id: *id,
            tx: change.tx,
            occurred_at_micros: change.at,
            room: change.room.clone(),
            type_: "x".to_owned(),
            data: "{}".to_owned(),
            changed: None,
            truncated: false,
            traceparent: None,
        })
        .collect()
    }

    pub fn delete(&mut self, id: i64) {
        self.outbox.remove(&id);
    }

    /// The last one counts, though it be an older leader's.
    pub fn set_floor(&mut self, floor: Mark) {
        self.floor = Some(Mark::left(floor.snapshot, floor.id));
    }

    pub fn begin_reading(&self) -> Reading {
        Reading::from_floor(self.floor.clone().unwrap_or_else(Mark::start), self.next_id - 1)
    }

    pub fn draw_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty()
    }

    pub fn change(&self, id: i64) -> &Change {
        &self.changes[&id]
    }

    /// All that was committed.
    pub fn committed(&self) -> impl Iterator<Item = EventId> {
        let ended =
            |change: &Change| !self.running.contains(&change.tx) && !self.aborted.contains(&change.tx);
        let committed = self.changes.iter().filter(move |(_, change)| ended(change));
        committed.map(|(id, change)| EventId { row: *id, occurred_at: change.at })
    }
}
