//! The publisher: rows in, commands for Redis out, answers in, published rows out. A state machine without IO, clock
//! or chance of its own: the same code runs in the listener and under seeded schedules in tests.
//!
//! One batch is under way at a time. Whatever happens to it (answered, refused, lost), every row ends exactly once in
//! its room's stream, in the order in which it was given, because commands only ever succeed at one offset.

mod mirrors;
mod types;

use std::collections::VecDeque;
use std::time::Instant;

use rowcast_bus::{Command, Reply};
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{Epoch, Heartbeat, RoomName, Sheet};

pub use crate::past::Past;
use crate::pending::Pending;
use crate::room::{Content, Doubt, Entry, Room, Surroundings};
use crate::rooms::Rooms;
pub(crate) use mirrors::Mirrors;
pub use types::{Limits, Outcome, Published, Row, Slot};

/// The longest type, in bytes.
const MAX_TYPE_BYTES: usize = 200;

/// Rows of one room that are taken before the next room has its turn.
const TURN: usize = 8;

/// What a command adds to its record on the way, roughly; for the size of batches.
const COMMAND_OVERHEAD: usize = 300;

enum Flight {
    Sync(usize),
    Append(usize),
    Create(usize),
    Mirror(Sheet, u64),
    Check,
    Heartbeat,
}

/// The publisher.
pub struct Publisher {
    epoch: Epoch,
    limits: Limits,
    random: Box<dyn FnMut() -> u64 + Send>,
    rooms: Rooms,
    /// Rooms with something to send, each once.
    round: VecDeque<usize>,
    flights: Vec<Flight>,
    sent_at: Option<Instant>,
    pending: Pending,
    undeleted: usize,
    published: Vec<Published>,
    fenced: Option<Epoch>,
    catching_up: Option<i64>,
    held: bool,
    /// What edges are to find in Redis besides events.
    pub(crate) mirrors: Mirrors,
}

impl Publisher {
    /// A publisher of the given leader. `random` names new streams. It takes rows of earlier leaders until
    /// [`Publisher::caught_up`].
    pub fn new(epoch: Epoch, limits: Limits, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        Self {
            epoch,
            limits,
            random,
            rooms: Rooms::new(limits.rooms),
            round: VecDeque::new(),
            flights: Vec::new(),
            sent_at: None,
            pending: Pending::default(),
            undeleted: 0,
            published: Vec::new(),
            fenced: None,
            catching_up: Some(i64::MIN),
            held: false,
            mirrors: Mirrors::default(),
        }
    }

    /// The leader's epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many rows it takes at the moment.
    pub fn capacity(&self) -> usize {
        self.limits.max_rows.saturating_sub(self.pending.len() + self.undeleted)
    }

    /// How many rows it takes at the most.
    pub fn most(&self) -> usize {
        self.limits.max_rows
    }

    /// How many rows of a room are here or await deletion.
    pub fn rows_of(&self, room: &str) -> usize {
        let room = RoomName::parse(room).ok().and_then(|name| self.rooms.find(&name));
        room.map_or(0, Room::rows)
    }

    /// Rows that are not published yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Since when the oldest row that is not published has been visible; `None` when there is none.
    pub fn oldest(&self) -> Option<Past> {
        self.pending.oldest()
    }

    /// The newer leader that Redis has heard of. Nothing is sent any more.
    pub fn fenced(&self) -> Option<Epoch> {
        self.fenced
    }

    /// Whether a batch is under way.
    pub fn is_waiting(&self) -> bool {
        self.sent_at.is_some()
    }

