//! A run from its start to its verdict.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use rowcast_cli::dev::say::Say;
use rowcast_generator::endpoint::Endpoint;
use rowcast_generator::socketio;
use rowcast_protocol::{Cursor, Generation, Record, RecordKind};
use rowcast_sandbox::{Connection, wait_until};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Account, Client, Progress};
use crate::clock::Clock;
use crate::inject::Injector;
use crate::journal::{Key, Kind, Transaction, Truth};
use crate::plan::{Class, Plan};
use crate::report::Report;
use crate::schedule::schedule;
use crate::system::System;
use crate::verdict::{Positions, judge};
use crate::writer::Writer;

/// For all clients to sign in.
const SIGN_IN: Duration = Duration::from_secs(60);
/// From the end of the schedule until the last fault is over: a rolling restart goes on.
const LAST_FAULT: Duration = Duration::from_secs(240);
/// How long clients may take for one round of marks before another is written: a resync may have spoken for it.
const ROUND: Duration = Duration::from_secs(10);

/// Starts everything, torments it, and judges.
///
/// # Errors
/// When it can not be started, or breaks in a way that nothing can be said about promises.
pub async fn run(plan: &Plan) -> Result<Report> {
    let say = Say::new();
    let system = Arc::new(System::start(plan, say).await?);
    say.line("everything runs; signing in");
    let clock = Clock::start();
    let injector = Injector::new(system.clone(), clock, say);
    let clients = Clients::start(plan, &system, clock)?;
    clients.signed_in().await?;
    say.line("all clients are signed in; it begins");
    let transactions = torment(plan, &system, &injector, clock).await?;
    say.line("the last fault is over; waiting until everyone has caught up");
    let mut marks = Writer::new(plan, 0, system.database_url.clone(), clock);
    if let Err(error) = catch_up(plan, &system, &clients, &mut marks).await {
        injector.fail(format!("{error:#}"));
    }
    let accounts = clients.stop().await?;
    let transactions: Vec<Transaction> = transactions.into_iter().chain(marks.into_journal()).collect();
    let truth =
        Truth::settle(plan.rooms, &transactions, &held(&system.database_url).await?, plan.asynchronous)?;
    let mut positions = Positions::default();
    if Class::ALL.into_iter().any(|class| class.explains_resyncs() && plan.wants(class)) {
        read_logs(plan, &system, &truth, &mut positions, clock.now()).await?;
    }
    let mut notes = injector.take_notes();
    notes.happened.sort_by_key(|fault| fault.from);
    let verdict = judge(&truth, &accounts, &notes.happened, positions);
    let mut report = Report::new(plan, &truth, &accounts, verdict, notes);
    drop(injector);
    if !report.is_clean() || plan.dir.is_some() {
        let mut system = Arc::into_inner(system).context("nobody else has it any more")?;
        report.keep(system.keep_folder());
    }
    Ok(report)
}

/// Writes and injects until the last fault is over; gives all transactions.
async fn torment(
    plan: &Plan,
    system: &System,
    injector: &Injector,
    clock: Clock,
) -> Result<Vec<Transaction>> {
    let stop = watch::Sender::new(false);
    let mut writers = JoinSet::new();
    for number in 1..=plan.writers {
        let writer = Writer::new(plan, number, system.database_url.clone(), clock);
        writers.spawn(writer.run(stop.subscribe()));
    }
    // Signing in took time; the schedule counts from here.
    let begun = clock.now();
    let mut faults = schedule(plan);
    faults.iter_mut().for_each(|fault| fault.at += begun);
    let all = async {
        tokio::join!(injector.run(faults), clock.reach(begun + plan.duration()));
    };
    tokio::select! {
        over = timeout(plan.duration() + LAST_FAULT, all) => over.context("the last fault does not end")?,
        () = injector.watch() => {}
    }
    stop.send_replace(true);
    let journals = timeout(LAST_FAULT, writers.join_all()).await.context("writers do not end")?;
    Ok(journals.into_iter().flatten().collect())
}

/// Writes marks until everyone has got the last of them.
async fn catch_up(plan: &Plan, system: &System, clients: &Clients, marks: &mut Writer) -> Result<()> {
    let deadline = Duration::from_secs(plan.catch_up);
    let caught_up = async {
        system.all_green().await?;
        loop {
            // A writer that has no connection yet tries again.
            let Ok(rows) = marks.mark().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if clients.reached(&rows, ROUND).await {
                return anyhow::Ok(());
            }
        }
    };
    let caught_up = timeout(deadline, caught_up).await;
    caught_up
        .with_context(|| format!("not everyone has caught up after {deadline:?}: {}", clients.stragglers()))?
}

struct Clients {
    tasks: JoinSet<Account>,
    progress: Vec<(Vec<u16>, Arc<Progress>)>,
    stop: watch::Sender<bool>,
}

