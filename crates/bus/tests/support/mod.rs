//! What tests of the bus have a leader say.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use rowcast_bus::{Claim, Command, Retention};
use rowcast_protocol::{
    Epoch, EventId, Heartbeat, Mirror, Offset, Record, RecordKind, RoomName, Sheet, StreamId,
};

pub const STREAM: StreamId = StreamId(0xa1);

pub fn retention() -> Retention {
    Retention {
        log_entries: 100,
        log_lifetime: Duration::from_secs(60),
        head_lifetime: Duration::from_secs(600),
    }
}

pub fn room(name: &str) -> RoomName {
    RoomName::parse(name).expect("a room's name")
}

pub fn id(row: u64) -> EventId {
    EventId { row: row as i64, occurred_at: 1_700_000_000_000_000 }
}

pub fn record(stream: StreamId, offset: u64, row: u64) -> Vec<u8> {
    let fragment = format!("\"id\":\"{row}\"").into_bytes().into();
    let event_type = "x".to_owned();
    Record { kind: RecordKind::Event, stream, offset: Offset(offset), id: id(row), event_type, fragment }
        .encode()
}

pub fn append(name: &str, epoch: u64, stream: StreamId, expected: u64, row: u64) -> Command {
    Command::Append {
        room: room(name),
        epoch: Epoch(epoch),
        stream,
        expected: Offset(expected),
        id: id(row),
        record: record(stream, expected + 1, row),
    }
}

pub fn create(
    name: &str,
    epoch: u64,
    stream: StreamId,
    replaces: Option<(StreamId, u64)>,
    row: u64,
) -> Command {
    Command::Create {
        room: room(name),
        epoch: Epoch(epoch),
        stream,
        replaces: replaces.map(|(stream, offset)| (stream, Offset(offset))),
        id: id(row),
        record: record(stream, 1, row),
    }
}

pub fn heartbeat(epoch: u64, generation: u64) -> Heartbeat {
    Heartbeat { epoch, generation, lag_ms: 0, at: 0, impaired: None, switches: 0, revocations: 0 }
}

pub fn claim(epoch: u64, found: Option<Epoch>) -> Claim<'static> {
    Claim { epoch: Epoch(epoch), found, origin: "1/2", replaces: "", timeline: 1 }
}

pub fn mirror(epoch: u64, version: u64) -> Command {
    let content = format!("{{\"of\":{version}}}");
    Command::Mirror(Epoch(epoch), Mirror { sheet: Sheet::Switches, version, content })
}
