//! Runs of good clients beside attacks, in turn, and how much later events are then. The attacks themselves are another
//! program, `rowcast-attack`, which runs at the lowest priority and at a bounded rate: here it shares a machine with what it
//! attacks, and whatever it takes of that would be counted as the attack's effect.

use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::plan::Plan;
use crate::process::{Usage, Watched};
use crate::report::Report;
use crate::run::{Beside, run_beside};
use crate::token;

/// A quiet run comes before so many attacks, and at the end: what drifts with time is seen.
const ATTACKS_BETWEEN: usize = 10;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long an attack may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug)]
pub struct Siege {
    /// Names; all that the program knows if there is none.
    pub attacks: Vec<String>,
    /// How long each goes on.
    pub seconds: u64,
    /// The attacker's pace.
    pub connections_a_second: f64,
    /// The attacker's pace.
    pub bytes_a_second: f64,
    /// `rowcast-attack`.
    pub program: PathBuf,
}

impl Siege {
    /// Runs all and prints a table in Markdown, a row a run as it is done. True when nothing was lost, repeated or out of
    /// order, and p99 stayed within twice the quiet ones' median beside each attack.
    ///
    /// # Errors
    /// A run that could not be carried out.
    pub async fn run(
        &self,
        mut plan: Plan,
        mut interrupted: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool> {
        let edge = plan.processes.iter().find(|watched| watched.name == "edge").cloned();
        let edge = edge.context("no edge's process to measure: give --dev DIR, or --pids edge=PID")?;
        plan.rate = if plan.rate > 0.0 { plan.rate } else { 50.0 };
        plan.events = ((plan.rate * self.seconds as f64) as u64).max(plan.rooms as u64);
        let attacks = if self.attacks.is_empty() { self.all()? } else { self.attacks.clone() };
        println!(
            "{} clients in {} rooms, {} events a second; {} s each; the attacker: nice 19, at most {} connections and {:.1} MB a second\n",
            plan.sockets,
            plan.rooms,
            plan.rate,
            self.seconds,
            self.connections_a_second,
            self.bytes_a_second / 1e6
        );
        println!(
            "| beside | p50 ms | p99 ms | of quiet | edge CPU % | edge MiB | attacker CPU % | clean | its connections |"
        );
        println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |");
        let (mut quiet, mut worst) = (Vec::new(), Vec::new());
        let mut clean = true;
        for (number, attack) in attacks.iter().map(Some).chain([None]).enumerate() {
            if number.is_multiple_of(ATTACKS_BETWEEN) || attack.is_none() {
                let row = self.one(&plan, &edge, None, interrupted.as_mut()).await?;
                quiet.push(row.p99_ms);
                clean &= row.print("*quiet*", median(&quiet));
            }
            let Some(attack) = attack else { break };
            let row = self.one(&plan, &edge, Some(attack), interrupted.as_mut()).await?;
            clean &= row.print(attack, median(&quiet));
            worst.push((row.p99_ms, attack));
        }
        let quiet = median(&quiet);
        let above: Vec<_> =
            worst.iter().filter(|(p99, _)| *p99 > 2.0 * quiet).map(|(_, attack)| attack).collect();
        println!("\nquiet p99, the runs' median: {quiet:.2} ms; more than twice that: {above:?}");
        Ok(clean && above.is_empty())
    }

    fn all(&self) -> Result<Vec<String>> {
        let listed = Command::new(&self.program)
            .output()
            .with_context(|| format!("running {}", self.program.display()))?;
        let names = String::from_utf8(listed.stdout)?;
        Ok(names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    async fn one(
        &self,
        plan: &Plan,
        edge: &Watched,
        attack: Option<&String>,
        interrupted: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Row> {
        let plan = Plan { name: format!("{:08x}", rand::random::<u32>()), ..plan.clone() };
        let command = attack.map(|attack| self.command(&plan, attack)).transpose()?;
        let mut attacker = Attacker { command, edge: edge.clone(), going: None, seen: Seen::default() };
        let report = run_beside(&plan, interrupted, &mut attacker).await?;
        Ok(Row::new(&report, attacker.seen))
    }

    fn command(&self, plan: &Plan, attack: &str) -> Result<Command> {
        let room = plan.room(0);
        let address = plan.edges[0].split("://").last().unwrap_or_default().trim_end_matches('/');
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(&self.program).args([attack, "--address", address, "--room", &room]);
        // It is still there when its use of the processor is read.
        command.args(["--seconds", &(self.seconds + 2).to_string()]);
        command.args(["--connections-a-second", &self.connections_a_second.to_string()]);
        command.args(["--bytes-a-second", &self.bytes_a_second.to_string()]);
        command.env("ROWCAST_TOKEN", token::sign(&plan.jwt_secret, &plan.room_claim, &room)?);
        command.stdout(Stdio::piped());
        Ok(command)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What was seen of a run beside the clients.
#[derive(Debug, Default)]
struct Seen {
    edge_cpu: f64,
    edge_kib: u64,
    attacker_cpu: f64,
    outcomes: String,
}

struct Attacker {
    command: Option<Command>,
    edge: Watched,
    going: Option<Going>,
    seen: Seen,
}

struct Going {
    since: Instant,
    before: Usage,
    child: Option<Child>,
    over: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    watching: Option<JoinHandle<()>>,
}

impl Beside for Attacker {
    fn begin(&mut self) -> Result<()> {
        let before = Usage::of(&self.edge)?;
        let (over, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let watching = std::thread::spawn({
            let (edge, over, highest) = (self.edge.clone(), Arc::clone(&over), Arc::clone(&highest));
            move || {
                while !over.load(Ordering::Relaxed) {
                    let kib = Usage::of(&edge).map_or(0.0, |usage| usage.resident_kib);
                    highest.fetch_max(kib as u64, Ordering::Relaxed);
                    std::thread::sleep(LOOK);
                }
            }
        });
        let child = self.command.as_mut().map(Command::spawn).transpose().context("starting the attacker")?;
        let watching = Some(watching);
        self.going = Some(Going { since: Instant::now(), before, child, over, highest, watching });
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let mut going = self.going.take().context("it was begun")?;
        let elapsed = going.since.elapsed().as_secs_f64() * 1e6;
        self.seen.edge_cpu = 100.0 * (Usage::of(&self.edge)?.cpu_us - going.before.cpu_us) / elapsed;
        if let Some(child) = &mut going.child {
            let usage = Usage::of(&Watched::new("attacker", child.id())).unwrap_or_default();
            self.seen.attacker_cpu = 100.0 * usage.cpu_us / elapsed;
            let end = Instant::now() + FAREWELL;
            while child.try_wait()?.is_none() && Instant::now() < end {
                std::thread::sleep(LOOK);
            }
            ensure!(
                child.try_wait()?.is_some_and(|status| status.success()),
                "the attacker did not end in order"
            );
            let mut said = String::new();
            child.stdout.take().context("it has an output")?.read_to_string(&mut said)?;
            let said: serde_json::Value = serde_json::from_str(&said)?;
            self.seen.outcomes = said["outcomes"].to_string().replace(['"', '{', '}'], "").replace(',', ", ");
        }
        self.seen.edge_kib = going.highest.load(Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(child) = &mut self.child {
            // One that has ended is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(watching) = self.watching.take() {
            let _ = watching.join();
        }
    }
}

struct Row {
    p50_ms: f64,
    p99_ms: f64,
    seen: Seen,
    clean: bool,
    disturbed: u64,
}

impl Row {
    fn new(report: &Report, seen: Seen) -> Self {
        let at = report.latency.at_to_client;
        let (clean, disturbed) =
            (report.counts.is_clean(true), report.counts.resyncs + report.counts.reconnects);
        Self { p50_ms: at.p50_ms, p99_ms: at.p99_ms, seen, clean, disturbed }
    }

    /// Whether no client missed anything, or was sent away.
    fn print(&self, beside: &str, quiet: f64) -> bool {
        let Seen { edge_cpu, edge_kib, attacker_cpu, outcomes } = &self.seen;
        let verdict = match (self.clean, self.disturbed) {
            (true, 0) => "yes".to_owned(),
            (true, times) => format!("{times} resyncs or reconnects"),
            (false, _) => "**no**".to_owned(),
        };
        println!(
            "| {beside} | {:.2} | {:.2} | {:.2} | {edge_cpu:.0} | {} | {attacker_cpu:.0} | {verdict} | {outcomes} |",
            self.p50_ms,
            self.p99_ms,
            self.p99_ms / quiet,
            edge_kib / 1024,
        );
        self.clean && self.disturbed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_one_of_the_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
