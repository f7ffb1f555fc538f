//! Compares what clients got with what was committed. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rowcast_protocol::{Cursor, StreamId};

use crate::client::{Account, Entry};
use crate::inject::Happened;
use crate::journal::{Key, Truth};

/// After a loss of history is over, clients are told within this. Some were away; they are told when they come back,
/// once.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// What was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    Lost,
    Repeated,
    OutOfOrder,
    RolledBack,
    Foreign,
    Misled,
    UnexplainedResync,
    Refused,
}

/// One breach, with what is needed to look into it.
#[derive(Debug, Clone)]
pub(crate) struct Breach {
    pub(crate) promise: Promise,
    pub(crate) client: u16,
    pub(crate) at: Duration,
    pub(crate) text: String,
}

/// The sums, and all breaches.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Events that clients were to get, each counted once a client.
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    /// Of these, to clients of Socket.IO.
    pub(crate) delivered_socketio: u64,
    pub(crate) excused: u64,
    /// Arrivals of what PostgreSQL lost later, each with a resync behind it.
    pub(crate) taken_back: u64,
    /// Arrivals of an event that had arrived before a resync: Redis had forgotten it.
    pub(crate) again_behind_resync: u64,
    /// By the fault that explains them, and the reason that clients were told.
    pub(crate) resyncs: BTreeMap<(&'static str, String), u64>,
    pub(crate) breaches: Vec<Breach>,
    /// From the end of COMMIT to arrival, in ms, in no order.
    pub(crate) delays: Vec<u32>,
    /// The longest time in which nobody got anything, and when it began.
    pub(crate) silence: (Duration, Duration),
}

/// Where events stand in Redis, by room and their place in the truth.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    of: HashMap<(u16, usize), Vec<Cursor>>,
    at: HashMap<(u16, Cursor), usize>,
    /// When a room's stream was first seen.
    begun: HashMap<(u16, StreamId), Duration>,
}

impl Positions {
    /// Notes one; gives the place of another event that stood there for someone else.
    pub(crate) fn note(&mut self, room: u16, place: usize, cursor: Cursor, at: Duration) -> Option<usize> {
        let begun = self.begun.entry((room, cursor.stream)).or_insert(at);
        *begun = at.min(*begun);
        let first = *self.at.entry((room, cursor)).or_insert(place);
        if first != place {
            return Some(first);
        }
        let known = self.of.entry((room, place)).or_default();
        if !known.contains(&cursor) {
            known.push(cursor);
        }
        None
    }
}

/// Judges. `positions` may hold already what Redis's logs held in the end.
pub(crate) fn judge(
    truth: &Truth,
    accounts: &[Account],
    happened: &[Happened],
    mut positions: Positions,
) -> Verdict {
    let mut verdict = Verdict::default();
    for account in accounts {
        for entry in &account.entries {
            if let Entry::Event { at, room, key, cursor } = entry
                && let Some(place) = truth.places.get(&(*room, *key))
                && let Some(other) = positions.note(*room, *place, *cursor, *at)
            {
                let other = truth.rooms[usize::from(*room)][other].key;
                let text = format!("room {room}: at {cursor} stand {key:?} and, for others, {other:?}");
                verdict.breach(Promise::OutOfOrder, account.number, *at, text);
            }
        }
    }
    let losses: Vec<&Happened> = happened.iter().filter(|fault| fault.class.explains_resyncs()).collect();
    for account in accounts {
        if let Some(refused) = &account.refused {
            verdict.breach(Promise::Refused, account.number, Duration::ZERO, refused.clone());
        }
        for entry in &account.entries {
            let (promise, at, text) = match entry {
                Entry::Foreign { at, text } => (Promise::Foreign, at, text),
                Entry::Misled { at, text } => (Promise::Misled, at, text),
                _ => continue,
            };
            verdict.breach(promise, account.number, *at, text.clone());
        }
        let delivered = verdict.delivered;
        for room in &account.rooms {
            let reader = Reader::new(truth, &positions, &losses, account.number, *room);
            reader.read(&account.entries, &mut verdict);
        }
        if account.socketio.is_some() {
            verdict.delivered_socketio += verdict.delivered - delivered;
        }
    }
    verdict.silence = longest_silence(accounts);
    verdict
}

