//! What the three loops of a leader share: the publisher, the proof of the lock, what awaits deletion, and what the
//! heartbeat says. No IO; each step is one short hold of the lock around it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use rowcast_bus::{Command, Reply, Topology};
use rowcast_protocol::{EventId, Generation, Heartbeat, Micros, Mirror, Sheet};
use rowcast_store::Page;
use rowcast_store::reading::Mark;

use crate::doorbell::Doorbell;
use crate::election::Leadership;
use crate::floor::Floor;
use crate::publisher::{LaneId, Outcome, Past, Published, Publisher, Row};

/// Between heartbeats; also how old the last completed read may be for one.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A loss is answered by a new generation when so long has passed without another.
const LOSS_QUIET_MICROS: i64 = 10_000_000;
/// Rows that are worth a deletion of their own.
const DELETE_ROWS: usize = 1_000;
/// How long published rows wait for others to be deleted together with.
const DELETE_WAIT: Duration = Duration::from_millis(100);

/// What the sender does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send these.
    Send(Vec<Command>),
    /// Nothing before this moment, unless woken.
    Wait(Instant),
    /// The proof of the lock is too old.
    Stop,
}

/// What a page asks for besides publishing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The generation is to be raised.
    pub settle: bool,
    /// Triggers have lost events that were not known.
    pub new_loss: bool,
    /// Too much of these rooms is in memory, and more of the difference is waiting: they are to be read apart.
    pub apart: Vec<String>,
}

/// What the loops share.
pub(crate) struct Core {
    pub publisher: Publisher,
    pub leadership: Leadership,
    pub doorbell: Doorbell,
    read_completed: Option<Instant>,
    /// Since when rows of rooms that are read apart may be waiting to be read.
    behind: Option<Past>,
    pub floor: Floor,
    /// Published, to be deleted.
    undeleted: Vec<Published>,
    undeleted_since: Option<Instant>,
    generation: Generation,
    last_loss: Option<i64>,
    pub raise_requested: bool,
    pub losses_are_quiet: bool,
    /// Why changes of a watched table are not sent although nothing fails.
    pub drift: Option<String>,
}

impl Core {
    pub fn new(
        publisher: Publisher,
        leadership: Leadership,
        doorbell: Doorbell,
        generation: Generation,
    ) -> Self {
        Self {
            publisher,
            leadership,
            doorbell,
            read_completed: None,
            behind: None,
            floor: Floor::new(),
            undeleted: Vec::new(),
            undeleted_since: None,
            generation,
            last_loss: None,
            raise_requested: false,
            losses_are_quiet: false,
            drift: None,
        }
    }

