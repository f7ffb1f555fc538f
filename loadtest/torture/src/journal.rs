//! What writers did, and what of it was committed. Pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What an event says about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Created,
    Updated,
    Deleted,
}

/// An event, as both its writer and its readers name it. A version is given to a row once only, rolled back or not; a
/// removal names the version that it removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) row: i64,
    pub(crate) version: i64,
    pub(crate) kind: Kind,
}

/// A change of a row, as one room must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) room: u16,
    pub(crate) key: Key,
}

/// How a transaction ended, as far as its writer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    RolledBack,
    /// The answer to COMMIT was lost.
    Unknown,
}

/// One transaction.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) number: i64,
    pub(crate) changes: Vec<Change>,
    pub(crate) outcome: Outcome,
    /// When COMMIT was sent; for one that was rolled back, when it ended.
    pub(crate) sent: Duration,
    /// When its end was known.
    pub(crate) known: Duration,
}

/// A committed event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) key: Key,
    /// Its place among the room's events of the same row.
    pub(crate) turn: u32,
    pub(crate) sent: Duration,
    pub(crate) known: Duration,
}

/// The truth, room by room.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) rooms: Vec<Vec<Committed>>,
    /// Where an event stands in `rooms`.
    pub(crate) places: HashMap<(u16, Key), usize>,
    pub(crate) rolled_back: HashSet<(u16, Key)>,
    /// They may have been committed, and were lost by an asynchronous standby that was promoted.
    pub(crate) taken_back: HashSet<(u16, Key)>,
    pub(crate) transactions: usize,
    pub(crate) transactions_rolled_back: usize,
    pub(crate) transactions_unknown: usize,
    /// Acknowledged, and lost.
    pub(crate) transactions_lost: usize,
}

impl Truth {
    /// From all transactions, each row's in the order of its only writer, and the numbers that the database holds. Where
    /// PostgreSQL `may_lose` commits, these are what is not there.
    ///
    /// # Errors
    /// When the database holds another outcome than a writer was told.
    pub(crate) fn settle(
        rooms: u16,
        transactions: &[Transaction],
        held: &HashSet<i64>,
        may_lose: bool,
    ) -> anyhow::Result<Self> {
        let mut truth = Self { rooms: vec![Vec::new(); usize::from(rooms)], ..Self::default() };
        let mut turns: HashMap<(u16, i64), u32> = HashMap::new();
        for transaction in transactions {
            let committed = held.contains(&transaction.number);
            match transaction.outcome {
                Outcome::Committed if !committed && may_lose => truth.transactions_lost += 1,
                Outcome::Committed if !committed => {
                    anyhow::bail!("PostgreSQL lost transaction {}", transaction.number)
                }
                Outcome::RolledBack if committed => {
                    anyhow::bail!(
                        "PostgreSQL committed transaction {}, which was rolled back",
                        transaction.number
                    )
                }
                Outcome::Unknown => truth.transactions_unknown += 1,
                Outcome::Committed | Outcome::RolledBack => {}
            }
            truth.transactions += 1;
            truth.transactions_rolled_back +=
                usize::from(!committed && transaction.outcome != Outcome::Committed);
            let gone = match transaction.outcome {
                Outcome::Committed | Outcome::Unknown if may_lose => &mut truth.taken_back,
                _ => &mut truth.rolled_back,
            };
            for change in &transaction.changes {
                if !committed {
                    gone.insert((change.room, change.key));
                    continue;
                }
                let turn = turns.entry((change.room, change.key.row)).or_default();
                let events = &mut truth.rooms[usize::from(change.room)];
                truth.places.insert((change.room, change.key), events.len());
                let (sent, known) = (transaction.sent, transaction.known);
                events.push(Committed { key: change.key, turn: *turn, sent, known });
                *turn += 1;
            }
        }
        Ok(truth)
    }

    /// Events, over all rooms.
    pub(crate) fn events(&self) -> usize {
        self.rooms.iter().map(Vec::len).sum()
    }
}
