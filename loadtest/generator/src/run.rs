//! One run from beginning to end: table, sockets, events, the account.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::task::{AbortHandle, JoinSet};

use crate::endpoint::Endpoint;
use crate::latency::quantiles;
use crate::ledger::{Counts, Ledger, Shifts};
use crate::plan::{Plan, Speaks, Via};
use crate::process::{Cost, Usage, Watched};
use crate::publish::{self, Written};
use crate::report::{Latencies, Load, Report};
use crate::shared::Shared;
use crate::socket::Client;
use crate::socketio::{self, Stock};
use crate::token;

/// Runs a plan. What it made in PostgreSQL is dropped again, whatever happens.
///
/// # Errors
/// When the run could not be carried out: sockets that do not sign in, a database that refuses. Events that are lost,
/// repeated or misdirected are no error but what the report says.
pub async fn run(plan: &Plan) -> Result<Report> {
    run_until(plan, std::future::pending()).await
}

/// The same, broken off with an error when `interrupted` resolves.
///
/// # Errors
/// As [`run`].
pub async fn run_until(plan: &Plan, interrupted: impl Future<Output = ()>) -> Result<Report> {
    run_beside(plan, interrupted, &mut Nothing).await
}

/// Something that goes on beside a run.
pub trait Beside {
    /// All sockets are in, and events are about to be written.
    ///
    /// # Errors
    /// What keeps the run from being carried out.
    fn begin(&mut self) -> Result<()>;

    /// All that arrives has arrived.
    ///
    /// # Errors
    /// What makes the run worth nothing.
    fn end(&mut self) -> Result<()>;
}

struct Nothing;

impl Beside for Nothing {
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The same, with something beside.
///
/// # Errors
/// As [`run`], and those of what is beside.
pub async fn run_beside(
    plan: &Plan,
    interrupted: impl Future<Output = ()>,
    beside: &mut impl Beside,
) -> Result<Report> {
    plan.validate()?;
    let work = async {
        publish::prepare(plan).await?;
        carry_out(plan, beside).await
    };
    let result = tokio::select! {
        result = work => result,
        () = interrupted => Err(anyhow!("interrupted")),
    };
    let cleaned = publish::clean_up(plan).await;
    let report = result?;
    cleaned?;
    Ok(report)
}

async fn carry_out(plan: &Plan, beside: &mut impl Beside) -> Result<Report> {
    let shared = Arc::new(Shared::new(plan));
    let processes = watched(plan);
    let before = usages(&processes);
    let mut sockets = Sockets::open(plan, &shared)?;
    sockets.signed_in(plan).await?;
    let connected = usages(&processes);
    beside.begin()?;

    let start = shared.now();
    let written = publish::write(plan, &shared).await?;
    let written_at = shared.now();
    settle(plan, &shared).await;
    let end = usages(&processes);
    beside.end()?;
    tokio::time::sleep(plan.linger).await;
    let counts = sockets.close().await?;

    let mut load = Load::new(plan);
    load.writes_repeated = written.repeated;
    load.writing_s = seconds(written_at - start);
    load.delivering_s = seconds(shared.last_arrival().saturating_sub(start));
    let costs = costs(&processes, [&before, &connected, &end], plan, counts.delivered);
    Ok(Report {
        load,
        counts,
        latency: latencies(&shared, &written),
        processes: costs,
        trouble: shared.trouble(),
    })
}

/// Waits until every socket has everything, or nothing has arrived for a while.
async fn settle(plan: &Plan, shared: &Shared) {
    let all = shared.all(Shared::complete, plan.sockets);
    tokio::pin!(all);
    loop {
        let before = shared.arrivals();
        let waited = tokio::time::timeout(plan.settle, &mut all).await;
        if waited.is_ok() || shared.arrivals() == before {
            return;
        }
    }
}

/// The sockets of a run, by their tasks. Dropping it ends them.
struct Sockets {
    shared: Arc<Shared>,
    tasks: JoinSet<Ledger>,
    rooms: HashMap<tokio::task::Id, usize>,
}

impl Sockets {
    fn open(plan: &Plan, shared: &Arc<Shared>) -> Result<Self> {
        let mut sockets = Self { shared: shared.clone(), tasks: JoinSet::new(), rooms: HashMap::new() };
        let mut tokens = HashMap::new();
        for socket in 0..plan.sockets {
            let (number, edge) = (plan.room_of_socket(socket), plan.edge_of_socket(socket));
            let room = plan.room(number);
            let path = match (plan.via, plan.speaks) {
                (Via::Notify, _) => format!("/{room}"),
                (_, Speaks::Native) => "/ws".to_owned(),
                (_, Speaks::SocketIo) => socketio::PATH.to_owned(),
            };
            let token = match tokens.get(&number) {
                Some(token) => String::clone(token),
                None => {
                    let token = token::sign(&plan.jwt_secret, &plan.room_claim, &room)?;
                    tokens.insert(number, token.clone());
                    token
                }
            };
            let endpoint = Endpoint::new(edge, &path)?;
            let stock = (plan.speaks == Speaks::SocketIo).then(Stock::default);
            let endpoint = if stock.is_some() { endpoint.plain() } else { endpoint };
            let expected = plan.events_of_room(number);
            let client = Client::new(socket, endpoint, room, token, expected, shared.clone(), stock);
            let task: AbortHandle = sockets.tasks.spawn(client.run());
            sockets.rooms.insert(task.id(), number);
        }
        Ok(sockets)
    }

