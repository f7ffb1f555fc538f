//! Pages under seeded schedules: rooms answered late or never, in pieces, with a resync; events that come meanwhile;
//! filters; pages cut off anywhere. What a client has after each page is just what lies between its two cursors.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::{Cursor, EventId, Generation, Offset, Record, StreamId, TypeFilter, cursors};

use super::*;
use crate::auth::Identity;
use crate::light::Light;
use crate::reach::Reach;
use crate::room::{Answer, Resume, Source};
use crate::session::{Effect, Now, Pings, Session};

const LIMITS: SessionLimits = SessionLimits {
    sign_in: Duration::from_secs(5),
    heartbeat: Duration::from_secs(25),
    silence: None,
    pings: Pings::WhenSilent,
    queue_frames: 5,
    queue_bytes: 10_000,
    stalled: Duration::from_secs(3_600),
    closing: Duration::from_secs(2),
    refreshes: 0,
};

const LIGHT: Light = Light { live: true, since: Micros(0), reason: "" };

fn rooms() -> [RoomName; 2] {
    ["a", "b&="].map(|name| RoomName::parse(name).expect("valid"))
}

fn is_wanted(offset: u64) -> bool {
    !offset.is_multiple_of(3)
}

struct World {
    rng: StdRng,
    generation: u64,
    heads: BTreeMap<RoomName, u64>,
    filters: bool,
    /// What the client sends back, and what it makes of it.
    after: String,
    resyncs: u64,
    events: u64,
    cut: u64,
}

impl World {
    fn cursor(&self, offset: u64) -> Cursor {
        Cursor { generation: Generation(self.generation), stream: StreamId(2), offset: Offset(offset) }
    }

    fn event(&self, room: &RoomName, offset: u64) -> Arc<Event> {
        let event_type = if is_wanted(offset) { "t" } else { "u" };
        let id = EventId { row: offset.cast_signed(), occurred_at: 0 };
        // Now and then an entry that could not be published, with a resync in its place.
        let kind = if offset.is_multiple_of(17) { RecordKind::Resync } else { RecordKind::Event };
        let record = Record {
            kind,
            stream: StreamId(2),
            offset: Offset(offset),
            id,
            event_type: event_type.into(),
            fragment: event_fragment(id, event_type, "{}", None, false).into(),
        };
        Event::compose(room, Generation(self.generation), record)
    }

    fn answer(&self, room: &RoomName, resume: &Resume) -> Answer {
        let head = self.heads[room];
        let fresh = |resync| Answer {
            cursor: self.cursor(head),
            events: Vec::new(),
            caught_up: true,
            resumed: false,
            resync,
            source: Source::None,
        };
        match *resume {
            Resume::Nothing => fresh(None),
            Resume::Unreadable => fresh(Some("cursor")),
            Resume::After(cursor) if cursor.generation.0 < self.generation => fresh(Some("generation")),
            Resume::After(cursor) => {
                let last = (cursor.offset.0 + 3).min(head);
                let events = (cursor.offset.0 + 1..=last).map(|n| self.event(room, n)).collect();
                let caught_up = last == head;
                Answer { cursor, events, caught_up, resumed: true, resync: None, source: Source::Log }
            }
        }
    }

