//! A server process of the measurement: started on core 0, asked over HTTP, read through `/proc`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::Carrier;

/// A server that ends with this value.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Microseconds on a processor.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// In the program.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
    /// Both, from the scheduler's nanosecond account.
    pub total: f64,
}

/// Memory in KiB.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that was resident since [`Server::forget_peak`].
    pub peak: f64,
}

impl Server {
    /// Starts one; `taskset` becomes the server by exec, so the pid is the server's own.
    pub fn start(carrier: Carrier, more: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program)
            .args(["serve", "--carrier", carrier.name()])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server through taskset")?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("the server's stdout is piped");
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().context("the server printed no address")?;
        Ok(Self { child, address })
    }

    /// `GET path`, and the body as a number.
    pub fn get(&self, path: &str) -> Result<u64> {
        Self::ask(self.address, path)
    }

    /// The same for a server that is known by its address.
    pub fn ask(address: SocketAddr, path: &str) -> Result<u64> {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: spike\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
        body.trim().parse().with_context(|| format!("answer to {path}: {answer:?}"))
    }

    /// Waits until this many sockets are open.
    pub fn wait_for_open(&self, sockets: u64, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        while self.get("/open")? != sockets {
            if start.elapsed() > limit {
                bail!("{} sockets are open, not {sockets}, after {limit:?}", self.get("/open")?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(start.elapsed())
    }

    /// What it has used of a processor, all threads together.
    pub fn cpu(&self) -> Result<Cpu> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += number(text.split(' ').next())?;
        }
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let mut fields = text.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11);
        // In ticks of a hundredth of a second.
        let (user, system) = (number(fields.next())? * 10_000.0, number(fields.next())? * 10_000.0);
        Ok(Cpu { user, system, total: nanoseconds / 1_000.0 })
    }

    /// What it holds of memory.
    pub fn memory(&self) -> Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| {
            number(text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()))
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// The peak begins anew.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// Asks for a graceful stop, and says how long it took.
    pub fn stop(mut self) -> Result<Duration> {
        let start = Instant::now();
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        self.child.wait()?;
        Ok(start.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn number(text: Option<&str>) -> Result<f64> {
    text.context("a field of /proc is missing")?.trim().parse().context("a field of /proc is not a number")
}
