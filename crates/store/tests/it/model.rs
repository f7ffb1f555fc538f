//! The reading state machine under seeded schedules, against a model of PostgreSQL: transactions that take ids and
//! commit in any order, deletions, repeated questions, lost answers, and leaders that follow each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;
use rowcast_store::reading::{Mark, Placed, Query, Reading, Snapshot};

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// A row: its id, its transaction, its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ModelRow(i64, u64, &'static str);

impl Placed for ModelRow {
    fn id(&self) -> i64 {
        self.0
    }

    fn room(&self) -> &str {
        self.2
    }
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Write {
        which: usize,
        rows: u8,
        room: usize,
    },
    Commit {
        which: usize,
    },
    Abort {
        which: usize,
    },
    /// A transaction may begin and write between the snapshot and the look at the ids that were given out.
    Read {
        answer_is_lost: bool,
        lanes: bool,
        overtaken: bool,
    },
    SetApart {
        room: usize,
    },
    Delete {
        share: u8,
    },
    SetFloor,
    Takeover,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Begin),
        5 => (any::<usize>(), 1..6_u8, 0..ROOMS.len())
            .prop_map(|(which, rows, room)| Step::Write { which, rows, room }),
        3 => any::<usize>().prop_map(|which| Step::Commit { which }),
        1 => any::<usize>().prop_map(|which| Step::Abort { which }),
        6 => (prop::bool::weighted(0.1), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(answer_is_lost, lanes, overtaken)| Step::Read { answer_is_lost, lanes, overtaken }),
        2 => (0..ROOMS.len()).prop_map(|room| Step::SetApart { room }),
        2 => any::<u8>().prop_map(|share| Step::Delete { share }),
        2 => Just(Step::SetFloor),
        1 => Just(Step::Takeover),
    ];
    prop::collection::vec(step, 1..200)
}

/// PostgreSQL, as far as reading goes.
#[derive(Default)]
struct Server {
    next_tx: u64,
    latest_ended: u64,
    next_id: i64,
    open: BTreeMap<u64, Vec<ModelRow>>,
    outbox: BTreeSet<ModelRow>,
    committed: BTreeSet<ModelRow>,
    floor: Option<Mark>,
}

impl Server {
    fn new() -> Self {
        Self { next_tx: 10, latest_ended: 9, next_id: 1, ..Self::default() }
    }

    fn snapshot(&self) -> Snapshot {
        let xmax = self.latest_ended + 1;
        let running: Vec<u64> = self.open.range(..xmax).map(|(tx, _)| *tx).collect();
        Snapshot { xmin: running.first().copied().unwrap_or(xmax), xmax, running }
    }

    fn end(&mut self, tx: u64) -> Vec<ModelRow> {
        self.latest_ended = self.latest_ended.max(tx);
        self.open.remove(&tx).unwrap_or_default()
    }

    fn pick(&self, which: usize) -> Option<u64> {
        let n = self.open.len().max(1);
        self.open.keys().nth(which % n).copied()
    }
}

/// A leader: what it has delivered and not yet deleted, and a mark with the rows that must be gone before it holds.
struct Leader {
    reading: Reading,
    undeleted: Vec<ModelRow>,
    candidate: Option<(Mark, Vec<ModelRow>)>,
}

const LIMIT: usize = 4;

impl Leader {
    fn new(server: &Server) -> Self {
        let floor = server.floor.clone().unwrap_or_else(Mark::start);
        Self {
            reading: Reading::from_floor(floor, server.next_id - 1),
            undeleted: Vec::new(),
            candidate: None,
        }
    }

