//! What one socket must see of its room, and what it saw. Pure: no clock, no socket.

use std::collections::{BTreeSet, HashMap};

use rowcast_protocol::{Cursor, StreamId};
use serde::Serialize;

/// Sums over sockets. Always: `expected = delivered + excused + lost`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events of a socket's room, over all sockets.
    pub expected: u64,
    /// Different ones that arrived.
    pub delivered: u64,
    /// Those that a `resync` spoke for: between the last delivered one and its cursor.
    pub excused: u64,
    /// Those that never arrived, with nothing said.
    pub lost: u64,
    /// Arrivals of an event that had arrived before.
    pub repeated: u64,
    /// Arrivals behind a later event.
    pub out_of_order: u64,
    /// Arrivals of what is not an event of the socket's room.
    pub foreign: u64,
    /// `resync` frames.
    pub resyncs: u64,
    /// Connections after a socket's first.
    pub reconnects: u64,
}

impl Counts {
    /// Whether every promise was kept; with `resyncs_allowed`, excused events are no fault.
    pub fn is_clean(&self, resyncs_allowed: bool) -> bool {
        let faults = self.lost + self.repeated + self.out_of_order + self.foreign;
        faults == 0 && (resyncs_allowed || self.resyncs == 0)
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.excused += other.excused;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.out_of_order += other.out_of_order;
        self.foreign += other.foreign;
        self.resyncs += other.resyncs;
        self.reconnects += other.reconnects;
    }
}

/// Where an event's number in its room stands against its offset, by stream: the number minus the offset. A room of a
/// run holds the run's events alone, so one value holds for a whole stream.
pub type Shifts = HashMap<StreamId, i64>;

/// One socket's account. Events of its room are numbered from 1.
#[derive(Debug)]
pub struct Ledger {
    counts: Counts,
    highest: u64,
    missing: BTreeSet<u64>,
    resync: Option<Cursor>,
    shifts: Shifts,
}

/// What an arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Its first, so that its time counts.
    Delivered,
    /// It had been here before.
    Repeated,
    /// There is no event of this number.
    Foreign,
}

impl Ledger {
    /// For a socket whose room gets this many events.
    pub fn new(expected: u64) -> Self {
        Self {
            counts: Counts { expected, ..Counts::default() },
            highest: 0,
            missing: BTreeSet::new(),
            resync: None,
            shifts: Shifts::new(),
        }
    }

    /// An event of the socket's room.
    pub fn event(&mut self, number: u64, cursor: Cursor) -> Arrival {
        if number == 0 || number > self.counts.expected {
            self.foreign();
            return Arrival::Foreign;
        }
        let shift = number.cast_signed().wrapping_sub(cursor.offset.0.cast_signed());
        self.shifts.insert(cursor.stream, shift);
        let resync = self.resync.take();
        if number > self.highest {
            let excused = resync.map_or(0, |resync| excused_up_to(resync, &self.shifts));
            self.skip_to(number, excused);
            self.highest = number;
        } else if self.missing.remove(&number) {
            self.counts.out_of_order += 1;
        } else {
            self.counts.repeated += 1;
            return Arrival::Repeated;
        }
        self.counts.delivered += 1;
        Arrival::Delivered
    }

    /// Something that is not an event of the socket's room.
    pub fn foreign(&mut self) {
        self.counts.foreign += 1;
    }

    /// A `resync`. Of two without an event in between the later one counts: it reaches further.
    pub fn resync(&mut self, cursor: Cursor) {
        self.counts.resyncs += 1;
        self.resync = Some(cursor);
    }

    /// A connection after the first.
    pub fn reconnected(&mut self) {
        self.counts.reconnects += 1;
    }

    /// Whether nothing is to come any more.
    pub fn is_complete(&self) -> bool {
        self.counts.delivered + self.counts.excused == self.counts.expected
    }

    /// The shifts seen by this socket.
    pub fn shifts(&self) -> &Shifts {
        &self.shifts
    }

    /// The account at the end. A `resync` that no event followed is measured by what other sockets of the room saw.
    pub fn close(mut self, shifts: &Shifts) -> Counts {
        let end = self.counts.expected + 1;
        let excused = self.resync.take().map_or(0, |resync| excused_up_to(resync, shifts));
        self.skip_to(end, excused);
        self.counts.lost = self.missing.len() as u64;
        self.counts
    }

    /// All between the highest and `number` are missing, or excused where not above `excused`.
    fn skip_to(&mut self, number: u64, excused: u64) {
        let first_missing = number.min(self.highest.max(excused) + 1);
        self.counts.excused += first_missing - 1 - self.highest;
        self.missing.extend(first_missing..number);
    }
}

