//! What Redis holds: records, heartbeats, sheets, answers to commands. Whoever may write there is trusted with events, not
//! with the edge's life.

use bytes::Bytes;
use rowcast_protocol::{Heartbeat, Micros, Record, Revocations, RoomName, Switches, frame};

/// A record is written again as it was read; heartbeats and sheets are read again as what they were.
pub fn record(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(record) = Record::decode(&bytes) {
        assert_eq!(record.encode(), data);
        let room = RoomName::parse("m\"1").expect("a room's name");
        let cursor = "1.00000000000000ab:7".parse().expect("a cursor");
        let mut out = Vec::new();
        frame::event(&mut out, &room, cursor, &record.fragment);
        assert!(out.len() <= record.fragment.len() + 200);
    }
    if let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(data) {
        let written = serde_json::to_vec(&heartbeat).expect("a heartbeat is JSON");
        assert_eq!(serde_json::from_slice::<Heartbeat>(&written).expect("its own form"), heartbeat);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(switches) = Switches::parse(text)
    {
        let written = serde_json::to_string(&switches).expect("switches are JSON");
        assert_eq!(Switches::parse(&written).expect("their own form"), switches);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(revocations) = Revocations::parse(text)
    {
        // What is passed over may hold numbers beyond all bounds, of which this reading makes an error.
        let Ok(plain) = serde_json::from_str::<serde_json::Value>(text) else { return };
        let entries = |kind: &str| plain[kind].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(revocations.len(), entries("subject") + entries("token_id") + entries("room"));
        let room = RoomName::parse("m1").expect("a room's name");
        let (subject, id) = (Some("ana"), Some("7f"));
        let now = Some(Micros(1_700_000_000_000_000));
        if revocations.revokes(subject, id, now, [&room]).is_some() {
            let older = revocations.revokes(subject, id, None, [&room]);
            assert!(older.is_some(), "a token of unknown age outlives one of now");
        }
    }
}

/// An answer in Redis's own form, taken for a head and for a log's entries: an error at worst.
pub fn answer(data: &[u8]) {
    let Ok(value) = redis::parse_redis_value(data) else { return };
    if let Err(error) = rowcast_bus::parse_head(&value) {
        assert!(error.to_string().len() < 1_000, "a large answer is not repeated in a log");
    }
    if let Ok(records) = rowcast_bus::parse_entries(value) {
        let bytes: usize = records.iter().map(|record| record.fragment.len() + record.event_type.len()).sum();
        assert!(bytes <= data.len());
    }
}
