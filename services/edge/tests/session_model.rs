//! The session's state machine under seeded schedules: rooms answered in any order, slow and fast sockets, pages
//! that do not reach the end, events that are lost on their way or come twice, resyncs, refreshes that leave and join
//! rooms, cursors of every kind to resume from, filters, a light that turns on and off, and clients that cannot be heard.
//!
//! The oracle is a client that knows only what the socket sends it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rowcast_edge::auth::Identity;
use rowcast_edge::event::Event;
use rowcast_edge::light::Light;
use rowcast_edge::room::{Answer, Resume, Source};
use rowcast_edge::session::{Delivery, Effect, Now, Outgoing, Pings, Session, SessionLimits};
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{
    CloseCode, Cursor, EventId, Generation, Micros, Offset, Record, RecordKind, RoomName, StreamId,
    TypeFilter,
};
use serde_json::Value;

const LIMITS: SessionLimits = SessionLimits {
    sign_in: Duration::from_secs(5),
    heartbeat: Duration::from_secs(25),
    silence: Some(Duration::from_secs(50)),
    pings: Pings::WhenSilent,
    queue_frames: 6,
    queue_bytes: 10_000,
    stalled: Duration::from_secs(3_600),
    closing: Duration::from_secs(2),
    refreshes: 0,
};

const LIGHT: Light = Light { live: true, since: Micros(0), reason: "" };

fn room(n: usize) -> RoomName {
    RoomName::parse(&format!("m{n}")).expect("valid")
}

fn identity(rooms: &[usize]) -> Identity {
    Identity {
        subject: Some("user".into()),
        token_id: None,
        issuer: None,
        issued_at: None,
        rooms: rooms.iter().map(|n| room(*n)).collect(),
        elsewhere: Vec::new(),
        types: TypeFilter::all(),
        expires_at: Micros(i64::MAX),
    }
}

/// A filtering session wants every third event.
fn is_wanted(offset: u64) -> bool {
    offset.is_multiple_of(3)
}

fn event(name: &RoomName, generation: u64, offset: u64) -> Arc<Event> {
    let event_type = if is_wanted(offset) { "t" } else { "u" };
    let id = EventId { row: offset.cast_signed(), occurred_at: 0 };
    let record = Record {
        kind: RecordKind::Event,
        stream: StreamId(2),
        offset: Offset(offset),
        id,
        event_type: event_type.into(),
        fragment: event_fragment(id, event_type, "{}", None, false).into(),
    };
    Event::compose(name, Generation(generation), record)
}

/// What the hub and the worker do for one session.
struct World {
    rng: StdRng,
    now: Now,
    session: Session,
    /// Whether its client can be heard: one that cannot is never ended for being silent.
    is_heard: bool,
    generation: u64,
    light: Light,
    heads: HashMap<RoomName, u64>,
    /// Where rooms were when the light was turned on last.
    lit: HashMap<RoomName, u64>,
    asked: VecDeque<(RoomName, Resume, u32)>,
    client: Client,
    /// Rooms of which it has missed events that it has not been told of.
    untold: Vec<RoomName>,
}

/// What the client at the other end makes of it.
#[derive(Default)]
struct Client {
    welcomed: bool,
    refreshes: usize,
    cursors: BTreeMap<String, Cursor>,
    events: u64,
    resyncs: u64,
    /// What it came with, and the rooms of which it is to be told resync for that.
    brought: BTreeMap<String, String>,
    owed: BTreeSet<String>,
    filters: bool,
    /// It is never given other rooms: of those that it is losing it would not know.
    stays: bool,
    live: bool,
    lights: u64,
}

