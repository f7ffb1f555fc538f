//! How long nobody publishes when a leader is killed, stopped in its tracks, or ended in order: `make bench-takeover`.
//!
//! Measured from the signal until the first event that the next leader published is in Redis, while events are committed
//! all the time. Every round checks that its events are there once and in order.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::{Listener, PATIENCE, System};
use rowcast_bus::{Head, Range, ReadLink};
use rowcast_protocol::RoomName;
use rowcast_sandbox::{Connection, Signal, http_get, wait_until};
use tokio::sync::oneshot;

const ROUNDS: usize = 30;
/// Between two commits.
const PACE: Duration = Duration::from_millis(10);

/// Commits events of a room until it is told to end; says how many.
async fn write(database: Connection, room: String, mut end: oneshot::Receiver<()>) -> Result<u64> {
    for number in 0.. {
        if !matches!(end.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return Ok(number);
        }
        common::publish_one(&database, &room, number).await?;
        tokio::time::sleep(PACE).await;
    }
    unreachable!("numbers do not end")
}

struct Bench {
    system: System,
    redis: ReadLink,
    leader: Listener,
    standby: Listener,
    round: usize,
}

impl Bench {
    async fn start() -> Result<Self> {
        let system = System::start().await?;
        let redis = ReadLink::connect(&system.bus()).await?;
        let leader = system.listener("first").await?;
        leader.expect_leading().await?;
        let standby = system.listener("second").await?;
        Ok(Self { system, redis, leader, standby, round: 0 })
    }

    async fn head(&mut self, room: &RoomName) -> Result<Option<Head>> {
        Ok(self.redis.load(room, Range::Last(1)).await?.head)
    }

    /// Waits until the head is one that a newer leader has written.
    async fn head_after(&mut self, room: &RoomName, old: Option<Head>) -> Result<Head> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.head(room).await? {
                Some(head) if old.is_none_or(|old| head.epoch > old.epoch) => return Ok(head),
                _ => anyhow::ensure!(Instant::now() < end, "nobody takes over"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// One signal to the leader, and how long nobody published. The two have changed places then.
    async fn measure(&mut self, signal: Signal) -> Result<Duration> {
        self.round += 1;
        let name = format!("round-{}", self.round);
        let room = RoomName::parse(&name)?;
        let (end, ended) = oneshot::channel();
        let writer = tokio::spawn(write(self.system.postgres.connect("app").await?, name.clone(), ended));
        let before = self.head_after(&room, None).await?;
        let began = Instant::now();
        self.leader.process.signal(signal)?;
        self.head_after(&room, Some(before)).await?;
        let took = began.elapsed();
        end.send(()).ok().context("the writer has ended")?;
        let written = writer.await??;
        wait_until("the last event is there", PATIENCE, || async {
            matches!(self.system.numbers(&name).await, Ok(numbers) if numbers.last() == Some(&(written - 1)))
        })
        .await?;
        let numbers = self.system.numbers(&name).await?;
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "once and in order: {numbers:?}");
        std::mem::swap(&mut self.leader, &mut self.standby);
        self.leader.expect_leading().await?;
        if signal == Signal::STOP {
            self.standby.process.signal(Signal::CONT)?;
            let old = &self.standby;
            wait_until("it is a standby again", PATIENCE, || async {
                let ready = matches!(http_get(&old.admin, "/ready").await, Ok((200, _)));
                ready && !old.leads().await
            })
            .await?;
        } else {
            self.standby.process.wait_exit(PATIENCE).await?;
            self.standby = self.system.listener(&format!("listener-{}", self.round)).await?;
        }
        Ok(took)
    }
}

fn row(what: &str, times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1];
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (least, most) = (millis(times[0]), millis(times[times.len() - 1]));
    format!(
        "| {what} | {} | {least:.0} | {:.0} | {:.0} | {most:.0} |",
        times.len(),
        millis(at(0.5)),
        millis(at(0.95))
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make bench-takeover"]
async fn takeover_times() -> Result<()> {
    let mut bench = Bench::start().await?;
    println!(
        "\n| ms without a publisher | times | min | p50 | p95 | max |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (what, signal) in [
        ("killed (SIGKILL)", Signal::KILL),
        ("stopped (SIGSTOP)", Signal::STOP),
        ("planned (SIGTERM)", Signal::TERM),
    ] {
        let mut times = Vec::new();
        while times.len() < ROUNDS {
            times.push(bench.measure(signal).await?);
        }
        println!("{}", row(what, &mut times));
    }
    assert_eq!(bench.system.heartbeat().await?.generation, 1, "no history was given up");
    Ok(())
}
