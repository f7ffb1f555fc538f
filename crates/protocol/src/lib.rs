//! The language that Rowcast's processes and clients speak: names, positions, records, frames, close codes.
//!
//! Everything here is pure: no sockets, no clocks, no files. A value is parsed once at the border into one of
//! these types and is not validated again further in.

pub mod client;
pub mod close;
pub mod cursors;
pub mod filter;
pub mod frame;
pub mod heartbeat;
pub mod mirror;
pub mod name;
pub mod position;
pub mod record;
pub mod report;
pub mod revocations;
pub mod socketio;
pub mod timestamp;

pub use client::{ClientMessage, MalformedMessage};
pub use close::CloseCode;
pub use filter::TypeFilter;
pub use heartbeat::Heartbeat;
pub use mirror::{Mirror, Sheet, Switches};
pub use name::{InvalidRoom, RoomName};
pub use position::{Cursor, Epoch, EventId, Generation, InvalidCursor, Offset, StreamId};
pub use record::{InvalidRecord, Record, RecordKind};
pub use report::{MalformedReport, Report};
pub use revocations::{RevocationKind, Revocations};
pub use timestamp::Micros;

/// The WebSocket subprotocol that clients ask for and the edge answers with.
pub const SUBPROTOCOL: &str = "rowcast.v1";

/// The subprotocol prefix under which a browser can hand over its token.
pub const BEARER_SUBPROTOCOL: &str = "bearer.";
