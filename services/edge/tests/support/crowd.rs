//! Clients that come back with their cursor wherever there is an edge, and a writer for them. Each client checks that
//! it sees each event once and in order, and is never told to resync.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rowcast_sandbox::wait_until;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Client, LIMIT, Leader};

/// What befell one client.
#[derive(Debug, Default)]
pub struct Journey {
    /// When it was asked to go elsewhere.
    pub byes: Vec<Instant>,
    /// How often it went on somewhere.
    pub moves: usize,
    /// The most attempts in a row that failed.
    pub failures: usize,
}

/// Many clients.
pub struct Crowd {
    tasks: JoinSet<Result<Journey>>,
    addresses: watch::Sender<Vec<String>>,
    end: watch::Sender<u64>,
    seen: Arc<AtomicU64>,
}

struct Member {
    room: String,
    addresses: watch::Receiver<Vec<String>>,
    /// How many events there are; unknown while they are written.
    end: watch::Receiver<u64>,
    seen: Arc<AtomicU64>,
    connected: Arc<AtomicUsize>,
    turn: usize,
    next: u64,
    cursor: Option<Value>,
    journey: Journey,
}

impl Crowd {
    /// So many clients in each room, spread over the addresses; all are in.
    pub async fn gather(addresses: Vec<String>, rooms: &[String], each: usize) -> Result<Self> {
        let (addresses, _) = watch::channel(addresses);
        let (end, _) = watch::channel(u64::MAX);
        let (seen, connected) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for turn in 0..rooms.len() * each {
            let member = Member {
                room: rooms[turn / each].clone(),
                addresses: addresses.subscribe(),
                end: end.subscribe(),
                seen: Arc::clone(&seen),
                connected: Arc::clone(&connected),
                turn,
                next: 0,
                cursor: None,
                journey: Journey::default(),
            };
            tasks.spawn(member.travel());
        }
        let all = tasks.len();
        let everybody = || async { connected.load(Ordering::Relaxed) == all };
        wait_until("everybody is in", 2 * LIMIT, everybody).await?;
        Ok(Self { tasks, addresses, end, seen })
    }

    /// Where edges are from now on.
    pub fn serve_at(&self, addresses: &[&str]) {
        self.addresses.send_replace(addresses.iter().map(|&address| address.to_owned()).collect());
    }

    /// Waits until each has seen so many more events, on average.
    pub async fn sees_more(&self, events: u64) -> Result<()> {
        let goal = self.seen.load(Ordering::Relaxed) + events * self.tasks.len() as u64;
        let there = || async { self.seen.load(Ordering::Relaxed) >= goal };
        wait_until("more events", 2 * LIMIT, there).await
    }

    /// Waits until each has seen all of so many events.
    pub async fn finish(mut self, events: u64) -> Result<Vec<Journey>> {
        self.end.send_replace(events);
        let mut journeys = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            journeys.push(ended??);
        }
        Ok(journeys)
    }
}

impl Member {
    async fn travel(mut self) -> Result<Journey> {
        let mut failures = 0;
        while self.next < *self.end.borrow() {
            let addresses = self.addresses.borrow().clone();
            let resume = self.cursor.as_ref().map_or(json!({}), |cursor| json!({ &self.room: cursor }));
            let joined =
                Client::join(&addresses[self.turn % addresses.len()], json!(self.room), resume).await;
            let Ok((client, welcome)) = joined else {
                failures += 1;
                ensure!(failures < 100, "no edge takes the client of {}", self.room);
                self.journey.failures = self.journey.failures.max(failures);
                self.turn += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            failures = 0;
            let welcome = &welcome["rooms"][&self.room];
            if self.cursor.is_some() {
                ensure!(welcome["resumed"] == true, "{welcome}");
                self.journey.moves += 1;
            } else {
                self.cursor = Some(welcome["cursor"].clone());
                self.connected.fetch_add(1, Ordering::Relaxed);
            }
            let pause = self.stay(client).await?;
            self.turn += 1;
            tokio::time::sleep(pause).await;
        }
        Ok(self.journey)
    }

    /// Stays until the socket ends, or all is seen. Returns how long to wait then.
    async fn stay(&mut self, mut client: Client) -> Result<Duration> {
        let mut pause = Duration::ZERO;
        while self.next < *self.end.borrow_and_update() {
            let frame = tokio::select! {
                frame = client.next() => frame,
                _ = self.end.changed() => continue,
            };
            let Ok(frame) = frame else { break };
            match frame["op"].as_str() {
                Some("event") => {
                    let (room, next) = (&self.room, self.next);
                    ensure!(frame["data"] == next, "{room}: {} in place of {next}", frame["data"]);
                    self.next += 1;
                    self.cursor = Some(frame["cursor"].clone());
                    self.seen.fetch_add(1, Ordering::Relaxed);
                }
                Some("bye") => {
                    self.journey.byes.push(Instant::now());
                    let pause_ms = frame["reconnect_in_ms"].as_u64().context("a pause")?;
                    pause = Duration::from_millis(pause_ms);
                }
                Some("status" | "cursor" | "mode") => {}
                _ => bail!("{}: {frame}", self.room),
            }
        }
        Ok(pause)
    }
}

/// Appends 0, 1, 2, … to all rooms, until it is to stop.
pub struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(Leader, u64)>>,
}

impl Writer {
    pub fn start(mut leader: Leader, rooms: &[String]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let rooms = rooms.to_vec();
        let task = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(5));
            let mut written = 0;
            while !*stopped.borrow() {
                beat.tick().await;
                for room in &rooms {
                    leader.append(room, "t", json!(written)).await?;
                }
                written += 1;
            }
            Ok((leader, written))
        });
        Self { stop, task }
    }

    /// How many events it has written to each room.
    pub async fn stop(self) -> Result<(Leader, u64)> {
        self.stop.send_replace(true);
        self.task.await?
    }
}
