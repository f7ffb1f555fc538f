//! What the edge sends over the native socket, as JSON text.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::close::CloseCode;
use crate::name::RoomName;
use crate::position::Cursor;
use crate::timestamp::Micros;

/// A frame other than an event. Events are put together by [`event`], because they are the hot path.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    /// The first frame after sign-in.
    Welcome {
        /// Names this session in logs.
        session: &'a str,
        /// The rooms, each with the cursor from which its events will follow.
        rooms: BTreeMap<&'a str, RoomWelcome>,
        /// Seconds within which the server lets itself be heard.
        heartbeat: u64,
        /// When the token ends.
        #[serde(serialize_with = "as_text")]
        expires_at: Micros,
        /// Whether the whole way from PostgreSQL works.
        live: bool,
        /// The edge's clock, from which clients compute how far theirs is off.
        #[serde(serialize_with = "as_text")]
        now: Micros,
    },
    /// History does not reach back to the client's cursor: fetch a snapshot.
    Resync {
        /// The room.
        room: &'a str,
        /// Events follow from here.
        #[serde(serialize_with = "as_text")]
        cursor: Cursor,
        /// Why.
        reason: &'a str,
    },
    /// Progress through traffic that the session's filter leaves out.
    Cursor {
        /// The room.
        room: &'a str,
        /// Everything up to here is seen or not wanted.
        #[serde(serialize_with = "as_text")]
        cursor: Cursor,
    },
    /// The way behind this socket broke, or works again.
    Status {
        /// Whether it works.
        live: bool,
        /// Since when.
        #[serde(serialize_with = "as_text")]
        since: Micros,
        /// Why not; empty when live.
        reason: &'a str,
    },
    /// The token ends soon.
    TokenExpiring {
        /// Seconds that are left.
        r#in: u64,
    },
    /// A refresh was taken.
    Refreshed {
        /// When the new token ends.
        #[serde(serialize_with = "as_text")]
        expires_at: Micros,
        /// The rooms that it names.
        rooms: BTreeMap<&'a str, RoomWelcome>,
        /// The edge's clock.
        #[serde(serialize_with = "as_text")]
        now: Micros,
    },
    /// The client is to take another way in from here on. A `bye` follows.
    Mode {
        /// `polling`.
        transport: &'a str,
    },
    /// Answer to `ping`.
    Pong,
    /// A close follows.
    Bye {
        /// Its code.
        code: u16,
        /// When to come back, in milliseconds.
        reconnect_in_ms: u64,
    },
}

/// A room in `welcome` and `refreshed`.
#[derive(Debug, Clone, Serialize)]
pub struct RoomWelcome {
    /// Where the session stands in the room.
    #[serde(serialize_with = "as_text")]
    pub cursor: Cursor,
    /// Whether it goes on from the cursor that the client brought.
    pub resumed: bool,
}

impl ServerFrame<'_> {
    /// The frame's JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames hold only strings, numbers and maps with string keys")
    }

    /// The `bye` before a close.
    pub fn bye(code: CloseCode, reconnect_in_ms: u64) -> Self {
        Self::Bye { code: code.code(), reconnect_in_ms }
    }
}

/// An event's frame around its fragment, appended to `out`.
pub fn event(out: &mut Vec<u8>, room: &RoomName, cursor: Cursor, fragment: &[u8]) {
    use std::io::Write;
    const INVARIANT: &str = "writing JSON text to memory cannot fail";
    out.reserve(fragment.len() + room.as_str().len() + 80);
    out.extend_from_slice(b"{\"op\":\"event\",\"room\":");
    serde_json::to_writer(&mut *out, room.as_str()).expect(INVARIANT);
    write!(out, ",\"cursor\":\"{cursor}\",").expect(INVARIANT);
    out.extend_from_slice(fragment);
    out.push(b'}');
}

/// Serializes a value by its text.
///
/// # Errors
/// Those of the serializer.
pub fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{EventId, Generation, Offset, StreamId};

    fn cursor() -> Cursor {
        Cursor { generation: Generation(3), stream: StreamId(0xab), offset: Offset(7) }
    }

    #[test]
    fn frames_have_the_documented_fields() {
        let rooms = BTreeMap::from([("m1", RoomWelcome { cursor: cursor(), resumed: true })]);
        let (expires_at, now) = (Micros(0), Micros(1));
        let welcome =
            ServerFrame::Welcome { session: "s", rooms, heartbeat: 25, expires_at, live: true, now };
        assert_eq!(
            welcome.to_json(),
            r#"{"op":"welcome","session":"s","rooms":{"m1":{"cursor":"3.00000000000000ab:7","resumed":true}},"heartbeat":25,"expires_at":"1970-01-01T00:00:00.000000Z","live":true,"now":"1970-01-01T00:00:00.000001Z"}"#
        );
        assert_eq!(ServerFrame::TokenExpiring { r#in: 60 }.to_json(), r#"{"op":"token_expiring","in":60}"#);
        assert_eq!(ServerFrame::Pong.to_json(), r#"{"op":"pong"}"#);
        let mode = ServerFrame::Mode { transport: "polling" };
        assert_eq!(mode.to_json(), r#"{"op":"mode","transport":"polling"}"#);
        assert_eq!(
            ServerFrame::bye(CloseCode::Restart, 1500).to_json(),
            r#"{"op":"bye","code":1012,"reconnect_in_ms":1500}"#
        );
    }

    #[test]
    fn an_event_is_its_fragment_between_the_frames_own_fields() {
        let room = RoomName::parse("m\"1").expect("valid");
        let id = EventId { row: 1, occurred_at: 0 };
        let fragment = crate::record::event_fragment(id, "booking.created", r#"{"id":1}"#, None, false);
        let mut out = Vec::new();
        event(&mut out, &room, cursor(), &fragment);
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            r#"{"op":"event","room":"m\"1","cursor":"3.00000000000000ab:7","id":"1-0","type":"booking.created","at":"1970-01-01T00:00:00.000000Z","data":{"id":1}}"#
        );
    }
}
