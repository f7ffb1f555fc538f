//! Cursors, the ids that events and streams have, and points in time.

use rowcast_protocol::{Cursor, EventId, Micros, RoomName, StreamId, cursors};

/// What is taken for a cursor, an event's id or a stream is exactly what was given out; a room's name comes back from its
/// form in Redis.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
    }
    if let Ok(stream) = text.parse::<StreamId>() {
        assert_eq!(stream.to_string(), text);
    }
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(room) = RoomName::parse(text) {
        let encoded = room.encoded();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'%');
        assert!(encoded.bytes().all(plain), "{encoded}");
        assert_eq!(decoded(&encoded).as_deref(), Some(text.as_bytes()), "two names would share a key");
    }
}

fn decoded(encoded: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = encoded;
    while let Some(first) = rest.chars().next() {
        let length = if first == '%' { 3 } else { 1 };
        let (one, behind) = rest.split_at_checked(length)?;
        bytes.push(if first == '%' { u8::from_str_radix(&one[1..], 16).ok()? } else { one.as_bytes()[0] });
        rest = behind;
    }
    Some(bytes)
}

/// The cursors of several rooms, as `Last-Event-ID` and `after` have them: what is read can be written and read again, on
/// one line.
pub fn cursors(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(read) = cursors::parse(&text) else { return };
    assert!(read.values().all(|cursor| !cursor.is_empty()));
    let written = cursors::encode(read.iter().map(|(room, cursor)| (room.as_str(), cursor)));
    assert!(!written.contains(['\n', '\r', '\0', ' ']), "{written}");
    assert_eq!(cursors::parse(&written), Ok(read));
}

/// A point in time is shown in the wire's form, and read again as the same.
pub fn time(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(micros) = Micros::parse(text)
    {
        // A time whose offset takes it out of the years 0 to 9999 is shown at the nearer end of them.
        let shown = Micros::parse(&micros.to_string()).expect("the wire's form");
        let ends = ["0000-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"];
        assert!(shown == micros || ends.contains(&&*micros.to_string()), "{micros}");
    }
    if let Some(number) = data.first_chunk() {
        let micros = Micros(i64::from_be_bytes(*number));
        let shown = micros.to_string();
        assert!(shown.len() == 27 && shown.ends_with('Z'), "{shown}");
        let _ = Micros::from_seconds(micros.0);
    }
}
