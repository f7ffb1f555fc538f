//! The hub: one task that owns every room of this edge, the link to Redis and the light.
//!
//! It feeds the rooms' state machines with what Redis says and carries out what they ask for. It never waits for
//! Redis inside its loop: reads run beside it and come back as events of their own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rand::RngExt;
use rowcast_bus::{
    BusConfig, BusError, Head, Loaded, Message, Range, ReadLink, Subscription, Subscriptions, subscribe,
};
use rowcast_process::readiness::Latch;
use rowcast_process::shutdown::Signal;
use rowcast_protocol::{Cursor, Generation, Heartbeat, Offset, Record, RoomName};
use tokio::sync::mpsc;

use crate::event::Event;
use crate::light::Lamp;
use crate::metrics::Metrics;
use crate::room::{Action, Join, Resume, Room, RoomLimits};
use crate::worker::{Ticket, ToHub, ToWorker, WorkerKey, now};

/// Messages between the hub and one worker. Where an event finds it full, the worker's sessions of that room
/// catch up from their own cursors instead.
pub const CHANNEL: usize = 65_536;

/// Channels in one SUBSCRIBE.
const SUBSCRIBE_BATCH: usize = 500;

/// Reads of logs under way at once; more wait in order.
const READS: usize = 256;

/// Messages taken from Redis before the hub looks at anything else.
const BURST: usize = 256;

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
}

struct Entry {
    room: Room<Ticket>,
    name: RoomName,
    /// Which workers have sessions here.
    interested: Vec<bool>,
    empty_since: Option<Instant>,
    subscribed: bool,
}

struct Link {
    read: ReadLink,
    subscriptions: Subscriptions,
    subscription: Subscription,
    /// Rooms that were not checked since the link was made.
    unchecked: HashSet<RoomName>,
}