impl Client {
    fn receive(&mut self, outgoing: Outgoing, lit: &HashMap<RoomName, u64>) {
        let Some(json) = outgoing.json() else { return };
        let frame: Value = serde_json::from_slice(json).expect("JSON");
        let cursor =
            |value: &Value| value["cursor"].as_str().expect("a cursor").parse::<Cursor>().expect("valid");
        let name = frame["room"].as_str().unwrap_or_default().to_owned();
        match frame["op"].as_str().expect("an op") {
            "welcome" => {
                assert!(!std::mem::replace(&mut self.welcomed, true), "welcomed twice");
                self.take_rooms(&frame, cursor);
                self.live = frame["live"] == true;
                for (room, brought) in &self.brought {
                    if frame["rooms"][room]["resumed"] == true {
                        assert_eq!(frame["rooms"][room]["cursor"], **brought, "resumed somewhere else");
                    } else {
                        self.owed.insert(room.clone());
                    }
                }
            }
            "refreshed" => {
                self.refreshes += 1;
                let known = self.cursors.clone();
                self.take_rooms(&frame, cursor);
                for (room, before) in known {
                    // What is not resumed was left and joined anew: there the client starts as in a new room.
                    if let Some(after) = self.cursors.get(&room)
                        && frame["rooms"][&room]["resumed"] == true
                    {
                        assert_eq!(*after, before, "a refresh moves the client in a room that it keeps");
                    }
                }
            }
            "event" => {
                assert!(self.welcomed, "an event before the welcome");
                assert!(!self.owed.contains(&name), "an event in place of the resync");
                let new = cursor(&frame);
                self.pass_over(&name, new.offset.0);
                self.cursors.insert(name, new);
                self.events += 1;
            }
            "cursor" => {
                let new = cursor(&frame);
                self.pass_over(&name, new.offset.0 + 1);
                self.cursors.insert(name, new);
            }
            "resync" => {
                assert!(self.welcomed);
                self.resyncs += 1;
                self.owed.remove(&name);
                assert!(self.cursors.insert(name, cursor(&frame)).is_some(), "only rooms that were named");
            }
            "status" => {
                assert!(self.welcomed, "a light before the welcome");
                self.lights += 1;
                self.live = frame["live"] == true;
                let behind = |(name, cursor): (&String, &Cursor)| {
                    let lit = lit[&RoomName::parse(name).expect("valid")];
                    (cursor.offset.0 + 1..=lit).any(|offset| !self.filters || is_wanted(offset))
                };
                assert!(
                    !self.live || !self.stays || !self.cursors.iter().any(behind),
                    "live before what was missed"
                );
            }
            "pong" => {}
            other => panic!("an unknown frame: {other}"),
        }
    }

    /// Between what it had of a room and the next event, it is told of all that it wants.
    fn pass_over(&mut self, name: &str, next: u64) {
        let old = self.cursors.get(name).expect("only rooms that were named").offset.0;
        assert!(old < next, "doubled or out of order in {name}");
        let lost = (old + 1..next).find(|offset| !self.filters || is_wanted(*offset));
        assert_eq!(lost, None, "lost in {name}");
    }

    fn take_rooms(&mut self, frame: &Value, cursor: impl Fn(&Value) -> Cursor) {
        let rooms = frame["rooms"].as_object().expect("rooms");
        self.cursors = rooms.iter().map(|(name, room)| (name.clone(), cursor(room))).collect();
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Now { instant: Instant::now(), wall: Micros(0) };
        let is_heard = seed.is_multiple_of(2);
        let limits = if is_heard { LIMITS } else { SessionLimits { silence: None, ..LIMITS } };
        let mut session = Session::new("s".into(), limits, LIGHT, now);
        let heads: HashMap<_, _> = (0..4).map(|n| (room(n), rng.random_range(0..10))).collect();
        let (filters, stays) = (rng.random_range(0..3) == 0, rng.random_range(0..2) == 0);
        let types = filters.then(|| vec!["t".to_owned()]);
        let mut brought = BTreeMap::new();
        for n in 0..2 {
            let cursor = match rng.random_range(0..5) {
                0 => "nonsense".to_owned(),
                1 => format!("0.{}:{}", StreamId(2), rng.random_range(0..10)),
                2 | 3 => format!("1.{}:{}", StreamId(2), rng.random_range(0..12)),
                _ => continue,
            };
            brought.insert(room(n).as_str().to_owned(), cursor);
        }
        let effects = session.sign_in(identity(&[0, 1]), &brought, types.as_deref());
        let mut world = Self {
            rng,
            now,
            session,
            is_heard,
            generation: 1,
            light: LIGHT,
            lit: heads.keys().map(|name| (name.clone(), 0)).collect(),
            heads,
            asked: VecDeque::new(),
            client: Client { brought, filters, stays, ..Client::default() },
            untold: Vec::new(),
        };
        world.carry_out(effects);
        world
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for Effect { room, resume, attempt } in effects {
            self.asked.push_back((room, resume, attempt));
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..45 => self.publish(),
            45..65 => self.answer(),
            65..90 => self.drain(),
            90..96 => {
                self.now.instant += Duration::from_millis(100);
                let effects = self.session.tick(self.now);
                self.hear();
                self.carry_out(effects);
            }
            96 | 97 => self.refresh(),
            98 if self.rng.random_range(0..2) == 0 => self.raise_generation(),
            98 => self.switch_light(),
            _ => self.session.lost_track(&room(0), self.now),
        }
    }

    fn hear(&mut self) {
        if self.is_heard {
            self.session.received(self.now);
        }
    }

