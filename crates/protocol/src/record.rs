//! What is published in Redis and kept in a room's log: a small binary header and the event as a JSON fragment.
//!
//! The fragment is written once, by the listener; the edge puts it between the frame's own fields without
//! parsing it. The generation is not in it: that belongs to the moment of sending.

use bytes::Bytes;

use crate::position::{EventId, Offset, StreamId};
use crate::timestamp::Micros;

const VERSION: u8 = 1;
const HEADER: usize = 1 + 1 + 8 + 8 + 8 + 8 + 2;

/// What a record means to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// An event.
    Event,
    /// An event that could not be carried stood here: clients fetch anew.
    Resync,
}

/// One entry of a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Event or resync.
    pub kind: RecordKind,
    /// The stream that it belongs to.
    pub stream: StreamId,
    /// Its place there.
    pub offset: Offset,
    /// The event's identity.
    pub id: EventId,
    /// The event's type, or the reason of a resync.
    pub event_type: String,
    /// The event's JSON fields without braces: `"id":…,"type":…,"at":…,"data":…`; empty for a resync.
    pub fragment: Bytes,
}

/// Bytes that are not a record of a version known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecord {
    /// Cut short, or a length that points past the end.
    #[error("a record of {0} bytes is cut short")]
    Short(usize),
    /// A version that this build does not know.
    #[error("record version {0} is unknown to this build; upgrade the edges before the listeners")]
    Version(u8),
    /// A kind that this build does not know.
    #[error("record kind {0} is unknown to this build; upgrade the edges before the listeners")]
    Kind(u8),
    /// The type is not UTF-8.
    #[error("a record's type is not UTF-8")]
    NotUtf8,
}

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let event_type = self.event_type.as_bytes();
        let type_length = u16::try_from(event_type.len()).expect("types are at most 200 bytes");
        let mut bytes = Vec::with_capacity(HEADER + event_type.len() + self.fragment.len());
        bytes.push(VERSION);
        bytes.push(match self.kind {
            RecordKind::Event => 0,
            RecordKind::Resync => 1,
        });
        bytes.extend_from_slice(&self.stream.0.to_be_bytes());
        bytes.extend_from_slice(&self.offset.0.to_be_bytes());
        bytes.extend_from_slice(&self.id.row.to_be_bytes());
        bytes.extend_from_slice(&self.id.occurred_at.to_be_bytes());
        bytes.extend_from_slice(&type_length.to_be_bytes());
        bytes.extend_from_slice(event_type);
        bytes.extend_from_slice(&self.fragment);
        bytes
    }

    /// Reads a record; the fragment shares the given bytes.
    pub fn decode(bytes: &Bytes) -> Result<Self, InvalidRecord> {
        let short = || InvalidRecord::Short(bytes.len());
        match bytes.first() {
            None => return Err(short()),
            Some(&VERSION) => {}
            Some(&other) => return Err(InvalidRecord::Version(other)),
        }
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or_else(short)?;
        let kind = match header[1] {
            0 => RecordKind::Event,
            1 => RecordKind::Resync,
            other => return Err(InvalidRecord::Kind(other)),
        };
        let number = |at: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&header[at..at + 8]);
            u64::from_be_bytes(eight)
        };
        let type_end = HEADER + usize::from(u16::from_be_bytes([header[34], header[35]]));
        let event_type = bytes.get(HEADER..type_end).ok_or_else(short)?;
        Ok(Self {
            kind,
            stream: StreamId(number(2)),
            offset: Offset(number(10)),
            id: EventId { row: number(18).cast_signed(), occurred_at: number(26).cast_signed() },
            event_type: std::str::from_utf8(event_type).map_err(|_| InvalidRecord::NotUtf8)?.to_owned(),
            fragment: bytes.slice(type_end..),
        })
    }

    /// When it occurred.
    pub fn occurred_at(&self) -> Micros {
        Micros(self.id.occurred_at)
    }
}

