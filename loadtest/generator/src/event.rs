//! Frames of the edge, read as a client of the documented protocol reads them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Any frame; the fields that its `op` has.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// What it is.
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    /// An event's type.
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    /// Why a `resync` or a `status` came.
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    /// The room that it is about.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// Where it stands in the room.
    #[serde(borrow, default)]
    pub cursor: Cow<'a, str>,
    /// When an event occurred.
    #[serde(borrow, default)]
    pub at: Cow<'a, str>,
    /// An event's data.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    /// The rooms of a `welcome`.
    #[serde(default)]
    pub rooms: BTreeMap<String, Welcomed>,
    /// Seconds within which a `welcome`'s server lets itself be heard.
    #[serde(default)]
    pub heartbeat: u64,
    /// When to come back after a `bye`.
    #[serde(default)]
    pub reconnect_in_ms: u64,
}

/// A room of a `welcome`.
#[derive(Debug, Deserialize)]
pub struct Welcomed {
    /// From where events follow.
    pub cursor: String,
    /// Whether the cursor that was brought is taken up.
    pub resumed: bool,
}

/// What this program writes, as it comes back in an event's data.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Row<'a> {
    /// The room that it was written for.
    #[serde(rename = "merchantId", borrow)]
    pub room: Cow<'a, str>,
    /// Its number in the room, from 1.
    pub n: u64,
    /// Its number in the run, from 0.
    pub i: u64,
}

impl<'a> Frame<'a> {
    /// Reads a frame.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The row that the data is, if it is one of this program's.
    pub fn row(&self) -> Option<Row<'a>> {
        serde_json::from_str(self.data?.get()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_protocol::{Cursor, EventId, Generation, Offset, RoomName, StreamId};

    #[test]
    fn an_event_of_the_protocol_is_understood() {
        let data = r#"{"merchantId":"r\"1","n":3,"i":20,"pad":"x"}"#;
        let id = EventId { row: 1, occurred_at: 5 };
        let fragment = rowcast_protocol::record::event_fragment(id, "load.created", data, None, false);
        let cursor = Cursor { generation: Generation(1), stream: StreamId(2), offset: Offset(3) };
        let mut text = Vec::new();
        let room = RoomName::parse("r\"1").unwrap();
        rowcast_protocol::frame::event(&mut text, &room, cursor, &fragment);
        let text = String::from_utf8(text).unwrap();
        let frame = Frame::parse(&text).unwrap();
        assert_eq!((&*frame.op, &*frame.room), ("event", "r\"1"));
        assert_eq!(frame.cursor.parse(), Ok(cursor));
        assert_eq!(frame.row(), Some(Row { room: "r\"1".into(), n: 3, i: 20 }));
    }

    #[test]
    fn another_applications_data_is_not_a_row() {
        let frame = Frame::parse(r#"{"op":"event","room":"a","data":{"id":1,"n":2}}"#).unwrap();
        assert_eq!(frame.row(), None);
        assert_eq!(Frame::parse(r#"{"op":"pong"}"#).unwrap().row(), None);
    }
}
