//! What the server sends, typed for a reader. The server's own side of it is in `rowcast-protocol`.

use std::{collections::BTreeMap, time::SystemTime};

use rowcast_protocol::Micros;
use serde::Deserialize;
use serde_json::value::RawValue;

/// `welcome`.
#[derive(Debug, Clone, Deserialize)]
pub struct Welcome {
    /// Names the session in the edge's log.
    pub session: String,
    /// The rooms that the token opens.
    pub rooms: BTreeMap<String, RoomState>,
    /// Seconds within which the server lets itself be heard.
    pub heartbeat: u64,
    /// When the token ends: RFC 3339.
    pub expires_at: String,
    /// Whether the whole way from PostgreSQL works.
    pub live: bool,
}

/// A room in `welcome` and `refreshed`.
#[derive(Debug, Clone, Deserialize)]
pub struct RoomState {
    /// Events follow from here.
    pub cursor: String,
    /// Whether the session goes on from our own cursor.
    pub resumed: bool,
}

/// `event`.
#[derive(Debug, Clone, Deserialize)]
pub struct Delivery {
    /// The room.
    pub room: String,
    /// Where the room stands after it.
    pub cursor: String,
    /// The event's id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// When it happened in PostgreSQL: RFC 3339.
    pub at: String,
    /// Its data, as it came.
    pub data: Box<RawValue>,
    /// The columns that changed, of an update.
    #[serde(default)]
    pub changed: Option<Vec<String>>,
    /// Whether the data is only a reference.
    #[serde(default)]
    pub truncated: bool,
    /// When it arrived here.
    #[serde(skip, default = "SystemTime::now")]
    pub received_at: SystemTime,
}

impl Delivery {
    /// Milliseconds from PostgreSQL's clock at the change to ours at the arrival; negative where the clocks differ.
    pub fn latency_ms(&self) -> Option<f64> {
        let at = Micros::parse(&self.at)?;
        let received = Micros::from_system_time(self.received_at);
        Some(received.0.saturating_sub(at.0) as f64 / 1000.0)
    }
}

/// `resync`.
#[derive(Debug, Clone, Deserialize)]
pub struct Resync {
    /// The room.
    pub room: String,
    /// Events follow from here.
    pub cursor: String,
    /// Why.
    pub reason: String,
}

/// `status`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Whether the whole way works.
    pub live: bool,
    /// Since when: RFC 3339.
    pub since: String,
    /// Why not.
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Debug)]
pub(super) enum Frame {
    Welcome(Welcome),
    Event(Delivery),
    Resync(Resync),
    Cursor {
        room: String,
        cursor: String,
    },
    Status(Status),
    TokenExpiring {
        seconds: u64,
    },
    Refreshed {
        expires_at: String,
        rooms: BTreeMap<String, RoomState>,
    },
    Bye {
        code: u16,
        reconnect_in_ms: u64,
    },
    /// `pong`, `mode`, and what a later server may add.
    Other,
}

impl Frame {
    /// Reads a text frame. An error means that the other side does not speak `rowcast.v1`.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Op {
            op: String,
        }
        #[derive(Deserialize)]
        struct Cursor {
            room: String,
            cursor: String,
        }
        #[derive(Deserialize)]
        struct TokenExpiring {
            r#in: u64,
        }
        #[derive(Deserialize)]
        struct Refreshed {
            expires_at: String,
            #[serde(default)]
            rooms: BTreeMap<String, RoomState>,
        }
        #[derive(Deserialize)]
        struct Bye {
            code: u16,
            reconnect_in_ms: u64,
        }

        let Op { op } = serde_json::from_str(text)?;
        // Twice over the text, because serde's tagged enums cannot hold the data as it came.
        Ok(match op.as_str() {
            "welcome" => Self::Welcome(serde_json::from_str(text)?),
            "event" => Self::Event(serde_json::from_str(text)?),
            "resync" => Self::Resync(serde_json::from_str(text)?),
            "cursor" => {
                let Cursor { room, cursor } = serde_json::from_str(text)?;
                Self::Cursor { room, cursor }
            }
            "status" => Self::Status(serde_json::from_str(text)?),
            "token_expiring" => {
                Self::TokenExpiring { seconds: serde_json::from_str::<TokenExpiring>(text)?.r#in }
            }
            "refreshed" => {
                let Refreshed { expires_at, rooms } = serde_json::from_str(text)?;
                Self::Refreshed { expires_at, rooms }
            }
            "bye" => {
                let Bye { code, reconnect_in_ms } = serde_json::from_str(text)?;
                Self::Bye { code, reconnect_in_ms }
            }
            _ => Self::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use rowcast_protocol::{
        Cursor, EventId, Generation, Offset, RoomName, StreamId,
        frame::{RoomWelcome, ServerFrame, event},
        record::event_fragment,
    };

    use super::*;

    fn cursor() -> Cursor {
        Cursor { generation: Generation(3), stream: StreamId(0xab), offset: Offset(7) }
    }

    #[test]
    fn what_the_server_writes_is_what_this_client_reads() {
        let rooms = || BTreeMap::from([("m1", RoomWelcome { cursor: cursor(), resumed: true })]);
        let welcome = ServerFrame::Welcome {
            session: "s",
            rooms: rooms(),
            heartbeat: 25,
            expires_at: Micros(0),
            live: true,
            now: Micros(0),
        };
        let Frame::Welcome(read) = Frame::parse(&welcome.to_json()).unwrap() else { panic!("not welcome") };
        assert!(read.live && read.rooms["m1"].resumed && read.rooms["m1"].cursor == cursor().to_string());

        let refreshed = ServerFrame::Refreshed { expires_at: Micros(0), rooms: rooms(), now: Micros(0) };
        assert!(
            matches!(Frame::parse(&refreshed.to_json()).unwrap(), Frame::Refreshed { rooms, .. } if rooms.len() == 1)
        );
        let resync = ServerFrame::Resync { room: "m1", cursor: cursor(), reason: "trimmed" };
        assert!(
            matches!(Frame::parse(&resync.to_json()).unwrap(), Frame::Resync(r) if r.reason == "trimmed")
        );
        let status = ServerFrame::Status { live: false, since: Micros(0), reason: "redis" };
        assert!(matches!(Frame::parse(&status.to_json()).unwrap(), Frame::Status(s) if !s.live));
        let expiring = ServerFrame::TokenExpiring { r#in: 60 };
        assert!(matches!(Frame::parse(&expiring.to_json()).unwrap(), Frame::TokenExpiring { seconds: 60 }));
        let bye = ServerFrame::bye(rowcast_protocol::CloseCode::Restart, 250);
        assert!(matches!(
            Frame::parse(&bye.to_json()).unwrap(),
            Frame::Bye { code: 1012, reconnect_in_ms: 250 }
        ));
        assert!(matches!(Frame::parse(&ServerFrame::Pong.to_json()).unwrap(), Frame::Other));
    }

    #[test]
    fn an_events_data_stays_as_it_came() {
        let data = r#"{"z":1.10,"a":123456789012345678901234567890}"#;
        let id = EventId { row: 1, occurred_at: 1_000_000 };
        let mut frame = Vec::new();
        let room = RoomName::parse("m1").unwrap();
        event(&mut frame, &room, cursor(), &event_fragment(id, "booking.created", data, None, false));
        let text = String::from_utf8(frame).unwrap();
        let Frame::Event(mut delivery) = Frame::parse(&text).unwrap() else { panic!("not an event") };
        assert_eq!(delivery.data.get(), data);
        delivery.received_at = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_002_500);
        assert_eq!(delivery.latency_ms(), Some(2.5));
    }
}