/// The number of the event at a cursor; 0 where its stream is not known, which excuses nothing.
fn excused_up_to(resync: Cursor, shifts: &Shifts) -> u64 {
    let number = shifts.get(&resync.stream).map(|shift| resync.offset.0.saturating_add_signed(*shift));
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rowcast_protocol::{Generation, Offset};

    fn cursor(stream: u64, offset: u64) -> Cursor {
        Cursor { generation: Generation(1), stream: StreamId(stream), offset: Offset(offset) }
    }

    /// Offsets 100 above numbers.
    fn deliver(ledger: &mut Ledger, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            ledger.event(number, cursor(7, number + 100));
        }
    }

    fn close(ledger: Ledger) -> Counts {
        let shifts = ledger.shifts().clone();
        let counts = ledger.close(&shifts);
        assert_eq!(counts.expected, counts.delivered + counts.excused + counts.lost);
        counts
    }

    #[test]
    fn all_in_order_is_clean() {
        let mut ledger = Ledger::new(50);
        deliver(&mut ledger, 1..=49);
        assert!(!ledger.is_complete());
        deliver(&mut ledger, [50]);
        assert!(ledger.is_complete());
        let counts = close(ledger);
        assert!(counts.is_clean(false) && counts.delivered == 50);
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let mut ledger = Ledger::new(10);
        deliver(&mut ledger, [1, 2, 2, 5, 4, 5, 6, 7, 8]);
        assert_eq!(ledger.event(11, cursor(7, 111)), Arrival::Foreign);
        assert_eq!(ledger.event(0, cursor(7, 100)), Arrival::Foreign);
        let counts = close(ledger);
        let expected = Counts {
            expected: 10,
            delivered: 7,
            lost: 3,
            repeated: 2,
            out_of_order: 1,
            foreign: 2,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
        assert!(!counts.is_clean(true));
    }

    #[test]
    fn each_fault_alone_is_not_clean() {
        let faults = [
            Counts { lost: 1, ..Counts::default() },
            Counts { repeated: 1, ..Counts::default() },
            Counts { out_of_order: 1, ..Counts::default() },
            Counts { foreign: 1, ..Counts::default() },
        ];
        assert!(faults.iter().all(|counts| !counts.is_clean(true)));
        let resynced = Counts { resyncs: 1, excused: 3, ..Counts::default() };
        assert!(resynced.is_clean(true) && !resynced.is_clean(false));
    }

    #[test]
    fn a_resync_excuses_only_what_lies_between_the_last_delivered_and_its_cursor() {
        let mut ledger = Ledger::new(20);
        deliver(&mut ledger, [1, 2, 4]); // 3 is lost, whatever comes later.
        ledger.resync(cursor(7, 110)); // 5 to 10 are excused.
        deliver(&mut ledger, 13..=20); // 11 and 12 are lost.
        let counts = close(ledger);
        assert_eq!((counts.excused, counts.lost, counts.resyncs, counts.delivered), (6, 3, 1, 11));
    }

    #[test]
    fn a_resync_into_a_new_stream_counts_by_that_stream() {
        let mut ledger = Ledger::new(20);
        deliver(&mut ledger, 1..=5);
        ledger.resync(cursor(8, 2)); // The new stream begins with number 9 at offset 1.
        for number in 11..=20 {
            ledger.event(number, cursor(8, number - 8));
        }
        let counts = close(ledger);
        assert_eq!((counts.excused, counts.lost, counts.delivered), (5, 0, 15));
    }

    #[test]
    fn a_resync_that_nothing_follows_is_measured_by_what_others_saw() {
        let mut other = Ledger::new(10);
        deliver(&mut other, 1..=10);
        let mut ledger = Ledger::new(10);
        deliver(&mut ledger, 1..=3);
        ledger.resync(cursor(7, 108));
        let counts = ledger.close(other.shifts());
        assert_eq!((counts.excused, counts.lost), (5, 2));

        let mut unexplained = Ledger::new(10);
        unexplained.resync(cursor(9, 108));
        assert_eq!(unexplained.close(other.shifts()).lost, 10);
    }

    #[test]
    fn a_resync_that_skips_nothing_excuses_nothing() {
        let mut ledger = Ledger::new(6);
        deliver(&mut ledger, 1..=3);
        ledger.resync(cursor(7, 103));
        deliver(&mut ledger, 4..=6);
        let counts = close(ledger);
        assert_eq!((counts.excused, counts.lost, counts.delivered), (0, 0, 6));
    }
}
