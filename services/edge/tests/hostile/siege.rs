//! An edge under attack with clients beside who behave: each sees every event once and in order, on the connection that it
//! has; the edge's memory stays within a bound, it gives its descriptors back, comes to rest, and writes no book about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use rowcast_attacks::{Counts, Pace, Target, named};
use rowcast_sandbox::wait_until;
use serde_json::json;

use crate::support::crowd::{Crowd, Writer};
use crate::support::{Edge, LIMIT, Stage, token};

/// By how much an edge may grow, whatever is sent; its own buffers for the clients beside are in it.
const MEMORY_KIB: u64 = 8 * 1024;

/// The CPU that an edge at rest takes of half a second.
const AT_REST: Duration = Duration::from_millis(100);

/// What may be in the log about an attack: it is at level info.
const LOG_BYTES: u64 = 16 * 1024;

/// Attackers share the machine with what they attack.
const CONNECTIONS_A_SECOND: f64 = 500.0;
const BYTES_A_SECOND: f64 = 8e6;

/// Clients beside.
const CLIENTS: usize = 10;

/// Rounds by which each attack has said all that it can say.
const VARIANTS: usize = 48;

/// How long an attack goes on.
pub const A_WHILE: Duration = Duration::from_secs(1);

/// Attacks of which each round is answered in one of these ways, whatever it says: once each, and then many at a time.
pub async fn answered(attacks: &[&str], answers: &[&str]) -> Result<()> {
    let siege = Siege::begin(&[]).await?;
    for &name in attacks {
        let attack = named(name).with_context(|| format!("no attack {name}"))?;
        let all = (0..VARIANTS).map(|number| attack.once(&siege.target, number, LIMIT));
        for (number, outcome) in join_all(all).await.into_iter().enumerate() {
            ensure!(answers.contains(&&*outcome), "{name}, round {number}: {outcome}");
        }
        let counts = siege.bear(name, A_WHILE).await?;
        ensure!(counts.all(&[answers, &["open"]].concat()), "{name}: {counts:?}");
    }
    siege.end().await
}

/// An edge and its clients.
pub struct Siege {
    pub edge: Edge,
    pub target: Target,
    stage: Stage,
    crowd: Crowd,
    writer: Writer,
    before: Vitals,
}

impl Siege {
    /// Clients are in two rooms, and the attacker has a token for the first.
    pub async fn begin(settings: &[(&str, &str)]) -> Result<Self> {
        let mut stage = Stage::new().await?;
        let leader = stage.leader().await?;
        let edge = stage.edge(&[&[("LOG__LEVEL", "info")], settings].concat()).await?;
        let rooms = ["m1".to_owned(), "m2".to_owned()];
        let crowd = Crowd::gather(vec![edge.listen.clone()], &rooms, CLIENTS / rooms.len()).await?;
        let writer = Writer::start(leader, &rooms);
        crowd.sees_more(5).await?;
        let target =
            Target { address: edge.listen.clone(), token: token(json!("m1")), room: "m1".to_owned() };
        Ok(Self { before: Vitals::of(&edge, true)?, stage, edge, target, crowd, writer })
    }

    /// One attack, with the connections that it takes.
    pub async fn bear(&self, attack: &str, time: Duration) -> Result<Counts> {
        let attack = named(attack).with_context(|| format!("no attack {attack}"))?;
        let pace = Arc::new(Pace::new(CONNECTIONS_A_SECOND, BYTES_A_SECOND));
        let counts = attack.run(&self.target, attack.connections, &pace, time).await;
        println!("{}: {counts:?}", attack.name);
        Ok(counts)
    }

    pub fn redis_url(&self) -> String {
        self.stage.redis.url()
    }

    /// What must be so behind every attack.
    pub async fn end(self) -> Result<()> {
        self.end_within(MEMORY_KIB).await
    }

    /// The same, with another bound of memory.
    pub async fn end_within(self, memory_kib: u64) -> Result<()> {
        // They go on getting events after it, too.
        self.crowd.sees_more(5).await?;
        let (_leader, written) = self.writer.stop().await?;
        wait_until("the attack's descriptors are given back", 2 * LIMIT, async || {
            Vitals::of(&self.edge, false).is_ok_and(|now| now.files <= self.before.files)
        })
        .await?;
        wait_until("the attack's sessions are gone", 2 * LIMIT, async || {
            self.edge.metric("rowcast_edge_connections", "").await.is_ok_and(|now| now == CLIENTS as f64)
        })
        .await?;
        wait_until("the edge comes to rest", 2 * LIMIT, async || {
            let Ok(before) = Vitals::of(&self.edge, false) else { return false };
            tokio::time::sleep(Duration::from_millis(500)).await;
            Vitals::of(&self.edge, false).is_ok_and(|after| after.cpu.saturating_sub(before.cpu) < AT_REST)
        })
        .await?;
        let after = Vitals::of(&self.edge, false)?;
        let grown = after.peak_kib.saturating_sub(self.before.resident_kib);
        println!("grown by {grown} KiB at most; {:?} of CPU", after.cpu.saturating_sub(self.before.cpu));
        ensure!(grown < memory_kib, "it grew by {grown} KiB, and {memory_kib} are allowed");
        let said = after.log_bytes - self.before.log_bytes;
        ensure!(said < LOG_BYTES, "{said} bytes of log:\n{}", self.edge.process.log_tail(20));
        for journey in self.crowd.finish(written).await? {
            ensure!(
                journey.moves == 0 && journey.failures == 0,
                "a client beside was disturbed: {journey:?}"
            );
        }
        drop(self.stage);
        Ok(())
    }
}

/// What an edge's process has at a moment.
#[derive(Debug, Clone, Copy)]
struct Vitals {
    resident_kib: u64,
    peak_kib: u64,
    files: usize,
    cpu: Duration,
    log_bytes: u64,
}

impl Vitals {
    /// Reads them, and has the peak begin anew if that is wanted.
    fn of(edge: &Edge, forget_the_peak: bool) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{}", edge.process.pid()));
        if forget_the_peak {
            std::fs::write(folder.join("clear_refs"), "5")?;
        }
        let status = std::fs::read_to_string(folder.join("status"))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
            number.with_context(|| format!("no {name}"))
        };
        let mut cpu = Duration::ZERO;
        for task in std::fs::read_dir(folder.join("task"))? {
            // A thread may have ended in between.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
            cpu += Duration::from_nanos(text.split(' ').next().unwrap_or_default().parse()?);
        }
        Ok(Self {
            resident_kib: kib("VmRSS:")?,
            peak_kib: kib("VmHWM:")?,
            files: std::fs::read_dir(folder.join("fd"))?.count(),
            cpu,
            log_bytes: std::fs::metadata(edge.process.log())?.len(),
        })
    }
}
