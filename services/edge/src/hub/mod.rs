//! The hub: one task that owns every room of this edge, the link to Redis and the light.
//!
//! It feeds the rooms' state machines with what Redis says and carries out what they ask for. It never waits for
//! Redis inside its loop: reads run beside it and come back as events of their own.
//!
//! [`nodes`] are Redis's servers and the links to them, [`link`] what goes over these, [`sheets`] what the edge goes by, [`upkeep`] what the clock asks for; here are rooms and workers.

mod link;
mod nodes;
mod sheets;
mod upkeep;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rowcast_bus::{BusConfig, BusError, Finder, Head, Loaded, Range, Refusal, Topology};
use rowcast_process::readiness::Latch;
use rowcast_process::shutdown::Signal;
use rowcast_protocol::{Cursor, Generation, Heartbeat, Offset, RoomName, Sheet};
use tokio::sync::{Notify, mpsc};

use crate::event::Event;
use crate::light::Lamp;
use crate::metrics::Metrics;
use crate::room::{Action, Join, Resume, Room, RoomLimits};
use crate::worker::{Ticket, ToHub, ToWorker, WorkerKey, now};

/// Messages between the hub and one worker. Where an event finds it full, the worker's sessions of that room
/// catch up from their own cursors instead.
pub const CHANNEL: usize = 65_536;

/// Messages of workers, or answers of Redis, taken before the hub looks at anything else.
const TURN: usize = 64;

const TICK: Duration = Duration::from_millis(100);

/// What the hub is made of.
pub struct HubConfig {
    /// Redis.
    pub bus: BusConfig,
    /// Bounds of rooms.
    pub rooms: RoomLimits,
    /// How long a room without clients stays.
    pub linger: Duration,
    /// Heads read each second.
    pub head_checks: usize,
    /// How long recent events are kept in memory.
    pub recent_age: Duration,
    /// Over how long sockets that are switched off are sent away.
    pub switch_window: Duration,
}

struct Entry {
    room: Room<Ticket>,
    name: RoomName,
    /// Which workers have sessions here.
    interested: Vec<bool>,
    empty_since: Option<Instant>,
    /// The server that holds it, as far as is known.
    node: Option<Arc<str>>,
    subscribed: bool,
}

/// A room, where it stood when its head was asked for, and the head.
type Doubt = (RoomName, Offset, Option<Head>);

/// Numbers are those of links.
enum Done {
    Found(Finder, Result<Topology, BusError>),
    Connected(u64, Result<nodes::Linked, BusError>),
    Subscribed(u64, Vec<RoomName>, Result<Vec<(usize, Refusal)>, BusError>),
    Unsubscribed(u64, Result<(), BusError>),
    Loaded(u64, RoomName, Result<Loaded, BusError>),
    Page(u64, RoomName, Ticket, Cursor, Result<Loaded, BusError>),
    Heads(u64, Vec<(RoomName, Offset)>, Result<Vec<Result<Option<Head>, BusError>>, BusError>),
    /// Heads that rooms did not agree with, and that what was published before has arrived since.
    Doubts(u64, Vec<Doubt>, Result<(), BusError>),
    Retry(u64, RoomName, Read),
    State(u64, RoomName, Join<Ticket>, Result<Option<Heartbeat>, BusError>),
    Sheet(u64, Sheet, Result<sheets::Found, BusError>),
    Pinged(u64, Result<(), BusError>),
}

/// The hub's state; [`Hub::run`] is its loop.
pub struct Hub {
    config: HubConfig,
    metrics: Arc<Metrics>,
    ready: Latch,
    inbox: mpsc::Receiver<ToHub>,
    workers: Vec<Option<mpsc::Sender<ToWorker>>>,
    /// Rooms of which a worker missed events, until it can be told.
    lost_track: Vec<HashSet<RoomName>>,
    rooms: HashMap<RoomName, Entry>,
    channels: HashMap<String, RoomName>,
    generation: Option<Generation>,
    lamp: Lamp,
    sheets: sheets::Sheets,
    nodes: nodes::Nodes,
    /// Asks for the servers sooner than in time.
    find_again: Arc<Notify>,
    /// How often in a row nobody could tell.
    searches: u32,
    /// Rooms that are on their way from one server to another, and since when.
    moving: HashMap<RoomName, Instant>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Joins from before generation and sheets were known.
    early: Vec<(RoomName, Join<Ticket>)>,
    next_forgetting: Instant,
    /// A worker's channel is closed: its sockets stand still.
    worker_ended: bool,
}

