//! What the heartbeat says, and when it says nothing.

use rowcast_protocol::Epoch;
use rowcast_store::{Bell, Row as OutboxRow};

use super::*;
use crate::publisher::Limits;

const LIMITS: Limits = Limits {
    max_rows: 100,
    batch_commands: 100,
    batch_bytes: 1 << 20,
    event_bytes: 1_000,
    log_entries: 100,
    rooms: 10,
};
/// PostgreSQL's clock at the start; it agrees with nobody else's.
const SERVER: i64 = 1_000_000_000_000_000;

struct Bench {
    core: Core,
    start: Instant,
    /// When the last page was asked for.
    unseen_at: Option<Instant>,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        let mut leadership = Leadership::Standby;
        leadership.elected(start);
        let publisher = Publisher::new(Epoch(7), LIMITS, Box::new(|| 1));
        Self {
            core: Core::new(
                publisher,
                leadership,
                Doorbell::new(start, true, Duration::from_millis(400)),
                Generation(3),
            ),
            start,
            unseen_at: None,
        }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    /// A page that is asked for and arrives at a moment, with rows that were written so many ms before the start.
    fn read(&mut self, millis: u64, written_before: &[i64]) -> Asked {
        self.read_with(millis, written_before, None)
    }

    fn read_with(&mut self, millis: u64, written_before: &[i64], last_loss_micros: Option<i64>) -> Asked {
        let row = |(id, before): (i64, &i64)| OutboxRow {
            id,
            tx: 5,
            occurred_at_micros: SERVER - before * 1_000,
            room: "m".to_owned(),
            type_: "x".to_owned(),
            data: "{}".to_owned(),
            changed: None,
            truncated: false,
            traceparent: None,
        };
        let page = Page {
            rows: (millis as i64 * 1_000..).zip(written_before).map(row).collect(),
            more: false,
            unseen_at: self.unseen_at,
            apart: false,
            rooms_apart: 0,
            behind: None,
            server_now_micros: SERVER + millis as i64 * 1_000,
            raise_requested: false,
            last_loss_micros,
            bell: Bell { left_millis: 0, queue: 0.0 },
        };
        let now = self.at(millis);
        self.unseen_at = Some(now);
        self.core.on_page(now, now, page, &Mark::start())
    }

    /// The heartbeat that is sent at a moment; everything else is left unanswered.
    fn heartbeat(&mut self, millis: u64) -> Option<Heartbeat> {
        let now = self.at(millis);
        let Step::Send(commands) = self.core.next_step(LaneId::FIRST, now) else { return None };
        self.core.publisher.on_link_lost(LaneId::FIRST, now);
        commands.into_iter().find_map(|command| match command {
            Command::Heartbeat(heartbeat) => Some(heartbeat),
            _ => None,
        })
    }
}

#[test]
fn a_heartbeat_goes_out_once_a_second_and_only_after_a_read_within_the_last() {
    let mut bench = Bench::new();
    assert_eq!(bench.heartbeat(0), None, "nothing was read");
    bench.read(10, &[]);
    assert!(
        bench.heartbeat(20).is_some_and(|beat| beat.generation == 3 && beat.epoch == 7 && beat.lag_ms == 0)
    );
    assert_eq!(bench.heartbeat(900), None);
    bench.read(950, &[]);
    assert!(bench.heartbeat(1_020).is_some());
    assert_eq!(bench.heartbeat(2_020), None, "the last read is too old");
    bench.read(2_030, &[]);
    assert!(bench.heartbeat(2_031).is_some());
}

#[test]
fn nothing_is_sent_without_a_fresh_proof() {
    let mut bench = Bench::new();
    bench.read(10, &[0]);
    assert!(matches!(bench.core.next_step(LaneId::FIRST, bench.at(3_010)), Step::Stop));
}

#[test]
fn lag_counts_from_when_a_row_could_first_be_seen() {
    let mut bench = Bench::new();
    // What waited for a new leader has been visible for as long as it is old, for all that is known.
    bench.read(10, &[4_000]);
    assert_eq!(bench.heartbeat(20).map(|beat| beat.lag_ms), Some(4_020));
    let mut bench = Bench::new();
    bench.read(10, &[]);
    bench.read(700, &[60_000]);
    // A long transaction committed between the two reads.
    assert_eq!(bench.heartbeat(800).map(|beat| beat.lag_ms), Some(790));
    let mut bench = Bench::new();
    bench.read(10, &[]);
    bench.read(700, &[-500]);
    assert_eq!(bench.heartbeat(800).map(|beat| beat.lag_ms), Some(300));
}

#[test]
fn a_loss_impairs_the_heartbeat_at_once_and_asks_for_a_generation_when_quiet() {
    let mut bench = Bench::new();
    bench.read(0, &[]);
    assert!(bench.heartbeat(1).is_some_and(|beat| beat.impaired.is_none()));
    let asked = bench.read_with(100, &[], Some(SERVER));
    assert_eq!(asked, Asked { new_loss: true, ..Asked::default() });
    assert!(bench.heartbeat(101).is_some_and(|beat| beat.impaired.is_some()));
    let asked = bench.read_with(9_900, &[], Some(SERVER));
    assert_eq!(asked, Asked::default());
    assert!(bench.read_with(10_100, &[], Some(SERVER)).settle);
}

/// What goes out at a moment, and that Redis takes it.
fn sent(bench: &mut Bench, millis: u64) -> Vec<Command> {
    let now = bench.at(millis);
    let Step::Send(commands) = bench.core.next_step(LaneId::FIRST, now) else { return Vec::new() };
    let replies = commands.iter().map(|command| match command {
        Command::Sync { .. } => {
            let (since_append, ids, resyncs) = (Duration::ZERO, Vec::new(), Vec::new());
            Reply::Synced { head: None, since_append, ids, resyncs }
        }
        _ => Reply::Done,
    });
    let replies = replies.collect();
    bench.core.on_replies(LaneId::FIRST, now, replies);
    commands
}

#[test]
fn nothing_of_a_history_goes_out_before_edges_can_have_heard_of_it() {
    let is_of_a_room = |command: &Command| !matches!(command, Command::Check(_) | Command::Heartbeat(_));
    let mut bench = Bench::new();
    for generation in [3, 4] {
        bench.read(10, &[0, 0]);
        let first = sent(&mut bench, 20);
        let told = first.iter().any(
            |command| matches!(command, Command::Heartbeat(heartbeat) if heartbeat.generation == generation),
        );
        assert!(told && !first.iter().any(is_of_a_room), "{first:?}");
        assert!(sent(&mut bench, 30).iter().any(is_of_a_room));
        bench.core.set_generation(Generation(generation + 1), bench.at(40));
        // One that the link took along has told nobody.
        bench.read(50, &[0]);
        assert!(bench.heartbeat(60).is_some_and(|heartbeat| heartbeat.generation == generation + 1));
    }
}
