//! The room's state machine against a plain model of Redis, under seeded schedules: messages lost and doubled,
//! links broken, logs trimmed, streams renewed, generations raised, reads that answer late, clients that come
//! back with old, future and forged cursors.
//!
//! The promises are the oracle: each client sees each event once and in order (P2), or is told to resync for a
//! cause that is really there; and when everything has settled, nobody has missed anything (P1).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rowcast_bus::{Head, Loaded, Range};
use rowcast_edge::event::Event;
use rowcast_edge::room::{Action, Answer, Join, Resume, Room, RoomLimits};
use rowcast_protocol::{
    Cursor, Epoch, EventId, Generation, Offset, Record, RecordKind, RoomName, StreamId,
    record::event_fragment,
};

/// Redis and the leader, as far as one room sees them.
struct Redis {
    generation: Generation,
    stream: StreamId,
    log: VecDeque<Record>,
    offset: Offset,
    next_id: i64,
}

impl Redis {
    fn append(&mut self, renew: bool) -> Record {
        if renew || self.stream == StreamId::NONE {
            self.next_id += 1;
            let random = self.next_id.cast_unsigned() * 2;
            self.stream = if self.stream == StreamId::NONE {
                StreamId::first(random)
            } else {
                StreamId::renewed(random)
            };
            self.offset = Offset::ZERO;
            self.log.clear();
        }
        self.offset = self.offset.next();
        self.next_id += 1;
        let id = EventId { row: self.next_id, occurred_at: 0 };
        let fragment = event_fragment(id, "t", "{}", None, false).into();
        let (stream, offset) = (self.stream, self.offset);
        let record = Record { kind: RecordKind::Event, stream, offset, id, event_type: "t".into(), fragment };
        self.log.push_back(record.clone());
        record
    }

    fn head(&self) -> Option<Head> {
        let head = Head { stream: self.stream, offset: self.offset, epoch: Epoch(1) };
        (self.stream != StreamId::NONE).then_some(head)
    }

    fn load(&self, range: Range) -> Loaded {
        let records = match range {
            Range::Last(count) => {
                let skip = self.log.len().saturating_sub(count);
                self.log.iter().skip(skip).cloned().collect()
            }
            Range::After { offset, count } => {
                self.log.iter().filter(|record| record.offset > offset).take(count).cloned().collect()
            }
        };
        Loaded { head: self.head(), records }
    }

    /// Whether history after a cursor is gone, so that a resync is explained.
    fn has_lost(&self, cursor: Cursor) -> bool {
        if cursor.generation < self.generation {
            return true;
        }
        let from_before_all = cursor.stream == StreamId::NONE && cursor.offset == Offset::ZERO;
        if cursor.stream != self.stream && !(from_before_all && self.stream.is_first()) {
            return true;
        }
        let first = self.log.front().map_or(self.offset.next(), |record| record.offset);
        first > cursor.offset.next()
    }
}

struct Client {
    cursor: Option<Cursor>,
    state: State,
    /// It came with a cursor that was ahead of history, or that nobody gave out.
    forged: bool,
}

#[derive(PartialEq, Debug, Clone, Copy)]
enum State {
    Joining,
    Live,
    /// Answered with a page that does not reach the end.
    Behind,
    Gone,
    /// It went while it waited, and never comes back.
    Left,
}

enum Read {
    Load(Range),
    Page(usize, Cursor, Range),
}

