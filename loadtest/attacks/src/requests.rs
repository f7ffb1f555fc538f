//! Attacks by HTTP requests: heads that are too large, forms that two programs understand differently, paths that are not
//! what they seem, bodies and pipelines without an end.

use crate::Then::{Listen, Send};
use crate::Way::Http;
use crate::{Attack, Target, wire};

/// Requests of which nobody may take two meanings: one must be refused, and nothing behind it answered.
pub const SMUGGLING: &[&str] = &[
    "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 44\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: +44\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
    "POST /v1/events HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nX: a\r\n folded: b\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\n Host: a\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "GET /v1/events HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET /v1/events HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET /v1/events\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n",
];

/// Paths at which a socket must not open, nor events be given.
const PATHS: &[&str] = &[
    "//ws",
    "/../ws",
    "/./ws",
    "/%2e/ws",
    "/x/../ws",
    "/ws/",
    "/ws/..",
    "/WS",
    "/%77s",
    "/ws%00",
    "/ws;x=1",
    "/ws%2f",
    "/v1/../ws",
    "\\ws",
    "/%2fws",
    "/v1//events",
    "/v1/events/",
    "/v1/events/../../ws",
    "/metrics",
    "/..%2f..%2fetc/passwd",
];

/// What is hidden behind a request: nobody may answer it.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: attacked\r\n{more}\r\n")
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "huge-header",
        does: "sends a header that never ends",
        connections: 16,
        way: Http,
        opening: |_, _| b"GET /ws HTTP/1.1\r\nHost: attacked\r\nX-Bomb: ".to_vec(),
        then: Send(|_| vec![b'x'; 16 * 1024]),
    },
    Attack {
        name: "many-headers",
        does: "sends headers that never end, each of its own name",
        connections: 16,
        way: Http,
        opening: |_, round| {
            let headers: String = (0..5_000).map(|n| format!("X-{round}-{n}: y\r\n")).collect();
            get("/ws", &headers).into_bytes()
        },
        then: Listen,
    },
    Attack {
        name: "huge-url",
        does: "asks for an address of a hundred thousand bytes",
        connections: 16,
        way: Http,
        opening: |_, round| {
            let filling = ["x", "%00", "/..", "a=b&"][round % 4].repeat(30_000);
            get(&format!("/v1/events?{filling}"), "").into_bytes()
        },
        then: Listen,
    },
    Attack {
        name: "smuggling",
        does: "sends requests that two programs would take for different ones, with another behind",
        connections: 8,
        way: Http,
        opening: |_, round| format!("{}{HIDDEN}", SMUGGLING[round % SMUGGLING.len()]).into_bytes(),
        then: Listen,
    },
    Attack {
        name: "upgrade-with-body",
        does: "asks for an upgrade and announces a body, in which a request is hidden",
        connections: 8,
        way: Http,
        opening: |_, round| {
            let announced = ["Content-Length: 36\r\n", "Transfer-Encoding: chunked\r\n"][round % 2];
            let request = String::from_utf8_lossy(&wire::handshake("/ws", "")).into_owned();
            format!("{}{announced}\r\n{HIDDEN}", request.trim_end_matches("\r\n").to_owned() + "\r\n")
                .into_bytes()
        },
        then: Listen,
    },
    Attack {
        name: "behind-an-upgrade",
        does: "sends another request behind that for an upgrade, before there is an answer",
        connections: 8,
        way: Http,
        opening: |_, _| [wire::handshake("/ws", ""), HIDDEN.as_bytes().to_vec()].concat(),
        then: Listen,
    },
    Attack {
        name: "behind-a-refused-upgrade",
        does: "sends another request behind that for an upgrade which must be refused",
        connections: 8,
        way: Http,
        opening: |_, _| [wire::handshake("/nothing", ""), HIDDEN.as_bytes().to_vec()].concat(),
        then: Listen,
    },
    Attack {
        name: "path-tricks",
        does: "asks for upgrades and events at paths that only look like those which are served",
        connections: 8,
        way: Http,
        opening: |target, round| {
            let path = PATHS[round / 2 % PATHS.len()];
            match round % 2 {
                0 => wire::handshake(path, ""),
                _ => get(path, &format!("Authorization: Bearer {}\r\n", target.token)).into_bytes(),
            }
        },
        then: Listen,
    },
    Attack {
        name: "parameters-twice",
        does: "says a parameter or the token twice, and not the same",
        connections: 8,
        way: Http,
        opening: |target, round| {
            let (room, token) = (&target.room, format!("Authorization: Bearer {}\r\n", target.token));
            match round % 4 {
                0 => get(&format!("/v1/events?room=x&room={room}"), &token).into_bytes(),
                1 => get(&format!("/v1/events?room={room}&after=1.1:1&after=1.1:2"), &token).into_bytes(),
                2 => get("/v1/events?wait=0&wait=30", &token).into_bytes(),
                _ => get("/v1/events?types=a&types=b", &token).into_bytes(),
            }
        },
        then: Listen,
    },
    Attack {
        name: "two-tokens",
        does: "brings two tokens in one request, of which one is good",
        connections: 8,
        way: Http,
        opening: |target, round| {
            let (good, bad) =
                (format!("Authorization: Bearer {}\r\n", target.token), "Authorization: Bearer x\r\n");
            let both = if round.is_multiple_of(2) { format!("{good}{bad}") } else { format!("{bad}{good}") };
            get("/v1/events", &both).into_bytes()
        },
        then: Listen,
    },
    Attack {
        name: "endless-body",
        does: "sends a body that never ends to what takes none",
        connections: 8,
        way: Http,
        opening: |_, round| {
            let announced = ["Transfer-Encoding: chunked", "Content-Length: 1000000000000"][round % 2];
            format!("POST /v1/events HTTP/1.1\r\nHost: attacked\r\n{announced}\r\n\r\n").into_bytes()
        },
        then: Send(|_| format!("4000\r\n{}\r\n", "x".repeat(0x4000)).into_bytes()),
    },
    Attack {
        name: "pipelining",
        does: "sends requests behind each other as fast as they are taken, and reads the answers",
        connections: 8,
        way: Http,
        opening: |_, _| Vec::new(),
        then: Send(|_: &Target| get("/v1/events", "").repeat(200).into_bytes()),
    },
];