    fn publish(&mut self) {
        let name = room(self.rng.random_range(0..4));
        // So much that nobody wants comes at once now and then.
        let burst = if self.client.filters && self.rng.random_range(0..40) == 0 { 150 } else { 1 };
        (0..burst).for_each(|_| self.publish_in(&name));
    }

    fn switch_light(&mut self) {
        self.light =
            Light { live: !self.light.live, reason: if self.light.live { "listener" } else { "" }, ..LIGHT };
        if self.light.live {
            self.lit = self.heads.clone();
        }
        self.session.set_light(self.light, self.now);
    }

    fn publish_in(&mut self, name: &RoomName) {
        let head = self.heads.get_mut(name).expect("four rooms");
        *head += 1;
        let event = event(name, self.generation, *head);
        if !self.client.stays && self.rng.random_range(0..30) == 0 {
            // The worker did not get it, and is told so later.
            return self.untold.push(name.clone());
        }
        let head = *head;
        let delivery = self.session.deliver(name, &event, self.now);
        assert!(delivery != Delivery::Filtered || (self.client.filters && !is_wanted(head)));
        if self.rng.random_range(0..20) == 0 {
            assert_eq!(self.session.deliver(name, &event, self.now), Delivery::NotHere, "doubled");
        }
    }

    fn answer(&mut self) {
        let Some((name, resume, attempt)) = self.asked.pop_front() else { return };
        let head = self.heads[&name];
        let at = |offset| Cursor {
            generation: Generation(self.generation),
            stream: StreamId(2),
            offset: Offset(offset),
        };
        let fresh = |resync| Answer {
            cursor: at(head),
            events: Vec::new(),
            caught_up: true,
            resumed: false,
            resync,
            source: Source::None,
        };
        let answer = match resume {
            Resume::After(cursor) if cursor.generation.0 < self.generation => fresh(Some("generation")),
            Resume::After(cursor) if cursor.offset.0 > head => fresh(Some("history")),
            Resume::Unreadable => fresh(Some("cursor")),
            Resume::After(cursor) => {
                let last = (cursor.offset.0 + 3).min(head);
                let events = (cursor.offset.0 + 1..=last).map(|n| event(&name, self.generation, n)).collect();
                let caught_up = last == head;
                Answer { cursor, events, caught_up, resumed: true, resync: None, source: Source::Log }
            }
            Resume::Nothing => fresh(None),
        };
        self.session.joined(&name, attempt, answer, self.now);
        let effects = self.session.catch_up(self.now);
        self.carry_out(effects);
    }

    fn drain(&mut self) {
        for _ in 0..self.rng.random_range(1..8) {
            let Some(outgoing) = self.session.next_outgoing() else { break };
            self.client.receive(outgoing, &self.lit);
            let effects = self.session.wrote(self.now);
            self.carry_out(effects);
        }
    }

    fn refresh(&mut self) {
        let rooms: Vec<usize> = (0..4).filter(|_| self.rng.random_range(0..2) == 0).collect();
        if !rooms.is_empty() && self.client.welcomed && !self.client.stays {
            assert!(self.session.may_refresh(&identity(&rooms), self.now));
            let effects = self.session.refresh(identity(&rooms), self.now);
            self.carry_out(effects);
        }
    }

    fn raise_generation(&mut self) {
        self.generation += 1;
        for name in self.heads.keys() {
            self.session.void(name, Duration::from_millis(250), self.now);
        }
    }

    fn settle(&mut self) {
        for name in std::mem::take(&mut self.untold) {
            self.session.lost_track(&name, self.now);
        }
        for _ in 0..200 {
            while !self.asked.is_empty() {
                self.answer();
            }
            self.drain();
            // Together far longer than a socket may be silent.
            self.now.instant += Duration::from_millis(if self.is_heard { 100 } else { 1_000 });
            self.hear();
            let effects = self.session.tick(self.now);
            self.carry_out(effects);
        }
        assert!(!self.session.is_closing(), "ended without a cause");
        self.drain();
        assert!(self.client.welcomed && !self.session.has_outgoing());
        assert!(self.client.owed.is_empty(), "never told: {:?}", self.client.owed);
        assert_eq!(self.client.live, self.light.live, "the light that it sees is not how it is");
        for (name, cursor) in &self.client.cursors {
            assert_eq!(cursor.offset.0, self.heads[name.as_str()], "events of {name} are missing");
        }
        let rooms: Vec<_> = self.client.cursors.keys().cloned().collect();
        let mut names: Vec<_> = self.session.rooms().map(|room| room.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(rooms, names);
    }
}

#[test]
fn a_session_gets_each_event_once_and_in_order_however_slow_its_socket_is() {
    let (mut events, mut resyncs, mut refreshes, mut lights) = (0, 0, 0, 0);
    for seed in 0..2_000 {
        let mut world = World::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..200 {
                world.step();
            }
            world.settle();
        }));
        assert!(run.is_ok(), "seed {seed} breaks a promise");
        events += world.client.events;
        resyncs += world.client.resyncs;
        refreshes += world.client.refreshes;
        lights += world.client.lights;
    }
    let seen = format!("{events} events, {resyncs} resyncs, {refreshes} refreshes, {lights} lights");
    assert!(events > 50_000 && resyncs > 1_000 && refreshes > 1_000 && lights > 1_000, "{seen}");
}

