//! Redis's servers as the hub sees them: which there are, the link to each of them, and which of them holds a room.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rand::RngExt;
use rowcast_bus::{
    BusConfig, BusError, Finder, Heard, ReadLink, Server, Subscription, Subscriptions, Topology, subscribe_at,
};
use rowcast_protocol::{Heartbeat, RoomName, Sheet};

use super::link::NO_LINK;
use super::{Done, Hub, Read, sheets};

/// Between two questions for the servers at the least, however often something is found wrong.
const CALM: Duration = Duration::from_millis(50);

/// A link, while there is one.
pub(super) struct Link {
    pub read: ReadLink,
    pub subscriptions: Subscriptions,
    pub subscription: Subscription,
    /// Rooms that were not checked since the link was made.
    pub unchecked: HashSet<RoomName>,
}

/// A new link, and what stood in Redis when it was made.
pub(super) struct Linked {
    read: ReadLink,
    subscriptions: Subscriptions,
    subscription: Subscription,
    last: Option<Heartbeat>,
    sheets: Vec<(Sheet, sheets::Found)>,
}

/// A server, and what is to be done there.
pub(super) struct Node {
    pub server: Server,
    pub link: Option<Link>,
    /// Of the link, or of the attempt to make one: no two links of this edge have the same, so that what an old one answers is
    /// not taken for another's.
    pub number: u64,
    pub attempts: u32,
    pub to_subscribe: Vec<RoomName>,
    pub to_unsubscribe: Vec<RoomName>,
    /// Whether channels are being subscribed to or left: one thing at a time, so that they keep their order.
    pub subscribing: bool,
    pub reads: VecDeque<(RoomName, Read)>,
    pub reading: usize,
    pub sweep: VecDeque<RoomName>,
    pub sweeping: bool,
    pub next_sweep: Instant,
    pub pinging: bool,
    pub next_ping: Instant,
}

impl Node {
    fn new(server: Server, now: Instant) -> Self {
        Self {
            server,
            link: None,
            number: NO_LINK,
            attempts: 0,
            to_subscribe: Vec::new(),
            to_unsubscribe: Vec::new(),
            subscribing: false,
            reads: VecDeque::new(),
            reading: 0,
            sweep: VecDeque::new(),
            sweeping: false,
            next_sweep: now,
            pinging: false,
            next_ping: now,
        }
    }

