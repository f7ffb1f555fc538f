//! What goes into the publisher and what comes out of it.

use rowcast_bus::Refusal;
use rowcast_protocol::EventId;

use crate::past::Past;

/// A committed row of the outbox.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its identity.
    pub id: EventId,
    /// The round in which it was read (`crate::floor`); given back with the row's acknowledgement.
    pub round: u64,
    /// The room's name, unchecked.
    pub room: String,
    /// The event's type, unchecked.
    pub event_type: String,
    /// JSON.
    pub data: String,
    /// Names of changed columns.
    pub changed: Option<Vec<String>>,
    /// `data` is only a reference.
    pub truncated: bool,
    /// When it became visible to readers, at the earliest.
    pub visible: Past,
    /// For rows of which an earlier leader may have published some: when this one was written, at the earliest.
    pub written: Option<Past>,
}

/// The publisher's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows in the publisher or published and not deleted; the reader stops above it.
    pub max_rows: usize,
    /// Commands in a batch.
    pub batch_commands: usize,
    /// Bytes in a batch, roughly; one command may exceed it.
    pub batch_bytes: usize,
    /// Bytes of one event's JSON; a larger one is poison.
    pub event_bytes: usize,
    /// Entries that a room's log keeps at least. Half as many rows of a room may await deletion: a leader that takes
    /// over while another was taking over must still find the rows of both.
    pub log_entries: usize,
    /// Rooms that are remembered.
    pub rooms: usize,
}

/// Where a room stands among those remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub(super) usize);

/// A row that is in its room's log, or that never will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The row.
    pub id: EventId,
    /// Its round; none where it was found in the log before it was read.
    pub round: Option<u64>,
    /// Why it is a dead letter.
    pub poison: Option<&'static str>,
    pub(super) slot: Option<Slot>,
}

/// What one batch came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Refusals; the next batch should wait.
    pub refused: Vec<Refusal>,
    /// Redis does not know the scripts.
    pub scripts_missing: bool,
    /// Rooms whose head was another one.
    pub moved: usize,
    /// Streams begun: new rooms, and those whose history was gone.
    pub created: usize,
    /// The leader's claim is gone, and all keys with it. [`crate::history`] is to be asked before anything else is sent.
    pub history_gone: bool,
    /// What edges go by was written: the next heartbeat tells them.
    pub mirrored: bool,
    /// The heartbeat went out.
    pub heartbeat_sent: bool,
}
