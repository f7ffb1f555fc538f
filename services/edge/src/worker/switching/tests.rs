//! Who is sent to polling, when and how. Windows of no length are over at the next tick, those of an hour are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use rowcast_process::metrics::Metrics as Registry;
use rowcast_protocol::{CloseCode, Cursor, Generation, Offset, StreamId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::accept::Caller;
use crate::auth::Verifier;
use crate::limits::{Limits, LimitsConfig};
use crate::metrics::Metrics;
use crate::room::{Answer, Source};
use crate::session::{Outgoing, SessionLimits};
use crate::worker::{ToHub, ToWorker};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const HOUR: Duration = Duration::from_secs(3_600);
const OFF: Switches = Switches { websocket: false };
const ON: Switches = Switches { websocket: true };

fn token() -> String {
    let claims = json!({ "sub": "user", "merchantId": "m1", "exp": 4_000_000_000_i64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signs")
}

struct Bench {
    worker: Worker,
    inbox: mpsc::Receiver<ToHub>,
}

impl Bench {
    fn new() -> Self {
        let (to_hub, inbox) = mpsc::channel(1_000);
        let limits = SessionLimits {
            sign_in: HOUR,
            heartbeat: HOUR,
            silence: None,
            queue_frames: 100,
            queue_bytes: 100_000,
            stalled: HOUR,
            closing: HOUR,
        };
        let verifier = Arc::new(Verifier::hs256(SECRET, "merchantId", 0));
        let registry = Registry::new("edge", "test").expect("a registry");
        let metrics = Arc::new(Metrics::new(&registry).expect("metrics"));
        let numbers = Limits::new(LimitsConfig::default(), Arc::clone(&metrics));
        Self { worker: Worker::new(0, verifier, limits, metrics, numbers, to_hub), inbox }
    }

    fn switch(&mut self, switches: Switches, window: Duration) {
        self.worker.receive(ToWorker::Switches(switches, window));
    }

    /// A socket that has signed in and waits for the hub.
    fn joining(&mut self) -> Rc<Connection> {
        self.worker.connect(Some(&token()), Caller::default())
    }

    /// Answers all joins, as a hub whose rooms are empty.
    fn answer(&mut self) -> usize {
        let mut joins = 0;
        while let Ok(message) = self.inbox.try_recv() {
            let ToHub::Join(room, join) = message else { continue };
            joins += 1;
            let cursor = Cursor { generation: Generation(1), stream: StreamId::NONE, offset: Offset::ZERO };
            let answer = Answer {
                cursor,
                resumed: false,
                resync: None,
                events: Vec::new(),
                caught_up: true,
                source: Source::None,
            };
            self.worker.receive(ToWorker::Joined { ticket: join.ticket, room, answer });
        }
        joins
    }

    /// Sockets that were welcomed and have read that.
    fn open(&mut self, count: usize) -> Vec<Rc<Connection>> {
        let connections: Vec<_> = (0..count).map(|_| self.joining()).collect();
        self.answer();
        for connection in &connections {
            assert_eq!(said(connection)[0]["op"], "welcome");
        }
        connections
    }
}

/// What waits for a client; a close is shown by its code.
fn said(connection: &Rc<Connection>) -> Vec<Value> {
    let mut session = connection.session.borrow_mut();
    std::iter::from_fn(|| session.next_outgoing())
        .map(|outgoing| match outgoing {
            Outgoing::Close(code, _) => json!({ "close": code.code() }),
            frame => serde_json::from_slice(frame.json().expect("a frame")).expect("JSON"),
        })
        .collect()
}

/// Whether it was sent to polling, with all that belongs to it and nothing else.
fn was_sent_away(connection: &Rc<Connection>) -> bool {
    let said = said(connection);
    if said.is_empty() {
        return false;
    }
    let delay = said[1]["reconnect_in_ms"].as_u64().expect("a delay");
    assert!(delay <= 1_000, "{said:?}");
    assert_eq!(
        said,
        [
            json!({ "op": "mode", "transport": "polling" }),
            json!({ "op": "bye", "code": CloseCode::SwitchedToPolling.code(), "reconnect_in_ms": delay }),
            json!({ "close": 4410 }),
        ]
    );
    true
}

#[test]
fn switched_off_everybody_goes_within_the_window_each_at_a_moment_of_its_own() {
    let mut bench = Bench::new();
    let open = bench.open(100);
    assert_eq!(bench.worker.transport(), "websocket");
    let begin = Instant::now();
    bench.switch(OFF, HOUR);
    assert_eq!(bench.worker.transport(), "polling");
    let mut moments: Vec<_> = open.iter().map(|one| one.polls_at.get().expect("a moment")).collect();
    moments.sort();
    assert!(moments[0] >= begin && moments[99] <= Instant::now() + HOUR);
    assert!(
        moments[75] - moments[25] > HOUR / 8,
        "the middle half goes within {:?}",
        moments[75] - moments[25]
    );
    bench.worker.tick();
    assert!(open.iter().filter(|one| was_sent_away(one)).count() < 10, "not all at once");

    let mut bench = Bench::new();
    let open = bench.open(100);
    bench.switch(OFF, Duration::ZERO);
    bench.worker.tick();
    assert!(open.iter().all(was_sent_away), "the window is over");
    assert_eq!(bench.worker.metrics.sent_to_polling.with_label_values(&["open"]).get(), 100);
}

#[test]
fn who_signs_in_while_it_is_off_is_sent_away_in_place_of_a_welcome() {
    let mut bench = Bench::new();
    bench.switch(OFF, HOUR);
    assert!(was_sent_away(&bench.joining()));
    assert_eq!(bench.answer(), 0, "it joins nothing");
    let waiting = bench.worker.connect(None, Caller::default());
    bench.worker.tick();
    assert!(!was_sent_away(&waiting), "whose token is not known is told nothing");
    bench.worker.message(&waiting, &json!({ "op": "auth", "token": "no token" }).to_string());
    assert_eq!(said(&waiting), [json!({ "close": 4401 })]);
    let waiting = bench.worker.connect(None, Caller::default());
    bench.worker.message(&waiting, &json!({ "op": "auth", "token": token() }).to_string());
    assert!(was_sent_away(&waiting));
}

#[test]
fn who_waits_for_its_welcome_when_it_is_switched_off_is_sent_away_in_place_of_it() {
    let mut bench = Bench::new();
    let joining = bench.joining();
    bench.switch(OFF, HOUR);
    bench.answer();
    assert!(was_sent_away(&joining));
}

#[test]
fn switched_on_again_whoever_was_not_sent_away_stays_and_others_are_welcome() {
    let mut bench = Bench::new();
    let open = bench.open(10);
    bench.switch(OFF, HOUR);
    bench.switch(ON, HOUR);
    bench.worker.tick();
    assert!(open.iter().all(|one| one.polls_at.get().is_none() && one.session.borrow().is_open()));
    assert_eq!(bench.open(1).len(), 1);
    bench.switch(ON, Duration::ZERO);
    bench.worker.tick();
    assert!(open.iter().all(|one| one.session.borrow().is_open()), "said again, it changes nothing");
}

#[test]
fn said_again_off_moves_nobodys_moment() {
    let mut bench = Bench::new();
    let open = bench.open(10);
    bench.switch(OFF, HOUR);
    let moments = |open: &[Rc<Connection>]| open.iter().map(|one| one.polls_at.get()).collect::<Vec<_>>();
    let before = moments(&open);
    bench.switch(OFF, HOUR);
    assert_eq!(moments(&open), before);
}

#[test]
fn what_an_http_request_carries_stays() {
    let mut bench = Bench::new();
    let identity = bench.worker.verify(&token()).expect("a good token");
    let enter = |worker: &mut Worker, transport| {
        let entered = worker.enter(transport, Caller::default(), identity.clone(), &BTreeMap::new(), None);
        entered.expect("no limit is set")
    };
    let open = enter(&mut bench.worker, Transport::EventStream);
    bench.switch(OFF, Duration::ZERO);
    let later = enter(&mut bench.worker, Transport::Page);
    assert_eq!(bench.answer(), 2);
    bench.worker.tick();
    for connection in [open, later] {
        let said = said(&connection);
        assert!(said.len() == 1 && said[0]["op"] == "welcome", "{said:?}");
    }
}
