"""The guards of SECURITY.md's section Frames, messages and requests."""

from . import Mutant


def hostile(*names: str) -> list[str]:
    """Those of the tests before a real edge."""
    return ["-p", "rowcast-edge", "--test", "hostile", "--", *names]


UNITS = ["-p", "rowcast-edge", "--lib", "--"]
WIRE = "services/edge/src/wire.rs"
SERVER = "services/edge/src/server.rs"
UPGRADE = "services/edge/src/upgrade.rs"
HEADS = "services/edge/src/accept/heads.rs"
SESSION = "services/edge/src/session.rs"
SOCKET = "services/edge/src/socket.rs"
ASK = "services/edge/src/http/ask.rs"
CLIENT = "crates/protocol/src/client.rs"

MUTANTS = [
    Mutant(
        "frames: a declared length is judged before the payload",
        WIRE,
        "if !control && length > (self.max_message - buffered) as u64 =>",
        "if !control && length > (u64::MAX - buffered as u64) =>",
        hostile("frames::a_declared_length"),
    ),
    Mutant(
        "frames: a control frame has 125 bytes at most",
        WIRE,
        "=> finished && second & 0x7f <= LONGEST_CONTROL,",
        "=> finished,",
        hostile("frames::a_control_frame"),
    ),
    Mutant(
        "frames: a control frame is whole",
        WIRE,
        "=> finished && second & 0x7f <= LONGEST_CONTROL,",
        "=> second & 0x7f <= LONGEST_CONTROL,",
        hostile("frames::a_control_frame"),
    ),
    Mutant(
        "frames: fragments count together",
        WIRE,
        "(self.max_message - buffered) as u64 =>",
        "(self.max_message.max(buffered)) as u64 =>",
        hostile("frames::fragments_have_an_end"),
    ),
    Mutant(
        "frames: fragments without a byte are counted",
        WIRE,
        "if self.empty_fragments > MAX_EMPTY_FRAGMENTS {",
        "if self.empty_fragments > 1_000_000 * MAX_EMPTY_FRAGMENTS {",
        hostile("frames::fragments_have_an_end"),
    ),
    Mutant(
        "frames: nothing goes on that was not begun",
        WIRE,
        "OpCode::Continue => self.fragments.is_some(),",
        "OpCode::Continue => true,",
        hostile("frames::fragments_that_belong"),
    ),
    Mutant(
        "frames: nothing begins amid fragments",
        WIRE,
        "OpCode::Text => self.fragments.is_none(),",
        "OpCode::Text => true,",
        hostile("frames::fragments_that_belong"),
    ),
    Mutant(
        "frames: text is UTF-8",
        WIRE,
        "String::from_utf8(payload).map(Incoming::Text).map_err(|_| CloseCode::NotUtf8)",
        "Ok(Incoming::Text(String::from_utf8_lossy(&payload).into_owned()))",
        hostile("frames::text_is_utf8"),
    ),
    Mutant(
        "frames: they are masked",
        WIRE,
        "            self.judge_header()?;\n",
        "            if let [_, second, ..] = &mut *self.buffer\n                && *second & 0x80 == 0\n            {\n"
        "                *second |= 0x80;\n                let rest = self.buffer.split_off(2);\n"
        "                self.buffer.extend_from_slice(&[0; 4]);\n                self.buffer.extend_from_slice(&rest);\n            }\n"
        "            self.judge_header()?;\n",
        hostile("frames::frames_without_a_mask"),
    ),
    Mutant(
        "frames: reserved bits are none of theirs",
        WIRE,
        "            self.judge_header()?;\n",
        "            if let Some(first) = self.buffer.first_mut() {\n                *first &= 0x8f;\n            }\n            self.judge_header()?;\n",
        hostile("frames::reserved_bits"),
    ),
    Mutant(
        "frames: compression is not agreed to",
        UPGRADE,
        "let mut response = ws::handshake_response(request.head());\n",
        'let mut response = ws::handshake_response(request.head());\n    response.insert_header((header::SEC_WEBSOCKET_EXTENSIONS, "permessage-deflate"));\n',
        hostile("frames::compression"),
    ),
    Mutant(
        "frames: a close is understood or refused",
        WIRE,
        "                Parser::try_parse_close_payload(&payload).map_err(|_| CloseCode::Protocol)?;\n",
        "",
        hostile("frames::a_close_is"),
    ),
    Mutant(
        "frames: the protocol has no binary messages",
        WIRE,
        "if opcode == OpCode::Binary {",
        "if opcode == OpCode::Bad {",
        hostile("frames::binary_messages"),
    ),
    Mutant(
        "frames: a pong that waits keeps nothing else in memory",
        WIRE,
        "Bytes::copy_from_slice(&payload)",
        "payload.freeze()",
        [*UNITS, "wire::tests::a_pong_that_waits"],
    ),
    Mutant(
        "frames: a socket takes few messages before others have their turn",
        SOCKET,
        "let mut messages = MESSAGES_A_TURN;",
        "let mut messages = usize::MAX;",
        [*UNITS, "socket::tests"],
    ),
    Mutant(
        "messages: the largest is as large as is configured",
        SOCKET,
        "Decoder::new(max_message)",
        "Decoder::new(16 * max_message)",
        hostile("messages::json_may_be"),
    ),
    Mutant(
        "messages: two cursors of a room are none",
        CLIENT,
        "if map.insert(name, value).is_some() {",
        "if map.insert(name, value).is_some() && map.is_empty() {",
        hostile("messages::what_a_message_says_twice"),
    ),
    Mutant(
        "messages: nobody signs in twice",
        "services/edge/src/worker.rs",
        "if connection.session.borrow().is_signing_in() && !connection.is_judging() =>",
        "if !connection.is_judging() =>",
        hostile("messages::nobody_signs_in_twice"),
    ),
    Mutant(
        "messages: cursors come for a bounded number of rooms",
        CLIENT,
        '("rooms in resume", self.resume.len(), MAX_RESUMED_ROOMS)',
        '("rooms in resume", self.resume.len(), usize::MAX)',
        hostile("messages::cursors_come"),
    ),
    Mutant(
        "messages: a cursor that cannot be read is not taken for none",
        SESSION,
        "Some(Err(_)) => Resume::Unreadable,",
        "Some(Err(_)) => Resume::Nothing,",
        hostile("messages::forged_cursors"),
    ),
    Mutant(
        "names: what is not a letter or a digit is encoded in Redis",
        "crates/protocol/src/name.rs",
        'other => write!(encoded, "%{other:02X}").expect("writing to a String cannot fail"),',
        "other => encoded.push(other as char),",
        ["-p", "rowcast-protocol", "--lib", "--", "name::"],
    ),
    Mutant(
        "requests: a head is bounded",
        HEADS,
        "} else if this.held.len() > MAX_HEAD {",
        "} else if this.held.len() > 10_000 * MAX_HEAD {",
        hostile("requests::heads_are_bounded", "held::large_heads"),
    ),
    Mutant(
        "requests: one at a time",
        HEADS,
        "                        this.phase = Phase::Answering;\n",
        "                        this.phase = Phase::Reading(Scan::default());\n",
        hostile("requests::requests_behind_each_other"),
    ),
    Mutant(
        "requests: bodies are thrown away and end the connection",
        HEADS,
        "this.body = announces_body(&this.held[..length]);",
        "this.body = announces_body(&[]);",
        [*UNITS, "accept::heads"],
    ),
    Mutant(
        "requests: an upgrade has no body",
        UPGRADE,
        ".any(|name| request.head().headers.contains_key(name))",
        ".any(|name| request.head().headers.contains_key(name) && request.path().is_empty())",
        hostile("requests::an_upgrade_has_no_body"),
    ),
    Mutant(
        "requests: what follows an upgrade is frames",
        UPGRADE,
        "Socket::new(stream, received,",
        "Socket::new(stream, &received[received.len()..],",
        hostile("requests::what_is_sent_behind_an_upgrade"),
    ),
    Mutant(
        "requests: a path is exactly that of sockets",
        UPGRADE,
        'if path.strip_prefix(config.base_path.as_str()) == Some("/ws") {',
        'if path.ends_with("/ws") {',
        hostile("requests::paths_that_only_look"),
    ),
    Mutant(
        "requests: a parameter comes once",
        ASK,
        "!named.insert(name.clone()) {",
        "!named.insert(name.clone()) && name.is_empty() {",
        hostile("requests::what_a_request_says_twice"),
    ),
    Mutant(
        "requests: a token comes once",
        "services/edge/src/http/mod.rs",
        "let only = all.next().filter(|_| all.next().is_none())?;",
        "let only = all.next()?;",
        hostile("requests::what_a_request_says_twice"),
    ),
    Mutant(
        "requests: those that are none fill no log",
        "crates/process/src/telemetry.rs",
        "_ => filter.add_directive(CAUSED_BY_CLIENTS.parse()?),",
        "_ => filter,",
        hostile("requests::requests_of_two_meanings"),
    ),
    Mutant(
        "held: a head has its time",
        SERVER,
        ".client_request_timeout(Duration::from_secs(5))",
        ".client_request_timeout(Duration::ZERO)",
        hostile("held::a_thousand", "held::heads_that_come"),
    ),
    Mutant(
        "held: a sign-in has its time",
        SESSION,
        "Phase::SigningIn { until } if now.instant >= until =>",
        "Phase::SigningIn { until } if now.instant >= until + Duration::from_secs(600) =>",
        hostile("held::whoever_does_not_sign_in"),
    ),
    Mutant(
        "held: a close has its time",
        SESSION,
        "matches!(self.phase, Phase::Closing { until } if now.instant >= until)",
        "matches!(self.phase, Phase::Closing { until } if now.instant >= until + Duration::from_secs(600))",
        hostile("held::whoever_is_told"),
    ),
    Mutant(
        "held: what waits for a reader is bounded",
        SESSION,
        "self.queue.len() > self.limits.queue_frames || self.queued_bytes > self.limits.queue_bytes",
        "self.queue.len() > 1_000 * self.limits.queue_frames || self.queued_bytes > 1_000 * self.limits.queue_bytes",
        ["-p", "rowcast-edge", "--test", "faults", "--", "a_reader_that_falls_behind_the_log"],
    ),
    Mutant(
        "floods: whoever breaks off leaves nothing behind",
        "services/edge/src/socket/native.rs",
        "            worker.disconnect(&self.connection);\n",
        "            let _ = &mut worker;\n",
        hostile("floods::storms"),
    ),
]
