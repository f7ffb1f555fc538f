//! The reading state machine under seeded schedules, against a model of PostgreSQL: transactions that take ids and
//! commit in any order, deletions, repeated questions, lost answers, and leaders that follow each other.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rowcast_store::reading::{Query, Reading, Snapshot};

/// A row: its id and its transaction.
type ModelRow = (i64, u64);

#[derive(Debug, Clone)]
enum Step {
    Begin,
    Write { which: usize, rows: u8 },
    Commit { which: usize },
    Abort { which: usize },
    Read { answer_is_lost: bool },
    Delete { share: u8 },
    SetFloor,
    Takeover,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Begin),
        5 => (any::<usize>(), 1..6_u8).prop_map(|(which, rows)| Step::Write { which, rows }),
        3 => any::<usize>().prop_map(|which| Step::Commit { which }),
        1 => any::<usize>().prop_map(|which| Step::Abort { which }),
        6 => prop::bool::weighted(0.1).prop_map(|answer_is_lost| Step::Read { answer_is_lost }),
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
    next_id: i64,
    open: BTreeMap<u64, Vec<ModelRow>>,
    outbox: BTreeSet<ModelRow>,
    committed: BTreeSet<ModelRow>,
    floor: u64,
}

impl Server {
    fn new() -> Self {
        Self { next_tx: 10, next_id: 1, floor: 3, ..Self::default() }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            xmin: self.open.keys().next().copied().unwrap_or(self.next_tx),
            xmax: self.next_tx,
            running: self.open.keys().copied().collect(),
        }
    }

    fn pick(&self, which: usize) -> Option<u64> {
        let n = self.open.len().max(1);
        self.open.keys().nth(which % n).copied()
    }
}

/// A leader: what it has delivered and not yet deleted.
struct Leader {
    reading: Reading,
    undeleted: Vec<ModelRow>,
}

const LIMIT: usize = 4;

impl Leader {
    fn new(server: &Server) -> Self {
        Self { reading: Reading::from_floor(server.floor), undeleted: Vec::new() }
    }

    fn read(&mut self, server: &Server, answer_is_lost: bool) -> Vec<ModelRow> {
        let now = server.snapshot();
        match self.reading.query() {
            Query::Difference { since } => {
                let mut fresh: Vec<_> = server
                    .outbox
                    .iter()
                    .copied()
                    .filter(|(_, tx)| *tx >= since.xmax || since.running.contains(tx))
                    .collect();
                // The server gives them in no order, and stops a little above the limit.
                fresh.reverse();
                fresh.truncate(LIMIT + 2);
                if answer_is_lost {
                    return Vec::new();
                }
                self.reading.on_difference(now, fresh, LIMIT, |row| row.0)
            }
            Query::Window { since, until, after } => {
                let looked_at: Vec<_> =
                    server.outbox.range((after.saturating_add(1), 0)..).take(LIMIT).copied().collect();
                let rows: Vec<_> = looked_at
                    .iter()
                    .copied()
                    .filter(|(_, tx)| (*tx >= since.xmax || since.running.contains(tx)) && until.sees(*tx))
                    .collect();
                if answer_is_lost {
                    return Vec::new();
                }
                self.reading.on_window(looked_at.last().map(|row| row.0));
                rows
            }
        }
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
            Step::Write { which, rows } => {
                if let Some(tx) = server.pick(which) {
                    for _ in 0..rows {
                        let row = (server.next_id, tx);
                        server.next_id += 1;
                        server.open.entry(tx).or_default().push(row);
                    }
                }
            }
            Step::Commit { which } => {
                if let Some(rows) = server.pick(which).and_then(|tx| server.open.remove(&tx)) {
                    server.outbox.extend(rows.iter().copied());
                    server.committed.extend(rows);
                }
            }
            Step::Abort { which } => {
                if let Some(tx) = server.pick(which) {
                    server.open.remove(&tx);
                }
            }
            Step::Read { answer_is_lost } => {
                let rows = leader.read(&server, answer_is_lost);
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
                let oldest = leader.undeleted.iter().map(|row| row.1).min();
                server.floor = server.floor.max(leader.reading.floor(oldest));
            }
            Step::Takeover => {
                leader = Leader::new(&server);
                mine.clear();
            }
        }
    }
    // When all have ended, reading on brings everything that was committed, and then nothing more.
    server.outbox.extend(server.open.values().flatten().copied());
    server.committed.extend(server.open.values().flatten().copied());
    server.open.clear();
    let mut quiet = 0;
    while quiet < 3 {
        let rows = leader.read(&server, false);
        quiet = if rows.is_empty() && !leader.reading.more() { quiet + 1 } else { 0 };
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
