//! What a run says in the end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::{Account, Recoveries};
use crate::inject::{Happened, Notes, TakeOver};
use crate::journal::Truth;
use crate::plan::Plan;
use crate::verdict::{Breach, Promise, Verdict};

/// So many breaches are printed; the others are counted.
const PRINTED: usize = 40;
/// A fault stands beside a breach when it was so long before or after it.
const AROUND: Duration = Duration::from_secs(5);
/// A listener that was kept from leading is as before, so long after it was let go.
const SETTLED: Duration = Duration::from_secs(2);

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    verdict: Verdict,
    events: usize,
    transactions: [usize; 3],
    lost: usize,
    connections: u64,
    drops: u64,
    socketio: (usize, Recoveries),
    failed_in_a_row: u32,
    happened: Vec<Happened>,
    take_overs: Vec<TakeOver>,
    failures: Vec<String>,
    kept: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(
        plan: &Plan,
        truth: &Truth,
        accounts: &[Account],
        verdict: Verdict,
        notes: Notes,
    ) -> Self {
        Self {
            plan: plan.clone(),
            verdict,
            events: truth.events(),
            transactions: [truth.transactions, truth.transactions_rolled_back, truth.transactions_unknown],
            lost: truth.transactions_lost,
            connections: accounts.iter().map(|account| account.connections).sum(),
            socketio: recoveries(accounts),
            drops: accounts.iter().map(|account| account.drops).sum(),
            failed_in_a_row: accounts.iter().map(|account| account.failed_in_a_row).max().unwrap_or_default(),
            happened: notes.happened,
            take_overs: notes.take_overs,
            failures: notes.failures,
            kept: None,
        }
    }

    pub(crate) fn keep(&mut self, folder: PathBuf) {
        self.kept = Some(folder);
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.verdict.breaches.is_empty() && self.failures.is_empty()
    }

    /// Resyncs that a loss of history explains.
    pub fn resyncs(&self) -> u64 {
        self.verdict.resyncs.values().sum()
    }

    /// Different events that arrived, counted once a client.
    pub fn delivered(&self) -> u64 {
        self.verdict.delivered
    }

    /// How often clients of Socket.IO came back and were recovered.
    pub fn recovered(&self) -> u64 {
        self.socketio.1.recovered
    }

    /// The longest row of failed attempts to connect of one client.
    pub fn failed_in_a_row(&self) -> u32 {
        self.failed_in_a_row
    }

    /// How often the lead went to another listener after a fault of the leader.
    pub fn take_overs(&self) -> usize {
        self.take_overs.len()
    }

    /// Faults that were injected.
    pub fn faults(&self) -> usize {
        self.happened.len()
    }

    fn breach(&self, f: &mut fmt::Formatter<'_>, breach: &Breach) -> fmt::Result {
        let Breach { promise, client, at, text } = breach;
        writeln!(f, "{promise:?}: client {client} at {:.2} s: {text}", at.as_secs_f64())?;
        let near = |fault: &&Happened| fault.from <= *at + AROUND && *at <= fault.to + AROUND;
        for Happened { text, from, to, .. } in self.happened.iter().filter(near) {
            writeln!(f, "    {:.2}–{:.2} s {text}", from.as_secs_f64(), to.as_secs_f64())?;
        }
        Ok(())
    }

    fn faults_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for fault in &self.happened {
            *kinds.entry(fault.name).or_default() += 1;
        }
        writeln!(f, "| faults | {} |", self.happened.len())?;
        kinds.iter().try_for_each(|(kind, count)| writeln!(f, "| – {kind} | {count} |"))
    }

    /// Apart from each other: those during which nothing else kept listeners from leading, and the rest.
    fn take_over_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes: BTreeMap<(&str, bool), Vec<Duration>> = BTreeMap::new();
        for take_over in &self.take_overs {
            let (from, to) = (take_over.from, take_over.from + take_over.after);
            let about =
                |fault: &&Happened| fault.hinders_leading && fault.from <= to && from <= fault.to + SETTLED;
            // One of them is its own cause.
            let disturbed = self.happened.iter().filter(about).count() > 1;
            causes.entry((take_over.cause, disturbed)).or_default().push(take_over.after);
        }
        for ((cause, disturbed), mut times) in causes {
            times.sort_unstable();
            let among = if disturbed { ", among other faults" } else { "" };
            let [middle, longest] = [times.len() / 2, times.len() - 1].map(|place| times[place].as_millis());
            let count = times.len();
            writeln!(
                f,
                "| take-over, {cause}{among} | {count} times, median {middle} ms, longest {longest} ms |"
            )?;
        }
        Ok(())
    }
}

