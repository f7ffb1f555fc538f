//! The publisher: rows in, commands for Redis out, answers in, published rows out. A state machine without IO, clock
//! or chance of its own: the same code runs in the listener and under seeded schedules in tests.
//!
//! Each server has a lane of its own, with one batch under way at a time; a room goes by the lane of whoever holds it. Whatever happens to it (answered, refused, lost), every row ends exactly once in
//! its room's stream, in the order in which it was given, because commands only ever succeed at one offset.

mod mirrors;
mod types;

use std::collections::BTreeMap;
use std::time::Instant;

use rowcast_bus::{Command, Reply, Topology};
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{Epoch, Heartbeat, Mirror, RoomName, Sheet};

pub use crate::lane::LaneId;
use crate::lane::{Flight, Lane};
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

/// The publisher.
pub struct Publisher {
    epoch: Epoch,
    limits: Limits,
    random: Box<dyn FnMut() -> u64 + Send>,
    rooms: Rooms,
    topology: Topology,
    lanes: BTreeMap<LaneId, Lane>,
    next_lane: LaneId,
    pending: Pending,
    undeleted: usize,
    published: Vec<Published>,
    fenced: Option<Epoch>,
    catching_up: Option<i64>,
    /// What edges are to find in Redis besides events, as PostgreSQL has it.
    sheets: BTreeMap<Sheet, Mirror>,
}

impl Publisher {
    /// A publisher of the given leader, to one server until it is told of others. `random` names new streams. It takes rows of
    /// earlier leaders until [`Publisher::caught_up`].
    pub fn new(epoch: Epoch, limits: Limits, random: Box<dyn FnMut() -> u64 + Send>) -> Self {
        let mut publisher = Self {
            epoch,
            limits,
            random,
            rooms: Rooms::new(limits.rooms),
            topology: Topology::single(),
            lanes: BTreeMap::new(),
            next_lane: LaneId::FIRST,
            pending: Pending::default(),
            undeleted: 0,
            published: Vec::new(),
            fenced: None,
            catching_up: Some(i64::MIN),
            sheets: BTreeMap::new(),
        };
        publisher.set_topology(Topology::single());
        publisher
    }

    /// From now on these servers hold the rooms. Lanes of servers that are not among them end: none of their batches may be
    /// under way.
    ///
    /// # Panics
    /// When one is.
    pub fn set_topology(&mut self, topology: Topology) {
        self.topology = topology;
        let (topology, sheets) = (&self.topology, &self.sheets);
        self.lanes.retain(|_, lane| {
            let stays = topology.server(&lane.name).is_some();
            assert!(stays || lane.sent_at.is_none(), "a lane ends between batches");
            stays
        });
        for server in topology.servers() {
            if !self.lanes.values().any(|lane| lane.name == server.name) {
                self.lanes.insert(self.next_lane, Lane::new(server.name.clone(), sheets.values()));
                self.next_lane = self.next_lane.next();
            }
        }
        self.lanes.values_mut().for_each(|lane| lane.round.clear());
        for slot in self.rooms.slots() {
            let name = self.rooms.get(slot).name.clone();
            let lane = self.lane_of(&name);
            let room = self.rooms.get(slot);
            (room.lane, room.scheduled) = (lane, false);
            if room.is_queued() {
                self.schedule(slot, None);
            }
        }
    }

    /// The servers that hold rooms.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The lane of a server.
    pub fn lane_named(&self, name: &str) -> Option<LaneId> {
        self.lanes.iter().find(|(_, lane)| &*lane.name == name).map(|(id, _)| *id)
    }

    fn lane_of(&self, room: &RoomName) -> Option<LaneId> {
        self.lane_named(&self.topology.holder(room)?.name)
    }

    /// A lane.
    ///
    /// # Panics
    /// When there is none: its sender ends before it does.
    pub(crate) fn lane(&mut self, lane: LaneId) -> &mut Lane {
        self.lanes.get_mut(&lane).expect("a lane outlives its sender")
    }

    /// All lanes.
    pub(crate) fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.values_mut()
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

