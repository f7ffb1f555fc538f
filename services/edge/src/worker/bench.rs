//! A worker without a thread, and a hub whose rooms are empty, for the tests of what a worker decides.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rowcast_process::metrics::Metrics as Registry;
use rowcast_protocol::{Cursor, Generation, Offset, StreamId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Connection, ToHub, ToWorker, Worker, now};
use crate::accept::Caller;
use crate::auth::{Judged, Verifier};
use crate::limits::{Limits, LimitsConfig};
use crate::metrics::Metrics;
use crate::room::{Answer, Source};
use crate::session::{Outgoing, Pings, SessionLimits};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// Longer than any test.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// A token for room m1.
pub(super) fn token() -> String {
    sign(&json!({ "sub": "user", "merchantId": "m1", "exp": 4_000_000_000_i64 }))
}

/// A token with these claims.
pub(super) fn sign(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("signs")
}

pub(super) struct Bench {
    pub worker: Worker,
    inbox: mpsc::Receiver<ToHub>,
}

impl Bench {
    pub fn new() -> Self {
        let (to_hub, inbox) = mpsc::channel(1_000);
        let limits = SessionLimits {
            sign_in: HOUR,
            heartbeat: HOUR,
            silence: None,
            pings: Pings::WhenSilent,
            queue_frames: 100,
            queue_bytes: 100_000,
            stalled: HOUR,
            closing: HOUR,
            refreshes: 0,
        };
        let verifier = Arc::new(Verifier::hs256(SECRET, "merchantId", 0));
        let registry = Registry::new("edge", "test").expect("a registry");
        let metrics = Arc::new(Metrics::new(&registry).expect("metrics"));
        let numbers = Limits::new(LimitsConfig::default(), Arc::clone(&metrics));
        Self { worker: Worker::new(0, verifier, limits, metrics, numbers, to_hub), inbox }
    }

    /// What becomes of a token at the door.
    pub fn verify(&self, token: &str) -> Judged {
        self.worker.admit_new(self.worker.verifier.verify(token, now().wall))
    }

    /// A socket that has signed in and waits for the hub.
    pub fn joining(&mut self) -> Rc<Connection> {
        self.worker.connect(Some(&token()), Caller::default())
    }

    /// Answers all joins, as a hub whose rooms are empty.
    pub fn answer(&mut self) -> usize {
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
    pub fn open(&mut self, count: usize) -> Vec<Rc<Connection>> {
        let connections: Vec<_> = (0..count).map(|_| self.joining()).collect();
        self.answer();
        for connection in &connections {
            assert_eq!(said(connection)[0]["op"], "welcome");
        }
        connections
    }
}

/// What waits for a client; a close is shown by its code.
pub(super) fn said(connection: &Rc<Connection>) -> Vec<Value> {
    let mut session = connection.session.borrow_mut();
    std::iter::from_fn(|| session.next_outgoing())
        .map(|outgoing| match outgoing {
            Outgoing::Close(code, _) => json!({ "close": code.code() }),
            frame => serde_json::from_slice(frame.json().expect("a frame")).expect("JSON"),
        })
        .collect()
}
