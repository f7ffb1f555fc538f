//! Attacks by number: what is allowed, as often as it can be sent.

use serde_json::{Value, json};

use crate::Attack;
use crate::Then::{Leave, Listen, Send, SendDeaf};
use crate::Way::{Http, SignedIn, Socket};
use crate::messages::bad_token;
use crate::wire::{self, frame};

fn nothing(_: &crate::Target, _: usize) -> Vec<u8> {
    Vec::new()
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "ping-flood",
        does: "sends pings as fast as they are taken, and reads the pongs",
        connections: 8,
        way: SignedIn,
        opening: nothing,
        then: Send(|_| frame(wire::PING, b"").repeat(2_000)),
    },
    Attack {
        name: "deaf-ping-flood",
        does: "sends pings, each among much that needs no answer, and reads nothing",
        connections: 20,
        way: SignedIn,
        opening: nothing,
        then: SendDeaf(|_| [frame(wire::PING, &[b'p'; 125]), frame(wire::PONG, b"").repeat(2_600)].concat()),
    },
    Attack {
        name: "pong-flood",
        does: "sends pongs that nobody asked for as fast as they are taken",
        connections: 8,
        way: SignedIn,
        opening: nothing,
        then: Send(|_| frame(wire::PONG, b"").repeat(2_000)),
    },
    Attack {
        name: "message-flood",
        does: "sends pings of the protocol, JSON, as fast as they are taken",
        connections: 8,
        way: SignedIn,
        opening: nothing,
        then: Send(|_| frame(wire::TEXT, br#"{"op":"ping"}"#).repeat(500)),
    },
    Attack {
        name: "large-message-flood",
        does: "sends messages of nearly the largest size, with as many values as fit, as fast as they are taken",
        connections: 8,
        way: SignedIn,
        opening: nothing,
        then: Send(|_| {
            let values = "[],".repeat(21_000);
            frame(wire::TEXT, format!(r#"{{"op":"ping","x":[{values}0]}}"#).as_bytes())
        }),
    },
    Attack {
        name: "refresh-flood",
        does: "refreshes its token, which is good, as fast as it is taken",
        connections: 8,
        way: SignedIn,
        opening: nothing,
        then: Send(|target| {
            let refresh = json!({ "op": "refresh", "token": Value::from(target.token.as_str()) }).to_string();
            frame(wire::TEXT, refresh.as_bytes()).repeat(50)
        }),
    },
    Attack {
        name: "token-flood",
        does: "shakes hands with tokens that nobody signed, as often as it is let",
        connections: 20,
        way: Http,
        // What does not fit into a header is left to the attacks by messages.
        opening: |_, round| wire::handshake("/ws", &bad_token([1, 4, 5][round % 3])),
        then: Listen,
    },
    Attack {
        name: "connection-storm",
        does: "connects and breaks off at once",
        connections: 50,
        way: Http,
        opening: nothing,
        then: Leave,
    },
    Attack {
        name: "handshake-storm",
        does: "shakes hands and breaks off at once",
        connections: 50,
        way: Socket,
        opening: nothing,
        then: Leave,
    },
    Attack {
        name: "sign-in-storm",
        does: "signs in with a good token and breaks off at the welcome",
        connections: 50,
        way: SignedIn,
        opening: nothing,
        then: Leave,
    },
];
