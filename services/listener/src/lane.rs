//! What the publisher keeps of each server: the rooms with something to send there, the batch under way, what stands there
//! besides events, and what was last said. No IO.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rowcast_protocol::{Generation, Mirror, Sheet};

use crate::publisher::Mirrors;

/// A lane. A server that comes back after it was gone gets another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId(u32);

impl LaneId {
    /// That of the one server where there is one from the beginning.
    pub const FIRST: Self = Self(1);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A command under way, with the slot of its room.
#[derive(Debug)]
pub(crate) enum Flight {
    Sync(usize),
    Append(usize),
    Create(usize),
    Mirror(Sheet, u64),
    Check,
    Heartbeat,
}

/// The way to one server.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The server's name.
    pub name: Arc<str>,
    /// Rooms with something to send, each once.
    pub round: VecDeque<usize>,
    pub flights: Vec<Flight>,
    pub sent_at: Option<Instant>,
    /// Nothing of rooms goes out while it is held.
    pub held: bool,
    /// What edges are to find there besides events.
    pub mirrors: Mirrors,
    /// The generation of the last heartbeat that it took, and of the one that is on its way.
    pub told: Option<Generation>,
    pub telling: Option<Generation>,
    /// The generation when the lane was made. What the server had by then was published under it or before.
    pub since: Option<Generation>,
    /// When the next heartbeat is due; at once where none was sent.
    pub heartbeat_due: Option<Instant>,
    /// Whether it takes what is sent.
    pub takes: bool,
}

impl Lane {
    pub fn new<'a>(name: Arc<str>, sheets: impl Iterator<Item = &'a Mirror>) -> Self {
        let mut mirrors = Mirrors::default();
        sheets.for_each(|sheet| {
            mirrors.set(sheet.clone());
        });
        Self {
            name,
            round: VecDeque::new(),
            flights: Vec::new(),
            sent_at: None,
            held: false,
            mirrors,
            told: None,
            telling: None,
            since: None,
            heartbeat_due: None,
            takes: false,
        }
    }

    /// Whether a batch is under way.
    pub fn is_waiting(&self) -> bool {
        self.sent_at.is_some()
    }
}
