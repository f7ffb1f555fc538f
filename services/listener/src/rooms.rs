//! The rooms that the publisher remembers, each in a slot that stays its own while it has anything to do.

use std::collections::HashMap;

use rowcast_protocol::RoomName;

use crate::room::Room;

/// The rooms, up to a limit beyond which idle ones are forgotten.
pub(crate) struct Rooms {
    limit: usize,
    slots: HashMap<RoomName, usize>,
    rooms: Vec<Option<Room>>,
    vacant: Vec<usize>,
    /// Eviction's clock hand.
    hand: usize,
}

impl Rooms {
    /// None, and at most about `limit`.
    pub fn new(limit: usize) -> Self {
        Self { limit, slots: HashMap::new(), rooms: Vec::new(), vacant: Vec::new(), hand: 0 }
    }

    /// The room in a slot.
    pub fn get(&mut self, slot: usize) -> &mut Room {
        self.rooms[slot].as_mut().expect("a room with rows or under way is remembered")
    }

    /// The room in a slot, to look at; none when it is forgotten.
    pub fn peek(&self, slot: usize) -> Option<&Room> {
        self.rooms[slot].as_ref()
    }

    /// A room by its name, if it is remembered.
    pub fn find(&self, name: &RoomName) -> Option<&Room> {
        self.slots.get(name).and_then(|slot| self.peek(*slot))
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room> {
        self.rooms.iter_mut().flatten()
    }

    /// The slots of all.
    pub fn slots(&self) -> Vec<usize> {
        (0..self.rooms.len()).filter(|slot| self.rooms[*slot].is_some()).collect()
    }

    /// The slot of a name; a room that is not remembered is made.
    pub fn slot_of(&mut self, name: RoomName) -> usize {
        if let Some(slot) = self.slots.get(&name) {
            return *slot;
        }
        if self.slots.len() >= self.limit {
            self.evict();
        }
        let room = Some(Room::new(name.clone()));
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.rooms[slot] = room;
                slot
            }
            None => {
                self.rooms.push(room);
                self.rooms.len() - 1
            }
        };
        self.slots.insert(name, slot);
        slot
    }

    /// Forgets one idle room that was not used lately (the clock algorithm). When none is idle there is one room
    /// more than the limit; their number is bounded by that of the rows.
    fn evict(&mut self) {
        for _ in 0..self.rooms.len() * 2 {
            self.hand = (self.hand + 1) % self.rooms.len();
            let Some(room) = &mut self.rooms[self.hand] else { continue };
            if !room.is_idle() || room.scheduled || std::mem::take(&mut room.touched) {
                continue;
            }
            self.slots.remove(&room.name);
            self.rooms[self.hand] = None;
            self.vacant.push(self.hand);
            return;
        }
    }

    /// How many there are, and how many slots they ever took.
    #[cfg(test)]
    pub fn count(&self) -> (usize, usize) {
        (self.slots.len(), self.rooms.len())
    }
}
