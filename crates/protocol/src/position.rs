//! Where something stands: epochs of leaders, generations and streams of history, offsets, cursors, event ids.

use std::fmt;
use std::str::FromStr;

/// A leader's number, drawn from a PostgreSQL sequence when it took the lead. A higher one fences a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The number of a history. It is raised in PostgreSQL whenever what Redis holds can no longer be trusted to
/// continue what clients have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// The random name of one room's stream of events. A room whose history had to be begun anew gets another one; the
/// last bit says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The stream of a room that has no history yet.
    pub const NONE: StreamId = StreamId(0);

    /// Names the first stream of a room. Who has seen nothing of the room goes on at its offset 1.
    pub fn first(random: u64) -> Self {
        Self((random & !1).max(2))
    }

    /// Names a stream in place of one whose history had to be given up: nobody goes on into it.
    pub fn renewed(random: u64) -> Self {
        Self(random | 1)
    }

    /// Whether nothing came before this stream.
    pub fn is_first(self) -> bool {
        self != Self::NONE && self.0 & 1 == 0
    }
}

/// A place in a room's stream. The first event has offset 1; offsets are contiguous, so gaps are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// Before the first event.
    pub const ZERO: Offset = Offset(0);

    /// The offset after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for StreamId {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(InvalidCursor);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidCursor)
    }
}

macro_rules! displayed_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
displayed_as_number!(Epoch, Generation, Offset);

/// What a client has seen of a room: `<generation>.<stream>:<offset>`. A string, opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The history that the client saw.
    pub generation: Generation,
    /// The room's stream in it.
    pub stream: StreamId,
    /// The last event seen, or [`Offset::ZERO`].
    pub offset: Offset,
}

/// A text that no Rowcast edge gave out as a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: it must be passed back exactly as it was received")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.generation, self.stream, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (generation, rest) = text.split_once('.').ok_or(InvalidCursor)?;
        let (stream, offset) = rest.split_once(':').ok_or(InvalidCursor)?;
        Ok(Self {
            generation: Generation(canonical_number(generation)?),
            stream: stream.parse()?,
            offset: Offset(canonical_number(offset)?),
        })
    }
}

/// Only the form that is given out is taken back: no sign, no leading zero.
fn canonical_number(text: &str) -> Result<u64, InvalidCursor> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    if canonical { text.parse().map_err(|_| InvalidCursor) } else { Err(InvalidCursor) }
}

/// An event's identity: the outbox row's id and the microsecond at which it occurred, because after a crash of
/// PostgreSQL under `synchronous_commit = off` the same id can be given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId {
    /// `rowcast.outbox.id`.
    pub row: i64,
    /// `rowcast.outbox.occurred_at`, in microseconds since 1970.
    pub occurred_at: i64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.row, self.occurred_at)
    }
}

impl FromStr for EventId {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The row's id may be negative, so the separator is looked for after its first character.
        let separator = text.get(1..).and_then(|rest| rest.find('-')).ok_or(InvalidCursor)? + 1;
        let row = text[..separator].parse().map_err(|_| InvalidCursor)?;
        let occurred_at = text[separator + 1..].parse().map_err(|_| InvalidCursor)?;
        Ok(Self { row, occurred_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_follow_each_other_and_streams_keep_their_random_bits() {
        assert_eq!((Offset::ZERO.next(), Offset(7).next()), (Offset(1), Offset(8)));
        assert_eq!([0, 7, 8].map(StreamId::first), [2, 6, 8].map(StreamId));
        assert_eq!([0, 7, 8].map(StreamId::renewed), [1, 7, 9].map(StreamId));
        assert!(!StreamId::NONE.is_first());
    }

    #[test]
    fn only_the_form_that_is_given_out_is_a_cursor() {
        for text in
            ["0.00000000000000ab:0", "1.ffffffffffffffff:18446744073709551615", "10.0000000000000000:7"]
        {
            assert_eq!(text.parse::<Cursor>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "1",
            "1.00000000000000ab",
            "01.00000000000000ab:7",
            "+1.00000000000000ab:7",
            "1.00000000000000ab:+7",
            "1.00000000000000ab:07",
            "1.00000000000000ab:",
            "1.00000000000000AB:7",
            "1.+0000000000000ab:7",
            "1.0000000000000ab:7",
            "1.000000000000000ab:7",
            "18446744073709551616.00000000000000ab:7",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_tells_whether_another_came_before_it(random: u64) {
            prop_assert!(StreamId::first(random).is_first() && !StreamId::renewed(random).is_first());
            prop_assert!(StreamId::first(random) != StreamId::NONE && StreamId::renewed(random) != StreamId::NONE);
        }

        #[test]
        fn a_cursor_round_trips(generation: u64, stream: u64, offset: u64) {
            let cursor = Cursor { generation: Generation(generation), stream: StreamId(stream), offset: Offset(offset) };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn whatever_parses_as_a_cursor_is_what_was_given_out(text in "\\PC*|[0-9]{1,22}\\.[0-9a-f]{15,17}:[+0-9]{1,22}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }

        #[test]
        fn an_event_id_round_trips(row: i64, occurred_at: i64) {
            let id = EventId { row, occurred_at };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn parsing_an_event_id_never_panics(text in "\\PC*") {
            let _ = text.parse::<EventId>();
        }
    }
}