enum Read {
    Load(Range),
    Page(Ticket, Cursor, Range),
}

impl Hub {
    /// A hub that is not connected.
    pub fn new(config: HubConfig, metrics: Arc<Metrics>, ready: Latch, inbox: mpsc::Receiver<ToHub>) -> Self {
        let moment = now();
        Self {
            config,
            metrics,
            ready,
            inbox,
            workers: Vec::new(),
            lost_track: Vec::new(),
            rooms: HashMap::new(),
            channels: HashMap::new(),
            generation: None,
            lamp: Lamp::new(moment.wall),
            sheets: sheets::Sheets::default(),
            nodes: nodes::Nodes::default(),
            find_again: Arc::new(Notify::new()),
            searches: 0,
            moving: HashMap::new(),
            work: FuturesUnordered::new(),
            early: Vec::new(),
            next_forgetting: moment.instant,
            worker_ended: false,
        }
    }

    /// Runs until `shutdown`, which is requested when the last socket has gone.
    pub async fn run(mut self, shutdown: Signal) -> anyhow::Result<()> {
        let finder = Finder::new(&self.config.bus).context("redis.url")?;
        self.search(finder, Duration::ZERO);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                (number, heard) = self.nodes.next() => self.take_messages(number, heard).await,
                Some(message) = self.inbox.recv() => self.take_from_workers(message).await,
                Some(done) = self.work.next() => self.take_done(done).await,
                _ = ticks.tick() => self.tick().await,
            }
            if self.worker_ended && !shutdown.is_requested() {
                anyhow::bail!("a worker has ended; its sockets would stand still");
            }
        }
    }

    async fn take_from_workers(&mut self, first: ToHub) {
        self.take_from_worker(first).await;
        for _ in 0..TURN {
            let Ok(message) = self.inbox.try_recv() else { return };
            self.take_from_worker(message).await;
        }
    }

    async fn take_done(&mut self, first: Done) {
        self.done(first).await;
        for _ in 0..TURN {
            let Some(Some(done)) = self.work.next().now_or_never() else { return };
            self.done(done).await;
        }
    }

    async fn take_from_worker(&mut self, message: ToHub) {
        match message {
            ToHub::Register(worker, sender) => {
                if self.workers.len() <= worker {
                    self.workers.resize_with(worker + 1, || None);
                    self.lost_track.resize_with(worker + 1, HashSet::new);
                }
                self.workers[worker] = Some(sender);
                let light = self.lamp.light();
                self.send(worker, ToWorker::Light(light)).await;
                for sheet in Sheet::ALL {
                    self.tell_sheet(worker, sheet).await;
                }
            }
            ToHub::Join(name, join) => self.join(name, join).await,
            ToHub::Cancel(name, ticket) => {
                self.early.retain(|(_, join)| join.ticket != ticket);
                if let Some(entry) = self.rooms.get_mut(&name) {
                    entry.room.cancel(&ticket);
                }
            }
            ToHub::Drain(window) => {
                for worker in 0..self.workers.len() {
                    self.send(worker, ToWorker::Drain(window)).await;
                }
            }
            ToHub::Leave(name, worker) => {
                let Some(entry) = self.rooms.get_mut(&name) else {
                    return;
                };
                if let Some(interested) = entry.interested.get_mut(worker) {
                    *interested = false;
                }
                if !entry.interested.contains(&true) {
                    entry.empty_since = Some(Instant::now());
                }
            }
        }
    }

    async fn join(&mut self, name: RoomName, join: Join<Ticket>) {
        let (Some(generation), None) = (self.generation, self.sheets.missing()) else {
            self.early.push((name, join));
            return;
        };
        self.open(&name, generation, join.ticket.worker);
        let holder = self.rooms.get(&name).and_then(|entry| entry.node.clone());
        let node = holder.and_then(|holder| self.nodes.get(&holder));
        if let (Resume::After(cursor), Some(node)) = (&join.resume, node)
            && let Some(link) = &node.link
            && cursor.generation > generation
        {
            // Another edge may have heard of it first. A forged one costs a read and changes nothing.
            let mut read = link.read.clone();
            self.metrics.redis_reads.with_label_values(&["state"]).inc();
            let number = node.number;
            self.work
                .push(async move { Done::State(number, name, join, read.last_heartbeat().await) }.boxed());
            return;
        }
        self.with_room(&name, |room| room.join(join)).await;
    }

    fn open(&mut self, name: &RoomName, generation: Generation, worker: WorkerKey) {
        if !self.rooms.contains_key(name) {
            let entry = Entry {
                room: Room::new(name.clone(), generation, self.config.rooms),
                name: name.clone(),
                interested: Vec::new(),
                empty_since: None,
                node: self.nodes.holder(name),
                subscribed: false,
            };
            self.rooms.insert(name.clone(), entry);
            self.channels.insert(self.config.bus.keys.events(name), name.clone());
            self.metrics.rooms.set(i64::try_from(self.rooms.len()).unwrap_or(i64::MAX));
            self.house(name);
            self.subscribe_more_for(name);
        }
        let entry = self.rooms.get_mut(name).expect("inserted above");
        if entry.interested.len() <= worker {
            entry.interested.resize(worker + 1, false);
        }
        entry.interested[worker] = true;
        entry.empty_since = None;
    }

    /// Lets a room's state machine act, and carries out what it asks for.
    async fn with_room(
        &mut self,
        name: &RoomName,
        act: impl FnOnce(&mut Room<Ticket>) -> Vec<Action<Ticket>>,
    ) {
        let Some(entry) = self.rooms.get_mut(name) else {
            return;
        };
        let actions = act(&mut entry.room);
        let gaps = entry.room.take_gaps();
        if gaps > 0 {
            self.metrics.gaps.inc_by(gaps);
        }
        let name = entry.name.clone();
        for action in actions {
            match action {
                Action::Load(range) => self.read(&name, Read::Load(range)),
                Action::LoadPage { ticket, cursor, range } => {
                    self.read(&name, Read::Page(ticket, cursor, range));
                }
                Action::Deliver(event) => self.broadcast(&name, &event),
                Action::Void => {
                    for worker in self.interested(&name) {
                        self.send(worker, ToWorker::Void(name.clone())).await;
                    }
                }
                Action::Answer(ticket, answer) => {
                    let message = ToWorker::Joined { ticket, room: name.clone(), answer };
                    self.send(ticket.worker, message).await;
                }
            }
        }
    }

    fn interested(&self, name: &RoomName) -> Vec<WorkerKey> {
        let Some(entry) = self.rooms.get(name) else {
            return Vec::new();
        };
        entry.interested.iter().enumerate().filter(|(_, is)| **is).map(|(worker, _)| worker).collect()
    }

    /// Sends an event without waiting: a worker whose channel is full is told later what it missed.
    fn broadcast(&mut self, name: &RoomName, event: &Arc<Event>) {
        let Some(entry) = self.rooms.get(name) else { return };
        for (worker, _) in entry.interested.iter().enumerate().filter(|(_, interested)| **interested) {
            let Some(Some(sender)) = self.workers.get(worker) else { continue };
            if self.lost_track[worker].contains(name) {
                continue;
            }
            match sender.try_send(ToWorker::Event(name.clone(), Arc::clone(event))) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.lost_track[worker].insert(name.clone());
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.worker_ended = true,
            }
        }
    }

    /// Sends what must not be lost; there is no more of it than sessions and rooms.
    async fn send(&mut self, worker: WorkerKey, message: ToWorker) {
        let Some(Some(sender)) = self.workers.get(worker) else {
            return;
        };
        if sender.send(message).await.is_err() {
            self.worker_ended = true;
        }
    }
}
