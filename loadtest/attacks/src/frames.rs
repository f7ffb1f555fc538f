//! Attacks on framing: lengths, fragments, masks, reserved bits, text that is none.

use crate::Then::{Listen, Send};
use crate::Way::{SignedIn, Socket};
use crate::wire::{self, frame};
use crate::{Attack, Target};

const CHUNK: usize = 16 * 1024;

/// Bytes behind a declared length.
fn filling(_: &Target) -> Vec<u8> {
    vec![b'a'; CHUNK]
}

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "declared-length",
        does: "announces a message of 4 GiB and sends it as fast as it is taken",
        connections: 8,
        way: SignedIn,
        opening: |_, _| wire::declares(wire::TEXT, 1 << 32),
        then: Send(filling),
    },
    Attack {
        name: "absurd-length",
        does: "announces messages of 2^63 bytes, of 2^64 - 1, and of what a sum with it overflows",
        connections: 8,
        way: Socket,
        opening: |_, round| {
            let lengths = [1 << 63, u64::MAX, (1 << 63) - 1, u64::MAX - 13];
            wire::declares(wire::TEXT, lengths[round % lengths.len()])
        },
        then: Send(filling),
    },
    Attack {
        name: "long-control",
        does: "sends pings, pongs and closes of more than 125 bytes, or announces them",
        connections: 8,
        way: SignedIn,
        opening: |_, round| match round % 4 {
            0 => frame(wire::PING, &[b'p'; 126]),
            1 => frame(wire::PONG, &[b'p'; 60_000]),
            2 => wire::declares(wire::CLOSE, 126),
            _ => wire::declares(wire::PING, 60_000),
        },
        then: Listen,
    },
    Attack {
        name: "fragmented-control",
        does: "sends control frames in pieces",
        connections: 8,
        way: Socket,
        opening: |_, round| frame([wire::PING, wire::PONG, wire::CLOSE][round % 3] & 0x7f, b"x"),
        then: Listen,
    },
    Attack {
        name: "endless-fragments",
        does: "sends a message in pieces that never end",
        connections: 8,
        way: SignedIn,
        opening: |_, _| frame(wire::TEXT_BEGINS, b"{"),
        then: Send(|_| frame(wire::GOES_ON, &[b' '; 1_000]).repeat(16)),
    },
    Attack {
        name: "empty-fragments",
        does: "sends a message in pieces without a byte that never end",
        connections: 8,
        way: SignedIn,
        opening: |_, _| frame(wire::TEXT_BEGINS, b""),
        then: Send(|_| frame(wire::GOES_ON, b"").repeat(1_000)),
    },
    Attack {
        name: "confused-fragments",
        does: "goes on with what was never begun, and begins anew amid pieces",
        connections: 8,
        way: Socket,
        opening: |_, round| match round % 4 {
            0 => frame(wire::GOES_ON_LAST, b"x"),
            1 => [frame(wire::TEXT_BEGINS, b"{"), frame(wire::TEXT, b"}")].concat(),
            2 => [frame(wire::TEXT_BEGINS, b"{"), frame(wire::TEXT_BEGINS, b"}")].concat(),
            // The payload never comes: the header says enough.
            _ => wire::declares(wire::GOES_ON, 60_000),
        },
        then: Listen,
    },
    Attack {
        name: "invalid-utf8",
        does: "sends text that is not UTF-8: overlong, surrogates, cut off, beyond the last character",
        connections: 8,
        way: SignedIn,
        opening: |_, round| {
            let texts: [&[u8]; 5] =
                [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"{\"op\":\"ping\"}\xe2\x82", b"\xf4\x90\x80\x80"];
            frame(wire::TEXT, texts[round % texts.len()])
        },
        then: Listen,
    },
    Attack {
        name: "invalid-utf8-in-pieces",
        does: "sends text that is not UTF-8, the fault being where two pieces meet",
        connections: 8,
        way: SignedIn,
        opening: |_, round| {
            let rest: &[u8] = if round.is_multiple_of(2) { b"\xc3\xac" } else { b"" };
            [frame(wire::TEXT_BEGINS, b"\xe2\x82"), frame(wire::GOES_ON_LAST, rest)].concat()
        },
        then: Listen,
    },
    Attack {
        name: "unmasked",
        does: "sends frames without a mask",
        connections: 8,
        way: SignedIn,
        opening: |_, _| wire::unmasked(br#"{"op":"ping"}"#),
        then: Listen,
    },
    Attack {
        name: "reserved",
        does: "sends frames with reserved bits and reserved opcodes",
        connections: 8,
        way: Socket,
        opening: |_, round| {
            let firsts = [0xa1, 0x91, 0xf1, 0x83, 0x87, 0x8b, 0x8f, 0xc9];
            frame(firsts[round % firsts.len()], b"x")
        },
        then: Listen,
    },
    Attack {
        name: "compressed",
        does: "offers permessage-deflate (as every handshake here) and sends compressed frames all the same: a bomb",
        connections: 8,
        way: SignedIn,
        opening: |_, _| frame(0xc1, &[0xec, 0xc1, 0x01, 0x01, 0x00, 0x00, 0x00, 0x80, 0x90, 0xfe]),
        then: Listen,
    },
    Attack {
        name: "binary",
        does: "sends binary messages",
        connections: 8,
        way: SignedIn,
        opening: |_, _| frame(wire::BINARY, &[0; 100]),
        then: Listen,
    },
    Attack {
        name: "bad-close",
        does: "closes with half a code, with codes that must not be sent, and with a reason that is not UTF-8",
        connections: 8,
        way: Socket,
        opening: |_, round| {
            let payloads: [&[u8]; 6] =
                [b"\x03", b"\x03\xed", b"\x03\xee", b"\x00\x00", b"\xff\xff", b"\x03\xe8\xff\xfe"];
            frame(wire::CLOSE, payloads[round % payloads.len()])
        },
        then: Listen,
    },
];
