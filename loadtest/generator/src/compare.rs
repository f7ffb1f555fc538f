//! Rowcast beside the floor: runs of both in turn, and the table of medians.

use std::path::Path;
use std::pin::Pin;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::floor::Floor;
use crate::plan::{Plan, Speaks, Via};
use crate::process::{Cost, Watched};
use crate::report::Report;

/// All runs of both.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Rowcast's.
    pub rowcast: Vec<Report>,
    /// Rowcast's with clients of Socket.IO; empty unless it was asked for.
    pub socketio: Vec<Report>,
    /// The floor's.
    pub floor: Vec<Report>,
}

/// Runs Rowcast and the floor in turn, each `runs` times, after one run of each that is not counted. `plan` is
/// Rowcast's; the floor gets the same load on the same PostgreSQL.
///
/// # Errors
/// When a run can not be carried out, or is not clean: latencies of a run that lost something say nothing.
pub async fn compare(
    plan: &Plan,
    program: &Path,
    postgres: Option<Watched>,
    runs: usize,
    socketio: bool,
    mut interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<Comparison> {
    let mut comparison = Comparison { rowcast: Vec::new(), socketio: Vec::new(), floor: Vec::new() };
    for run in 0..=runs {
        let mut plan = plan.clone();
        plan.name = format!("{}_{run}", plan.name);
        let rowcast = crate::run_until(&plan, interrupted.as_mut()).await?;
        let over_socketio = match socketio {
            true => {
                let name = format!("{}_socketio", plan.name);
                let plan = Plan { name, speaks: Speaks::SocketIo, ..plan.clone() };
                Some(crate::run_until(&plan, interrupted.as_mut()).await?)
            }
            false => None,
        };
        let floor = run_floor(&plan, program, postgres.clone(), interrupted.as_mut()).await?;
        check("Rowcast", &rowcast)?;
        over_socketio.iter().try_for_each(|report| check("Rowcast with Socket.IO", report))?;
        check("the floor", &floor)?;
        eprintln!(
            "run {run} of {runs}: p50 {:.2} ms, floor {:.2} ms",
            rowcast.latency.sent_to_client.p50_ms, floor.latency.sent_to_client.p50_ms
        );
        if run > 0 {
            comparison.rowcast.push(rowcast);
            comparison.socketio.extend(over_socketio);
            comparison.floor.push(floor);
        }
    }
    Ok(comparison)
}

/// One run of the floor with a plan's load.
///
/// # Errors
/// When it can not be carried out.
pub async fn run_floor(
    plan: &Plan,
    program: &Path,
    postgres: Option<Watched>,
    interrupted: impl Future<Output = ()>,
) -> Result<Report> {
    let mut plan = plan.clone();
    plan.name.push_str("_floor");
    (plan.via, plan.speaks) = (Via::Notify, Speaks::Native);
    let floor = Floor::start(program, &plan).await?;
    plan.edges = vec![floor.url.clone()];
    plan.processes = floor.process().into_iter().chain(postgres).collect();
    crate::run_until(&plan, interrupted).await
}

fn check(name: &str, report: &Report) -> Result<()> {
    ensure!(report.counts.is_clean(false), "a run of {name} was not clean:\n{report}");
    Ok(())
}

impl Comparison {
    /// The table in Markdown.
    pub fn table(&self) -> String {
        type Figure = fn(&Report) -> f64;
        const ROWS: [(&str, Figure); 11] = [
            ("ms, statement sent → client, p50", |report| report.latency.sent_to_client.p50_ms),
            ("· p90", |report| report.latency.sent_to_client.p90_ms),
            ("· p99", |report| report.latency.sent_to_client.p99_ms),
            ("· max", |report| report.latency.sent_to_client.max_ms),
            ("ms, event's `at` → client, p50", |report| report.latency.at_to_client.p50_ms),
            ("· p99", |report| report.latency.at_to_client.p99_ms),
            ("ms, statement sent → answered, p50", |report| report.latency.sent_to_answer.p50_ms),
            ("CPU µs a delivery, edges or floor", |report| {
                of_servers(report, |cost| cost.cpu_us_a_delivery)
            }),
            ("CPU µs a sign-in, edges or floor", |report| of_servers(report, |cost| cost.cpu_us_a_sign_in)),
            ("CPU µs an event, listeners", |report| event(report, "listener")),
            ("CPU µs an event, PostgreSQL", |report| event(report, "postgres")),
        ];
        let load = self.rowcast.first().map(|report| &report.load);
        let mut lines = vec![];
        if let Some(load) = load {
            lines.push(format!(
                "{} sockets on {} edges in {} rooms, {} events at {}/s; median of {} runs (least–most)\n",
                load.sockets,
                load.edges,
                load.rooms,
                load.events,
                load.rate,
                self.rowcast.len()
            ));
        }
        let all = [("floor", &self.floor), ("Rowcast", &self.rowcast), ("with Socket.IO", &self.socketio)];
        let columns: Vec<_> = all.into_iter().filter(|(_, reports)| !reports.is_empty()).collect();
        let names: String = columns.iter().map(|(name, _)| format!(" {name} |")).collect();
        lines.push(format!("| |{names}\n| --- |{}", " --- |".repeat(columns.len())));
        for (name, figure) in ROWS {
            let cell = |reports: &[Report]| format!(" {} |", spread(reports.iter().map(figure)));
            let cells: String = columns.iter().map(|(_, reports)| cell(reports)).collect();
            lines.push(format!("| {name} |{cells}"));
        }
        lines.join("\n")
    }
}

fn of_servers(report: &Report, figure: impl Fn(&Cost) -> f64) -> f64 {
    report.processes.iter().filter(|cost| matches!(&*cost.name, "edge" | "floor")).map(figure).sum()
}

fn event(report: &Report, name: &str) -> f64 {
    let costs = report.processes.iter().filter(|cost| cost.name == name);
    costs.map(|cost| cost.cpu_us_an_event).sum()
}

/// The median, the least and the most; `–` where nothing was measured.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return "–".to_owned() };
    if *most == 0.0 {
        return "–".to_owned();
    }
    format!("{:.2} ({least:.2}–{most:.2})", values[values.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_its_spread() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), "2.00 (1.00–3.00)");
        assert_eq!(spread(std::iter::empty()), "–");
    }
}
