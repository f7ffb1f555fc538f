//! Frames of events for clients of Socket.IO: made once for all of one room in the first namespace, and for others put
//! together around what they share.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use rowcast_protocol::frame::ServerFrame;
use rowcast_protocol::socketio::{self, Emit};
use rowcast_protocol::{RecordKind, cursors};

use super::Settings;
use crate::event::Event;
use crate::wire;

/// Said in place of an event that cannot be read: a client must not take itself for complete.
const UNREADABLE: &str = "unreadable";

/// An event as clients of Socket.IO get it.
#[derive(Debug, PartialEq, Eq)]
pub struct EventFrames {
    whole: Bytes,
    body: Range<usize>,
}

impl EventFrames {
    /// Puts an event into its packet.
    pub fn compose(event: &Event, settings: &Settings) -> Self {
        let head = socketio::event_head(settings.namespaces.first().map_or("/", String::as_str));
        let body = body(event, settings);
        let place = cursors::encode([(event.room.as_str(), event.cursor())]);
        let mut frame = wire::space_for_header();
        for text in [&head, &body, &socketio::tail(Some(&place))] {
            frame.extend_from_slice(text.as_bytes());
        }
        let (whole, header) = wire::text_frame_in_place(frame);
        let begin = header + head.len();
        Self { whole, body: begin..begin + body.len() }
    }

    /// The whole frame, for a client of the event's room alone in the first namespace.
    pub fn whole(&self) -> &Bytes {
        &self.whole
    }

    /// What is between a packet's head and its tail.
    pub fn body(&self) -> Bytes {
        self.whole.slice(self.body.clone())
    }
}

fn body(event: &Event, settings: &Settings) -> String {
    let json = std::str::from_utf8(event.json()).unwrap_or_default();
    let emit = match event.kind {
        RecordKind::Event => Emit::event(json, settings.shape),
        RecordKind::Resync => Emit::frame(json),
    };
    emit.as_ref().map_or_else(|| unreadable(event), Emit::body)
}

fn unreadable(event: &Event) -> String {
    tracing::warn!(room = %event.room, cursor = %event.cursor(), "an event is not JSON; clients of Socket.IO are told to fetch anew");
    let (room, cursor) = (event.room.as_str(), event.cursor());
    let resync = ServerFrame::Resync { room, cursor, reason: UNREADABLE }.to_json();
    Emit::frame(&resync).expect("a resync is a frame").body()
}

/// Puts a packet of an event together whose body others have too.
pub fn around(frames: &mut VecDeque<Bytes>, namespace: &str, body: Bytes, offset: Option<&str>) {
    let (head, tail) = (socketio::event_head(namespace), socketio::tail(offset));
    let mut begin = wire::text_header(head.len() + body.len() + tail.len());
    begin.extend_from_slice(head.as_bytes());
    frames.extend([begin.freeze(), body, tail.into()]);
}

/// A packet in a frame of its own.
pub fn packet(text: &str) -> Bytes {
    wire::text_frame(text.as_bytes())
}

/// A packet of something that is emitted.
pub fn emit(namespace: &str, emit: &Emit<'_>, offset: Option<&str>) -> Bytes {
    packet(&[socketio::event_head(namespace), emit.body(), socketio::tail(offset)].concat())
}
