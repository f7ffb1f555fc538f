//! What goes over the links to Redis: messages, subscriptions and reads.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rowcast_bus::{BusError, Heard, Message, Range, Refusal};
use rowcast_protocol::{Cursor, Generation, Heartbeat, Record, RoomName};

use super::{Done, Doubt, Hub, Read};
use crate::room::Room;
use crate::worker::{Ticket, now};

/// Channels in one SUBSCRIBE.
const SUBSCRIBE_BATCH: usize = 500;

/// Reads of logs under way at once; more wait in order.
const READS: usize = 256;

/// Messages taken from Redis before the hub looks at anything else.
const BURST: usize = 256;

/// Bursts of messages that are taken before heads are judged.
const BURSTS_BEFORE_DOUBT: usize = 64;

/// No link has this number.
pub(super) const NO_LINK: u64 = 0;

/// A room that cannot be read is tried again so often, with so many entries.
const RETRY_ROOM: Duration = Duration::from_secs(1);
const RETRIED_ENTRIES: usize = 64;

impl Hub {
    /// Takes what has arrived over a link, and a burst of what is behind it there.
    pub(super) async fn take_messages(&mut self, number: u64, first: Option<Heard>) {
        let mut next = Some(first);
        let mut left = BURST;
        while let Some(heard) = next {
            match heard {
                Some(Heard::Message(message)) => self.message(number, message).await,
                Some(Heard::Dropped(channel)) => self.dropped(number, &channel).await,
                None => return self.lost(number, "the subscription ended").await,
            }
            let node = self.nodes.linked(number).filter(|_| left > 0);
            next = node.and_then(|node| node.next().now_or_never());
            left = left.saturating_sub(1);
        }
    }

    /// A server has ended a subscription: it has given the slot away, or did as it was asked.
    async fn dropped(&mut self, number: u64, channel: &str) {
        let Some(node) = self.nodes.linked(number) else { return };
        if channel == self.config.bus.keys.heartbeat(&node.server) {
            return self.lost(number, "its heartbeats go by another slot").await;
        }
        let name = node.server.name.clone();
        let Some(room) = self.channels.get(channel).cloned() else { return };
        let Some(entry) = self.rooms.get_mut(&room) else { return };
        if entry.subscribed && entry.node.as_ref() == Some(&name) {
            entry.subscribed = false;
            entry.room.suspect();
            self.house(&room);
            self.moving.entry(room).or_insert_with(Instant::now);
            self.find_again.notify_one();
        }
    }