    fn read(
        &mut self,
        server: &mut Server,
        answer_is_lost: bool,
        lanes: bool,
        overtaken: bool,
    ) -> Vec<ModelRow> {
        let now = server.snapshot();
        if overtaken {
            server.open.insert(server.next_tx, vec![ModelRow(server.next_id, server.next_tx, ROOMS[0])]);
            server.next_tx += 1;
            server.next_id += 1;
        }
        let (next_tx, given_out) = (server.next_tx, server.next_id - 1);
        let portion = match self.reading.query(LIMIT, lanes) {
            Query::Difference(asked) => {
                let new = |tx| tx >= asked.since.xmax || asked.since.running.contains(&tx);
                let mut fresh: Vec<_> = server.outbox.iter().filter(|row| new(row.1)).copied().collect();
                // The server gives them in no order, and stops a little above the bound.
                fresh.reverse();
                fresh.truncate(asked.looks + 2);
                let looked_at = fresh.len();
                fresh.retain(|row| !asked.without.contains(&row.2));
                fresh.truncate(asked.limit + 1);
                if answer_is_lost {
                    return Vec::new();
                }
                self.reading.on_difference(Instant::now(), now, next_tx, given_out, looked_at, fresh)
            }
            Query::Window(asked) => {
                let reached = |row: &&ModelRow| {
                    let ended = asked.ended.contains(&row.1);
                    row.0 > asked.after && if row.0 <= asked.low { ended } else { row.0 <= asked.upto }
                };
                let mut rows: Vec<_> =
                    server.outbox.iter().filter(reached).take(asked.looks).copied().collect();
                let (looked_at, last) = (rows.len(), rows.last().map(|row| row.0));
                let new = |tx| tx >= asked.since.xmax || asked.since.running.contains(&tx);
                rows.retain(|row| new(row.1) && asked.until.sees(row.1));
                rows.retain(|row| asked.rooms.contains(&row.2) == asked.only);
                rows.truncate(asked.limit);
                if answer_is_lost {
                    return Vec::new();
                }
                self.reading.on_window(given_out, looked_at, last, rows)
            }
        };
        portion.rows
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut server = Server::new();
    let mut leader = Leader::new(&server);
    // What this leader has delivered, and what any has.
    let mut mine: BTreeSet<ModelRow> = BTreeSet::new();
    let mut ever: BTreeSet<ModelRow> = BTreeSet::new();
    for step in steps {
        match step {
            Step::Begin if server.open.len() < 5 => {
                server.open.insert(server.next_tx, Vec::new());
                server.next_tx += 1;
            }
            Step::Begin => {}
            Step::Write { which, rows, room } => {
                if let Some(tx) = server.pick(which) {
                    for _ in 0..rows {
                        let row = ModelRow(server.next_id, tx, ROOMS[room]);
                        server.next_id += 1;
                        server.open.entry(tx).or_default().push(row);
                    }
                }
            }
            Step::Commit { which } => {
                if let Some(rows) = server.pick(which).map(|tx| server.end(tx)) {
                    server.outbox.extend(rows.iter().copied());
                    server.committed.extend(rows);
                }
            }
            Step::Abort { which } => {
                if let Some(tx) = server.pick(which) {
                    server.end(tx);
                }
            }
            Step::SetApart { room } => leader.reading.set_apart([ROOMS[room].to_owned()]),
            Step::Read { answer_is_lost, lanes, overtaken } => {
                let rows = leader.read(&mut server, answer_is_lost, lanes, overtaken);
                prop_assert!(rows.len() <= LIMIT);
                prop_assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order: {rows:?}");
                for row in rows {
                    prop_assert!(mine.insert(row), "{row:?} came twice");
                    ever.insert(row);
                    leader.undeleted.push(row);
                }
            }
            Step::Delete { share } => {
                // In batches, and not in order: rooms are acknowledged apart from each other.
                let mut n = 0_u8;
                leader.undeleted.retain(|row| {
                    n = n.wrapping_add(share | 1);
                    let deleted = !n.is_multiple_of(3);
                    if deleted {
                        server.outbox.remove(row);
                    }
                    !deleted
                });
            }
            Step::SetFloor => {
                let (mark, rows) = leader
                    .candidate
                    .get_or_insert_with(|| (leader.reading.complete().clone(), leader.undeleted.clone()));
                if rows.iter().all(|row| !leader.undeleted.contains(row)) {
                    server.floor = Some(Mark::left(mark.snapshot.clone(), mark.id));
                    leader.candidate = None;
                }
            }
            Step::Takeover => {
                leader = Leader::new(&server);
                mine.clear();
            }
        }
    }
    // When all have ended, reading on brings everything that was committed, and then nothing more.
    while let Some(tx) = server.pick(0) {
        let rows = server.end(tx);
        server.outbox.extend(rows.iter().copied());
        server.committed.extend(rows);
    }
    let mut quiet = 0;
    while quiet < 3 {
        let rows = leader.read(&mut server, false, true, false);
        let waiting = leader.reading.more() || leader.reading.rooms_apart() > 0;
        quiet = if rows.is_empty() && !waiting { quiet + 1 } else { 0 };
        for row in rows {
            prop_assert!(mine.insert(row), "{row:?} came twice");
            ever.insert(row);
        }
    }
    // What was delivered is not done before it is deleted: the present leader has all that is left.
    prop_assert!(server.outbox.is_subset(&mine), "the floor hid {:?}", server.outbox.difference(&mine));
    prop_assert_eq!(ever, server.committed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_committed_row_is_read_once_by_each_leader_until_it_is_deleted(steps in steps()) {
        run(steps)?;
    }

    #[test]
    fn a_snapshot_is_written_as_postgres_writes_it(xmin in 1..100_u64, mut running in prop::collection::vec(100..200_u64, 0..5)) {
        running.sort_unstable();
        running.dedup();
        let snapshot = Snapshot { xmin, xmax: 200, running };
        prop_assert_eq!(snapshot.to_string().parse(), Ok(snapshot.clone()));
        for tx in 1..250 {
            let seen = tx < xmin || (tx < 200 && !snapshot.running.contains(&tx));
            prop_assert_eq!(snapshot.sees(tx), seen);
        }
    }
}