    async fn signed_in(&mut self, plan: &Plan) -> Result<()> {
        let why = |shared: &Shared| shared.trouble().unwrap_or_else(|| "nothing was heard".to_owned());
        tokio::select! {
            () = self.shared.all(Shared::signed_in, plan.sockets) => Ok(()),
            // A socket ends by itself only when coming back is of no use.
            Some(_) = self.tasks.join_next() => Err(anyhow!("a socket can not sign in: {}", why(&self.shared))),
            () = tokio::time::sleep(plan.sign_in_limit) => Err(anyhow!(
                "{} of {} sockets signed in within {:?}: {}",
                self.shared.signed_in(), plan.sockets, plan.sign_in_limit, why(&self.shared)
            )),
        }
    }

    /// Ends them and adds their accounts.
    async fn close(mut self) -> Result<Counts> {
        self.shared.end();
        let mut ledgers = Vec::with_capacity(self.rooms.len());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (id, ledger) = ended.context("a socket's task panicked")?;
            ledgers.push((self.rooms[&id], ledger));
        }
        let mut shifts: HashMap<usize, Shifts> = HashMap::new();
        for (room, ledger) in &ledgers {
            shifts.entry(*room).or_default().extend(ledger.shifts());
        }
        let mut sum = Counts::default();
        for (room, ledger) in ledgers {
            sum.add(&ledger.close(&shifts[&room]));
        }
        Ok(sum)
    }
}

fn watched(plan: &Plan) -> Vec<Watched> {
    let own = Watched::new("generator", std::process::id());
    plan.processes.iter().cloned().chain([own]).collect()
}

/// A process that is gone, or a system without `/proc`, has none.
fn usages(processes: &[Watched]) -> Vec<Option<Usage>> {
    processes.iter().map(|watched| Usage::of(watched).ok()).collect()
}

fn costs(
    processes: &[Watched],
    [before, connected, end]: [&Vec<Option<Usage>>; 3],
    plan: &Plan,
    delivered: u64,
) -> Vec<Cost> {
    let cost = |(number, watched): (usize, &Watched)| {
        let (before, connected, end) = (before[number]?, connected[number]?, end[number]?);
        let (sockets, phase) = (plan.sockets as f64, end.cpu_us - connected.cpu_us);
        Some(Cost {
            name: watched.name.clone(),
            pid: watched.pid,
            cpu_us_a_sign_in: (connected.cpu_us - before.cpu_us) / sockets,
            kib_a_socket: (connected.resident_kib - before.resident_kib) / sockets,
            cpu_us_a_delivery: phase / delivered.max(1) as f64,
            cpu_us_an_event: phase / plan.events as f64,
        })
    };
    processes.iter().enumerate().filter_map(cost).collect()
}

fn latencies(shared: &Shared, written: &Written) -> Latencies {
    let latency = shared.latency();
    Latencies {
        sent_to_client: quantiles(&latency.sent),
        at_to_client: quantiles(&latency.at),
        sent_to_answer: quantiles(&written.answered),
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}
