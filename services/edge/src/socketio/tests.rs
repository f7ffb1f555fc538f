//! A stock client over breaks at any frame: what it takes itself to have seen of its rooms has no hole, whatever is
//! published, forgotten, refreshed and cut in between. The client is a model of what socket.io-client does with `pid`
//! and offsets; the hub is one of rooms with a history that may be lost.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rowcast_process::metrics::Metrics as Registry;
use rowcast_protocol::record::event_fragment;
use rowcast_protocol::socketio::Shape;
use rowcast_protocol::{Cursor, EventId, Generation, Offset, Record, RecordKind, RoomName, StreamId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Settings, Talk, Visitor};
use crate::accept::Caller;
use crate::auth::Verifier;
use crate::event::Event;
use crate::limits::{Limits, LimitsConfig};
use crate::metrics::Metrics;
use crate::room::{Answer, Resume, Source};
use crate::session::{Pings, SessionLimits};
use crate::socket::Speech;
use crate::worker::{ToHub, ToWorker, Worker, now};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const HOUR: Duration = Duration::from_secs(3_600);
const NAMES: [&str; 3] = ["m1", "m2", "m3"];

#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Forget(usize),
    Answer,
    /// The client takes so many of the frames that there are for it.
    Read(usize),
    Cut,
    Connect,
    /// A new token, for these of the rooms.
    Refresh([bool; NAMES.len()]),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..NAMES.len()).prop_map(Step::Publish),
        1 => (0..NAMES.len()).prop_map(Step::Forget),
        4 => Just(Step::Answer),
        6 => (1..6usize).prop_map(Step::Read),
        1 => Just(Step::Cut),
        3 => Just(Step::Connect),
        1 => prop::array::uniform3(any::<bool>()).prop_map(Step::Refresh),
    ]
}

fn room(index: usize) -> RoomName {
    RoomName::parse(NAMES[index]).expect("a name")
}