struct World {
    rng: StdRng,
    redis: Redis,
    room: Room<usize>,
    name: RoomName,
    clients: Vec<Client>,
    /// Published while subscribed, not yet arrived.
    in_flight: VecDeque<Record>,
    subscribed: bool,
    linked: bool,
    reads: VecDeque<Read>,
    answers: VecDeque<(Read, Loaded)>,
    /// How many events at most are published in the middle of a read.
    races: u64,
    resyncs: u64,
    delivered: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let name = RoomName::parse("m").expect("valid");
        let limits = RoomLimits { recent_events: 4, recent_bytes: 10_000, page: 3, page_bytes: 10_000 };
        let redis = Redis {
            generation: Generation(1),
            stream: StreamId::NONE,
            log: VecDeque::new(),
            offset: Offset::ZERO,
            next_id: 0,
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            redis,
            room: Room::new(name.clone(), Generation(1), limits),
            name,
            clients: Vec::new(),
            in_flight: VecDeque::new(),
            subscribed: false,
            linked: true,
            reads: VecDeque::new(),
            answers: VecDeque::new(),
            races: 2,
            resyncs: 0,
            delivered: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..30 => self.publish(),
            30..50 => self.arrive(),
            50..60 => self.execute_read(),
            60..75 => self.answer_read(),
            75..85 => self.come(),
            85..90 => self.go_on(),
            90..92 => self.lose_message(),
            92 => self.break_link(),
            93..95 => self.subscribe(),
            95 => match self.rng.random_range(0..3) {
                0 => self.restore(),
                1 => self.cancel(),
                _ => self.raise_generation(),
            },
            96 => self.trim(),
            97 => self.double_message(),
            _ => self.sweep(),
        }
    }

    fn publish(&mut self) {
        let renew = self.rng.random_range(0..60) == 0;
        let record = self.redis.append(renew);
        if self.subscribed {
            self.in_flight.push_back(record);
        }
    }

    fn arrive(&mut self) {
        if let Some(record) = self.in_flight.pop_front() {
            let actions = self.room.published(record);
            self.carry_out(actions);
        }
    }

    fn lose_message(&mut self) {
        self.in_flight.pop_front();
    }

    fn double_message(&mut self) {
        if let Some(record) = self.in_flight.front().cloned() {
            self.in_flight.push_front(record);
        }
    }

    fn break_link(&mut self) {
        self.linked = false;
        self.subscribed = false;
        self.in_flight.clear();
        self.room.suspect();
        let (reads, answers) = (std::mem::take(&mut self.reads), std::mem::take(&mut self.answers));
        for read in reads.into_iter().chain(answers.into_iter().map(|(read, _)| read)) {
            if let Read::Page(ticket, cursor, _) = read {
                let actions = self.room.page_failed(ticket, cursor);
                self.carry_out(actions);
            }
        }
    }

    fn subscribe(&mut self) {
        if !self.subscribed {
            self.linked = true;
            self.subscribed = true;
            let actions = self.room.subscribed();
            self.carry_out(actions);
        }
    }

    fn execute_read(&mut self) {
        if !self.linked {
            return;
        }
        if let Some(read) = self.reads.pop_front() {
            let (Read::Load(range) | Read::Page(_, _, range)) = read;
            // The head is read first, and history goes on between the two reads.
            let head = self.redis.head();
            for _ in 0..self.rng.random_range(0..=self.races) {
                self.publish();
            }
            let loaded = Loaded { head, ..self.redis.load(range) };
            self.answers.push_back((read, loaded));
        }
    }

    fn answer_read(&mut self) {
        let Some((read, loaded)) = self.answers.pop_front() else { return };
        let actions = match read {
            Read::Load(_) => self.room.loaded(loaded),
            Read::Page(ticket, cursor, _) => self.room.page_loaded(ticket, cursor, loaded),
        };
        self.carry_out(actions);
    }

    /// Redis comes back from an old snapshot; the leader raises the generation before it appends anything.
    fn restore(&mut self) {
        self.break_link();
        for _ in 0..self.rng.random_range(0..5) {
            if self.redis.log.pop_back().is_some() {
                self.redis.offset = Offset(self.redis.offset.0 - 1);
            }
        }
        self.redis.generation = Generation(self.redis.generation.0 + 1);
        for _ in 0..self.rng.random_range(0..8) {
            self.redis.append(false);
        }
        // The new link begins with what the last heartbeat said.
        let actions = self.room.set_generation(self.redis.generation);
        self.carry_out(actions);
    }

    /// Somebody who waits goes away.
    fn cancel(&mut self) {
        if let Some(ticket) = self.clients.iter().position(|client| client.state == State::Joining) {
            self.room.cancel(&ticket);
            let waits = |read: &Read| matches!(read, Read::Page(other, ..) if *other == ticket);
            let answered = self.answers.iter().any(|(read, _)| waits(read));
            if !answered && !self.reads.iter().any(waits) {
                self.clients[ticket].state = State::Left;
            }
        }
    }

    fn raise_generation(&mut self) {
        self.redis.generation = Generation(self.redis.generation.0 + 1);
        let actions = self.room.set_generation(self.redis.generation);
        self.carry_out(actions);
    }

    fn trim(&mut self) {
        let keep = self.rng.random_range(0..4);
        while self.redis.log.len() > keep {
            self.redis.log.pop_front();
        }
    }

    fn sweep(&mut self) {
        let then = self.room.cursor().offset;
        let actions = self.room.head_seen(then, self.redis.head());
        self.carry_out(actions);
    }

    /// A client comes: new, back with the cursor it left with, or with one of its own making.
    fn come(&mut self) {
        let head = Cursor {
            generation: self.redis.generation,
            stream: self.redis.stream,
            offset: self.redis.offset,
        };
        let gone: Vec<_> =
            (0..self.clients.len()).filter(|i| self.clients[*i].state == State::Gone).collect();
        let (resume, cursor, forged) = match self.rng.random_range(0..9) {
            0 => (Resume::Nothing, None, false),
            1 => (Resume::Unreadable, None, true),
            2 => {
                let forged = Cursor { offset: Offset(head.offset.0 + self.rng.random_range(1..5)), ..head };
                (Resume::After(forged), Some(forged), true)
            }
            3 => {
                let forged = Cursor { stream: StreamId(u64::MAX), ..head };
                (Resume::After(forged), Some(forged), true)
            }
            // Another edge was a little behind this one.
            4 if head.stream != StreamId::NONE => {
                let behind = self.rng.random_range(0..4);
                let cursor = Cursor { offset: Offset(head.offset.0.saturating_sub(behind)), ..head };
                (Resume::After(cursor), Some(cursor), false)
            }
            _ => match gone.first() {
                Some(&old) => {
                    let cursor = self.clients[old].cursor.expect("clients that left have cursors");
                    self.clients.remove(old);
                    // Tickets are places in the list: later ones move, so nobody may be waiting.
                    self.clients
                        .insert(old, Client { cursor: Some(cursor), state: State::Joining, forged: false });
                    let actions = self.room.join(Join { ticket: old, resume: Resume::After(cursor) });
                    return self.carry_out(actions);
                }
                None => (Resume::Nothing, None, false),
            },
        };
        let ticket = self.clients.len();
        self.clients.push(Client { cursor, state: State::Joining, forged });
        let actions = self.room.join(Join { ticket, resume });
        self.carry_out(actions);
    }

    /// Somebody leaves, falls behind, or goes on from where it fell behind.
    fn go_on(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let ticket = self.rng.random_range(0..self.clients.len());
        let leaves = self.rng.random_range(0..2) == 0;
        match self.clients[ticket].state {
            State::Live if leaves => self.clients[ticket].state = State::Gone,
            State::Live | State::Behind => self.rejoin(ticket),
            _ => {}
        }
    }

    fn rejoin(&mut self, ticket: usize) {
        let client = &mut self.clients[ticket];
        client.state = State::Joining;
        let cursor = client.cursor.expect("answered clients have cursors");
        let actions = self.room.join(Join { ticket, resume: Resume::After(cursor) });
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action<usize>>) {
        for action in actions {
            match action {
                Action::Load(range) => self.reads.push_back(Read::Load(range)),
                Action::LoadPage { ticket, cursor, range } => {
                    self.reads.push_back(Read::Page(ticket, cursor, range));
                }
                Action::Deliver(event) => {
                    for ticket in 0..self.clients.len() {
                        if self.clients[ticket].state == State::Live {
                            self.see(ticket, &event);
                        }
                    }
                }
                Action::Void => {
                    for client in self.clients.iter_mut().filter(|client| client.state == State::Live) {
                        client.state = State::Behind;
                    }
                }
                Action::Answer(ticket, answer) => self.answered(ticket, answer),
            }
        }
    }

    fn answered(&mut self, ticket: usize, answer: Answer) {
        let client = &mut self.clients[ticket];
        assert_eq!(client.state, State::Joining, "an answer to nobody's question");
        if answer.resync.is_some() {
            let explained = client.forged || client.cursor.is_some_and(|cursor| self.redis.has_lost(cursor));
            assert!(explained, "an unexplained resync of a join after {:?}", client.cursor);
            assert!(!answer.resumed && answer.events.is_empty());
            self.resyncs += 1;
        } else if let (Some(old), true) = (client.cursor, answer.resumed) {
            assert_eq!(old.offset, answer.cursor.offset, "resumed somewhere else");
            assert_eq!(old.generation, self.redis.generation, "resumed in a history that is void");
        } else {
            assert!(client.cursor.is_none(), "a cursor was passed over in silence");
        }
        client.forged = false;
        let nowhere = answer.cursor.stream == self.redis.stream && answer.cursor.offset > self.redis.offset;
        assert!(!nowhere, "a cursor beyond the end of history: {}", answer.cursor);
        client.cursor = Some(answer.cursor);
        client.state = if answer.caught_up { State::Live } else { State::Behind };
        for event in &answer.events {
            self.see(ticket, event);
        }
    }

    fn see(&mut self, ticket: usize, event: &Arc<Event>) {
        let client = &mut self.clients[ticket];
        let cursor = client.cursor.as_mut().expect("answered");
        let begins = cursor.stream == StreamId::NONE && event.offset == Offset(1);
        assert!(event.stream == cursor.stream || begins, "an event of another stream");
        assert_eq!(event.offset, cursor.offset.next(), "doubled, lost or out of order");
        cursor.stream = event.stream;
        cursor.offset = event.offset;
        self.delivered += 1;
        let json: serde_json::Value = serde_json::from_slice(event.json()).expect("JSON");
        assert_eq!(json["room"].as_str(), Some(self.name.as_str()));
        // The frame goes on in the history that the client knows, which it would resume in.
        assert_eq!(json["cursor"].as_str(), Some(cursor.to_string().as_str()));
        let same_place = |record: &&Record| record.stream == event.stream && record.offset == event.offset;
        if let Some(record) = self.redis.log.iter().find(same_place) {
            assert_eq!(
                json["id"].as_str(),
                Some(record.id.to_string().as_str()),
                "of a history that is gone"
            );
        }
    }

    /// Lets everything arrive, and checks that nobody has missed anything.
    fn settle(&mut self) {
        self.subscribe();
        for _ in 0..10_000 {
            while !self.in_flight.is_empty() {
                self.arrive();
            }
            self.execute_read();
            self.answer_read();
            for ticket in 0..self.clients.len() {
                if self.clients[ticket].state == State::Behind {
                    self.rejoin(ticket);
                }
            }
            self.sweep();
            let behind = self.clients.iter().any(|client| client.state == State::Behind);
            if !behind && self.reads.is_empty() && self.answers.is_empty() && self.room.is_live() {
                break;
            }
        }
        assert!(self.room.is_live() && self.room.is_quiet(), "the room did not settle");
        for client in self.clients.iter().filter(|client| !matches!(client.state, State::Gone | State::Left))
        {
            let cursor = client.cursor.expect("answered");
            assert_eq!(client.state, State::Live);
            assert_eq!(
                (cursor.stream, cursor.offset),
                (self.redis.stream, self.redis.offset),
                "missed events"
            );
        }
    }
}