impl Verdict {
    fn breach(&mut self, promise: Promise, client: u16, at: Duration, text: String) {
        self.breaches.push(Breach { promise, client, at, text });
    }

    /// How many of a kind.
    pub(crate) fn count(&self, promise: Promise) -> usize {
        self.breaches.iter().filter(|breach| breach.promise == promise).count()
    }
}

/// A resync, with its place among a room's entries.
struct Resync {
    index: usize,
    at: Duration,
    cursor: Cursor,
}

/// One client's way through one room.
struct Reader<'a> {
    truth: &'a Truth,
    positions: &'a Positions,
    losses: &'a [&'a Happened],
    client: u16,
    room: u16,
    /// For each event the index of its last arrival.
    seen: Vec<Option<usize>>,
    arrivals: Vec<(usize, Cursor, Duration)>,
    resyncs: Vec<Resync>,
    last: Option<(Cursor, Duration)>,
    turns: HashMap<i64, u32>,
    /// What PostgreSQL lost, and the index of its arrival.
    taken_back: Vec<(usize, Duration, String)>,
}

impl<'a> Reader<'a> {
    fn new(
        truth: &'a Truth,
        positions: &'a Positions,
        losses: &'a [&'a Happened],
        client: u16,
        room: u16,
    ) -> Self {
        let seen = vec![None; truth.rooms[usize::from(room)].len()];
        Self {
            truth,
            positions,
            losses,
            client,
            room,
            seen,
            arrivals: Vec::new(),
            resyncs: Vec::new(),
            last: None,
            turns: HashMap::new(),
            taken_back: Vec::new(),
        }
    }

    fn read(mut self, entries: &[Entry], verdict: &mut Verdict) {
        for (index, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Event { at, room, key, cursor } if *room == self.room => {
                    self.event(index, *at, *key, *cursor, verdict);
                }
                Entry::Resync { at, room, cursor, reason } if *room == self.room => {
                    self.resync(index, *at, *cursor, reason, verdict);
                }
                _ => {}
            }
        }
        self.close(verdict);
    }

    fn event(&mut self, index: usize, at: Duration, key: Key, cursor: Cursor, verdict: &mut Verdict) {
        let room = self.room;
        let Some(place) = self.truth.places.get(&(room, key)).copied() else {
            if self.truth.taken_back.contains(&(room, key)) {
                self.taken_back.push((
                    index,
                    at,
                    format!("room {room}: {key:?} at {cursor}, and no resync behind it"),
                ));
                self.last = Some((cursor, at));
                self.arrivals.push((index, cursor, at));
                return;
            }
            let rolled_back = self.truth.rolled_back.contains(&(room, key));
            let promise = if rolled_back { Promise::RolledBack } else { Promise::Foreign };
            verdict.breach(promise, self.client, at, format!("room {room}: {key:?} at {cursor}"));
            return;
        };
        let committed = &self.truth.rooms[usize::from(room)][place];
        if let Some(before) = self.seen[place].replace(index) {
            if self.resyncs.iter().any(|resync| resync.index > before) {
                verdict.again_behind_resync += 1;
            } else {
                let text = format!("room {room}: {key:?} at {cursor}, after {}", self.last_text());
                verdict.breach(Promise::Repeated, self.client, at, text);
            }
        } else {
            verdict.delivered += 1;
            let delay = at.saturating_sub(committed.known).as_millis();
            verdict.delays.push(u32::try_from(delay).unwrap_or(u32::MAX));
        }
        let turn = self.turns.insert(key.row, committed.turn);
        let behind =
            self.last.is_some_and(|(last, _)| last.stream == cursor.stream && last.offset >= cursor.offset);
        if behind || turn.is_some_and(|turn| turn > committed.turn) {
            let text = format!("room {room}: {key:?} at {cursor}, after {}", self.last_text());
            verdict.breach(Promise::OutOfOrder, self.client, at, text);
        }
        self.last = Some((cursor, at));
        self.arrivals.push((index, cursor, at));
    }

    fn last_text(&self) -> String {
        self.last
            .map_or("nothing".to_owned(), |(cursor, at)| format!("{cursor} at {:.2} s", at.as_secs_f64()))
    }

    fn resync(&mut self, index: usize, at: Duration, cursor: Cursor, reason: &str, verdict: &mut Verdict) {
        let since = self.resyncs.last().map_or(Duration::ZERO, |resync| resync.at);
        let explains = |fault: &&&Happened| fault.from <= at && fault.to + TOLD_WITHIN >= since;
        // Who has been in the room before does not begin there, whatever was lost.
        match self.losses.iter().rev().find(explains).filter(|_| reason != "start") {
            Some(fault) => {
                *verdict.resyncs.entry((fault.name, reason.to_owned())).or_default() += 1;
            }
            None => {
                let last = self.last_text();
                let text = format!("room {}: to {cursor}, {reason:?}, after {last}", self.room);
                verdict.breach(Promise::UnexplainedResync, self.client, at, text);
            }
        }
        self.resyncs.push(Resync { index, at, cursor });
        // It begins anew, at this cursor.
        self.last = Some((cursor, at));
        self.turns.clear();
    }

    fn close(mut self, verdict: &mut Verdict) {
        for (index, at, text) in std::mem::take(&mut self.taken_back) {
            if self.resyncs.iter().any(|resync| resync.index > index) {
                verdict.taken_back += 1;
            } else {
                verdict.breach(Promise::RolledBack, self.client, at, text);
            }
        }
        let events = &self.truth.rooms[usize::from(self.room)];
        verdict.expected += events.len() as u64;
        for (place, event) in events.iter().enumerate() {
            if self.seen[place].is_some() {
                continue;
            }
            if self.resyncs.iter().any(|resync| self.excuses(resync, place)) {
                verdict.excused += 1;
                continue;
            }
            let known = self.positions.of.get(&(self.room, place));
            let stood =
                self.arrivals.iter().rev().find(|(_, _, at)| *at <= event.known).map(|(_, cursor, _)| cursor);
            let then =
                self.arrivals.iter().find(|(_, _, at)| *at > event.known).map(|(_, cursor, at)| (cursor, at));
            let text = format!(
                "room {}: {:?}, committed between {:.2} s and {:.2} s; for others it stands at {known:?}; \
                 this client was at {stood:?} and next got {then:?}; its resyncs: {}",
                self.room,
                event.key,
                event.sent.as_secs_f64(),
                event.known.as_secs_f64(),
                self.resyncs.len()
            );
            verdict.breach(Promise::Lost, self.client, event.known, text);
        }
    }

    /// Whether a missing event lies between the last one delivered before a resync, and the resync's cursor.
    fn excuses(&self, resync: &Resync, place: usize) -> bool {
        let Some(known) = self.positions.of.get(&(self.room, place)) else {
            // Nobody got it, and no log has it: it was in Redis when that lost its history, or never. It is never
            // excused but by a loss that came after its COMMIT was sent.
            let event = &self.truth.rooms[usize::from(self.room)][place];
            let lost = self.losses.iter().any(|fault| event.sent <= fault.to && fault.from <= resync.at);
            return lost && event.sent <= resync.at;
        };
        let before = self.arrivals.iter().rev().find(|(index, ..)| *index < resync.index);
        known.iter().all(|position| {
            let delivered_beyond = before.is_some_and(|(_, last, _)| {
                last.stream == position.stream
                    && last.generation == position.generation
                    && last.offset > position.offset
            });
            !delivered_beyond && self.reaches(resync, *position)
        })
    }

    /// Whether a resync's cursor stands at or behind a position.
    fn reaches(&self, resync: &Resync, position: Cursor) -> bool {
        let cursor = resync.cursor;
        if position.stream == cursor.stream {
            // An older generation's place may have been lost and given to another event.
            return position.offset <= cursor.offset || position.generation < cursor.generation;
        }
        let begun = |stream| self.positions.begun.get(&(self.room, stream)).copied();
        match (begun(position.stream), begun(cursor.stream)) {
            (Some(one), Some(other)) => one < other,
            // Nothing of the resync's stream has been seen: it begins with it.
            _ => true,
        }
    }
}

fn longest_silence(accounts: &[Account]) -> (Duration, Duration) {
    let events = accounts.iter().flat_map(|account| &account.entries);
    let mut times: Vec<Duration> = events
        .filter_map(|entry| match entry {
            Entry::Event { at, .. } => Some(*at),
            _ => None,
        })
        .collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| (pair[1] - pair[0], pair[0]));
    gaps.max().unwrap_or_default()
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
