//! Attacks by messages of the protocol: JSON that is too deep, too large or ambiguous; tokens, cursors and names that
//! nobody gave out.

use serde_json::{Map, Value, json};

use crate::Attack;
use crate::Then::{Listen, Until};
use crate::Way::{SignedIn, Socket};
use crate::wire::{self, frame};

/// The largest message that a server of this protocol has to take, by default.
const MAX_MESSAGE: usize = 64 * 1024;

fn text(message: &str) -> Vec<u8> {
    frame(wire::TEXT, message.as_bytes())
}

fn auth(token: &str, resume: Value) -> Vec<u8> {
    text(&json!({ "op": "auth", "token": token, "resume": resume }).to_string())
}

/// Something that is to look like a signed token: the parts as they are, in base64url.
pub(crate) fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()), base64(&[7; 32]))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte))
            << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) & 63]));
        }
    }
    text
}

/// Tokens that nobody signed, of which some are bombs.
pub(crate) fn bad_token(round: usize) -> String {
    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const CLAIMS: &str = r#"{"exp":9999999999,"merchantId":"m1"}"#;
    match round % 12 {
        0 => String::new(),
        1 => "...".to_owned(),
        2 => "a".repeat(60_000),
        3 => ".".repeat(60_000),
        4 => unsigned(r#"{"alg":"none"}"#, CLAIMS),
        5 => unsigned(r#"{"alg":"HS256","crit":["x"],"x":1}"#, CLAIMS),
        6 => unsigned(HEADER, &format!("{}{}", "[".repeat(20_000), "]".repeat(20_000))),
        7 => unsigned(&format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)), CLAIMS),
        8 => unsigned(HEADER, &format!(r#"{{"exp":1{},"merchantId":"m1"}}"#, "0".repeat(40_000))),
        9 => unsigned(HEADER, &json!({ "exp": 9_999_999_999_u64, "merchantId": rooms(3_000) }).to_string()),
        10 => unsigned(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(40_000)), CLAIMS),
        _ => "\u{0}\u{1}ü.\u{202e}.💥".to_owned(),
    }
}

fn rooms(count: usize) -> Vec<String> {
    (0..count).map(|room| format!("room-{room}")).collect()
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "deep-json",
        does: "sends JSON that nests ten thousands of arrays and objects",
        connections: 8,
        way: SignedIn,
        opening: |_, round| match round % 3 {
            0 => text(&"[".repeat(MAX_MESSAGE - 100)),
            1 => text(&format!(r#"{{"op":"ping","x":{}"#, r#"{"x":"#.repeat(10_000))),
            _ => {
                let (open, close) = ("[".repeat(30_000), "]".repeat(30_000));
                text(&format!(r#"{{"op":"auth","token":"t","report":{open}{close}}}"#))
            }
        },
        then: Listen,
    },
    Attack {
        name: "large-json",
        does: "sends JSON above the largest message, in one piece and in pieces",
        connections: 8,
        way: SignedIn,
        opening: |_, round| {
            let whole = format!(r#"{{"op":"ping","x":"{}"}}"#, "x".repeat(MAX_MESSAGE));
            if round.is_multiple_of(2) {
                return text(&whole);
            }
            let (first, rest) = whole.as_bytes().split_at(MAX_MESSAGE / 2);
            [frame(wire::TEXT_BEGINS, first), frame(wire::GOES_ON_LAST, rest)].concat()
        },
        then: Listen,
    },
    Attack {
        name: "duplicate-keys",
        does: "sends messages that say a thing twice, and not the same",
        connections: 8,
        way: Socket,
        opening: |target, round| {
            let (token, room) = (Value::from(target.token.as_str()), Value::from(target.room.as_str()));
            let texts = [
                format!(r#"{{"op":"auth","op":"refresh","token":{token}}}"#),
                format!(r#"{{"op":"ping","token":{token},"op":"auth"}}"#),
                format!(r#"{{"op":"auth","token":"x","token":{token}}}"#),
                format!(r#"{{"op":"auth","token":{token},"resume":{{}},"resume":{{}}}}"#),
                format!(r#"{{"op":"auth","token":{token},"resume":{{{room}:"1.1:1",{room}:"1.1:2"}}}}"#),
                format!(r#"{{"op":"auth","token":{token},"types":[],"types":["*"]}}"#),
                format!(r#"{{"op":"auth","\u006fp":"refresh","token":{token}}}"#),
            ];
            text(&texts[round % texts.len()])
        },
        then: Listen,
    },
    Attack {
        name: "second-sign-in",
        does: "signs in again on the same socket",
        connections: 8,
        way: SignedIn,
        opening: |target, _| auth(&target.token, json!({})),
        then: Listen,
    },
    Attack {
        name: "garbage-tokens",
        does: "signs in with tokens that nobody signed: empty, huge, deep, with thousands of rooms, with alg none and crit",
        connections: 16,
        way: Socket,
        opening: |_, round| auth(&bad_token(round), json!({})),
        then: Listen,
    },
    Attack {
        name: "many-rooms",
        does: "brings cursors of ten thousand rooms, or as many as fit into a message",
        connections: 8,
        way: Socket,
        opening: |target, round| {
            let count = if round.is_multiple_of(2) { 10_000 } else { 2_000 };
            let cursors: Map<String, Value> =
                rooms(count).into_iter().map(|room| (room, json!("1.1:1"))).collect();
            auth(&target.token, Value::Object(cursors))
        },
        then: Listen,
    },
    Attack {
        name: "forged-cursors",
        does: "comes back with cursors that no server gave out: other generations and streams, huge and negative numbers",
        connections: 8,
        way: Socket,
        opening: |target, round| {
            let cursors = [
                "18446744073709551615.ffffffffffffffff:18446744073709551615",
                "1.ffffffffffffffff:99999",
                "99.0000000000000001:1",
                "-1.0000000000000001:-5",
                "1.0000000000000001:99999999999999999999999999",
                "' OR 1=1 --",
                "\u{0}\r\nDEL x",
                "",
            ];
            auth(&target.token, json!({ &target.room: cursors[round % cursors.len()] }))
        },
        then: Until("resync"),
    },
    Attack {
        name: "odd-names",
        does: "asks for rooms and types with control characters, braces, other scripts and 201 bytes",
        connections: 8,
        way: Socket,
        opening: |target, round| {
            let long = "x".repeat(201);
            let names = [
                "\u{0}",
                "}x{",
                "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
                "../../etc",
                "\u{202e}ü💥",
                "",
                &long,
                "*",
                "*.*",
            ];
            let name = names[round % names.len()];
            let message = json!({
                "op": "auth", "token": target.token, "resume": { name: "1.1:1" }, "types": [name, "t"],
                "report": { "states": { name: 1e308 }, "ages": [-1e308], name: [] },
            });
            text(&message.to_string())
        },
        then: Until("welcome"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_base64() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("~~~?", "fn5-Pw")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
