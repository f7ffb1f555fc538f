//! Writers: transactions with numbered rows, some of which roll back and some of which stay open. Each keeps a journal
//! of what was committed; a row belongs to one writer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rowcast_sandbox::Connection;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::journal::{Change, Key, Kind, Outcome, Transaction};
use crate::plan::Plan;

/// The tables. `transactions` is not watched: it says what was committed where the answer was lost.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE public.torture_rows (id bigint PRIMARY KEY, room text NOT NULL, version bigint NOT NULL);
    CREATE TABLE public.torture_transactions (number bigint PRIMARY KEY);
    SELECT rowcast.watch('public.torture_rows', 'room', type => 'row');";

/// A statement that takes longer has lost its server.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rows and transactions of one writer, numbered apart from those of others.
pub(crate) const RANGE: i64 = 1_000_000_000;
/// Between attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);
/// Rows that a writer has at a time, at most; beyond it removes more than it adds.
const MANY: usize = 200;

#[derive(Debug, Clone)]
struct Row {
    id: i64,
    room: u16,
    version: i64,
    next_version: i64,
}

pub(crate) struct Writer {
    plan: Plan,
    url: String,
    clock: Clock,
    random: StdRng,
    rows: Vec<Row>,
    next_row: i64,
    next_transaction: i64,
    journal: Vec<Transaction>,
}

impl Writer {
    /// Number 0 is the one that writes marks.
    pub(crate) fn new(plan: &Plan, number: u8, url: String, clock: Clock) -> Self {
        let first = i64::from(number) * RANGE + 1;
        Self {
            plan: plan.clone(),
            url,
            clock,
            random: StdRng::seed_from_u64(plan.seed ^ (0xA11C_E000 + u64::from(number))),
            rows: Vec::new(),
            next_row: first,
            next_transaction: first,
            journal: Vec::new(),
        }
    }