fn drain(session: &mut Session) -> Vec<Outgoing> {
    std::iter::from_fn(|| session.next_outgoing()).collect()
}

#[test]
fn a_refresh_takes_back_what_its_token_does_not_allow_and_moves_nobody_past_it() {
    let mut world = World::new(2);
    while !world.asked.is_empty() {
        world.answer();
    }
    drain(&mut world.session);
    let head = world.heads[&room(0)];
    let last = head + 4;
    for name in [room(0), room(1)] {
        let begin = world.heads[&name];
        for offset in begin + 1..=begin + 4 {
            world.session.deliver(&name, &event(&name, 1, offset), world.now);
        }
    }
    let narrow = Identity { types: TypeFilter::of(&["t"]), ..identity(&[0]) };
    assert!(world.session.may_refresh(&narrow, world.now));
    assert!(world.session.refresh(narrow, world.now).is_empty());
    let sent = drain(&mut world.session);
    let frames: Vec<Value> = sent
        .iter()
        .filter_map(Outgoing::json)
        .map(|json| serde_json::from_slice(json).expect("JSON"))
        .collect();
    let seen: Vec<_> = frames.iter().filter(|frame| frame["op"] == "event").collect();
    let wanted = (head + 1..=last).filter(|offset| is_wanted(*offset)).collect::<Vec<_>>();
    assert_eq!(seen.len(), wanted.len(), "{seen:?}");
    assert!(seen.iter().all(|frame| frame["room"] == "m0" && frame["type"] == "t"), "{seen:?}");
    let refreshed = frames.iter().find(|frame| frame["op"] == "refreshed").expect("an answer");
    let cursor: Cursor =
        refreshed["rooms"]["m0"]["cursor"].as_str().expect("a cursor").parse().expect("valid");
    // What was taken back behind the last event that it sees, it has yet to pass.
    let told = if is_wanted(last) { last } else { *wanted.last().expect("of four one is wanted") };
    assert_eq!(cursor.offset.0, told);
}

#[test]
fn a_full_queue_takes_no_more_events_and_a_closed_session_sends_nothing_else() {
    let mut world = World::new(1);
    while !world.asked.is_empty() {
        world.answer();
    }
    for _ in 0..100 {
        let name = room(0);
        let head = world.heads.get_mut(&name).expect("a room");
        *head += 1;
        let event = event(&name, 1, *head);
        world.session.deliver(&name, &event, world.now);
    }
    assert!(drain(&mut world.session).len() <= LIMITS.queue_frames + 2, "the queue is bounded");
    world.session.close(CloseCode::Limit, "why", world.now);
    world.session.pong();
    assert_eq!(drain(&mut world.session), [Outgoing::Close(CloseCode::Limit, "why")]);
    world.now.instant += LIMITS.closing;
    assert!(world.session.is_over(world.now));
}

#[test]
fn a_socket_that_takes_nothing_is_closed_as_too_slow() {
    let mut world = World::new(2);
    while !world.asked.is_empty() {
        world.answer();
    }
    world.now.instant += LIMITS.stalled + Duration::from_secs(1);
    world.session.received(world.now);
    world.session.tick(world.now);
    let last = drain(&mut world.session).pop();
    assert!(matches!(last, Some(Outgoing::Close(CloseCode::TooSlow, _))), "{last:?}");
}

#[test]
fn a_session_that_stays_behind_is_told_that_it_is_not_live() {
    let mut world = World::new(3);
    while !world.asked.is_empty() {
        world.answer();
    }
    world.session.lost_track(&room(0), world.now);
    world.now.instant += Duration::from_secs(6);
    world.session.received(world.now);
    world.session.tick(world.now);
    let text = format!("{:?}", drain(&mut world.session));
    assert!(text.contains(r#"\"live\":false"#) && text.contains("slow"), "{text}");
    let effects = world.session.catch_up(world.now);
    world.carry_out(effects);
    world.answer();
    world.session.tick(world.now);
    let text = format!("{:?}", drain(&mut world.session));
    assert!(text.contains(r#"\"live\":true"#), "{text}");
}
