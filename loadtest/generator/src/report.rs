//! What a run found, for people and as JSON.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::ledger::Counts;
use crate::plan::{Plan, Via};
use crate::process::Cost;

/// The result of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was done.
    pub load: Load,
    /// The account over all sockets.
    pub counts: Counts,
    /// Times.
    pub latency: Latencies,
    /// Costs of the processes that were watched, and of this one, which is named `generator`.
    pub processes: Vec<Cost>,
    /// Why sockets gave up, if some did, or what went wrong last on the way.
    pub trouble: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Sockets held.
    pub sockets: usize,
    /// Edges that they were spread over.
    pub edges: usize,
    /// Rooms.
    pub rooms: usize,
    /// Events written.
    pub events: u64,
    /// Events a second that were asked for; 0 is no limit.
    pub rate: f64,
    /// How they were written.
    pub via: Via,
    /// Statements that were repeated because their connection broke.
    pub writes_repeated: u64,
    /// Seconds from the first statement to the last answer.
    pub writing_s: f64,
    /// Seconds from the first statement to the last delivery.
    pub delivering_s: f64,
}

/// Latencies; one value for each different event that arrived at each socket.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    /// From just before the statement was sent to the moment at which a client had the frame in hand, by this program's
    /// monotonic clock. The way to PostgreSQL, the statement and its commit are in it.
    pub sent_to_client: Quantiles,
    /// From the event's `at`, which the trigger takes inside the statement, by the system's clock; the commit is in it.
    pub at_to_client: Quantiles,
    /// From just before the statement was sent to PostgreSQL's answer: the part of the writer.
    pub sent_to_answer: Quantiles,
}

/// Of a distribution, in milliseconds, three digits.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Quantiles {
    /// How many values.
    pub count: u64,
    /// The median.
    pub p50_ms: f64,
    /// Nine of ten are not longer.
    pub p90_ms: f64,
    /// 99 of 100 are not longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Load {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            sockets: plan.sockets,
            edges: plan.edges.len(),
            rooms: plan.rooms,
            events: plan.events,
            rate: plan.rate,
            via: plan.via,
            writes_repeated: 0,
            writing_s: 0.0,
            delivering_s: 0.0,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, counts) = (&self.load, &self.counts);
        writeln!(
            f,
            "{} sockets on {} edges in {} rooms · {} events in {:.2} s ({:.0}/s) · {} deliveries in {:.2} s ({:.0}/s)",
            load.sockets,
            load.edges,
            load.rooms,
            load.events,
            load.writing_s,
            load.events as f64 / load.writing_s.max(1e-9),
            counts.delivered,
            load.delivering_s,
            counts.delivered as f64 / load.delivering_s.max(1e-9),
        )?;
        writeln!(
            f,
            "\nexpected {} · delivered {} · lost {} · repeated {} · out of order {} · foreign {}",
            counts.expected,
            counts.delivered,
            counts.lost,
            counts.repeated,
            counts.out_of_order,
            counts.foreign,
        )?;
        writeln!(
            f,
            "resyncs {} (excusing {}) · reconnects {} · writes repeated {}",
            counts.resyncs, counts.excused, counts.reconnects, load.writes_repeated,
        )?;
        writeln!(f, "\n{:<34}{:>9}{:>9}{:>9}{:>9}", "milliseconds", "p50", "p90", "p99", "max")?;
        let latency = &self.latency;
        for (name, quantiles) in [
            ("statement sent → client", &latency.sent_to_client),
            ("event's `at` → client", &latency.at_to_client),
            ("statement sent → answered", &latency.sent_to_answer),
        ] {
            let Quantiles { p50_ms, p90_ms, p99_ms, max_ms, .. } = quantiles;
            writeln!(f, "{name:<34}{p50_ms:>9.2}{p90_ms:>9.2}{p99_ms:>9.2}{max_ms:>9.2}")?;
        }
        if !self.processes.is_empty() {
            self.write_costs(f)?;
        }
        match &self.trouble {
            Some(trouble) => writeln!(f, "\ntrouble: {trouble}"),
            None => Ok(()),
        }
    }
}

impl Report {
    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<22}{:>16}{:>14}{:>16}{:>14}",
            "process", "CPU µs/delivery", "CPU µs/event", "CPU µs/sign-in", "KiB/socket"
        )?;
        for cost in &self.processes {
            writeln!(
                f,
                "{:<22}{:>16.1}{:>14.1}{:>16.1}{:>14.1}",
                format!("{} ({})", cost.name, cost.pid),
                cost.cpu_us_a_delivery,
                cost.cpu_us_an_event,
                cost.cpu_us_a_sign_in,
                cost.kib_a_socket,
            )?;
        }
        Ok(())
    }
}
