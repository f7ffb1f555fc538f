//! Where a client stands in each room, and whether an event follows what it has seen. No IO.
//!
//! Other clients treat cursors as opaque; this one also diagnoses, so it looks into them.

use std::collections::BTreeMap;

use rowcast_protocol::{Cursor, Offset, StreamId};

use super::frames::RoomState;

/// How an event follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// As it should.
    Next,
    /// It was seen before.
    Repeat,
    /// Something between is missing, and no resync said so.
    Gap,
}

#[derive(Debug)]
pub(super) struct Positions {
    cursors: BTreeMap<String, String>,
    /// Under a type filter offsets may jump.
    filtered: bool,
}

impl Positions {
    pub fn new(cursors: BTreeMap<String, String>, filtered: bool) -> Self {
        Self { cursors, filtered }
    }

    pub fn cursors(&self) -> &BTreeMap<String, String> {
        &self.cursors
    }

    /// Takes the rooms of a sign-in. In a room that is known already our own cursor stays: either the replay follows
    /// it, or a resync replaces it.
    pub fn welcome(&mut self, rooms: &BTreeMap<String, RoomState>) {
        self.cursors.retain(|room, _| rooms.contains_key(room));
        for (room, state) in rooms {
            self.cursors.entry(room.clone()).or_insert_with(|| state.cursor.clone());
        }
    }

    pub fn set(&mut self, room: &str, cursor: &str) {
        self.cursors.insert(room.to_owned(), cursor.to_owned());
    }

    /// Judges an event by its cursor, and goes on from it unless it is a repeat.
    pub fn step(&mut self, room: &str, cursor: &str) -> Step {
        let step = match (self.cursors.get(room).map(|seen| seen.parse::<Cursor>()), cursor.parse::<Cursor>())
        {
            (Some(Ok(seen)), Ok(new)) => judge(seen, new, self.filtered),
            // Without a position, or with cursors of a form that is not known here, nothing can be said.
            _ => Step::Next,
        };
        if step != Step::Repeat {
            self.set(room, cursor);
        }
        step
    }
}

fn judge(mut seen: Cursor, new: Cursor, filtered: bool) -> Step {
    // Where a room had no history, the first event of its first stream is the next one.
    if seen.stream == StreamId::NONE && seen.offset == Offset::ZERO && new.stream.is_first() {
        seen.stream = new.stream;
    }
    if (seen.generation, seen.stream) != (new.generation, new.stream) {
        return Step::Gap;
    }
    if new.offset <= seen.offset {
        return Step::Repeat;
    }
    if filtered || new.offset == seen.offset.next() { Step::Next } else { Step::Gap }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(offset: u64) -> String {
        format!("1.00000000000000ab:{offset}")
    }

    fn at(offset: u64, filtered: bool) -> Positions {
        Positions::new(BTreeMap::from([("m1".to_owned(), cursor(offset))]), filtered)
    }

    #[test]
    fn repeats_and_gaps_are_seen_and_a_repeat_moves_nothing() {
        let mut positions = at(4, false);
        assert_eq!(positions.step("m1", &cursor(5)), Step::Next);
        assert_eq!(positions.step("m1", &cursor(4)), Step::Repeat);
        assert_eq!(positions.cursors()["m1"], cursor(5));
        assert_eq!(positions.step("m1", &cursor(7)), Step::Gap);
        assert_eq!(positions.step("m1", "1.00000000000000ff:8"), Step::Gap);
        assert_eq!(positions.step("m1", "2.00000000000000ff:9"), Step::Gap);
        assert_eq!(positions.step("m2", &cursor(9)), Step::Next);
        assert_eq!(at(4, true).step("m1", &cursor(9)), Step::Next);
    }

    #[test]
    fn the_first_event_of_a_room_without_history_is_no_gap() {
        let after = |first: &str, filtered: bool| {
            Positions::new(BTreeMap::from([("m1".to_owned(), "1.0000000000000000:0".to_owned())]), filtered)
                .step("m1", first)
        };
        assert_eq!(after("1.00000000000000ac:1", false), Step::Next);
        assert_eq!(after("1.00000000000000ac:2", false), Step::Gap);
        assert_eq!(after("1.00000000000000ac:2", true), Step::Next);
        // A stream before which another was given up, and another history.
        assert_eq!(after("1.00000000000000ad:1", false), Step::Gap);
        assert_eq!(after("2.00000000000000ac:1", false), Step::Gap);
    }

    #[test]
    fn a_welcome_keeps_our_own_cursors_adds_new_rooms_and_drops_lost_ones() {
        let mut positions = at(4, false);
        positions.set("gone", &cursor(1));
        let rooms = ["m1", "m2"]
            .map(|room| (room.to_owned(), RoomState { cursor: cursor(9), resumed: room == "m1" }));
        positions.welcome(&BTreeMap::from(rooms));
        let expected = [("m1", 4), ("m2", 9)].map(|(room, offset)| (room.to_owned(), cursor(offset)));
        assert_eq!(positions.cursors(), &BTreeMap::from(expected));
    }
}