#[test]
fn a_room_neither_loses_nor_doubles_nor_reorders_under_any_schedule() {
    let (mut delivered, mut resyncs) = (0, 0);
    for seed in 0..3_000 {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..250 {
                world.step();
            }
            world.settle();
        }));
        assert!(run.is_ok(), "seed {seed} breaks a promise");
        delivered += world.delivered;
        resyncs += world.resyncs;
    }
    // The schedules must really do something, or the oracle has nothing to see.
    assert!(delivered > 300_000 && resyncs > 3_000, "{delivered} deliveries, {resyncs} resyncs");
}

/// One more schedule, so simple that it can be read: a burst of joins behind a dead edge costs one read.
#[test]
fn a_storm_of_resumes_costs_one_read_of_the_log() {
    let mut world = World::new(0);
    world.races = 0;
    for _ in 0..4 {
        world.redis.append(false);
    }
    let cursor =
        |offset| Cursor { generation: Generation(1), stream: world.redis.stream, offset: Offset(offset) };
    let cursors: Vec<_> = (1..=4).map(cursor).collect();
    for ticket in 0..1_000 {
        let cursor = cursors[ticket % 4];
        world.clients.push(Client { cursor: Some(cursor), state: State::Joining, forged: false });
        let actions = world.room.join(Join { ticket, resume: Resume::After(cursor) });
        world.carry_out(actions);
    }
    world.subscribe();
    assert_eq!(world.reads.len(), 1);
    world.execute_read();
    world.answer_read();
    assert!(world.reads.is_empty() && world.clients.iter().all(|client| client.state == State::Live));
    assert_eq!(world.delivered, 250 * (3 + 2 + 1));
}

