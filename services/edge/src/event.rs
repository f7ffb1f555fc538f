//! An event as this edge holds it: its frame, encoded once, shared by every socket that gets it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rowcast_protocol::frame::{self, ServerFrame};
use rowcast_protocol::{Cursor, Generation, Micros, Offset, Record, RecordKind, RoomName, StreamId};

use crate::socketio::Settings;
use crate::socketio::frames::EventFrames;
use crate::wire;

/// One entry of a room's history.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The room.
    pub room: RoomName,
    /// The history that the room's cursors are of.
    pub generation: Generation,
    /// The stream that it belongs to.
    pub stream: StreamId,
    /// Its place there.
    pub offset: Offset,
    /// Event or resync.
    pub kind: RecordKind,
    /// The type, for filters.
    pub event_type: Box<str>,
    /// When it occurred, on PostgreSQL's clock.
    pub occurred_at: Micros,
    frame: Bytes,
    header: usize,
    /// As clients of Socket.IO get it, once there was one.
    socketio: OnceLock<EventFrames>,
}

impl Event {
    /// Puts a record into its frame.
    pub fn compose(room: &RoomName, generation: Generation, record: Record) -> Arc<Self> {
        let cursor = Cursor { generation, stream: record.stream, offset: record.offset };
        let mut json = wire::space_for_header();
        match record.kind {
            RecordKind::Event => frame::event(&mut json, room, cursor, &record.fragment),
            RecordKind::Resync => {
                let resync = ServerFrame::Resync { room: room.as_str(), cursor, reason: &record.event_type };
                json.extend_from_slice(resync.to_json().as_bytes());
            }
        }
        let (frame, header) = wire::text_frame_in_place(json);
        Arc::new(Self {
            room: room.clone(),
            generation,
            stream: record.stream,
            offset: record.offset,
            kind: record.kind,
            occurred_at: record.occurred_at(),
            event_type: record.event_type.into(),
            header,
            frame,
            socketio: OnceLock::new(),
        })
    }

    /// Where its client stands in the room once it has it.
    pub fn cursor(&self) -> Cursor {
        Cursor { generation: self.generation, stream: self.stream, offset: self.offset }
    }

    /// The whole WebSocket frame.
    pub fn websocket_frame(&self) -> &Bytes {
        &self.frame
    }

    /// What clients of Socket.IO get, made for the first of them. All of an edge have the same settings.
    pub fn socketio(&self, settings: &Settings) -> &EventFrames {
        self.socketio.get_or_init(|| EventFrames::compose(self, settings))
    }

    /// The frame's JSON text.
    pub fn json(&self) -> &[u8] {
        &self.frame[self.header..]
    }
}
