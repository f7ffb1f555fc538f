//! A running `rowcast dev`, and clients of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use rowcast_cli::client::{Client, Event, Options, TokenSource};
use rowcast_cli::devfile::DevFile;
use rowcast_cli::token::Claims;
use rowcast_sandbox::{Launch, Process, Signal};
use serde_json::Value;

/// For a whole start, or a whole restart, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A running `rowcast dev`.
pub struct Dev {
    pub process: Process,
    pub dir: PathBuf,
}

impl Dev {
    /// Starts it; `dir` need not exist.
    pub fn spawn(dir: &Path, log: &Path, args: &[&str]) -> Result<Self> {
        let program = env!("CARGO_BIN_EXE_rowcast");
        let process =
            Launch::new("rowcast dev", program, log).args(["dev", "--dir"]).arg(dir).args(args).spawn()?;
        Ok(Self { process, dir: dir.to_owned() })
    }

    /// Waits until it says that it is ready, by its file.
    pub async fn ready(&self) -> Result<DevFile> {
        self.process.wait_ready(SOON, async || DevFile::read(&self.dir)).await
    }

    /// Interrupts it, and checks that all is gone in time.
    pub async fn interrupt(&self) -> Result<()> {
        let dev = DevFile::read(&self.dir)?;
        let begun = Instant::now();
        self.process.signal(Signal::INT)?;
        let status = self.process.wait_exit(SOON).await?;
        ensure!(status.code() == Some(0), self.process.failure(format!("it ended with {status}")));
        for (name, pid) in pids(&dev) {
            ensure!(!alive(pid), "{name} is still there");
        }
        let took = begun.elapsed();
        ensure!(took < Duration::from_secs(10), "stopping took {took:?}");
        ensure!(!self.dir.join("dev.json").exists(), "dev.json names what is gone");
        Ok(())
    }

    /// Waits until it has said so.
    pub async fn says(&self, words: &str) -> Result<()> {
        let said = async || self.process.log_tail(1000).contains(words).then_some(()).context("not said yet");
        self.process.wait_ready(SOON, said).await
    }
}

pub fn pids(dev: &DevFile) -> Vec<(String, u32)> {
    let edges = dev.edges.iter().map(|edge| ("rowcast-edge", edge.pid));
    let listeners = dev.listeners.iter().map(|listener| ("rowcast-listener", listener.pid));
    let servers = [("postgres", dev.postgres.pid), ("redis-server", dev.redis.pid)];
    edges.chain(listeners).chain(servers).map(|(name, pid)| (name.to_owned(), pid)).collect()
}

pub fn ps(pid: u32, what: &str) -> String {
    let output = Command::new("ps").args(["-o", what, "-p", &pid.to_string()]).output().expect("ps runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether a process runs: one that only waits to be reaped does not.
pub fn alive(pid: u32) -> bool {
    let state = ps(pid, "stat=");
    !state.is_empty() && !state.starts_with('Z')
}

pub fn host(url: &str) -> &str {
    url.strip_prefix("http://").expect("an http address")
}

/// A client of a merchant, through an address, that was told it is live.
pub async fn live_client(dev: &DevFile, url: &str, merchant: &str) -> Result<Client> {
    let claims = Claims {
        merchants: vec![merchant.to_owned()],
        subject: "test".to_owned(),
        expires_in: Duration::from_secs(600),
        ..Claims::default()
    };
    let token = claims.sign(&dev.jwt_secret, SystemTime::now())?;
    let mut client = Client::new(Options::new(url, TokenSource::Fixed(token)));
    let live = async {
        loop {
            match client.next().await? {
                Event::Welcome(welcome) if welcome.live => return Ok(()),
                Event::Status(status) if status.live => return Ok(()),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, live).await.context("never live")?.map(|()| client)
}

/// The next event's number; nothing where a resync came instead, which speaks for all that was committed before.
pub async fn next_number(client: &mut Client) -> Result<Option<i64>> {
    let delivered = async {
        loop {
            match client.next().await? {
                Event::Delivery(delivery, _) => {
                    let data: Value = serde_json::from_str(delivery.data.get())?;
                    return data["n"].as_i64().context("a number").map(Some);
                }
                Event::Resync(_) => return Ok(None),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, delivered).await.context("no event")?
}