enum Done {
    Connected(Result<(ReadLink, Subscriptions, Subscription, Option<Heartbeat>), BusError>),
    Subscribed(u64, Vec<RoomName>, Result<(), BusError>),
    Unsubscribed(u64, Result<(), BusError>),
    Loaded(u64, RoomName, Result<Loaded, BusError>),
    Page(u64, RoomName, Ticket, Cursor, Result<Loaded, BusError>),
    Heads(u64, Vec<(RoomName, Offset)>, Result<Vec<Option<Head>>, BusError>),
    State(RoomName, Join<Ticket>, Result<Option<Heartbeat>, BusError>),
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
    link: Option<Link>,
    /// Counts links, so that what an old one answers is not taken for the new one's.
    link_number: u64,
    attempts: u32,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    to_subscribe: Vec<RoomName>,
    to_unsubscribe: Vec<RoomName>,
    /// Whether a SUBSCRIBE or UNSUBSCRIBE is under way: one at a time, so that they keep their order.
    subscribing: bool,
    reads: VecDeque<(RoomName, Read)>,
    reading: usize,
    /// Joins from before the generation was known.
    early: Vec<(RoomName, Join<Ticket>)>,
    sweep: VecDeque<RoomName>,
    sweeping: bool,
    next_sweep: Instant,
    pinging: bool,
    next_ping: Instant,
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
            link: None,
            link_number: 0,
            attempts: 0,
            work: FuturesUnordered::new(),
            to_subscribe: Vec::new(),
            to_unsubscribe: Vec::new(),
            subscribing: false,
            reads: VecDeque::new(),
            reading: 0,
            early: Vec::new(),
            sweep: VecDeque::new(),
            sweeping: false,
            next_sweep: moment.instant,
            pinging: false,
            next_ping: moment.instant,
        }
    }

    /// Runs until `shutdown`, which is requested when the last socket has gone.
    pub async fn run(mut self, shutdown: Signal) -> anyhow::Result<()> {
        self.connect(Duration::ZERO);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                message = next_message(&mut self.link) => self.take_messages(message).await,
                Some(message) = self.inbox.recv() => self.take_from_worker(message).await,
                Some(done) = self.work.next() => self.done(done).await,
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    // ---- Redis's side ----

    fn connect(&mut self, delay: Duration) {
        let config = self.config.bus.clone();
        self.work.push(
            async move {
                tokio::time::sleep(delay).await;
                Done::Connected(connect(&config).await)
            }
            .boxed(),
        );
    }

    async fn connected(
        &mut self,
        read: ReadLink,
        subscriptions: Subscriptions,
        subscription: Subscription,
        last: Option<Heartbeat>,
    ) {
        tracing::info!(rooms = self.rooms.len(), "linked to Redis");
        self.attempts = 0;
        self.link_number += 1;
        self.subscribing = false;
        self.sweeping = false;
        self.pinging = false;
        self.next_ping = Instant::now() + Duration::from_secs(1);
        let unchecked = self.rooms.keys().cloned().collect();
        self.link = Some(Link { read, subscriptions, subscription, unchecked });
        self.to_subscribe = self.rooms.keys().cloned().collect();
        self.to_unsubscribe.clear();
        if let Some(last) = last {
            self.hear_generation(last.generation()).await;
        }
        self.subscribe_more();
        self.judge_ready();
        self.judge_light().await;
    }

    fn judge_ready(&self) {
        match (&self.link, self.generation) {
            (None, _) => self.ready.set_not_ready("no link to Redis"),
            (Some(_), None) => self.ready.set_not_ready("no listener has ever been heard"),
            (Some(_), Some(_)) => self.ready.set_ready(),
        }
    }

    async fn lost(&mut self, error: &str) {
        if self.link.take().is_none() {
            return;
        }
        self.metrics.redis_losses.inc();
        self.link_number += 1;
        self.judge_ready();
        self.reading = 0;
        for entry in self.rooms.values_mut() {
            entry.subscribed = false;
            entry.room.suspect();
        }
        for (name, read) in std::mem::take(&mut self.reads) {
            if let Read::Page(ticket, cursor, _) = read {
                self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
            }
        }
        self.judge_light().await;
        self.retry(error);
    }

    fn retry(&mut self, error: &str) {
        self.attempts = self.attempts.saturating_add(1);
        let ceiling = Duration::from_millis(50) * 2u32.saturating_pow(self.attempts.min(5));
        let delay = ceiling.min(Duration::from_secs(1)).mul_f64(rand::rng().random_range(0.5..1.0));
        if self.attempts == 1 || self.attempts.is_multiple_of(10) {
            tracing::warn!(error, attempts = self.attempts, "no link to Redis; trying again");
        }
        self.connect(delay);
    }

    async fn take_messages(&mut self, first: Option<Message>) {
        let mut next = first;
        for _ in 0..BURST {
            let Some(message) = next else {
                return self.lost("the subscription ended").await;
            };
            self.message(message).await;
            next = match next_message(&mut self.link).now_or_never() {
                Some(message) => message,
                None => return,
            };
        }
        if let Some(message) = next {
            self.message(message).await;
        }
    }

    async fn message(&mut self, message: Message) {
        let Some(name) = self.channels.get(&message.channel) else {
            if message.channel == self.config.bus.keys.heartbeat() {
                self.heartbeat(&message.payload).await;
            }
            return;
        };
        let name = name.clone();
        let record = match Record::decode(&message.payload) {
            Ok(record) => record,
            Err(error) => {
                self.metrics.unreadable.inc();
                tracing::error!(%error, "a record from Redis cannot be read");
                return;
            }
        };
        self.metrics.events.inc();
        let age = now().wall.0.saturating_sub(record.occurred_at().0);
        self.metrics.edge_latency.observe(age.max(0) as f64 / 1e6);
        self.with_room(&name, |room| room.published(record)).await;
    }

    async fn heartbeat(&mut self, payload: &[u8]) {
        match serde_json::from_slice::<Heartbeat>(payload) {
            Ok(heartbeat) => {
                self.lamp.heard(&heartbeat, Instant::now());
                self.hear_generation(heartbeat.generation()).await;
                self.judge_light().await;
            }
            Err(error) => tracing::error!(%error, "a heartbeat cannot be read"),
        }
    }

    async fn hear_generation(&mut self, generation: Generation) {
        if self.generation.is_some_and(|known| known >= generation) {
            return;
        }
        tracing::info!(%generation, "a new generation of history");
        self.metrics.generation.set(i64::try_from(generation.0).unwrap_or(i64::MAX));
        self.generation = Some(generation);
        self.judge_ready();
        let names: Vec<_> = self.rooms.keys().cloned().collect();
        for name in names {
            self.with_room(&name, |room| room.set_generation(generation)).await;
        }
        for (name, join) in std::mem::take(&mut self.early) {
            self.join(name, join).await;
        }
    }

    fn subscribe_more(&mut self) {
        let Some(link) = &self.link else { return };
        if self.subscribing {
            return;
        }
        let keys = &self.config.bus.keys;
        let mut subscriptions = link.subscriptions.clone();
        let number = self.link_number;
        // A room that was opened again meanwhile keeps the subscription that it has.
        let leaving: Vec<_> = std::mem::take(&mut self.to_unsubscribe);
        let leaving: Vec<_> = leaving
            .iter()
            .filter(|room| !self.rooms.contains_key(*room))
            .map(|room| keys.events(room))
            .collect();
        if !leaving.is_empty() {
            self.subscribing = true;
            self.work.push(
                async move { Done::Unsubscribed(number, subscriptions.remove(&leaving).await) }.boxed(),
            );
            return;
        }
        if self.to_subscribe.is_empty() {
            return;
        }
        let count = self.to_subscribe.len().min(SUBSCRIBE_BATCH);
        let batch: Vec<_> = self.to_subscribe.drain(..count).collect();
        let channels: Vec<_> = batch.iter().map(|room| keys.events(room)).collect();
        self.subscribing = true;
        self.work.push(
            async move {
                let result = subscriptions.add(&channels).await;
                Done::Subscribed(number, batch, result)
            }
            .boxed(),
        );
    }

    fn read_more(&mut self) {
        let Some(link) = &self.link else { return };
        while self.reading < READS {
            let Some((name, read)) = self.reads.pop_front() else {
                return;
            };
            self.reading += 1;
            let mut connection = link.read.clone();
            let number = self.link_number;
            self.metrics.redis_reads.with_label_values(&["log"]).inc();
            self.work.push(
                async move {
                    match read {
                        Read::Load(range) => {
                            let result = connection.load(&name, range).await;
                            Done::Loaded(number, name, result)
                        }
                        Read::Page(ticket, cursor, range) => {
                            let result = connection.load(&name, range).await;
                            Done::Page(number, name, ticket, cursor, result)
                        }
                    }
                }
                .boxed(),
            );
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Connected(Ok((read, subscriptions, subscription, last))) => {
                self.connected(read, subscriptions, subscription, last).await;
            }
            Done::Connected(Err(error)) => self.retry(&error.to_string()),
            Done::Subscribed(number, rooms, result) if number == self.link_number => {
                self.subscribing = false;
                match result {
                    Ok(()) => self.subscribed(rooms).await,
                    Err(error) => self.lost(&error.to_string()).await,
                }
            }
            Done::Loaded(number, name, result) if number == self.link_number => {
                self.reading -= 1;
                match result {
                    Ok(loaded) => {
                        self.with_room(&name, |room| room.loaded(loaded)).await;
                        self.checked(&name).await;
                    }
                    Err(error) => self.lost(&error.to_string()).await,
                }
                self.read_more();
            }
            Done::Page(number, name, ticket, cursor, result) if number == self.link_number => {
                self.reading -= 1;
                match result {
                    Ok(loaded) => {
                        self.with_room(&name, |room| room.page_loaded(ticket, cursor, loaded)).await
                    }
                    Err(error) => {
                        self.lost(&error.to_string()).await;
                        self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
                    }
                }
                self.read_more();
            }
            // The link that should have read it is gone; the join waits for the next one.
            Done::Page(_, name, ticket, cursor, _) => {
                self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
            }
            Done::Heads(number, asked, result) if number == self.link_number => {
                self.sweeping = false;
                match result {
                    Ok(heads) => {
                        for ((name, then), head) in asked.into_iter().zip(heads) {
                            self.with_room(&name, |room| room.head_seen(then, head)).await;
                        }
                    }
                    Err(error) => self.lost(&error.to_string()).await,
                }
            }
            Done::State(name, join, result) => {
                if let Ok(Some(heartbeat)) = result {
                    self.hear_generation(heartbeat.generation()).await;
                }
                self.with_room(&name, |room| room.join(join)).await;
            }
            Done::Pinged(number, result) if number == self.link_number => {
                self.pinging = false;
                if let Err(error) = result {
                    self.lost(&error.to_string()).await;
                }
            }
            Done::Unsubscribed(number, result) if number == self.link_number => {
                self.subscribing = false;
                match result {
                    Ok(()) => self.subscribe_more(),
                    Err(error) => self.lost(&error.to_string()).await,
                }
            }
            Done::Subscribed(..)
            | Done::Loaded(..)
            | Done::Heads(..)
            | Done::Pinged(..)
            | Done::Unsubscribed(..) => {}
        }
    }

    async fn subscribed(&mut self, rooms: Vec<RoomName>) {
        for name in rooms {
            if let Some(entry) = self.rooms.get_mut(&name) {
                entry.subscribed = true;
            }
            self.with_room(&name, Room::subscribed).await;
        }
        self.subscribe_more();
    }

    /// A room was read since the link was made; when all were, the light may say so.
    async fn checked(&mut self, name: &RoomName) {
        if let Some(link) = &mut self.link
            && self.rooms.get(name).is_none_or(|entry| entry.room.is_live())
        {
            link.unchecked.remove(name);
        }
        self.judge_light().await;
    }

    // ---- the workers' side ----

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
            }
            ToHub::Join(name, join) => self.join(name, join).await,
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
        let Some(generation) = self.generation else {
            self.early.push((name, join));
            return;
        };
        self.open(&name, generation, join.ticket.worker);
        if let (Resume::After(cursor), Some(link)) = (&join.resume, &self.link)
            && cursor.generation > generation
        {
            // Another edge may have heard of it first. A forged one costs a read and changes nothing.
            let mut read = link.read.clone();
            self.metrics.redis_reads.with_label_values(&["state"]).inc();
            self.work.push(async move { Done::State(name, join, read.last_heartbeat().await) }.boxed());
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
                subscribed: false,
            };
            self.rooms.insert(name.clone(), entry);
            self.channels.insert(self.config.bus.keys.events(name), name.clone());
            self.metrics.rooms.set(i64::try_from(self.rooms.len()).unwrap_or(i64::MAX));
            self.to_subscribe.push(name.clone());
            self.subscribe_more();
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
                Action::Load(range) => {
                    self.reads.push_back((name.clone(), Read::Load(range)));
                    self.read_more();
                }
                Action::LoadPage { ticket, cursor, range } => {
                    self.reads.push_back((name.clone(), Read::Page(ticket, cursor, range)));
                    self.read_more();
                }
                Action::Deliver(event) => self.broadcast(&name, &event),
                Action::Resync { cursor, reason } => {
                    for worker in self.interested(&name) {
                        self.send(worker, ToWorker::Resync(name.clone(), cursor, reason)).await;
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
        for worker in self.interested(name) {
            let Some(Some(sender)) = self.workers.get(worker) else {
                continue;
            };
            if self.lost_track[worker].contains(name) {
                continue;
            }
            if let Err(mpsc::error::TrySendError::Full(_)) =
                sender.try_send(ToWorker::Event(name.clone(), Arc::clone(event)))
            {
                self.lost_track[worker].insert(name.clone());
            }
        }
    }

    /// Sends what must not be lost; there is no more of it than sessions and rooms.
    async fn send(&mut self, worker: WorkerKey, message: ToWorker) {
        let Some(Some(sender)) = self.workers.get(worker) else {
            return;
        };
        if sender.send(message).await.is_err() {
            tracing::debug!(worker, "the worker has ended");
        }
    }

    async fn tick(&mut self) {
        self.tell_lost_track();
        self.release_rooms();
        self.check_heads();
        self.ping();
        self.judge_light().await;
    }

    fn tell_lost_track(&mut self) {
        for (worker, rooms) in self.lost_track.iter_mut().enumerate() {
            let Some(Some(sender)) = self.workers.get(worker) else {
                continue;
            };
            rooms.retain(|name| sender.try_send(ToWorker::LostTrack(name.clone())).is_err());
        }
    }

    fn release_rooms(&mut self) {
        let linger = self.config.linger;
        let over = |entry: &Entry| {
            entry.empty_since.is_some_and(|since| since.elapsed() >= linger)
                && entry.room.is_quiet()
                && entry.subscribed
        };
        let released: Vec<_> =
            self.rooms.values().filter(|entry| over(entry)).map(|entry| entry.name.clone()).collect();
        if released.is_empty() {
            return;
        }
        for name in released {
            self.rooms.remove(&name);
            self.channels.remove(&self.config.bus.keys.events(&name));
            if let Some(link) = &mut self.link {
                link.unchecked.remove(&name);
            }
            self.to_unsubscribe.push(name);
        }
        self.metrics.rooms.set(i64::try_from(self.rooms.len()).unwrap_or(i64::MAX));
        self.subscribe_more();
    }

    /// Reads the heads of live rooms in turn: a message that pub/sub lost shows there.
    fn check_heads(&mut self) {
        let moment = Instant::now();
        if self.sweeping || moment < self.next_sweep {
            return;
        }
        let Some(link) = &self.link else { return };
        if self.sweep.is_empty() {
            self.sweep = self.rooms.keys().cloned().collect();
        }
        let count = self.sweep.len().min(self.config.head_checks);
        let rooms = self.sweep.drain(..count);
        let asked: Vec<_> = rooms
            .filter_map(|name| {
                let room = &self.rooms.get(&name)?.room;
                room.is_live().then(|| (name, room.cursor().offset))
            })
            .collect();
        self.next_sweep = moment + Duration::from_secs(1);
        if asked.is_empty() {
            return;
        }
        self.sweeping = true;
        self.metrics.redis_reads.with_label_values(&["heads"]).inc();
        let mut read = link.read.clone();
        let number = self.link_number;
        self.work.push(
            async move {
                let names: Vec<_> = asked.iter().map(|(name, _)| name.clone()).collect();
                let result = read.heads(&names).await;
                Done::Heads(number, asked, result)
            }
            .boxed(),
        );
    }

    /// A half-open link shows only to a ping.
    fn ping(&mut self) {
        let moment = Instant::now();
        if self.pinging || moment < self.next_ping {
            return;
        }
        let Some(link) = &self.link else { return };
        self.pinging = true;
        self.next_ping = moment + Duration::from_secs(1);
        let (mut subscriptions, mut read, number) =
            (link.subscriptions.clone(), link.read.clone(), self.link_number);
        self.work.push(
            async move {
                let (published, asked) = tokio::join!(subscriptions.ping(), read.ping());
                Done::Pinged(number, published.and(asked))
            }
            .boxed(),
        );
    }

    async fn judge_light(&mut self) {
        let whole = self.link.as_ref().is_some_and(|link| link.unchecked.is_empty());
        self.lamp.set_linked(whole && self.generation.is_some());
        let moment = now();
        let Some(light) = self.lamp.judge(moment.instant, moment.wall) else {
            return;
        };
        tracing::info!(live = light.live, reason = light.reason, "the light changed");
        self.metrics.live.set(i64::from(light.live));
        for worker in 0..self.workers.len() {
            self.send(worker, ToWorker::Light(light)).await;
        }
    }
}

async fn connect(
    config: &BusConfig,
) -> Result<(ReadLink, Subscriptions, Subscription, Option<Heartbeat>), BusError> {
    let mut read = ReadLink::connect(config).await?;
    let (mut subscriptions, subscription) = subscribe(config).await?;
    // Subscribed before the last heartbeat is read, so that no newer one is missed.
    subscriptions.add(&[config.keys.heartbeat()]).await?;
    let last = read.last_heartbeat().await?;
    Ok((read, subscriptions, subscription, last))
}

/// The next message of the link, or never while there is none.
async fn next_message(link: &mut Option<Link>) -> Option<Message> {
    match link {
        Some(link) => link.subscription.next().await,
        None => std::future::pending().await,
    }
}
