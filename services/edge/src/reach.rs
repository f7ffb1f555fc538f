//! Where a client stands in its rooms once it has what it was given, for those that send it back: by HTTP, and by
//! Socket.IO.

use std::collections::BTreeMap;
use std::fmt;

use rowcast_protocol::{Cursor, RecordKind, RoomName, cursors};

use crate::session::{Greeting, Outgoing, Session};

/// The client's place in each of its rooms.
#[derive(Debug)]
pub struct Reach {
    rooms: BTreeMap<RoomName, Place>,
}

/// The client's place in one room.
#[derive(Debug, Default)]
pub struct Place {
    /// What to send back; nothing where the room was not begun.
    pub cursor: Option<Sent>,
    /// Whether the client goes on from what it brought.
    pub resumed: bool,
}

/// A cursor as it is sent.
#[derive(Debug, Clone)]
pub enum Sent {
    /// What the client came with: as long as it owes it a resync, it does not stand anywhere else.
    Brought(String),
    /// Where it stands.
    At(Cursor),
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Brought(text) => text.fmt(f),
            Self::At(cursor) => cursor.fmt(f),
        }
    }
}

impl Reach {
    /// Before anything was given.
    pub fn new(rooms: &[RoomName], brought: &BTreeMap<String, String>) -> Self {
        let place = |room: &RoomName| {
            let cursor = brought.get(room.as_str()).cloned().map(Sent::Brought);
            Place { resumed: cursor.is_some(), cursor }
        };
        Self { rooms: rooms.iter().map(|room| (room.clone(), place(room))).collect() }
    }

    /// The client is given this.
    pub fn note(&mut self, outgoing: &Outgoing) {
        match outgoing {
            Outgoing::Welcome(greeting) => {
                for (room, start, resumed) in &greeting.rooms {
                    let Some(place) = self.rooms.get_mut(room) else { continue };
                    place.resumed = *resumed;
                    // Who is owed a resync has to come back for it if the way breaks off before.
                    if *resumed || place.cursor.is_none() {
                        place.cursor = Some(Sent::At(*start));
                    }
                }
            }
            Outgoing::Event(event) => {
                self.place(&event.room, event.cursor(), event.kind == RecordKind::Resync)
            }
            Outgoing::Resync(placed) => self.place(&placed.room, placed.cursor, true),
            Outgoing::Cursor(placed) => self.place(&placed.room, placed.cursor, false),
            _ => {}
        }
    }

    /// Nothing more will be given: where all that was queued has been, the client is as far as its session, past what
    /// it does not want to see too.
    pub fn settle(&mut self, session: &Session) {
        for (room, cursor) in session.reached() {
            self.place(room, cursor, false);
        }
    }

    /// The client has these rooms from now on. In new ones it stands nowhere yet.
    pub fn has(&mut self, greeting: &Greeting) {
        self.rooms.retain(|room, _| greeting.rooms.iter().any(|(named, _, _)| named == room));
        for (room, _, _) in &greeting.rooms {
            self.rooms.entry(room.clone()).or_default();
        }
    }

    /// Whether the client has one room alone.
    pub fn is_of_one_room(&self) -> bool {
        self.rooms.len() == 1
    }

    /// Whether the client stands somewhere in the room, or has said that it does.
    pub fn stands_in(&self, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(|place| place.cursor.is_some())
    }

    /// The client stands here, and has to fetch anew or not.
    pub fn place(&mut self, room: &RoomName, cursor: Cursor, anew: bool) {
        if let Some(place) = self.rooms.get_mut(room) {
            place.cursor = Some(Sent::At(cursor));
            place.resumed &= !anew;
        }
    }

    /// The rooms that were begun.
    pub fn rooms(&self) -> impl Iterator<Item = (&str, &Sent, bool)> {
        let begun = self.rooms.iter();
        begun.filter_map(|(room, place)| Some((room.as_str(), place.cursor.as_ref()?, place.resumed)))
    }

    /// All cursors as one text.
    pub fn encoded(&self) -> String {
        cursors::encode(self.rooms().map(|(room, cursor, _)| (room, cursor)))
    }
}
