//! A model of Redis with the semantics of the scripts (`crates/bus/src/*.lua`), and everything that was ever appended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rowcast_bus::{Command, Head, Refusal, Reply};
use rowcast_protocol::{Epoch, EventId, Offset, Record, StreamId};

/// How long a log outlives its last event.
pub(super) const LOG_LIFETIME: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(super) struct Appended {
    pub stream: u64,
    pub epoch: u64,
    pub id: EventId,
}

#[derive(Debug, Default)]
struct Room {
    head: Option<Head>,
    appended_at: Option<Instant>,
    log: Vec<EventId>,
    history: Vec<Appended>,
    /// The generation in which it was last flushed while it had a head.
    lost_in: Option<u64>,
    /// An old leader began the present stream.
    stray: bool,
}

#[derive(Debug)]
pub(super) struct Redis {
    rooms: BTreeMap<String, Room>,
    beat: u64,
    claimed: Option<Epoch>,
    /// The leader that wrote the switches, and their version.
    mirrored: (Epoch, u64),
    log_entries: usize,
    /// Out of memory: nothing is written.
    pub full: bool,
    pub scripts_missing: bool,
}

impl Redis {
    pub fn new(log_entries: usize) -> Self {
        Self {
            rooms: BTreeMap::new(),
            beat: 0,
            claimed: None,
            mirrored: (Epoch(0), 0),
            log_entries,
            full: false,
            scripts_missing: false,
        }
    }

    pub fn rooms(&self) -> impl Iterator<Item = &String> {
        self.rooms.keys()
    }

    pub fn history(&self, room: &str) -> &[Appended] {
        &self.rooms[room].history
    }

    /// The generation in which a room's history was last flushed.
    pub fn lost_in(&self, room: &str) -> Option<u64> {
        self.rooms.get(room).and_then(|room| room.lost_in)
    }

    /// An old leader began a room's stream: the present one may have found none before that.
    pub fn on_stray(&mut self, room: &str) {
        self.rooms.entry(room.to_owned()).or_default().stray = true;
    }

    /// All keys are gone.
    pub fn flush(&mut self, generation: u64) {
        (self.beat, self.claimed, self.mirrored) = (0, None, (Epoch(0), 0));
        for room in self.rooms.values_mut() {
            room.lost_in = room.head.filter(|_| !room.stray).map(|_| generation).or(room.lost_in);
            room.stray = false;
            room.head = None;
            room.log.clear();
        }
    }

    /// Logs whose time is over are gone.
    pub fn expire(&mut self, now: Instant) {
        for room in self.rooms.values_mut() {
            if room.appended_at.is_some_and(|at| now.saturating_duration_since(at) > LOG_LIFETIME) {
                room.log.clear();
            }
        }
    }

    pub fn execute(&mut self, command: &Command, now: Instant) -> Reply {
        if self.scripts_missing && !matches!(command, Command::Check(_)) {
            return refused("NOSCRIPT");
        }
        match command {
            Command::Check(epoch) => match self.claimed {
                Some(claimed) if claimed > *epoch => Reply::Fenced(claimed),
                Some(claimed) if claimed == *epoch => Reply::Done,
                _ => Reply::Moved,
            },
            Command::Mirror(epoch, mirror) => match self.claimed {
                Some(claimed) if claimed > *epoch => Reply::Fenced(claimed),
                Some(claimed) if claimed == *epoch => {
                    if self.full {
                        return refused("OOM");
                    }
                    // A leader's own commands can be late; an earlier leader's version counts for nothing.
                    self.mirrored = (claimed, mirror.version).max(self.mirrored);
                    Reply::Done
                }
                _ => Reply::Moved,
            },
            Command::Sync { room, last } => self.sync(room.as_str(), *last, now),
            Command::Heartbeat(heartbeat) => {
                if self.beat > heartbeat.epoch {
                    return Reply::Fenced(Epoch(self.beat));
                }
                if self.full {
                    return refused("OOM");
                }
                self.beat = heartbeat.epoch;
                Reply::Done
            }
            Command::Append { room, epoch, stream, expected, id, record } => {
                let fits = |head: Option<Head>| {
                    head.is_some_and(|head| head.stream == *stream && head.offset == *expected)
                };
                self.append(room.as_str(), now, *epoch, *stream, expected.next(), *id, record, fits)
            }
            Command::Create { room, epoch, stream, replaces, id, record } => {
                let fits = |head: Option<Head>| head.map(|head| (head.stream, head.offset)) == *replaces;
                self.append(room.as_str(), now, *epoch, *stream, Offset(1), *id, record, fits)
            }
        }
    }

    /// Who claimed it last; [`Redis::claim`] takes it over.
    pub fn claimed(&self) -> Option<Epoch> {
        self.claimed
    }

    /// The version of the switches that an edge would find.
    pub fn mirrored(&self) -> u64 {
        self.mirrored.1
    }

    /// `PublishLink::claim`.
    pub fn claim(&mut self, epoch: Epoch) -> Reply {
        match self.claimed {
            Some(newer) if newer > epoch => Reply::Fenced(newer),
            _ if self.full => refused("OOM"),
            _ => {
                self.claimed = Some(epoch);
                Reply::Done
            }
        }
    }

    fn sync(&mut self, room: &str, last: usize, now: Instant) -> Reply {
        let room = self.rooms.entry(room.to_owned()).or_default();
        if room.head.is_none() {
            return Reply::absent();
        }
        assert!(last > 0, "XREVRANGE COUNT 0 is an error");
        let since_append = room.appended_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let ids = room.log.iter().rev().take(last).copied().collect();
        Reply::Synced { head: room.head, since_append, ids, resyncs: Vec::new() }
    }

    #[expect(clippy::too_many_arguments, reason = "the arguments of the script")]
    fn append(
        &mut self,
        name: &str,
        now: Instant,
        epoch: Epoch,
        stream: StreamId,
        offset: Offset,
        id: EventId,
        record: &[u8],
        fits: impl Fn(Option<Head>) -> bool,
    ) -> Reply {
        let room = self.rooms.entry(name.to_owned()).or_default();
        if let Some(head) = room.head
            && head.epoch > epoch
        {
            return Reply::Fenced(head.epoch);
        }
        if !fits(room.head) {
            return Reply::Moved;
        }
        if self.full {
            return refused("OOM");
        }
        let decoded = Record::decode(&record.to_vec().into()).expect("a record");
        assert_eq!(
            (decoded.stream, decoded.offset, decoded.id),
            (stream, offset, id),
            "a record knows its place"
        );
        if offset == Offset(1) {
            room.log.clear();
        }
        room.head = Some(Head { stream, offset, epoch });
        room.appended_at = Some(now);
        room.log.push(id);
        if room.log.len() > self.log_entries {
            room.log.remove(0);
        }
        room.history.push(Appended { stream: stream.0, epoch: epoch.0, id });
        Reply::Done
    }
}

fn refused(code: &str) -> Reply {
    Reply::Refused(Refusal { code: code.to_owned(), detail: String::new() })
}
