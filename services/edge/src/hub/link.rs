//! The hub's side towards Redis: the link, what arrives on it, subscriptions and reads.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rand::RngExt;
use rowcast_bus::{BusConfig, BusError, Message, Range, ReadLink, Subscription, Subscriptions, subscribe};
use rowcast_protocol::{Cursor, Generation, Heartbeat, Record, RoomName, Sheet};

use super::{Done, Doubt, Hub, Link, Read, next_message, sheets};
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

/// A room that cannot be read is tried again so often, with so many entries.
const RETRY_ROOM: Duration = Duration::from_secs(1);
const RETRIED_ENTRIES: usize = 64;

/// A new link, and what stood in Redis when it was made.
pub(super) struct Linked {
    read: ReadLink,
    subscriptions: Subscriptions,
    subscription: Subscription,
    last: Option<Heartbeat>,
    sheets: Vec<(Sheet, sheets::Found)>,
}

impl Hub {
    pub(super) fn connect(&mut self, delay: Duration) {
        let config = self.config.bus.clone();
        self.work.push(
            async move {
                tokio::time::sleep(delay).await;
                Done::Connected(connect(&config).await)
            }
            .boxed(),
        );
    }

    async fn connected(&mut self, Linked { read, subscriptions, subscription, last, sheets }: Linked) {
        tracing::info!(rooms = self.rooms.len(), "linked to Redis");
        self.link_number += 1;
        self.subscribing = false;
        self.sweeping = false;
        self.pinging = false;
        self.next_ping = Instant::now() + Duration::from_secs(1);
        let unchecked = self.rooms.keys().cloned().collect();
        self.link = Some(Link { read, subscriptions, subscription, unchecked });
        self.to_subscribe = self.rooms.keys().cloned().collect();
        self.to_unsubscribe.clear();
        self.catch_up_with_sheets(last.as_ref(), sheets).await;
        if let Some(last) = last {
            self.hear_generation(last.generation()).await;
        }
        self.subscribe_more();
        self.judge_ready();
        self.judge_light().await;
    }