    async fn message(&mut self, number: u64, message: Message) {
        let Some(name) = self.channels.get(&message.channel) else {
            let Some(node) = self.nodes.linked(number) else { return };
            if message.channel == self.config.bus.keys.heartbeat(&node.server) {
                let server = node.server.name.clone();
                self.heartbeat(number, &server, &message.payload).await;
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

    async fn heartbeat(&mut self, number: u64, server: &str, payload: &[u8]) {
        match serde_json::from_slice::<Heartbeat>(payload) {
            Ok(heartbeat) => {
                self.lamp.heard(server, &heartbeat, Instant::now());
                self.hear_of_sheets(number, &heartbeat);
                self.hear_generation(heartbeat.generation()).await;
                self.judge_light().await;
            }
            Err(error) => tracing::error!(%error, "a heartbeat cannot be read"),
        }
    }

    pub(super) async fn hear_generation(&mut self, generation: Generation) {
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

    pub(super) fn subscribe_more_for(&mut self, room: &RoomName) {
        if let Some(holder) = self.rooms.get(room).and_then(|entry| entry.node.clone()) {
            self.subscribe_more(&holder);
        }
    }

    pub(super) fn subscribe_everywhere(&mut self) {
        let names: Vec<_> = self.nodes.iter().map(|node| node.server.name.clone()).collect();
        names.iter().for_each(|name| self.subscribe_more(name));
    }

    pub(super) fn subscribe_more(&mut self, name: &str) {
        let Some(node) = self.nodes.get(name) else { return };
        let Some(link) = &node.link else { return };
        if node.subscribing {
            return;
        }
        let keys = &self.config.bus.keys;
        let mut subscriptions = link.subscriptions.clone();
        let number = node.number;
        // A room that was opened again meanwhile keeps the subscription that it has.
        let stays =
            |room: &RoomName| self.rooms.get(room).is_some_and(|entry| entry.node.as_deref() == Some(name));
        let leaving: Vec<_> = std::mem::take(&mut node.to_unsubscribe);
        let leaving: Vec<_> =
            leaving.iter().filter(|room| !stays(room)).map(|room| keys.events(room)).collect();
        if !leaving.is_empty() {
            node.subscribing = true;
            self.work.push(
                async move { Done::Unsubscribed(number, subscriptions.remove(&leaving).await) }.boxed(),
            );
            return;
        }
        if node.to_subscribe.is_empty() {
            return;
        }
        let count = node.to_subscribe.len().min(SUBSCRIBE_BATCH);
        let batch: Vec<_> = node.to_subscribe.drain(..count).collect();
        let channels: Vec<_> = batch.iter().map(|room| keys.events(room)).collect();
        node.subscribing = true;
        self.work.push(
            async move {
                let result = subscriptions.add(&channels).await;
                Done::Subscribed(number, batch, result)
            }
            .boxed(),
        );
    }

    /// Reads a room's log where it is held, when its turn comes; a room that nobody holds is read when somebody does.
    pub(super) fn read(&mut self, room: &RoomName, read: Read) {
        let holder = self.rooms.get(room).and_then(|entry| entry.node.clone());
        let Some(node) = holder.and_then(|holder| self.nodes.get(&holder)) else {
            let room = room.clone();
            self.work.push(std::future::ready(Done::Retry(NO_LINK, room, read)).boxed());
            return;
        };
        let name = node.server.name.clone();
        node.reads.push_back((room.clone(), read));
        self.read_more(&name);
    }

    pub(super) fn read_more(&mut self, name: &str) {
        let Some(node) = self.nodes.get(name) else { return };
        let Some(link) = &node.link else { return };
        while node.reading < READS {
            let Some((room, read)) = node.reads.pop_front() else {
                return;
            };
            node.reading += 1;
            let mut connection = link.read.clone();
            let number = node.number;
            self.metrics.redis_reads.with_label_values(&["log"]).inc();
            self.work.push(
                async move {
                    match read {
                        Read::Load(range) => {
                            let result = connection.load(&room, range).await;
                            Done::Loaded(number, room, result)
                        }
                        Read::Page(ticket, cursor, range) => {
                            let result = connection.load(&room, range).await;
                            Done::Page(number, room, ticket, cursor, result)
                        }
                    }
                }
                .boxed(),
            );
        }
    }

    /// A read over the link of that number has come back. Whether that link is the one by which the room is held now: what
    /// was read elsewhere is old.
    fn read_ended(&mut self, number: u64, room: &RoomName) -> bool {
        let Some(node) = self.nodes.linked(number) else { return false };
        node.reading -= 1;
        let name = node.server.name.clone();
        self.read_more(&name);
        self.is_held(number, room)
    }

    fn is_held(&mut self, number: u64, room: &RoomName) -> bool {
        let Some(node) = self.nodes.linked(number) else { return false };
        self.rooms.get(room).is_some_and(|entry| entry.node.as_ref() == Some(&node.server.name))
    }

    pub(super) async fn done(&mut self, done: Done) {
        match done {
            Done::Found(finder, found) => self.found(finder, found).await,
            Done::Connected(number, result) => self.connected(number, result).await,
            Done::Subscribed(number, rooms, result) => self.subscribed(number, rooms, result).await,
            Done::Unsubscribed(number, result) => self.unsubscribed(number, result).await,
            Done::Loaded(number, name, result) => {
                if !self.read_ended(number, &name) {
                    return;
                }
                match result {
                    Ok(loaded) => {
                        self.with_room(&name, |room| room.loaded(loaded)).await;
                        self.checked(number, &name).await;
                    }
                    Err(error) => self.read_failed(number, name, None, error).await,
                }
            }
            Done::Page(number, name, ticket, cursor, result) => {
                if !self.read_ended(number, &name) {
                    // The link that should have read it is gone; the join waits for the next one.
                    return self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
                }
                match result {
                    Ok(loaded) => {
                        self.with_room(&name, |room| room.page_loaded(ticket, cursor, loaded)).await;
                    }
                    Err(error) => self.read_failed(number, name, Some((ticket, cursor)), error).await,
                }
            }
            Done::Retry(number, name, read) => match (self.is_held(number, &name), read) {
                (true, read) => self.read(&name, read),
                (false, Read::Page(ticket, cursor, _)) => {
                    self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
                }
                (false, Read::Load(_)) => {}
            },
            Done::Heads(number, asked, result) => match result {
                Ok(heads) => {
                    // A head that cannot be read is reported when the room is.
                    let heads = heads.into_iter().map(|head| head.unwrap_or(None));
                    let doubts = asked.into_iter().zip(heads).map(|((name, then), head)| (name, then, head));
                    self.doubt(number, doubts);
                }
                Err(error) => self.lost(number, &error.to_string()).await,
            },
            Done::Doubts(number, doubts, result) => match result {
                Ok(()) => self.settle_doubts(number, doubts).await,
                Err(error) => self.lost(number, &error.to_string()).await,
            },
            Done::State(number, name, join, result) => {
                match result {
                    Ok(Some(heartbeat)) => self.hear_generation(heartbeat.generation()).await,
                    Ok(None) => {}
                    // The join then waits for the next link, which begins with this question.
                    Err(error) => self.lost(number, &error.to_string()).await,
                }
                self.with_room(&name, |room| room.join(join)).await;
            }
            Done::Sheet(number, sheet, result) => self.sheet_loaded(number, sheet, result).await,
            Done::Pinged(number, result) => {
                let Some(node) = self.nodes.linked(number) else { return };
                node.pinging = false;
                match result {
                    Ok(()) => node.attempts = 0,
                    Err(error) => self.lost(number, &error.to_string()).await,
                }
            }
        }
    }

    /// Heads are read on another connection than messages arrive on, and can be ahead of those that are on their way.
    /// Behind the answer to a ping, they have arrived.
    fn doubt(&mut self, number: u64, heads: impl Iterator<Item = Doubt>) {
        let stands = |(name, then, head): &Doubt| {
            self.rooms.get(name).is_none_or(|entry| entry.room.agrees_with(*then, *head))
        };
        let doubts: Vec<_> = heads.filter(|doubt| !stands(doubt)).collect();
        let Some(node) = self.nodes.linked(number) else { return };
        let Some(link) = &node.link else { return };
        if doubts.is_empty() {
            node.sweeping = false;
            return;
        }
        let mut subscriptions = link.subscriptions.clone();
        self.work.push(async move { Done::Doubts(number, doubts, subscriptions.ping().await) }.boxed());
    }

    async fn settle_doubts(&mut self, number: u64, doubts: Vec<Doubt>) {
        for turn in 0.. {
            let Some(node) = self.nodes.linked(number) else { return };
            node.sweeping = false;
            let Some(next) = node.next().now_or_never() else { break };
            self.take_messages(number, next).await;
            // Where messages come without end, a lost one shows in what follows it.
            if turn == BURSTS_BEFORE_DOUBT {
                return;
            }
        }
        for (name, then, head) in doubts {
            if self.is_held(number, &name) {
                self.with_room(&name, |room| room.head_seen(then, head)).await;
            }
        }
    }

    /// A read of one room failed: with the link, or because Redis has something there that it should not.
    async fn read_failed(
        &mut self,
        number: u64,
        name: RoomName,
        page: Option<(Ticket, Cursor)>,
        error: BusError,
    ) {
        if matches!(error, BusError::Link(_)) {
            self.lost(number, &error.to_string()).await;
            if let Some((ticket, cursor)) = page {
                self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
            }
            return;
        }
        match &error {
            // Its slot is on its way to another server, or there already.
            BusError::Refused(refusal) if refusal.is_of_slot() => {
                tracing::debug!(%error, "a room is not where it was");
                self.moving.entry(name.clone()).or_insert_with(Instant::now);
                self.find_again.notify_one();
            }
            _ => {
                self.metrics.unreadable.inc();
                tracing::error!(%error, "a room cannot be read; trying again");
            }
        }
        let Some(entry) = self.rooms.get(&name) else { return };
        let offset = entry.room.cursor().offset;
        let read = match page {
            Some((ticket, cursor)) => {
                Read::Page(ticket, cursor, Range::After { offset: cursor.offset, count: RETRIED_ENTRIES })
            }
            None => Read::Load(Range::After { offset, count: RETRIED_ENTRIES }),
        };
        self.work.push(
            async move {
                tokio::time::sleep(RETRY_ROOM).await;
                Done::Retry(number, name, read)
            }
            .boxed(),
        );
    }

    async fn subscribed(
        &mut self,
        number: u64,
        rooms: Vec<RoomName>,
        result: Result<Vec<(usize, Refusal)>, BusError>,
    ) {
        let Some(node) = self.nodes.linked(number) else { return };
        node.subscribing = false;
        let server = node.server.name.clone();
        let refused = match result {
            Ok(refused) => refused,
            Err(error) => return self.lost(number, &error.to_string()).await,
        };
        if let Some((_, refusal)) = refused.first() {
            tracing::debug!(%refusal, count = refused.len(), "rooms are not where they were");
            self.find_again.notify_one();
        }
        for (place, name) in rooms.into_iter().enumerate() {
            if !self.is_held(number, &name) {
                continue;
            }
            if refused.iter().any(|(refused, _)| *refused == place) {
                // With the next tick, unless it is found elsewhere until then.
                self.house(&name);
                self.moving.entry(name).or_insert_with(Instant::now);
                continue;
            }
            if let Some(entry) = self.rooms.get_mut(&name) {
                entry.subscribed = true;
            }
            self.with_room(&name, Room::subscribed).await;
        }
        if refused.is_empty() {
            self.subscribe_more(&server);
        }
    }

    async fn unsubscribed(&mut self, number: u64, result: Result<(), BusError>) {
        let Some(node) = self.nodes.linked(number) else { return };
        node.subscribing = false;
        let server = node.server.name.clone();
        match result {
            Ok(()) => self.subscribe_more(&server),
            Err(error) => self.lost(number, &error.to_string()).await,
        }
    }

    /// A room was read since the link was made; when all were, the light may say so.
    async fn checked(&mut self, number: u64, name: &RoomName) {
        if let Some(node) = self.nodes.linked(number)
            && let Some(link) = &mut node.link
            && self.rooms.get(name).is_none_or(|entry| entry.room.is_live())
        {
            link.unchecked.remove(name);
            self.moving.remove(name);
        }
        self.judge_light().await;
    }
}