/// An event's JSON fields, without braces.
///
/// `data` must be JSON text, as PostgreSQL's `json` type guarantees; it is copied as it stands.
pub fn event_fragment(
    id: EventId,
    event_type: &str,
    data: &str,
    changed: Option<&[String]>,
    truncated: bool,
) -> Vec<u8> {
    use std::io::Write;
    const INVARIANT: &str = "writing JSON text to memory cannot fail";
    let mut fragment = Vec::with_capacity(data.len() + event_type.len() + 128);
    write!(fragment, "\"id\":\"{id}\",\"type\":").expect(INVARIANT);
    serde_json::to_writer(&mut fragment, event_type).expect(INVARIANT);
    write!(fragment, ",\"at\":\"{}\",\"data\":{data}", Micros(id.occurred_at)).expect(INVARIANT);
    if let Some(changed) = changed {
        fragment.extend_from_slice(b",\"changed\":");
        serde_json::to_writer(&mut fragment, changed).expect(INVARIANT);
    }
    if truncated {
        fragment.extend_from_slice(b",\"truncated\":true");
    }
    fragment
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resync() -> Record {
        let id = EventId { row: 3, occurred_at: 4 };
        let (stream, offset) = (StreamId(1), Offset(2));
        Record {
            kind: RecordKind::Resync,
            stream,
            offset,
            id,
            event_type: "t".to_owned(),
            fragment: Bytes::new(),
        }
    }

    #[test]
    fn a_records_bytes_are_the_documented_ones() {
        let numbers = [1u64, 2, 3, 4].map(u64::to_be_bytes).concat();
        assert_eq!(resync().encode(), [&[1, 1], &*numbers, &[0, 1, b't']].concat());
        assert_eq!(resync().occurred_at(), Micros(4));
    }

    #[test]
    fn what_is_no_record_says_why() {
        let broken = |change: fn(&mut Vec<u8>)| {
            let mut bytes = resync().encode();
            change(&mut bytes);
            Record::decode(&bytes.into())
        };
        assert_eq!(broken(Vec::clear), Err(InvalidRecord::Short(0)));
        assert_eq!(broken(|bytes| bytes[0] = 2), Err(InvalidRecord::Version(2)));
        assert_eq!(broken(|bytes| bytes[1] = 9), Err(InvalidRecord::Kind(9)));
        assert_eq!(broken(|bytes| bytes.truncate(35)), Err(InvalidRecord::Short(35)));
        assert_eq!(broken(|bytes| bytes.truncate(36)), Err(InvalidRecord::Short(36)));
        assert_eq!(broken(|bytes| bytes[36] = 0xff), Err(InvalidRecord::NotUtf8));
    }

    proptest! {
        #[test]
        fn a_record_round_trips(
            resync: bool, stream: u64, offset: u64, row: i64, occurred_at: i64,
            event_type in "\\PC{0,50}", fragment: Vec<u8>,
        ) {
            let record = Record {
                kind: if resync { RecordKind::Resync } else { RecordKind::Event },
                stream: StreamId(stream),
                offset: Offset(offset),
                id: EventId { row, occurred_at },
                event_type,
                fragment: fragment.into(),
            };
            prop_assert_eq!(Record::decode(&record.encode().into()), Ok(record));
        }

        #[test]
        fn decoding_anything_never_panics(mut bytes: Vec<u8>, plausible: bool) {
            if plausible && !bytes.is_empty() {
                bytes[0] = VERSION;
            }
            let _ = Record::decode(&bytes.into());
        }

        #[test]
        fn a_fragment_is_json_between_braces(event_type in "\\PC{0,20}", text in "\\PC{0,20}", changed: Option<Vec<String>>) {
            let data = serde_json::json!({ "text": text }).to_string();
            let id = EventId { row: 7, occurred_at: 1_700_000_000_000_001 };
            let fragment = event_fragment(id, &event_type, &data, changed.as_deref(), true);
            let whole = [b"{", fragment.as_slice(), b"}"].concat();
            let value: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
            prop_assert_eq!(value["type"].as_str(), Some(event_type.as_str()));
            prop_assert_eq!(value["data"]["text"].as_str(), Some(text.as_str()));
            prop_assert_eq!(value["at"].as_str(), Some("2023-11-14T22:13:20.000001Z"));
            prop_assert_eq!(value["changed"].as_array().map(Vec::len), changed.map(|c| c.len()));
        }
    }
}