    pub(super) async fn lost(&mut self, error: &str) {
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

    pub(super) async fn take_messages(&mut self, first: Option<Message>) {
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
                self.hear_of_sheets(&heartbeat);
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

    pub(super) fn subscribe_more(&mut self) {
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

    pub(super) fn read_more(&mut self) {
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

    pub(super) async fn done(&mut self, done: Done) {
        match done {
            Done::Connected(Ok(linked)) => self.connected(linked).await,
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
                    Err(error) => self.read_failed(name, None, error).await,
                }
                self.read_more();
            }
            Done::Page(number, name, ticket, cursor, result) if number == self.link_number => {
                self.reading -= 1;
                match result {
                    Ok(loaded) => {
                        self.with_room(&name, |room| room.page_loaded(ticket, cursor, loaded)).await;
                    }
                    Err(error) => self.read_failed(name, Some((ticket, cursor)), error).await,
                }
                self.read_more();
            }
            // The link that should have read it is gone; the join waits for the next one.
            Done::Page(_, name, ticket, cursor, _) | Done::Retry(_, name, Read::Page(ticket, cursor, _)) => {
                self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
            }
            Done::Retry(number, name, read) if number == self.link_number => {
                self.reads.push_back((name, read));
                self.read_more();
            }
            Done::Heads(number, asked, result) if number == self.link_number => match result {
                Ok(heads) => {
                    // A head that cannot be read is reported when the room is.
                    let heads = heads.into_iter().map(|head| head.unwrap_or(None));
                    self.doubt(asked.into_iter().zip(heads).map(|((name, then), head)| (name, then, head)));
                }
                Err(error) => self.lost(&error.to_string()).await,
            },
            Done::Doubts(number, doubts, result) if number == self.link_number => match result {
                Ok(()) => self.settle_doubts(doubts).await,
                Err(error) => self.lost(&error.to_string()).await,
            },
            Done::State(number, name, join, result) => {
                match result {
                    Ok(Some(heartbeat)) => self.hear_generation(heartbeat.generation()).await,
                    Ok(None) => {}
                    // The join then waits for the next link, which begins with this question.
                    Err(error) if number == self.link_number => self.lost(&error.to_string()).await,
                    Err(_) => {}
                }
                self.with_room(&name, |room| room.join(join)).await;
            }
            Done::Sheet(number, sheet, result) if number == self.link_number => {
                self.sheet_loaded(sheet, result).await
            }
            Done::Pinged(number, result) if number == self.link_number => {
                self.pinging = false;
                match result {
                    Ok(()) => self.attempts = 0,
                    Err(error) => self.lost(&error.to_string()).await,
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
            | Done::Doubts(..)
            | Done::Retry(..)
            | Done::Sheet(..)
            | Done::Pinged(..)
            | Done::Unsubscribed(..) => {}
        }
    }

    /// Heads are read on another connection than messages arrive on, and can be ahead of those that are on their way.
    /// Behind the answer to a ping, they have arrived.
    fn doubt(&mut self, heads: impl Iterator<Item = Doubt>) {
        let stands = |(name, then, head): &Doubt| {
            self.rooms.get(name).is_none_or(|entry| entry.room.agrees_with(*then, *head))
        };
        let doubts: Vec<_> = heads.filter(|doubt| !stands(doubt)).collect();
        let Some(link) = &self.link else { return };
        if doubts.is_empty() {
            self.sweeping = false;
            return;
        }
        let (mut subscriptions, number) = (link.subscriptions.clone(), self.link_number);
        self.work.push(async move { Done::Doubts(number, doubts, subscriptions.ping().await) }.boxed());
    }

    async fn settle_doubts(&mut self, doubts: Vec<Doubt>) {
        self.sweeping = false;
        let number = self.link_number;
        for turn in 0.. {
            let Some(next) = next_message(&mut self.link).now_or_never() else { break };
            self.take_messages(next).await;
            // Where messages come without end, a lost one shows in what follows it.
            if self.link_number != number || turn == BURSTS_BEFORE_DOUBT {
                return;
            }
        }
        for (name, then, head) in doubts {
            self.with_room(&name, |room| room.head_seen(then, head)).await;
        }
    }

    /// A read of one room failed: with the link, or because Redis has something there that it should not.
    async fn read_failed(&mut self, name: RoomName, page: Option<(Ticket, Cursor)>, error: BusError) {
        if matches!(error, BusError::Link(_)) {
            self.lost(&error.to_string()).await;
            if let Some((ticket, cursor)) = page {
                self.with_room(&name, |room| room.page_failed(ticket, cursor)).await;
            }
            return;
        }
        self.metrics.unreadable.inc();
        tracing::error!(%error, "a room cannot be read; trying again");
        let Some(entry) = self.rooms.get(&name) else { return };
        let offset = entry.room.cursor().offset;
        let read = match page {
            Some((ticket, cursor)) => {
                Read::Page(ticket, cursor, Range::After { offset: cursor.offset, count: RETRIED_ENTRIES })
            }
            None => Read::Load(Range::After { offset, count: RETRIED_ENTRIES }),
        };
        let number = self.link_number;
        self.work.push(
            async move {
                tokio::time::sleep(RETRY_ROOM).await;
                Done::Retry(number, name, read)
            }
            .boxed(),
        );
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
}

async fn connect(config: &BusConfig) -> Result<Linked, BusError> {
    let mut read = ReadLink::connect(config).await?;
    let (mut subscriptions, subscription) = subscribe(config).await?;
    // Subscribed before the last heartbeat is read, so that no newer one is missed.
    subscriptions.add(&[config.keys.heartbeat()]).await?;
    let last = read.last_heartbeat().await?;
    let mut found = Vec::new();
    for sheet in Sheet::ALL {
        found.push((sheet, sheets::read(&mut read, sheet).await?));
    }
    Ok(Linked { read, subscriptions, subscription, last, sheets: found })
}