/// How many clients speak Socket.IO, and how often they came back.
fn recoveries(accounts: &[Account]) -> (usize, Recoveries) {
    let all: Vec<_> = accounts.iter().filter_map(|account| account.socketio).collect();
    let sum = |figure: fn(&Recoveries) -> u64| all.iter().map(figure).sum();
    let (recovered, not_recovered) = (sum(|one| one.recovered), sum(|one| one.not_recovered));
    (all.len(), Recoveries { recovered, not_recovered })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for breach in self.verdict.breaches.iter().take(PRINTED) {
            self.breach(f, breach)?;
        }
        if self.verdict.breaches.len() > PRINTED {
            writeln!(f, "… and {} more", self.verdict.breaches.len() - PRINTED)?;
        }
        for failure in &self.failures {
            writeln!(f, "failure: {failure}")?;
        }
        let Plan { seconds, seed, clients, rooms, writers, .. } = &self.plan;
        let [transactions, rolled_back, unknown] = self.transactions;
        let verdict = &self.verdict;
        let mut delays = verdict.delays.clone();
        delays.sort_unstable();
        let delay =
            |part: f64| delays.get((delays.len() as f64 * part) as usize).copied().unwrap_or_default();
        let (silence, since) = verdict.silence;
        writeln!(f, "| seed {seed}, {seconds} s | {clients} clients, {rooms} rooms, {writers} writers |")?;
        writeln!(f, "| --- | --- |")?;
        self.faults_table(f)?;
        writeln!(
            f,
            "| transactions | {transactions}, {rolled_back} rolled back, {unknown} without an answer |"
        )?;
        writeln!(f, "| events committed | {} |", self.events)?;
        writeln!(f, "| connections | {}, {} dropped by clients |", self.connections, self.drops)?;
        let (clients, Recoveries { recovered, not_recovered }) = self.socketio;
        writeln!(
            f,
            "| clients of Socket.IO | {clients}; came back recovered {recovered} times, not recovered {not_recovered} |"
        )?;
        writeln!(
            f,
            "| failed attempts to connect, of one client in a row | {} at most |",
            self.failed_in_a_row
        )?;
        writeln!(f, "| deliveries | {} of {} |", verdict.delivered, verdict.expected)?;
        writeln!(f, "| – to clients of Socket.IO | {} |", verdict.delivered_socketio)?;
        writeln!(f, "| excused by a resync | {} |", verdict.excused)?;
        if self.plan.asynchronous {
            writeln!(f, "| transactions acknowledged and lost by PostgreSQL | {} |", self.lost)?;
            writeln!(f, "| – seen before, with a resync behind it | {} |", verdict.taken_back)?;
        }
        writeln!(f, "| again behind a resync | {} |", verdict.again_behind_resync)?;
        writeln!(f, "| lost | {} |", verdict.count(Promise::Lost))?;
        writeln!(f, "| repeated | {} |", verdict.count(Promise::Repeated))?;
        writeln!(f, "| out of order | {} |", verdict.count(Promise::OutOfOrder))?;
        writeln!(f, "| rolled back and seen | {} |", verdict.count(Promise::RolledBack))?;
        writeln!(f, "| foreign | {} |", verdict.count(Promise::Foreign))?;
        writeln!(f, "| recovered by name alone, or not even that | {} |", verdict.count(Promise::Misled))?;
        writeln!(f, "| clients refused | {} |", verdict.count(Promise::Refused))?;
        writeln!(f, "| resyncs unexplained | {} |", verdict.count(Promise::UnexplainedResync))?;
        for ((cause, reason), count) in &verdict.resyncs {
            writeln!(f, "| resyncs, {cause}: “{reason}” | {count} |")?;
        }
        writeln!(
            f,
            "| COMMIT to client | p50 {} ms, p99 {} ms, longest {} ms |",
            delay(0.5),
            delay(0.99),
            delays.last().copied().unwrap_or_default()
        )?;
        writeln!(f, "| longest silence | {} ms, from {:.1} s |", silence.as_millis(), since.as_secs_f64())?;
        self.take_over_table(f)?;
        if let Some(kept) = &self.kept {
            writeln!(f, "data and logs are in {}", kept.display())?;
        }
        let said = if self.is_clean() { "every promise was kept" } else { "PROMISES WERE BROKEN" };
        f.write_str(said)
    }
}