    /// Takes a page that was asked for at `sent` and arrived at `now`; up to `complete` everything has been read.
    pub fn on_page(&mut self, sent: Instant, now: Instant, page: Page, complete: &Mark) -> Asked {
        self.leadership.proved(sent);
        self.read_completed = Some(now);
        self.behind = page.behind.map(Past::at);
        let first = page.first();
        let divisible = page.more && !first && !page.apart;
        let rooms: BTreeSet<String> =
            page.rows.iter().filter(|_| divisible).map(|row| row.room.clone()).collect();
        let round = self.floor.on_read(page.rows.len(), complete);
        let mut rows = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            let age = page.server_now_micros.saturating_sub(row.occurred_at_micros);
            let written = Past::ago(sent, Duration::from_micros(u64::try_from(age).unwrap_or(0)));
            rows.push(Row {
                id: EventId { row: row.id, occurred_at: row.occurred_at_micros },
                round,
                room: row.room,
                event_type: row.type_,
                data: row.data,
                changed: row.changed,
                truncated: row.truncated,
                visible: page.unseen_at.map_or(written, |at| written.or_later(Past::at(at))),
                written: first.then_some(written),
            });
        }
        self.publisher.enqueue(rows);
        if first && !page.more {
            self.publisher.caught_up();
        }
        self.collect_published(now);
        let apart = self.too_large(rooms);
        let asked = self.on_history(page.raise_requested, page.last_loss_micros, page.server_now_micros, now);
        Asked { apart, ..asked }
    }

    /// Of some rooms those that fill more than a quarter of what is left for all.
    fn too_large(&self, mut rooms: BTreeSet<String>) -> Vec<String> {
        let bound = self.publisher.capacity() / 4;
        rooms.retain(|room| self.publisher.rows_of(room) > bound);
        rooms.into_iter().collect()
    }

    /// Whether there is room for rows of rooms that are read apart: half of what may be in memory is the others'.
    pub fn takes_lanes(&self) -> bool {
        self.publisher.capacity() >= self.publisher.most() / 2
    }

    fn on_history(&mut self, raise: bool, last_loss: Option<i64>, server_now: i64, now: Instant) -> Asked {
        let new_loss = last_loss.is_some() && last_loss != self.last_loss;
        if last_loss.is_some() != self.last_loss.is_some() {
            self.beat_at(now);
        }
        self.last_loss = last_loss;
        self.raise_requested |= raise;
        self.losses_are_quiet |=
            last_loss.is_some_and(|at| server_now.saturating_sub(at) >= LOSS_QUIET_MICROS);
        let settle = self.raise_requested || self.losses_are_quiet;
        Asked { settle, new_loss, apart: Vec::new() }
    }

    /// A heartbeat is due everywhere.
    fn beat_at(&mut self, now: Instant) {
        self.publisher.lanes().for_each(|lane| lane.heartbeat_due = Some(now));
    }

    /// What to send through a lane now.
    pub fn next_step(&mut self, lane: LaneId, now: Instant) -> Step {
        if !self.leadership.may_publish(now) {
            return Step::Stop;
        }
        // An edge puts the generation that it has heard of into cursors: events of a history that it has not heard of would
        // get places that were others'.
        self.publisher.lane(lane).held = self.is_untold(lane);
        let heartbeat = self.heartbeat(lane, now);
        let beats = heartbeat.is_some();
        let commands = self.publisher.next_batch(lane, now, heartbeat);
        let generation = self.generation;
        let lane = self.publisher.lane(lane);
        let due = *lane.heartbeat_due.get_or_insert(now);
        if commands.is_empty() {
            // Where a heartbeat is due and must not be sent, the next page wakes the sender.
            return Step::Wait(due.max(now + Duration::from_millis(50)));
        }
        if beats {
            lane.heartbeat_due = Some(now + HEARTBEAT_INTERVAL);
            lane.telling = Some(generation);
        }
        Step::Send(commands)
    }

    /// Whether no edge can know of the generation through that server yet.
    fn is_untold(&mut self, lane: LaneId) -> bool {
        self.publisher.lane(lane).told != Some(self.generation)
    }

    /// The heartbeat, if it is due and the way from the outbox to here is known to be open. One that has to come before events
    /// does not wait for that: reading may wait for those.
    fn heartbeat(&mut self, lane: LaneId, now: Instant) -> Option<Heartbeat> {
        let read_lately =
            self.read_completed.is_some_and(|at| now.saturating_duration_since(at) < HEARTBEAT_INTERVAL);
        let waited_for = self.is_untold(lane) && self.publisher.pending() > 0;
        let lane = self.publisher.lane(lane);
        let due = lane.heartbeat_due.is_none_or(|due| now >= due) && read_lately;
        if !(due || waited_for) || !lane.mirrors.stand() {
            return None;
        }
        let version = |sheet| lane.mirrors.version(sheet);
        let (switches, revocations) = (version(Sheet::Switches), version(Sheet::Revocations));
        Some(Heartbeat {
            epoch: self.publisher.epoch().0,
            generation: self.generation.0,
            lag_ms: u64::try_from(self.lag(now).as_millis()).unwrap_or(u64::MAX),
            at: Micros::from_system_time(SystemTime::now()).0,
            impaired: self
                .last_loss
                .map(|_| "a trigger failed and lost events".to_owned())
                .or_else(|| self.drift.clone()),
            switches,
            revocations,
        })
    }

    /// How long the oldest visible row has waited for Redis.
    pub fn lag(&self, now: Instant) -> Duration {
        let waiting = [self.publisher.oldest(), self.behind];
        waiting.into_iter().flatten().map(|since| since.age(now)).max().unwrap_or_default()
    }

    /// Takes the answers to what was sent through a lane; says how many rows they published.
    pub fn on_replies(&mut self, lane: LaneId, now: Instant, replies: Vec<Reply>) -> (Outcome, usize) {
        let outcome = self.publisher.on_replies(lane, now, replies);
        let lane = self.publisher.lane(lane);
        if outcome.mirrored {
            lane.heartbeat_due = Some(now);
        }
        if outcome.heartbeat_sent {
            lane.told = lane.telling;
        }
        (outcome, self.collect_published(now))
    }

    fn collect_published(&mut self, now: Instant) -> usize {
        let published = self.publisher.take_published();
        let count = published.iter().filter(|row| row.round.is_some()).count();
        if !published.is_empty() {
            self.undeleted_since.get_or_insert(now);
            self.undeleted.extend(published);
        }
        count
    }

    /// When published rows are to be deleted; `None` when there are none.
    pub fn delete_at(&self, now: Instant) -> Option<Instant> {
        let since = self.undeleted_since?;
        let urgent =
            self.undeleted.len() >= DELETE_ROWS || self.publisher.waits_for_deletion(now, &self.undeleted);
        Some(if urgent { now } else { since + DELETE_WAIT })
    }

    /// The rows to delete now.
    pub fn take_undeleted(&mut self) -> Vec<Published> {
        self.undeleted_since = None;
        std::mem::take(&mut self.undeleted)
    }

    /// Rows could not be deleted; they are tried again.
    pub fn give_back(&mut self, now: Instant, rows: Vec<Published>) {
        self.undeleted_since.get_or_insert(now);
        self.undeleted.splice(0..0, rows);
    }

    /// Rows were durably deleted.
    pub fn on_deleted(&mut self, now: Instant, rows: &[Published]) {
        self.publisher.on_deleted(now, rows);
        rows.iter().filter_map(|row| row.round).for_each(|round| self.floor.on_deleted(round));
    }

    /// A raised generation; it is told at once.
    pub fn set_generation(&mut self, generation: Generation, now: Instant) {
        if generation > self.generation {
            self.generation = generation;
            self.beat_at(now);
            // The new history begins with what edges go by.
            self.publisher.lanes().for_each(|lane| lane.mirrors.forget());
        }
    }

    /// A sheet as it is in PostgreSQL now. True where that is news, and there is something to send.
    pub fn mirror(&mut self, mirror: Mirror) -> bool {
        self.publisher.set_sheet(mirror)
    }

    /// A server may have lost what was written there: a new link, another epoch, or history that is gone.
    pub fn doubt_mirrors(&mut self, lane: LaneId) {
        self.publisher.lane(lane).mirrors.forget();
    }

    /// From now on these servers hold the rooms ([`Publisher::set_topology`]).
    pub fn set_topology(&mut self, topology: Topology) {
        self.publisher.set_topology(topology);
        let generation = self.generation;
        self.publisher.lanes().for_each(|lane| {
            lane.since.get_or_insert(generation);
        });
    }

    /// Whether what was published through a lane may all have been under the present generation's forerunners: then it is
    /// answered for, whatever the server has lost.
    pub fn is_answered_for(&mut self, lane: LaneId) -> bool {
        let lane = self.publisher.lane(lane);
        lane.told.or(lane.since).is_some_and(|last| last < self.generation)
    }

    /// The number of the present history.
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

#[cfg(test)]
mod tests;