impl Clients {
    fn start(plan: &Plan, system: &System, clock: Clock) -> Result<Self> {
        let at = |path| -> Result<Arc<[Endpoint]>> {
            let edges = system.edges.iter();
            edges.map(|edge| Endpoint::new(&format!("http://{}", edge.listen), path)).collect()
        };
        let native = at("/ws")?;
        let socketio: Arc<[Endpoint]> = at(socketio::PATH)?.iter().cloned().map(Endpoint::plain).collect();
        let mut this = Self { tasks: JoinSet::new(), progress: Vec::new(), stop: watch::Sender::new(false) };
        for number in 0..plan.clients {
            let rooms = plan.rooms_of(number);
            let token = system.token(number, rooms.iter().map(|room| plan.room(*room)).collect())?;
            let edges = if plan.speaks_socketio(number) { &socketio } else { &native };
            let (client, progress) = Client::new(plan, number, token, edges.clone(), clock);
            this.progress.push((rooms, progress));
            this.tasks.spawn(client.run(this.stop.subscribe()));
        }
        Ok(this)
    }

    async fn signed_in(&self) -> Result<()> {
        for (_, progress) in &self.progress {
            let mut signed_in = progress.signed_in.subscribe();
            let waited = timeout(SIGN_IN, signed_in.wait_for(|signed_in| *signed_in)).await;
            ensure!(waited.is_ok(), "not everyone has signed in: {}", self.stragglers());
        }
        Ok(())
    }

    /// Whether everyone gets these marks, by room, in time.
    async fn reached(&self, marks: &[i64], within: Duration) -> bool {
        let all = || async {
            self.progress.iter().all(|(rooms, progress)| {
                let both = rooms.iter().zip(&progress.marks);
                both.into_iter().all(|(room, mark)| mark.load(Ordering::Relaxed) >= marks[usize::from(*room)])
            })
        };
        wait_until("everyone gets the marks", within, all).await.is_ok()
    }

    /// Those that lag, and what they struggle with.
    fn stragglers(&self) -> String {
        let best = self.progress.iter().flat_map(|(_, progress)| &progress.marks);
        let best = best.map(|mark| mark.load(Ordering::Relaxed)).max().unwrap_or_default();
        let lags = |progress: &Progress| {
            progress.marks.iter().any(|mark| {
                mark.load(Ordering::Relaxed) + i64::try_from(self.progress.len()).unwrap_or(0) < best
            }) || !*progress.signed_in.borrow()
        };
        let named = self.progress.iter().enumerate().filter(|(_, (_, progress))| lags(progress));
        let named = named.map(|(number, (_, progress))| {
            let trouble = progress.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            format!("client {number} ({})", *trouble)
        });
        named.take(20).collect::<Vec<_>>().join(", ")
    }

    async fn stop(mut self) -> Result<Vec<Account>> {
        self.stop.send_replace(true);
        let mut accounts = Vec::new();
        while let Some(account) = self.tasks.join_next().await {
            accounts.push(account.context("a client's task panicked")?);
        }
        accounts.sort_by_key(|account| account.number);
        Ok(accounts)
    }
}

/// The numbers of all committed transactions.
async fn held(url: &str) -> Result<HashSet<i64>> {
    let connection = Connection::open(url).await?;
    let rows = connection.query("SELECT number FROM public.torture_transactions", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// An entry of a stream: its id, and its fields.
type LogEntry = (String, Vec<(String, Vec<u8>)>);

/// Notes where events stand in Redis's logs in the end: of those, nobody can say that Redis has lost them.
async fn read_logs(
    plan: &Plan,
    system: &System,
    truth: &Truth,
    positions: &mut Positions,
    at: Duration,
) -> Result<()> {
    let database = Connection::open(&system.database_url).await?;
    let generation: i64 = database.query_one("SELECT generation FROM rowcast.state", &[]).await?.get(0);
    let generation = Generation(u64::try_from(generation)?);
    let redis = system.redis.lock().await;
    for room in 0..plan.rooms {
        let mut holder = redis.holder(&plan.room(room)).await?.connection().await?;
        let log = format!("rowcast:default:{{{}}}:log", plan.room(room));
        let entries: Vec<LogEntry> =
            redis::cmd("XRANGE").arg(log).arg("-").arg("+").query_async(&mut holder).await?;
        for record in entries.into_iter().flat_map(|(_, fields)| fields).filter(|(name, _)| name == "r") {
            let record = Record::decode(&Bytes::from(record.1))?;
            let cursor = Cursor { generation, stream: record.stream, offset: record.offset };
            if record.kind == RecordKind::Event
                && let Some(key) = key(&record)
                && let Some(place) = truth.places.get(&(room, key))
            {
                // The first to be noted: nobody else stands there.
                positions.note(room, *place, cursor, at);
            }
        }
    }
    Ok(())
}

fn key(record: &Record) -> Option<Key> {
    #[derive(serde::Deserialize)]
    struct Fragment {
        data: Data,
    }
    #[derive(serde::Deserialize)]
    struct Data {
        id: i64,
        version: i64,
    }
    let kind = match &*record.event_type {
        "row.created" => Kind::Created,
        "row.updated" => Kind::Updated,
        "row.deleted" => Kind::Deleted,
        _ => return None,
    };
    let text = [b"{", &*record.fragment, b"}"].concat();
    let data = serde_json::from_slice::<Fragment>(&text).ok()?.data;
    Some(Key { row: data.id, version: data.version, kind })
}