    /// Writes until told to stop; gives its journal.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Vec<Transaction> {
        // About 3 changes a transaction.
        let mean = 3.0 * f64::from(self.plan.writers) / self.plan.rate;
        while !*stop.borrow() {
            let Ok(connection) = Connection::open(&self.url).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if self.plan.asynchronous {
                // Nobody knows what these rows are like now: leave them.
                self.rows.clear();
            }
            while !*stop.borrow() {
                if self.transaction(&connection).await.is_err() {
                    break;
                }
                let pause = Duration::from_secs_f64(mean * self.random.random_range(0.0..2.0));
                // That it is time to stop is seen above.
                let _ = timeout(pause, stop.changed()).await;
            }
        }
        self.journal
    }

    /// One transaction. An error says that the connection is of no use any more.
    async fn transaction(&mut self, connection: &Connection) -> Result<()> {
        let number = self.next_transaction;
        self.next_transaction += 1;
        let before = self.rows.clone();
        let mut changes = Vec::new();
        let written = self.statements(connection, number, &mut changes).await;
        let roll_back = written.is_err() || self.random.random_bool(0.15);
        let sent = self.clock.now();
        let ended = if roll_back {
            let ended = say(connection, "ROLLBACK").await;
            self.note(number, changes, Outcome::RolledBack, sent);
            self.forget(before);
            ended
        } else {
            let ended = say(connection, "COMMIT").await;
            let outcome = if ended.is_ok() { Outcome::Committed } else { Outcome::Unknown };
            if outcome == Outcome::Unknown {
                // Nobody knows what these rows are like now: leave them.
                self.rows.retain(|row| !changes.iter().any(|change: &Change| change.key.row == row.id));
            }
            self.note(number, changes, outcome, sent);
            ended
        };
        written.and(ended)
    }

    fn note(&mut self, number: i64, changes: Vec<Change>, outcome: Outcome, sent: Duration) {
        let known = self.clock.now();
        self.journal.push(Transaction { number, changes, outcome, sent, known });
    }

    /// Rows are as before, but for the versions that were used up.
    fn forget(&mut self, before: Vec<Row>) {
        let used: std::collections::HashMap<i64, i64> =
            self.rows.iter().map(|row| (row.id, row.next_version)).collect();
        self.rows = before;
        for row in &mut self.rows {
            // One that was removed in between has used up at most as many as it could have had.
            row.next_version = used.get(&row.id).copied().unwrap_or(row.next_version + 100);
        }
    }

    async fn statements(
        &mut self,
        connection: &Connection,
        number: i64,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        say(connection, &format!("BEGIN; INSERT INTO public.torture_transactions VALUES ({number})")).await?;
        let count = self.random.random_range(1..=5);
        let pause_after = self.random.random_bool(0.01).then(|| self.random.random_range(0..count));
        for statement in 0..count {
            let text = self.statement(changes);
            say(connection, &text).await?;
            if pause_after == Some(statement) {
                let pause = self.random.random_range(500..4_000);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        Ok(())
    }

    /// Draws a statement, and notes what it changes.
    fn statement(&mut self, changes: &mut Vec<Change>) -> String {
        let draw = if self.rows.is_empty() { 0 } else { self.random.random_range(0..100) };
        match draw {
            0..35 if self.rows.len() < MANY => self.insert(changes),
            35..80 => self.update(changes),
            80..90 => self.relocate(changes),
            _ => self.delete(changes),
        }
    }

    fn insert(&mut self, changes: &mut Vec<Change>) -> String {
        let rows: Vec<Row> = (0..self.random.random_range(1..=3)).map(|_| self.new_row()).collect();
        let values: Vec<String> =
            rows.iter().map(|row| format!("({}, '{}', 1)", row.id, self.plan.room(row.room))).collect();
        changes.extend(rows.iter().map(|row| change(row, row.version, Kind::Created)));
        self.rows.extend(rows);
        format!("INSERT INTO public.torture_rows VALUES {}", values.join(", "))
    }

    fn new_row(&mut self) -> Row {
        let id = self.next_row;
        self.next_row += 1;
        Row { id, room: self.random.random_range(0..self.plan.rooms), version: 1, next_version: 2 }
    }

    /// One row, or several in one statement.
    fn update(&mut self, changes: &mut Vec<Change>) -> String {
        let many = if self.random.random_bool(0.2) { self.random.random_range(2..=8) } else { 1 };
        let mut chosen: Vec<usize> = (0..many).map(|_| self.some_row()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let mut values = Vec::new();
        for index in chosen {
            let row = &mut self.rows[index];
            row.version = row.next_version;
            row.next_version += 1;
            values.push(format!("({}, {})", row.id, row.version));
            changes.push(change(row, row.version, Kind::Updated));
        }
        format!(
            "UPDATE public.torture_rows SET version = new.version FROM (VALUES {}) AS new (id, version)
             WHERE torture_rows.id = new.id",
            values.join(", ")
        )
    }

    /// Moves a row into another room: a removal there, an arrival here.
    fn relocate(&mut self, changes: &mut Vec<Change>) -> String {
        let index = self.some_row();
        let room = (self.rows[index].room + self.random.random_range(1..self.plan.rooms)) % self.plan.rooms;
        let row = &mut self.rows[index];
        changes.push(change(row, row.version, Kind::Deleted));
        row.room = room;
        row.version = row.next_version;
        row.next_version += 1;
        changes.push(change(row, row.version, Kind::Created));
        let (id, version, room) = (row.id, row.version, self.plan.room(room));
        format!("UPDATE public.torture_rows SET room = '{room}', version = {version} WHERE id = {id}")
    }

    fn delete(&mut self, changes: &mut Vec<Change>) -> String {
        let index = self.some_row();
        let row = self.rows.swap_remove(index);
        changes.push(change(&row, row.version, Kind::Deleted));
        format!("DELETE FROM public.torture_rows WHERE id = {}", row.id)
    }

    fn some_row(&mut self) -> usize {
        self.random.random_range(0..self.rows.len())
    }

    /// Commits a new row in every room and gives their numbers, room by room. Repeats until it is known to be committed.
    pub(crate) async fn mark(&mut self) -> Result<Arc<[i64]>> {
        let connection = Connection::open(&self.url).await.context("writing marks")?;
        let number = self.next_transaction;
        self.next_transaction += 1;
        let rows: Vec<Row> = (0..self.plan.rooms).map(|room| Row { room, ..self.new_row() }).collect();
        let values: Vec<String> =
            rows.iter().map(|row| format!("({}, '{}', 1)", row.id, self.plan.room(row.room))).collect();
        let changes = rows.iter().map(|row| change(row, 1, Kind::Created)).collect();
        let text = format!(
            "BEGIN; INSERT INTO public.torture_transactions VALUES ({number});
             INSERT INTO public.torture_rows VALUES {}; COMMIT",
            values.join(", ")
        );
        let sent = self.clock.now();
        let written = say(&connection, &text).await;
        let outcome = if written.is_ok() { Outcome::Committed } else { Outcome::Unknown };
        self.note(number, changes, outcome, sent);
        written.context("writing marks")?;
        Ok(rows.iter().map(|row| row.id).collect())
    }

    pub(crate) fn into_journal(self) -> Vec<Transaction> {
        self.journal
    }
}

fn change(row: &Row, version: i64, kind: Kind) -> Change {
    Change { room: row.room, key: Key { row: row.id, version, kind } }
}

async fn say(connection: &Connection, text: &str) -> Result<()> {
    let said = timeout(PATIENCE, connection.batch_execute(text)).await;
    Ok(said.context("PostgreSQL does not answer")??)
}
