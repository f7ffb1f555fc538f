//! CPU and memory of processes, read from `/proc`. Linux alone has it; elsewhere nothing is measured.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// A process that is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its name in the report.
    pub name: String,
    /// Its id. What it has as children counts too: PostgreSQL's backends.
    pub pid: u32,
}

impl Watched {
    /// One by name and id.
    pub fn new(name: impl Into<String>, pid: u32) -> Self {
        Self { name: name.into(), pid }
    }

    /// From `name=pid`.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, pid) = text.split_once('=').context("processes are given as NAME=PID")?;
        Ok(Self::new(name, pid.parse().with_context(|| format!("{pid} is not a process id"))?))
    }
}

/// What a process has used, and holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Microseconds on a processor since it began, all threads and children together. Threads and children that have
    /// ended are not in it.
    pub cpu_us: f64,
    /// KiB that are resident; memory that processes share counts for each.
    pub resident_kib: f64,
}

/// What a phase of a run cost one process.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    /// Its name.
    pub name: String,
    /// Its id.
    pub pid: u32,
    /// CPU microseconds for each socket that was accepted and signed in.
    pub cpu_us_a_sign_in: f64,
    /// KiB by which it grew, by sockets.
    pub kib_a_socket: f64,
    /// CPU microseconds from the first event to the last delivery, by deliveries.
    pub cpu_us_a_delivery: f64,
    /// The same by events.
    pub cpu_us_an_event: f64,
}

impl Usage {
    /// Reads it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(watched: &Watched) -> Result<Self> {
        let mut usage = Self::alone(watched)?;
        for child in children(watched.pid) {
            // One that has ended in between is none.
            if let Ok(child) = read(child) {
                usage.cpu_us += child.cpu_us;
                usage.resident_kib += child.resident_kib;
            }
        }
        Ok(usage)
    }

    /// The same without children.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn alone(watched: &Watched) -> Result<Self> {
        read(watched.pid)
            .with_context(|| format!("reading the use of {} (process {})", watched.name, watched.pid))
    }
}

fn read(pid: u32) -> Result<Usage> {
    let folder = format!("/proc/{pid}");
    let mut cpu_us = 0.0;
    for task in fs::read_dir(Path::new(&folder).join("task"))? {
        // The scheduler's account in nanoseconds; the ticks of `stat` are too coarse for a quiet process.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
        cpu_us += nanoseconds / 1_000.0;
    }
    let status = fs::read_to_string(Path::new(&folder).join("status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(Usage { cpu_us, resident_kib: resident.unwrap_or("0").parse()? })
}

/// A process and its children, to be measured one by one: only one of PostgreSQL's backends is on one processor at a time.
pub fn family(pid: u32) -> Vec<u32> {
    std::iter::once(pid).chain(children(pid)).collect()
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit(')').next()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_children_are_counted() {
        let own = Watched::new("own", std::process::id());
        let before = Usage::of(&own).unwrap();
        let mut sum = 0_u64;
        let end = std::time::Instant::now() + std::time::Duration::from_millis(50);
        while std::time::Instant::now() < end {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        let after = Usage::of(&own).unwrap();
        assert!(after.cpu_us > before.cpu_us && after.resident_kib > 100.0, "{after:?} {sum}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn names_and_ids_are_read() {
        assert_eq!(Watched::parse("edge=12").unwrap(), Watched::new("edge", 12));
        assert!(Watched::parse("12").is_err() && Watched::parse("edge=x").is_err());
    }
}
