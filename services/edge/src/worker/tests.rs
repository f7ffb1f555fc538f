//! The worker's lists of rooms and members under seeded schedules: whoever comes, goes, refreshes (for the same
//! subject or another), falls behind and catches up, a session at a room's end is in that room's list once.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rowcast_process::metrics::Metrics as Registry;
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{Cursor, EventId, Generation, Offset, Record, RecordKind, StreamId};
use serde_json::json;

use super::*;
use crate::limits::LimitsConfig;
use crate::room::{Resume, Source};
use crate::session::{Outgoing, Pings};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn room(n: usize) -> RoomName {
    RoomName::parse(&format!("m{n}")).expect("valid")
}

fn token(subject: u8, rooms: &[usize]) -> String {
    let names: Vec<_> = rooms.iter().map(|n| format!("m{n}")).collect();
    let claims = json!({ "sub": subject.to_string(), "merchantId": names, "exp": 4_000_000_000_i64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signs")
}

struct World {
    rng: StdRng,
    worker: Worker,
    inbox: mpsc::Receiver<ToHub>,
    connections: Vec<Rc<Connection>>,
    joins: Vec<(RoomName, Join<Ticket>)>,
    interested: HashMap<RoomName, bool>,
    heads: Vec<u64>,
    delivered: u64,
    refused: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let (to_hub, inbox) = mpsc::channel(64);
        let verifier = Arc::new(Verifier::hs256(SECRET, "merchantId", 0));
        let limits = SessionLimits {
            sign_in: Duration::from_secs(60),
            heartbeat: Duration::from_secs(60),
            silence: Some(Duration::from_secs(120)),
            pings: Pings::WhenSilent,
            queue_frames: 8,
            queue_bytes: 10_000,
            stalled: Duration::from_secs(60),
            closing: Duration::from_secs(60),
            refreshes: 0,
        };
        let registry = Registry::new("edge", "test").expect("a registry");
        let metrics = Arc::new(Metrics::new(&registry).expect("metrics"));
        let numbers = Limits::new(LimitsConfig::default(), Arc::clone(&metrics));
        Self {
            rng: StdRng::seed_from_u64(seed),
            worker: Worker::new(0, verifier, limits, metrics, numbers, to_hub),
            inbox,
            connections: Vec::new(),
            joins: Vec::new(),
            interested: HashMap::new(),
            heads: vec![0; 3],
            delivered: 0,
            refused: 0,
        }
    }

    fn rooms(&mut self) -> Vec<usize> {
        let some: Vec<_> = (0..3).filter(|_| self.rng.random_range(0..2) == 0).collect();
        if some.is_empty() { vec![0] } else { some }
    }

    fn step(&mut self) {
        let some =
            (!self.connections.is_empty()).then(|| self.rng.random_range(0..self.connections.len().max(1)));
        match (self.rng.random_range(0..100), some) {
            (0..10, _) => {
                let rooms = self.rooms();
                let token = token(1, &rooms);
                self.connections.push(self.worker.connect(Some(&token), Caller::default()));
            }
            (10..15, Some(index)) => {
                let connection = self.connections.swap_remove(index);
                self.worker.disconnect(&connection);
            }
            (15..25, Some(index)) => self.refresh(index),
            (25..50, _) => self.answer(),
            (50..75, _) => self.publish(),
            (75..95, Some(index)) => self.drain(index),
            (95, _) => self.worker.receive(ToWorker::LostTrack(room(0))),
            (96, _) => self.worker.receive(ToWorker::Void(room(1))),
            _ => self.worker.tick(),
        }
        self.listen();
        self.check();
    }

    fn refresh(&mut self, index: usize) {
        let subject = if self.rng.random_range(0..4) == 0 { 2 } else { 1 };
        let rooms = self.rooms();
        let text = json!({ "op": "refresh", "token": token(subject, &rooms) }).to_string();
        let connection = Rc::clone(&self.connections[index]);
        let was_closing = connection.session.borrow().is_closing();
        self.worker.message(&connection, &text);
        self.refused += u64::from(!was_closing && connection.session.borrow().is_closing());
    }

    /// Takes what the worker has told the hub.
    fn listen(&mut self) {
        loop {
            while let Ok(message) = self.inbox.try_recv() {
                match message {
                    ToHub::Join(name, join) => {
                        self.interested.insert(name.clone(), true);
                        self.joins.push((name, join));
                    }
                    ToHub::Leave(name, _) => {
                        self.interested.insert(name, false);
                    }
                    ToHub::Cancel(_, ticket) => self.joins.retain(|(_, join)| join.ticket != ticket),
                    ToHub::Register(..) | ToHub::Drain(_) => {}
                }
            }
            if self.worker.backlog.is_empty() {
                return;
            }
            self.worker.flush_backlog();
        }
    }

    fn cursor(&self, name: &RoomName) -> Cursor {
        let head = self.heads[usize::from(name.as_str().as_bytes()[1] - b'0')];
        Cursor { generation: Generation(1), stream: StreamId(2), offset: Offset(head) }
    }

    fn answer(&mut self) {
        if self.joins.is_empty() {
            return;
        }
        let (name, join) = self.joins.remove(0);
        let end = self.cursor(&name);
        let (cursor, resumed) = match join.resume {
            Resume::After(cursor) => (cursor, true),
            _ => (end, false),
        };
        let events = (cursor.offset.0 + 1..=end.offset.0).map(|n| event(&name, n)).collect();
        let answer = Answer { cursor, events, caught_up: true, resumed, resync: None, source: Source::Log };
        self.worker.receive(ToWorker::Joined { ticket: join.ticket, room: name, answer });
    }

    fn publish(&mut self) {
        let n = self.rng.random_range(0..3);
        self.heads[n] += 1;
        let name = room(n);
        // The hub sends only what a worker is interested in.
        if self.interested.get(&name) == Some(&true) {
            self.worker.receive(ToWorker::Event(name.clone(), event(&name, self.heads[n])));
        }
    }

    fn drain(&mut self, index: usize) {
        let connection = Rc::clone(&self.connections[index]);
        while let Some(outgoing) = { connection.session.borrow_mut().next_outgoing() } {
            self.delivered += u64::from(matches!(outgoing, Outgoing::Event(_)));
            let effects = connection.session.borrow_mut().wrote(now());
            self.worker.carry_out(&connection, effects);
        }
    }

    fn check(&self) {
        for (name, local) in &self.worker.rooms {
            for (slot, member) in local.members.iter().enumerate() {
                let session = member.session.borrow();
                assert!(session.is_member(name) && session.slot(name) == Some(slot), "{name} {slot}");
            }
            let having =
                |connection: &&Rc<Connection>| connection.session.borrow().rooms().any(|room| room == name);
            assert_eq!(local.interested, self.worker.connections.values().filter(having).count(), "{name}");
            assert_eq!(self.interested.get(name), Some(&true), "the hub must know of {name}");
        }
        for connection in self.worker.connections.values() {
            let session = connection.session.borrow();
            for name in session.rooms().filter(|name| session.is_member(name)) {
                let members = &self.worker.rooms[name].members;
                let places = members.iter().filter(|member| Rc::ptr_eq(member, connection)).count();
                assert_eq!(places, 1, "a session at the end of {name} is in its list once");
            }
        }
        for (name, interested) in &self.interested {
            assert_eq!(*interested, self.worker.rooms.contains_key(name), "the hub is told of {name}");
        }
    }
}

fn event(name: &RoomName, offset: u64) -> Arc<Event> {
    let id = EventId { row: offset.cast_signed(), occurred_at: 0 };
    let record = Record {
        kind: RecordKind::Event,
        stream: StreamId(2),
        offset: Offset(offset),
        id,
        event_type: "t".into(),
        fragment: event_fragment(id, "t", "{}", None, false).into(),
    };
    Event::compose(name, Generation(1), record)
}

#[test]
fn a_session_at_a_rooms_end_is_in_its_list_once_whoever_comes_goes_and_refreshes() {
    let (mut delivered, mut refused) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..300 {
                world.step();
            }
            for connection in std::mem::take(&mut world.connections) {
                world.worker.disconnect(&connection);
            }
            world.listen();
            world.check();
            assert!(world.worker.rooms.is_empty() && world.joins.is_empty(), "nothing is left behind");
        }));
        assert!(run.is_ok(), "seed {seed} breaks a promise");
        delivered += world.delivered;
        refused += world.refused;
    }
    assert!(delivered > 20_000 && refused > 300, "{delivered} deliveries, {refused} refusals");
}

/// Somebody whose refresh is refused must not take the room away from the others.
#[test]
fn a_refused_refresh_silences_nobody() {
    let mut world = World::new(0);
    let sockets = [(); 2].map(|()| world.worker.connect(Some(&token(1, &[0])), Caller::default()));
    world.listen();
    world.answer();
    world.answer();
    let refresh = json!({ "op": "refresh", "token": token(2, &[1]) }).to_string();
    world.worker.message(&sockets[0], &refresh);
    assert!(sockets[0].session.borrow().is_closing());
    world.worker.disconnect(&sockets[0]);
    world.worker.receive(ToWorker::Event(room(0), event(&room(0), 1)));
    let mut session = sockets[1].session.borrow_mut();
    let outgoing = std::iter::from_fn(|| session.next_outgoing());
    assert_eq!(outgoing.filter(|outgoing| matches!(outgoing, Outgoing::Event(_))).count(), 1);
}