fn token(rooms: [bool; NAMES.len()]) -> String {
    let named: Vec<_> = NAMES.iter().zip(rooms).filter(|(_, named)| *named).map(|(name, _)| name).collect();
    let claims = json!({ "sub": "user", "merchantId": named, "exp": 4_000_000_000_i64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signs")
}

/// A room of the hub: events up to `floor` are forgotten.
#[derive(Default)]
struct History {
    head: u64,
    floor: u64,
}

impl History {
    fn answer(&self, index: usize, resume: &Resume) -> Answer {
        let at = |offset| Cursor { generation: Generation(1), stream: StreamId(2), offset: Offset(offset) };
        let from = match resume {
            Resume::After(cursor) if (self.floor..=self.head).contains(&cursor.offset.0) => {
                Some(cursor.offset.0)
            }
            _ => None,
        };
        let resync = (from.is_none() && *resume != Resume::Nothing).then_some("history");
        let begin = from.unwrap_or(self.head);
        Answer {
            cursor: at(begin),
            events: (begin + 1..=self.head).map(|offset| event(index, offset)).collect(),
            caught_up: true,
            resumed: from.is_some(),
            resync,
            source: Source::None,
        }
    }
}

fn event(index: usize, offset: u64) -> Arc<Event> {
    let id = EventId { row: 1, occurred_at: 1 };
    let data = json!({ "n": offset }).to_string();
    let record = Record {
        kind: RecordKind::Event,
        stream: StreamId(2),
        offset: Offset(offset),
        id,
        event_type: "t".to_owned(),
        fragment: event_fragment(id, "t", &data, None, false).into(),
    };
    Event::compose(&room(index), Generation(1), record)
}

/// What socket.io-client keeps of a connection, and an application of its rooms: up to which event it has each.
#[derive(Debug, Default)]
struct Client {
    pid: Option<String>,
    offset: Option<String>,
    connected: bool,
    recovered: bool,
    has: BTreeMap<String, u64>,
}

impl Client {
    fn connect(&self, token: &str) -> String {
        let mut auth = json!({ "token": token });
        if let Some(pid) = &self.pid {
            auth["pid"] = pid.as_str().into();
            auth["offset"] = self.offset.as_deref().map_or(Value::Null, Value::from);
        }
        format!("40/notifications,{auth}")
    }

    fn take(&mut self, packet: &str) {
        if let Some(answer) = packet.strip_prefix("40/notifications,") {
            let answer: Value = serde_json::from_str(answer).expect("JSON");
            let pid = answer["pid"].as_str().expect("a pid").to_owned();
            self.recovered = self.pid.as_ref() == Some(&pid);
            self.pid = Some(pid);
            self.connected = true;
        }
        let Some(arguments) = packet.strip_prefix("42/notifications,") else { return };
        let arguments: Vec<Value> = serde_json::from_str(arguments).expect("JSON");
        let payload = &arguments[1];
        match arguments[0].as_str().expect("a name") {
            "t" => {
                let room = payload["merchantId"].as_str().expect("the room is named");
                let n = payload["n"].as_u64().expect("a number");
                assert_eq!(self.has.insert(room.to_owned(), n), Some(n - 1), "{room}, at {n}: {self:?}");
            }
            "resync" => {
                let cursor: Cursor = payload["cursor"].as_str().expect("a text").parse().expect("a cursor");
                self.has.insert(payload["room"].as_str().expect("a text").to_owned(), cursor.offset.0);
            }
            "connected" => {
                // Who takes itself for recovered fetches nothing.
                let mut rooms = payload["rooms"].as_object().expect("rooms").keys();
                assert!(!self.recovered || rooms.all(|room| self.has.contains_key(room)), "{self:?}");
            }
            _ => {}
        }
        if let Some(Value::String(offset)) = arguments.last() {
            self.offset = Some(offset.clone());
        }
    }
}

struct World {
    worker: Rc<RefCell<Worker>>,
    inbox: mpsc::Receiver<ToHub>,
    settings: Arc<Settings>,
    limits: Arc<Limits>,
    history: [History; NAMES.len()],
    client: Client,
    rooms: [bool; NAMES.len()],
    talk: Option<Talk>,
    /// Frames on their way to the client.
    frames: VecDeque<Bytes>,
}

impl World {
    fn new(rooms: [bool; NAMES.len()]) -> Self {
        let registry = Registry::new("edge", "test").expect("a registry");
        let metrics = Arc::new(Metrics::new(&registry).expect("metrics"));
        let limits = Limits::new(LimitsConfig::default(), Arc::clone(&metrics));
        let session = SessionLimits {
            sign_in: HOUR,
            heartbeat: HOUR,
            silence: None,
            pings: Pings::Always,
            // So few that it falls behind.
            queue_frames: 4,
            queue_bytes: 100_000,
            stalled: HOUR,
            closing: HOUR,
            refreshes: 0,
        };
        let verifier = Arc::new(Verifier::hs256(SECRET, "merchantId", 0));
        let (to_hub, inbox) = mpsc::channel(1_000);
        let worker = Worker::new(0, verifier, session, metrics, Arc::clone(&limits), to_hub);
        let settings = Settings {
            enabled: true,
            namespaces: vec!["/notifications".to_owned()],
            shape: Shape::Flat,
            session,
            ping_timeout: Duration::from_secs(20),
            max_message: 65_536,
        };
        Self {
            worker: Rc::new(RefCell::new(worker)),
            inbox,
            settings: Arc::new(settings),
            limits,
            history: Default::default(),
            client: Client::default(),
            rooms,
            talk: None,
            frames: VecDeque::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish(index) => {
                self.history[index].head += 1;
                let event = event(index, self.history[index].head);
                self.worker.borrow_mut().receive(ToWorker::Event(room(index), event));
            }
            Step::Forget(index) => self.history[index].floor = self.history[index].head,
            Step::Answer => while self.answer() {},
            Step::Read(count) => (0..count).for_each(|_| {
                self.read();
            }),
            Step::Cut => {
                self.talk = None;
                self.client.connected = false;
                self.frames.clear();
            }
            Step::Connect => self.connect(),
            Step::Refresh(rooms) => self.refresh(rooms),
        }
    }

    fn connect(&mut self) {
        if self.talk.is_some() {
            return;
        }
        let visitor = Visitor { caller: Caller::default(), token: None };
        let (settings, limits) = (Arc::clone(&self.settings), Arc::clone(&self.limits));
        let mut talk = Talk::new(settings, Rc::clone(&self.worker), limits, visitor);
        talk.message(&self.client.connect(&token(self.rooms)));
        self.talk = Some(talk);
    }

    fn refresh(&mut self, rooms: [bool; NAMES.len()]) {
        if let Some(talk) = self.talk.as_mut().filter(|_| rooms.contains(&true))
            && self.client.connected
        {
            let argument = json!({ "token": token(rooms) });
            talk.message(&format!("42/notifications,[\"refresh\",{argument}]"));
            self.rooms = rooms;
        }
    }

    fn answer(&mut self) -> bool {
        let Ok(message) = self.inbox.try_recv() else { return false };
        if let ToHub::Join(name, join) = message {
            let index = NAMES.iter().position(|known| *known == name.as_str()).expect("a room");
            let answer = self.history[index].answer(index, &join.resume);
            let joined = ToWorker::Joined { ticket: join.ticket, room: name, answer };
            self.worker.borrow_mut().receive(joined);
        }
        true
    }

    /// Lets the client have the next frame.
    fn read(&mut self) -> bool {
        let Some(talk) = &mut self.talk else { return false };
        while self.frames.is_empty() {
            if !talk.say(&mut self.frames) {
                talk.wrote(now());
                return false;
            }
        }
        let frame = self.whole_frame();
        self.client.take(&frame);
        true
    }

    /// A frame may be several pieces: the header says how long it is.
    fn whole_frame(&mut self) -> String {
        let mut bytes = self.frames.pop_front().expect("a piece").to_vec();
        let (length, header) = match bytes[1] {
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            short => (usize::from(short), 2),
        };
        while bytes.len() < header + length {
            bytes.extend_from_slice(&self.frames.pop_front().expect("another piece"));
        }
        assert_eq!(
            (bytes[0], bytes.len()),
            (0x81, header + length),
            "a whole text frame: {}",
            String::from_utf8_lossy(&bytes)
        );
        String::from_utf8(bytes.split_off(header)).expect("UTF-8")
    }

    fn settle(&mut self) {
        self.connect();
        loop {
            let answered = self.answer();
            if !self.read() && !answered && self.inbox.is_empty() {
                break;
            }
        }
        for (index, name) in NAMES.iter().enumerate().filter(|(index, _)| self.rooms[*index]) {
            assert_eq!(
                self.client.has.get(*name),
                Some(&self.history[index].head),
                "{name}: {:?}",
                self.client
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_stock_client_sees_no_hole_and_nothing_twice_wherever_its_connection_breaks(
        rooms in prop::array::uniform3(any::<bool>()).prop_filter("one at least", |rooms| rooms.contains(&true)),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(rooms);
        steps.iter().for_each(|step| world.take(step));
        world.settle();
        // A client that comes back when nothing was missed and forgotten is recovered.
        world.take(&Step::Cut);
        world.settle();
        prop_assert!(world.client.recovered);
    }
}

#[test]
fn nothing_more_is_read_while_many_answers_wait() {
    let mut world = World::new([true, false, false]);
    world.settle();
    let talk = world.talk.as_mut().expect("it is connected");
    let mut asked = 0;
    while !talk.is_congested() && asked < 10_000 {
        talk.message("42/notifications,1[\"ping\"]");
        asked += 1;
    }
    assert!((64..70).contains(&asked), "{asked} were taken");
    // They go out, and it is heard again.
    while world.read() {}
    assert!(!world.talk.as_ref().expect("it is connected").is_congested());
}