/// What is published while a room is read is not read a second time: under load there would be no end to it.
#[test]
fn a_busy_room_is_live_after_one_read() {
    let mut world = World::new(0);
    world.races = 0;
    world.redis.append(false);
    world.clients.push(Client { cursor: None, state: State::Joining, forged: false });
    let actions = world.room.join(Join { ticket: 0, resume: Resume::Nothing });
    world.carry_out(actions);
    world.subscribe();
    world.execute_read();
    world.publish();
    world.publish();
    world.arrive();
    world.arrive();
    assert!(!world.room.is_live());
    world.answer_read();
    assert!(world.room.is_live() && world.reads.is_empty());
    assert_eq!(world.room.cursor().offset, world.redis.offset);
}

#[test]
fn a_record_that_stands_for_a_lost_event_becomes_a_resync_frame() {
    let name = RoomName::parse("m").expect("valid");
    let record = Record {
        kind: RecordKind::Resync,
        stream: StreamId(7),
        offset: Offset(3),
        id: EventId { row: 1, occurred_at: 0 },
        event_type: "unencodable".into(),
        fragment: Bytes::new(),
    };
    let event = Event::compose(&name, Generation(2), record);
    let json = r#"{"op":"resync","room":"m","cursor":"2.0000000000000007:3","reason":"unencodable"}"#;
    assert_eq!(std::str::from_utf8(event.json()), Ok(json));
    let _: HashMap<String, String> = serde_json::from_slice(event.json()).expect("JSON");
}