    /// Whether a batch is under way through any lane.
    pub fn is_waiting(&self) -> bool {
        self.lanes.values().any(Lane::is_waiting)
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
        let slot = self.rooms.slot_of(name.clone());
        if self.rooms.get(slot).lane.is_none() {
            self.rooms.get(slot).lane = self.lane_of(&name);
        }
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

    /// The next commands for a server, none when there is nothing to send, a batch is under way or a newer leader was met.
    /// A heartbeat goes last: it says that the way behind the events is open, and tells of no sheet that is still on its way. Before it, and behind questions for heads,
    /// it is asked whether history is still there: a head that is missing may have been flushed.
    pub fn next_batch(&mut self, lane: LaneId, now: Instant, heartbeat: Option<Heartbeat>) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.lane(lane).is_waiting() || self.fenced.is_some() {
            return commands;
        }
        let around = self.surroundings(now);
        let held = self.lane(lane).held;
        let mut flights = Vec::new();
        let mut bytes = 0;
        while !held && commands.len() < self.limits.batch_commands && bytes < self.limits.batch_bytes {
            let Some(slot) = self.lane(lane).round.pop_front() else { break };
            let room = self.rooms.get(slot);
            room.scheduled = false;
            if room.flying.is_some_and(|flying| flying != lane) {
                // It was moved; when its commands are answered it is put into the round again.
                continue;
            }
            for _ in 0..TURN.min(self.limits.batch_commands - commands.len()) {
                let Some(command) = room.next(&around, &mut self.random) else {
                    break;
                };
                room.flying = Some(lane);
                bytes += size(&command);
                flights.push(flight(&command, slot));
                commands.push(command);
                if bytes >= self.limits.batch_bytes {
                    break;
                }
            }
            self.schedule(slot, Some(&around));
        }
        let epoch = self.epoch;
        for mirror in self.lane(lane).mirrors.due() {
            flights.push(Flight::Mirror(mirror.sheet, mirror.version));
            commands.push(Command::Mirror(epoch, mirror.clone()));
        }
        if heartbeat.is_some() || flights.iter().any(|flight| matches!(flight, Flight::Sync(_))) {
            flights.push(Flight::Check);
            commands.push(Command::Check(self.epoch));
        }
        if let Some(heartbeat) = heartbeat {
            flights.push(Flight::Heartbeat);
            commands.push(Command::Heartbeat(heartbeat));
        }
        let lane = self.lane(lane);
        lane.flights = flights;
        if !commands.is_empty() {
            lane.sent_at = Some(now);
        }
        commands
    }

    /// Takes the answers to a lane's batch under way, one to each command, in order.
    ///
    /// # Panics
    /// When the number of answers is not that of the commands.
    pub fn on_replies(&mut self, lane: LaneId, now: Instant, replies: Vec<Reply>) -> Outcome {
        let flights = std::mem::take(&mut self.lane(lane).flights);
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
            self.on_reply(lane, &around, flight, reply, &mut outcome);
        }
        self.settle(lane, &flights, &around);
        outcome
    }

    /// A lane's link broke: nobody knows what of its batch under way was, or still will be, carried out.
    pub fn on_link_lost(&mut self, lane: LaneId, now: Instant) {
        let flights = std::mem::take(&mut self.lane(lane).flights);
        let sent_at = self.lane(lane).sent_at.unwrap_or(now);
        for flight in &flights {
            match *flight {
                Flight::Sync(slot) => self.rooms.get(slot).sync_failed(),
                Flight::Append(slot) | Flight::Create(slot) => self.rooms.get(slot).lost(sent_at),
                Flight::Mirror(..) | Flight::Check | Flight::Heartbeat => {}
            }
        }
        let around = self.surroundings(now);
        self.settle(lane, &flights, &around);
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
        let lanes: Vec<LaneId> = self.lanes.keys().copied().collect();
        lanes.into_iter().for_each(|lane| self.forget_heads(lane));
    }

    /// A server is another one, or went back in time: the heads of its rooms are asked for again. Only while no batch is under
    /// way there.
    pub fn forget_heads(&mut self, lane: LaneId) {
        for slot in self.rooms.slots() {
            let room = self.rooms.get(slot);
            if room.lane == Some(lane) && room.flying.is_none() {
                room.forget();
                self.schedule(slot, None);
            }
        }
    }

    /// PostgreSQL has this sheet now. True where that is news.
    pub fn set_sheet(&mut self, mirror: Mirror) -> bool {
        self.sheets.insert(mirror.sheet, mirror.clone());
        self.lanes.values_mut().fold(false, |news, lane| lane.mirrors.set(mirror.clone()) | news)
    }

    /// The version of a sheet that PostgreSQL has, as far as is known.
    pub fn wanted(&self, sheet: Sheet) -> Option<u64> {
        self.sheets.get(&sheet).map(|mirror| mirror.version)
    }

    /// The version that all edges find; 0 where there is none.
    pub fn standing(&self, sheet: Sheet) -> u64 {
        self.lanes.values().map(|lane| lane.mirrors.version(sheet)).min().unwrap_or(0)
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

    fn on_reply(
        &mut self,
        lane: LaneId,
        around: &Surroundings,
        flight: &Flight,
        reply: Reply,
        outcome: &mut Outcome,
    ) {
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
                self.lane(lane).mirrors.written(*sheet, *version);
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
            // Nobody but a claim is answered so.
            Reply::Foreign(_) | Reply::Replaced(_) => {}
            Reply::Done | Reply::TooLate | Reply::Synced { .. } => {}
        }
    }

    fn settle(&mut self, lane: LaneId, flights: &[Flight], around: &Surroundings) {
        self.lane(lane).sent_at = None;
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

    /// Puts a room into the round of its lane, unless it is there or has nothing to send. Without surroundings it is put there
    /// on suspicion; the next batch finds out. One that nobody holds waits until somebody does.
    fn schedule(&mut self, slot: usize, around: Option<&Surroundings>) {
        let room = self.rooms.get(slot);
        let lane = room.lane.and_then(|lane| self.lanes.get_mut(&lane));
        if let Some(lane) = lane
            && !room.scheduled
            && around.is_none_or(|around| room.runnable(around))
        {
            room.scheduled = true;
            lane.round.push_back(slot);
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
