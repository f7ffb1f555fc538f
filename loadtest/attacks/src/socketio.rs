//! Attacks on what serves clients of Socket.IO: packets that are none, sign-ins over and over, offsets that nobody gave out.

use serde_json::{Value, json};

use crate::Attack;
use crate::Then::{Listen, Send, SendDeaf, Until};
use crate::Way::{Engine, Namespace};
use crate::messages::bad_token;
use crate::wire::{self, frame};

pub(crate) const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// The largest message that a server has to take, by default.
const MAX_MESSAGE: usize = 64 * 1024;

fn text(packet: &str) -> Vec<u8> {
    frame(wire::TEXT, packet.as_bytes())
}

/// Asks to be let in.
pub(crate) fn connect(token: &str) -> Vec<u8> {
    connect_with(&json!({ "token": token }))
}

fn connect_with(auth: &Value) -> Vec<u8> {
    text(&format!("40/notifications,{auth}"))
}

/// What is no packet of a client, or not of one that is there.
fn malformed(round: usize) -> Vec<u8> {
    const ROOM: usize = MAX_MESSAGE - 200;
    let deep = format!("42/notifications,[\"x\",{}", "[".repeat(ROOM));
    let texts = [
        String::new(),
        "9".to_owned(),
        "2probe".to_owned(),
        r#"0{"sid":"x"}"#.to_owned(),
        "4".to_owned(),
        "4\u{0}".to_owned(),
        "49".to_owned(),
        "4💥".to_owned(),
        r#"44/notifications,{"message":"x"}"#.to_owned(),
        "42/notifications,{}".to_owned(),
        "42/notifications,[]".to_owned(),
        "42/notifications,[null]".to_owned(),
        r#"42/notifications,["unterminated"#.to_owned(),
        format!("42/notifications,{}[\"x\"]", "9".repeat(40_000)),
        "42/notifications,-1[\"x\"]".to_owned(),
        format!("45{}-/notifications,[\"x\"]", "9".repeat(40_000)),
        "45-/notifications,[]".to_owned(),
        format!("40/{},{{}}", "n".repeat(60_000)),
        format!("42/{}", "/".repeat(60_000)),
        "42/nobody,[\"x\"]".to_owned(),
        "40/notifications,[1]".to_owned(),
        format!("40/notifications,{{\"token\":{}", "[".repeat(ROOM)),
        "43/notifications,[]".to_owned(),
        deep,
    ];
    text(&texts[round % texts.len()])
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "socketio-packets",
        does: "sends packets that are none: kinds, numbers, namespaces and JSON that cannot be",
        connections: 8,
        way: Namespace,
        opening: |_, round| malformed(round),
        then: Listen,
    },
    Attack {
        name: "socketio-binary",
        does: "sends events and acknowledgements with binary attachments, and the attachments",
        connections: 8,
        way: Namespace,
        opening: |_, round| {
            let packet = [
                r#"452-/notifications,["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
                r#"461-/notifications,7[{"_placeholder":true,"num":0}]"#,
                "459999-/notifications,[]",
            ];
            [text(packet[round % packet.len()]), frame(wire::BINARY, &[7; 100])].concat()
        },
        then: Listen,
    },
    Attack {
        name: "socketio-refusals",
        does: "asks to be let in over and over, with tokens that are none and into namespaces that are not there",
        connections: 8,
        way: Engine,
        opening: |_, round| {
            let all = (0..40).map(|number| match (round + number) % 3 {
                0 => text(&format!("40/no-{number},{{}}")),
                1 => text("40/notifications,"),
                // Bombs of 60 kB would be too many bytes before they are too many sign-ins.
                _ => connect(&bad_token([0, 1, 4, 5, 11][number % 5])),
            });
            all.collect::<Vec<_>>().concat()
        },
        then: Listen,
    },
    Attack {
        name: "socketio-churn",
        does: "comes into a namespace and leaves it as fast as it is let",
        connections: 8,
        way: Engine,
        opening: |_, _| Vec::new(),
        then: Send(|target| [connect(&target.token), text("41/notifications,")].concat().repeat(20)),
    },
    Attack {
        name: "socketio-offsets",
        does: "wants to be recovered from offsets and connections that nobody gave out",
        connections: 8,
        way: Engine,
        opening: |target, round| {
            let many = (0..2_000).map(|room| format!("r{room}=1.00000000000000ab:1")).collect::<Vec<_>>();
            let offsets = [
                json!(""),
                json!("="),
                json!(format!("{}=1.00000000000000ab:18446744073709551615", target.room)),
                json!(format!("{}=18446744073709551615.ffffffffffffffff:0", target.room)),
                json!(format!("{}=%00%ff", target.room)),
                json!(many.join("&")),
                json!("a".repeat(40_000)),
                json!({ "not": "a text" }),
                json!("\u{0}\u{202e}💥"),
            ];
            let pids =
                [json!("\"},{\"x"), json!("p".repeat(10_000)), json!(null), json!("a\u{0}"), json!("ok")];
            let (offset, pid) = (&offsets[round % offsets.len()], &pids[round % pids.len()]);
            connect_with(&json!({ "token": target.token, "pid": pid, "offset": offset }))
        },
        then: Until("42"),
    },
    Attack {
        name: "socketio-emit-flood",
        does: "emits what is to be acknowledged as fast as it is taken, and reads the answers",
        connections: 8,
        way: Namespace,
        opening: |_, _| Vec::new(),
        then: Send(|_| text("42/notifications,1[\"ping\"]").repeat(500)),
    },
    Attack {
        name: "socketio-deaf-flood",
        does: "emits what is to be acknowledged, and reads nothing",
        connections: 20,
        way: Namespace,
        opening: |_, _| Vec::new(),
        then: SendDeaf(|_| text("42/notifications,1[\"ping\"]").repeat(500)),
    },
];
