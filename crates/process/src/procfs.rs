//! The `process_…` metrics that Prometheus clients share by convention, read from /proc. Absent elsewhere.

use std::{fs, sync::Mutex};

use prometheus::{
    Counter, Gauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// USER_HZ: the kernel reports CPU time in hundredths of a second on every architecture that Rust's Linux targets run on.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) struct ProcessCollector {
    cpu: Counter,
    gauges: [Gauge; 6],
    /// Serialises collections, so that two of them do not add the same CPU time twice.
    collecting: Mutex<()>,
}

/// One reading; the gauges in the order of [`ProcessCollector::new`].
struct Reading {
    cpu_seconds: f64,
    gauges: [f64; 6],
}

impl ProcessCollector {
    pub fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| Gauge::with_opts(Opts::new(name, help));
        Ok(Self {
            cpu: Counter::with_opts(Opts::new(
                "process_cpu_seconds_total",
                "User and system CPU time spent, in seconds.",
            ))?,
            gauges: [
                gauge("process_start_time_seconds", "Start of the process, in seconds since the epoch.")?,
                gauge("process_resident_memory_bytes", "Resident memory, in bytes.")?,
                gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.")?,
                gauge("process_threads", "Threads of the process.")?,
                gauge("process_open_fds", "Open file descriptors.")?,
                gauge("process_max_fds", "Most file descriptors that may be open.")?,
            ],
            collecting: Mutex::new(()),
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).chain(self.cpu.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one_at_a_time = self.collecting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(reading) = read() else { return Vec::new() };
        self.cpu.inc_by((reading.cpu_seconds - self.cpu.get()).max(0.0));
        for (gauge, value) in self.gauges.iter().zip(reading.gauges) {
            gauge.set(value);
        }
        self.gauges.iter().flat_map(Collector::collect).chain(self.cpu.collect()).collect()
    }
}

fn read() -> Option<Reading> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold spaces; the third follows the last ")".
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let boot = line_value(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(Reading {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        gauges: [
            boot + field(22)? / TICKS_PER_SECOND,
            line_value(&status, "VmRSS:")? * 1024.0,
            line_value(&status, "VmSize:")? * 1024.0,
            field(20)?,
            // The directory's own descriptor was open while it was counted.
            open.saturating_sub(1) as f64,
            line_value(&limits, "Max open files").unwrap_or(f64::INFINITY),
        ],
    })
}

/// The number after `name` at the beginning of a line.
fn line_value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