    /// The next message; never while there is no link.
    pub async fn next(&mut self) -> Option<Heard> {
        match &mut self.link {
            Some(link) => link.subscription.next().await,
            None => std::future::pending().await,
        }
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Nodes {
    pub topology: Option<Topology>,
    all: BTreeMap<Arc<str>, Node>,
    numbers: u64,
    /// Which of them is looked at first for a message.
    turn: usize,
}

impl Nodes {
    pub fn get(&mut self, name: &str) -> Option<&mut Node> {
        self.all.get_mut(name)
    }

    /// The one whose link has that number, while it has.
    pub fn linked(&mut self, number: u64) -> Option<&mut Node> {
        self.all.values_mut().find(|node| node.number == number && node.link.is_some())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.all.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.all.values_mut()
    }

    /// The name of the server that holds a room.
    pub fn holder(&self, room: &RoomName) -> Option<Arc<str>> {
        Some(self.topology.as_ref()?.holder(room)?.name.clone())
    }

    /// The next message of any link, with the number of that link.
    pub async fn next(&mut self) -> (u64, Option<Heard>) {
        let (nodes, turn) = (&mut self.all, &mut self.turn);
        poll_fn(|context| {
            // From the one whose turn it is to the last, and then from the first.
            for late in [true, false] {
                for (place, node) in nodes.values_mut().enumerate() {
                    let number = node.number;
                    if (place >= *turn) == late
                        && let Poll::Ready(heard) = pin!(node.next()).poll(context)
                    {
                        *turn = place + 1;
                        return Poll::Ready((number, heard));
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Hub {
    /// Asks for the servers, after a while.
    pub(super) fn search(&mut self, mut finder: Finder, wait: Duration) {
        let sooner = Arc::clone(&self.find_again);
        self.work.push(
            async move {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = sooner.notified() => tokio::time::sleep(CALM.min(wait)).await,
                }
                let found = finder.find().await;
                Done::Found(finder, found)
            }
            .boxed(),
        );
    }

    pub(super) async fn found(&mut self, finder: Finder, found: Result<Topology, BusError>) {
        let wait = match found {
            Ok(topology) => {
                self.searches = 0;
                self.adopt(topology).await;
                // Where the address names the server, there is nobody to ask again.
                let Some(interval) = finder.interval() else { return };
                interval
            }
            Err(error) => {
                self.searches = self.searches.saturating_add(1);
                warn(self.searches, &error.to_string(), "not known where Redis is; asking again");
                delay(self.searches)
            }
        };
        self.search(finder, wait);
    }

    /// These are the servers now. Links to those that are not what they were end; rooms go where their holders are.
    async fn adopt(&mut self, topology: Topology) {
        if self.nodes.topology.as_ref() == Some(&topology) {
            return;
        }
        let names: Vec<String> = topology.servers().iter().map(ToString::to_string).collect();
        tracing::info!(servers = names.join(", "), "Redis's servers");
        let changed = |node: &&Node| topology.server(&node.server.name) != Some(&node.server);
        let ended: Vec<_> = self.nodes.iter().filter(changed).map(|node| node.server.name.clone()).collect();
        for name in ended {
            self.unlink(&name).await;
            self.nodes.all.remove(&name);
        }
        let now = Instant::now();
        self.lamp.set_servers(topology.servers().iter().map(|server| server.name.clone()), now);
        let mut joined = Vec::new();
        for server in topology.servers() {
            if !self.nodes.all.contains_key(&server.name) {
                self.nodes.all.insert(server.name.clone(), Node::new(server.clone(), now));
                joined.push(server.name.clone());
            }
        }
        self.nodes.topology = Some(topology);
        self.rehouse().await;
        for name in joined {
            self.connect(&name, Duration::ZERO);
        }
        self.judge_ready();
        self.judge_light().await;
    }

    /// Rooms whose holder is another one go there: subscribed, read, and only then live again.
    async fn rehouse(&mut self) {
        let holders: Vec<_> = self.rooms.keys().map(|name| (name.clone(), self.nodes.holder(name))).collect();
        for (name, holder) in holders {
            let Some(entry) = self.rooms.get_mut(&name) else { continue };
            if entry.node == holder {
                continue;
            }
            let before = std::mem::replace(&mut entry.node, holder);
            entry.subscribed = false;
            entry.room.suspect();
            if let Some(node) = before.and_then(|before| self.nodes.get(&before)) {
                node.to_subscribe.retain(|waiting| *waiting != name);
                node.to_unsubscribe.push(name.clone());
                if let Some(link) = &mut node.link {
                    link.unchecked.remove(&name);
                }
                let (its, others) =
                    std::mem::take(&mut node.reads).into_iter().partition(|(room, _)| *room == name);
                node.reads = others;
                self.give_up(its).await;
            }
            self.house(&name);
            self.moving.entry(name).or_insert_with(Instant::now);
        }
        self.subscribe_everywhere();
    }

    /// A room waits to be subscribed to at its holder.
    pub(super) fn house(&mut self, name: &RoomName) {
        let holder = self.rooms.get(name).and_then(|entry| entry.node.clone());
        let Some(node) = holder.and_then(|holder| self.nodes.get(&holder)) else { return };
        node.to_subscribe.push(name.clone());
    }

    /// The names of the rooms of a server.
    fn rooms_of(&self, name: &str) -> Vec<RoomName> {
        let is_its = |entry: &&super::Entry| entry.node.as_deref() == Some(name);
        self.rooms.values().filter(is_its).map(|entry| entry.name.clone()).collect()
    }

    fn connect(&mut self, name: &str, delay: Duration) {
        self.nodes.numbers += 1;
        let number = self.nodes.numbers;
        let Some(node) = self.nodes.get(name) else { return };
        node.number = number;
        let (config, server) = (self.config.bus.clone(), node.server.clone());
        self.work.push(
            async move {
                tokio::time::sleep(delay).await;
                Done::Connected(number, link(&config, &server).await)
            }
            .boxed(),
        );
    }

    pub(super) async fn connected(&mut self, number: u64, result: Result<Linked, BusError>) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.number == number) else { return };
        let name = node.server.name.clone();
        let Linked { read, subscriptions, subscription, last, sheets } = match result {
            Ok(linked) => linked,
            Err(error) => return self.retry(&name, &error.to_string()),
        };
        let rooms = self.rooms_of(&name);
        let Some(node) = self.nodes.get(&name) else { return };
        tracing::info!(server = %node.server, rooms = rooms.len(), "linked to Redis");
        node.subscribing = false;
        node.sweeping = false;
        node.pinging = false;
        node.next_ping = Instant::now() + Duration::from_secs(1);
        node.link =
            Some(Link { read, subscriptions, subscription, unchecked: rooms.iter().cloned().collect() });
        node.to_subscribe = rooms;
        node.to_unsubscribe.clear();
        self.catch_up_with_sheets(number, last.as_ref(), sheets).await;
        if let Some(last) = last {
            self.hear_generation(last.generation()).await;
        }
        self.subscribe_more(&name);
        self.judge_ready();
        self.judge_light().await;
    }

    /// The link of that number is of no use any more; another one is made.
    pub(super) async fn lost(&mut self, number: u64, error: &str) {
        let Some(node) = self.nodes.linked(number) else { return };
        let name = node.server.name.clone();
        self.metrics.redis_losses.inc();
        self.unlink(&name).await;
        self.judge_ready();
        self.judge_light().await;
        self.retry(&name, error);
        // It may have been demoted, or have given its slots away.
        self.find_again.notify_one();
    }

    /// Takes a server's link away: nothing that was published there is certain to have arrived.
    async fn unlink(&mut self, name: &str) {
        let Some(node) = self.nodes.get(name) else { return };
        node.link = None;
        // What is under way belongs to no link from here on.
        node.number = NO_LINK;
        node.reading = 0;
        let reads = std::mem::take(&mut node.reads);
        self.interrupt_sheets();
        for room in self.rooms_of(name) {
            if let Some(entry) = self.rooms.get_mut(&room) {
                entry.subscribed = false;
                entry.room.suspect();
            }
        }
        self.give_up(reads).await;
    }

    /// Reads that are not carried out. Those of whole rooms come again when these are subscribed to.
    async fn give_up(&mut self, reads: VecDeque<(RoomName, Read)>) {
        for (name, read) in reads {
            if let Read::Page(ticket, cursor, _) = read {
                self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
            }
        }
    }

    fn retry(&mut self, name: &str, error: &str) {
        let Some(node) = self.nodes.get(name) else { return };
        node.attempts = node.attempts.saturating_add(1);
        let attempts = node.attempts;
        warn(attempts, error, "no link to Redis; trying again");
        self.connect(name, delay(attempts));
    }
}

/// Says what goes wrong the first time, and then now and then.
fn warn(attempts: u32, error: &str, what: &'static str) {
    if attempts == 1 || attempts.is_multiple_of(10) {
        tracing::warn!(error, attempts, "{what}");
    }
}

fn delay(attempts: u32) -> Duration {
    let ceiling = Duration::from_millis(50) * 2u32.saturating_pow(attempts.min(5));
    ceiling.min(Duration::from_secs(1)).mul_f64(rand::rng().random_range(0.5..1.0))
}

async fn link(config: &BusConfig, server: &Server) -> Result<Linked, BusError> {
    let mut read = ReadLink::connect_to(config, server).await?;
    let (mut subscriptions, subscription) = subscribe_at(config, server).await?;
    // Subscribed before the last heartbeat is read, so that no newer one is missed.
    let refused = subscriptions.add(&[config.keys.heartbeat(server)]).await?;
    if let Some((_, refusal)) = refused.into_iter().next() {
        return Err(BusError::Refused(refusal));
    }
    let last = read.last_heartbeat().await?;
    let mut found = Vec::new();
    for sheet in Sheet::ALL {
        found.push((sheet, sheets::read(&mut read, sheet).await?));
    }
    Ok(Linked { read, subscriptions, subscription, last, sheets: found })
}