    /// One request: so many things happen until it is answered.
    fn page(&mut self, steps: usize) {
        let now = Now { instant: Instant::now(), wall: Micros(0) };
        let brought = cursors::parse(&self.after).expect("what was given out");
        let mut session = Session::new("s".into(), LIMITS, LIGHT, now);
        let mut reach = Reach::new(&rooms(), &brought);
        let identity = Identity {
            subject: None,
            token_id: None,
            issuer: None,
            issued_at: None,
            rooms: rooms().to_vec(),
            elsewhere: Vec::new(),
            types: TypeFilter::all(),
            expires_at: Micros(i64::MAX),
        };
        let types = self.filters.then(|| vec!["t".to_owned()]);
        let mut asked: VecDeque<Effect> = session.sign_in(identity, &brought, types.as_deref()).into();
        let mut page = Page::default();
        for _ in 0..steps {
            match self.rng.random_range(0..10) {
                0..3 => {
                    let room = rooms()[self.rng.random_range(0..2)].clone();
                    *self.heads.get_mut(&room).expect("a room") += 1;
                    let event = self.event(&room, self.heads[&room]);
                    session.deliver(&room, &event, now);
                }
                3..6 => {
                    if let Some(Effect { room, resume, attempt }) = asked.pop_front() {
                        let answer = self.answer(&room, &resume);
                        session.joined(&room, attempt, answer, now);
                        asked.extend(session.catch_up(now));
                    }
                }
                6..9 => {
                    while !page.is_full(LIMITS)
                        && let Some(outgoing) = session.next_outgoing()
                    {
                        reach.note(&outgoing);
                        page.take(outgoing);
                    }
                    asked.extend(session.wrote(now));
                }
                _ if self.rng.random_range(0..20) == 0 => {
                    self.generation += 1;
                    rooms().iter().for_each(|room| session.void(room, Duration::ZERO, now));
                }
                _ => session.lost_track(&rooms()[0], now),
            }
        }
        self.cut += u64::from(session.has_outgoing());
        reach.settle(&session);
        self.receive(&page, &reach, &brought);
    }

    /// What the client is given lies between where it was and where it is.
    fn receive(&mut self, page: &Page, reach: &Reach, brought: &BTreeMap<String, String>) {
        let offset = |text: &str| text.parse::<Cursor>().expect("a cursor").offset.0;
        let stands: BTreeMap<_, _> =
            reach.rooms().map(|(room, cursor, resumed)| (room, (cursor.to_string(), resumed))).collect();
        for room in rooms() {
            let events: Vec<_> = page.events.iter().filter(|event| event.room == room).collect();
            let Some((cursor, resumed)) = stands.get(room.as_str()) else {
                assert!(events.is_empty() && !brought.contains_key(room.as_str()), "not begun");
                continue;
            };
            let resync = page.resyncs.get(&room).map(|resync| match resync {
                Outgoing::Event(event) => event.cursor(),
                Outgoing::Resync(placed) => placed.cursor,
                other => panic!("{other:?} is no resync"),
            });
            assert!(resync.is_none() || !resumed, "a resync is not resumed");
            let from = match (resync, brought.get(room.as_str())) {
                (Some(resync), _) => resync.offset.0,
                (None, Some(before)) => {
                    assert!(*resumed || cursor == before, "moved without being resumed and without a resync");
                    offset(before)
                }
                (None, None) => events.first().map_or(offset(cursor), |event| event.offset.0 - 1),
            };
            let wanted = (from + 1..=offset(cursor)).filter(|offset| !self.filters || is_wanted(*offset));
            let seen: Vec<_> = events.iter().map(|event| event.offset.0).collect();
            assert_eq!(seen, wanted.collect::<Vec<_>>(), "of {room}, from {from} to {cursor}");
            self.events += seen.len() as u64;
            self.resyncs += u64::from(resync.is_some());
        }
        self.after = reach.encoded();
    }
}

#[test]
fn what_is_in_a_page_is_what_lies_between_its_cursors_wherever_it_is_cut_off() {
    let (mut events, mut resyncs, mut cut) = (0, 0, 0);
    for seed in 0..2_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let filters = rng.random_range(0..2) == 0;
        let heads = rooms().map(|room| (room, rng.random_range(0..10))).into();
        let mut world =
            World { rng, generation: 1, heads, filters, after: String::new(), resyncs: 0, events: 0, cut: 0 };
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..20 {
                let steps = world.rng.random_range(0..30);
                world.page(steps);
            }
        }));
        assert!(run.is_ok(), "seed {seed} breaks a promise");
        events += world.events;
        resyncs += world.resyncs;
        cut += world.cut;
    }
    assert!(
        events > 20_000 && resyncs > 1_000 && cut > 1_000,
        "{events} events, {resyncs} resyncs, {cut} cut off"
    );
}