    /// Takes rows, in the order of reading. Those of earlier leaders (`written`) come in the order of their ids.
    pub fn enqueue(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            self.enqueue_one(row);
        }
    }

    fn enqueue_one(&mut self, row: Row) {
        if row.written.is_some() && self.catching_up.is_some() {
            self.catching_up = Some(row.id.row);
        }
        let place = self.pending.add(row.visible);
        let Ok(name) = RoomName::parse(&row.room) else {
            self.pending.remove(place);
            self.undeleted += 1;
            let poison = Some("unusable room name");
            self.published.push(Published { id: row.id, round: Some(row.round), poison, slot: None });
            return;
        };
        let slot = self.rooms.slot_of(name);
        let entry = Entry {
            id: row.id,
            round: row.round,
            place,
            content: self.content(&row),
            doubt: row.written.map(|since| Doubt { since, foreign: true }),
        };
        if let Some(entry) = self.rooms.get(slot).push(entry) {
            self.publish(slot, &entry);
        }
        self.schedule(slot, None);
    }

    fn content(&self, row: &Row) -> Content {
        if row.event_type.is_empty() || row.event_type.len() > MAX_TYPE_BYTES {
            return Content::Poison("unusable event type");
        }
        if row.data.len() > self.limits.event_bytes {
            return Content::Poison("event too large");
        }
        let changed = row.changed.as_deref();
        Content::Event {
            fragment: event_fragment(row.id, &row.event_type, &row.data, changed, row.truncated).into(),
            event_type: row.event_type.clone(),
        }
    }

    /// Nothing of rooms goes out while it is held.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The next commands, none when there is nothing to send, a batch is under way or a newer leader was met.
    /// A heartbeat goes last: it says that the way behind the events is open, and tells of no sheet that is still on its way. Before it, and behind questions for heads,
    /// it is asked whether history is still there: a head that is missing may have been flushed.
    pub fn next_batch(&mut self, now: Instant, heartbeat: Option<Heartbeat>) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.is_waiting() || self.fenced.is_some() {
            return commands;
        }
        let around = self.surroundings(now);
        let mut bytes = 0;
        while !self.held && commands.len() < self.limits.batch_commands && bytes < self.limits.batch_bytes {
            let Some(slot) = self.round.pop_front() else { break };
            let room = self.rooms.get(slot);
            room.scheduled = false;
            for _ in 0..TURN.min(self.limits.batch_commands - commands.len()) {
                let Some(command) = room.next(&around, &mut self.random) else {
                    break;
                };
                bytes += size(&command);
                self.flights.push(flight(&command, slot));
                commands.push(command);
                if bytes >= self.limits.batch_bytes {
                    break;
                }
            }
            self.schedule(slot, Some(&around));
        }
        for mirror in self.mirrors.due() {
            self.flights.push(Flight::Mirror(mirror.sheet, mirror.version));
            commands.push(Command::Mirror(self.epoch, mirror.clone()));
        }
        if heartbeat.is_some() || self.flights.iter().any(|flight| matches!(flight, Flight::Sync(_))) {
            self.flights.push(Flight::Check);
            commands.push(Command::Check(self.epoch));
        }
        if let Some(heartbeat) = heartbeat {
            self.flights.push(Flight::Heartbeat);
            commands.push(Command::Heartbeat(heartbeat));
        }
        if !commands.is_empty() {
            self.sent_at = Some(now);
        }
        commands
    }

    /// Takes the answers to the batch under way, one to each command, in order.
    ///
    /// # Panics
    /// When the number of answers is not that of the commands.
    pub fn on_replies(&mut self, now: Instant, replies: Vec<Reply>) -> Outcome {
        let flights = std::mem::take(&mut self.flights);
        assert_eq!(flights.len(), replies.len(), "each command has its answer");
        let around = self.surroundings(now);
        let mut outcome = Outcome::default();
        for (flight, reply) in flights.iter().zip(replies) {
            let unclear = matches!(flight, Flight::Check) && reply != Reply::Done;
            let unclaimed = unclear || matches!(flight, Flight::Mirror(..));
            outcome.history_gone |= unclaimed && reply == Reply::Moved;
            if unclear {
                self.doubt_heads(&flights);
            }
            self.on_reply(&around, flight, reply, &mut outcome);
        }
        self.settle(&flights, &around);
        outcome
    }

    /// The link broke: nobody knows what of the batch under way was, or still will be, carried out.
    pub fn on_link_lost(&mut self, now: Instant) {
        let flights = std::mem::take(&mut self.flights);
        let sent_at = self.sent_at.unwrap_or(now);
        for flight in &flights {
            match *flight {
                Flight::Sync(slot) => self.rooms.get(slot).sync_failed(),
                Flight::Append(slot) | Flight::Create(slot) => self.rooms.get(slot).lost(sent_at),
                Flight::Mirror(..) | Flight::Check | Flight::Heartbeat => {}
            }
        }
        let around = self.surroundings(now);
        self.settle(&flights, &around);
    }

    /// Rows that were published, or found to be, since this was last asked.
    pub fn take_published(&mut self) -> Vec<Published> {
        std::mem::take(&mut self.published)
    }

    /// Published rows were durably deleted from the outbox.
    pub fn on_deleted(&mut self, now: Instant, rows: &[Published]) {
        let around = self.surroundings(now);
        for row in rows {
            self.undeleted -= 1;
            if let Some(Slot(slot)) = row.slot {
                self.rooms.get(slot).deleted();
                self.schedule(slot, Some(&around));
            }
        }
    }

    /// Whether some room waits for nothing but the deletion of what was published.
    pub fn waits_for_deletion(&self, now: Instant, rows: &[Published]) -> bool {
        let around = self.surroundings(now);
        self.capacity() == 0
            || rows
                .iter()
                .filter_map(|row| row.slot)
                .any(|Slot(slot)| self.rooms.peek(slot).is_some_and(|room| room.waits_for_deletion(&around)))
    }

    /// All rows that earlier leaders may have published have been given.
    pub fn caught_up(&mut self) {
        self.catching_up = None;
        self.rooms.iter_mut().for_each(Room::caught_up);
    }

    /// Begins again under a higher epoch, while no batch is under way.
    pub fn renew_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.fenced = None;
        self.forget_heads();
    }

    /// Redis is another one, or went back in time: every head is asked for again. Only while no batch is under way.
    pub fn forget_heads(&mut self) {
        self.rooms.iter_mut().for_each(Room::forget);
        for slot in self.rooms.slots() {
            self.schedule(slot, None);
        }
    }

    /// A newer leader's claim was met.
    pub fn fence(&mut self, epoch: Epoch) {
        self.fenced = self.fenced.max(Some(epoch));
    }

    /// What was found in this batch does not count: nobody knows whether history was there.
    fn doubt_heads(&mut self, flights: &[Flight]) {
        for flight in flights {
            if let Flight::Sync(slot) = *flight {
                self.rooms.get(slot).sync_failed();
            }
        }
    }

    fn on_reply(&mut self, around: &Surroundings, flight: &Flight, reply: Reply, outcome: &mut Outcome) {
        match (flight, reply) {
            (Flight::Sync(slot), Reply::Synced { head, since_append, ids, resyncs }) => {
                if let Some(head) = head
                    && head.epoch > self.epoch
                {
                    self.fence(head.epoch);
                    return self.rooms.get(*slot).sync_failed();
                }
                let (found, unread) = self.rooms.get(*slot).synced(around, head, since_append, ids, &resyncs);
                for entry in found {
                    self.publish(*slot, &entry);
                }
                self.undeleted += unread.len();
                let slot = Some(Slot(*slot));
                self.published.extend(unread.into_iter().map(|id| Published {
                    id,
                    round: None,
                    poison: None,
                    slot,
                }));
            }
            (Flight::Append(slot), Reply::Done) => {
                let entry = self.rooms.get(*slot).done(false);
                self.publish(*slot, &entry);
            }
            (Flight::Create(slot), Reply::Done) => {
                outcome.created += 1;
                let entry = self.rooms.get(*slot).done(true);
                self.publish(*slot, &entry);
            }
            (Flight::Mirror(sheet, version), Reply::Done) => {
                self.mirrors.written(*sheet, *version);
                outcome.mirrored = true;
            }
            (Flight::Mirror(..), Reply::Moved) | (Flight::Check, Reply::Done | Reply::Moved) => {}
            (Flight::Heartbeat, Reply::Done) => outcome.heartbeat_sent = true,
            (flight, reply) => {
                self.on_failure(flight);
                self.note(reply, outcome);
            }
        }
    }

    fn on_failure(&mut self, flight: &Flight) {
        match *flight {
            Flight::Sync(slot) => self.rooms.get(slot).sync_failed(),
            Flight::Append(slot) | Flight::Create(slot) => self.rooms.get(slot).failed(),
            Flight::Mirror(..) | Flight::Check | Flight::Heartbeat => {}
        }
    }

    fn note(&mut self, reply: Reply, outcome: &mut Outcome) {
        match reply {
            Reply::Fenced(epoch) => self.fence(epoch),
            Reply::Refused(refusal) if refusal.code == "NOSCRIPT" => outcome.scripts_missing = true,
            Reply::Refused(refusal) => outcome.refused.push(refusal),
            Reply::Moved => outcome.moved += 1,
            Reply::Done | Reply::TooLate | Reply::Synced { .. } => {}
        }
    }

    fn settle(&mut self, flights: &[Flight], around: &Surroundings) {
        self.sent_at = None;
        for flight in flights {
            if let Flight::Sync(slot) | Flight::Append(slot) | Flight::Create(slot) = *flight {
                self.rooms.get(slot).settle();
                self.schedule(slot, Some(around));
            }
        }
    }

    fn publish(&mut self, slot: usize, entry: &Entry) {
        self.pending.remove(entry.place);
        self.undeleted += 1;
        let poison = match entry.content {
            Content::Poison(reason) => Some(reason),
            Content::Event { .. } => None,
        };
        self.published.push(Published {
            id: entry.id,
            round: Some(entry.round),
            poison,
            slot: Some(Slot(slot)),
        });
    }

    fn surroundings(&self, now: Instant) -> Surroundings {
        Surroundings {
            epoch: self.epoch,
            now,
            catching_up: self.catching_up,
            log_entries: self.limits.log_entries,
            awaiting: (self.limits.log_entries / 2).max(1),
        }
    }

    /// Puts a room into the round, unless it is there or has nothing to send. Without surroundings it is put there
    /// on suspicion; the next batch finds out.
    fn schedule(&mut self, slot: usize, around: Option<&Surroundings>) {
        let room = self.rooms.get(slot);
        if !room.scheduled && around.is_none_or(|around| room.runnable(around)) {
            room.scheduled = true;
            self.round.push_back(slot);
        }
    }
}

fn flight(command: &Command, slot: usize) -> Flight {
    match command {
        Command::Sync { .. } => Flight::Sync(slot),
        Command::Append { .. } => Flight::Append(slot),
        Command::Create { .. } => Flight::Create(slot),
        Command::Check(_) => Flight::Check,
        Command::Mirror(_, mirror) => Flight::Mirror(mirror.sheet, mirror.version),
        Command::Heartbeat(_) => Flight::Heartbeat,
    }
}

fn size(command: &Command) -> usize {
    match command {
        Command::Append { record, .. } | Command::Create { record, .. } => COMMAND_OVERHEAD + record.len(),
        Command::Mirror(_, mirror) => mirror.content.len() + COMMAND_OVERHEAD,
        Command::Sync { .. } | Command::Check(_) | Command::Heartbeat(_) => COMMAND_OVERHEAD,
    }
}

#[cfg(test)]
mod tests;
