//! Who used how much of the processors between two moments: the processes of a measurement, and everybody else.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use rowcast_generator::process::{Usage, Watched, family};

/// Of the kernel's coarser accounts, in `/proc/stat` and `/proc/<pid>/stat`.
const TICK_US: f64 = 10_000.0;

/// How it stood at a moment.
pub(crate) struct Account {
    at: Instant,
    machine_us: f64,
    own_us: f64,
    families: Vec<Family>,
}

/// A process that is measured.
struct Family {
    /// Itself and its children, one by one.
    living: BTreeMap<u32, f64>,
    /// Children that have ended: PostgreSQL's backends.
    ended_us: f64,
}

impl Family {
    fn of(pid: u32) -> Self {
        let living = family(pid).into_iter().filter_map(|pid| Some((pid, own(pid)?))).collect();
        Self { living, ended_us: ended_children(pid).unwrap_or_default() }
    }

    fn sum(&self) -> f64 {
        self.living.values().sum::<f64>() + self.ended_us
    }

    fn busiest_since(&self, before: &Self) -> f64 {
        let each = self.living.iter().map(|(pid, us)| us - before.living.get(pid).unwrap_or(&0.0));
        each.fold(0.0, f64::max)
    }
}

/// What was used since.
#[derive(Debug, Clone)]
pub(crate) struct Spent {
    pub(crate) seconds: f64,
    /// Of each process with its children, in the order in which they were given.
    pub(crate) us: Vec<f64>,
    /// Of the busiest one among each with its children.
    pub(crate) busiest_us: Vec<f64>,
    /// Of this program.
    pub(crate) own_us: f64,
    /// The share of all processors that went to others than these and this program, at least 0.
    pub(crate) others: f64,
}

impl Account {
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let families = pids.iter().map(|pid| Family::of(*pid)).collect();
        let own_us = own(std::process::id()).context("reading what this program has used")?;
        Ok(Self { at: Instant::now(), machine_us: machine()?, own_us, families })
    }

    /// What was used since then by the same processes.
    pub(crate) fn since(&self, pids: &[u32]) -> Result<Spent> {
        let now = Self::of(pids)?;
        let seconds = now.at.duration_since(self.at).as_secs_f64();
        let both = || self.families.iter().zip(&now.families);
        let us: Vec<f64> = both().map(|(before, after)| after.sum() - before.sum()).collect();
        let busiest_us = both().map(|(before, after)| after.busiest_since(before)).collect();
        let own_us = now.own_us - self.own_us;
        let ours = us.iter().sum::<f64>() + own_us;
        let all = seconds * 1e6 * processors();
        let others = ((now.machine_us - self.machine_us - ours) / all).max(0.0);
        Ok(Spent { seconds, us, busiest_us, own_us, others })
    }
}

/// How many processors there are.
pub(crate) fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

/// What one process has used; none when it has ended.
fn own(pid: u32) -> Option<f64> {
    Usage::alone(&Watched::new("", pid)).ok().map(|usage| usage.cpu_us)
}

/// What the children have used of a process that were waited for.
fn ended_children(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything. Behind it: state, ppid, …, utime, stime, cutime, cstime.
    let ticks = stat.rsplit(')').next()?.split_ascii_whitespace().skip(13).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().ok()).sum::<Option<f64>>().map(|ticks| ticks * TICK_US)
}

/// What all processors have worked, or were kept from by a host.
fn machine() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks = line.split_ascii_whitespace().skip(1).map(str::parse);
    let ticks: Vec<f64> = ticks.collect::<Result<_, _>>().context("reading /proc/stat")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user and nice.
    let works = |(place, _): &(usize, f64)| !matches!(place, 3 | 4);
    Ok(ticks.into_iter().take(8).enumerate().filter(works).map(|(_, ticks)| ticks * TICK_US).sum())
}
