//! What the clock asks of the hub: the light, readiness, rooms without clients, heads to be compared, pings.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rowcast_bus::Topology;
use rowcast_protocol::Micros;

use super::nodes::Node;
use super::{Done, Entry, Hub};
use crate::worker::{ToWorker, now};

/// A room that goes from one server to another may take so long before the light says so.
const MOVE: Duration = Duration::from_secs(2);

/// How often old events are let go of.
const FORGETTING: Duration = Duration::from_secs(5);

impl Hub {
    pub(super) async fn tick(&mut self) {
        self.tell_lost_track();
        self.release_rooms();
        self.forget_old();
        self.subscribe_everywhere();
        let names: Vec<_> = self.nodes.iter().map(|node| node.server.name.clone()).collect();
        for name in names {
            self.check_heads(&name);
            self.ping(&name);
        }
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
            let holder = self.rooms.remove(&name).and_then(|entry| entry.node);
            self.channels.remove(&self.config.bus.keys.events(&name));
            self.moving.remove(&name);
            if let Some(node) = holder.and_then(|holder| self.nodes.get(&holder)) {
                if let Some(link) = &mut node.link {
                    link.unchecked.remove(&name);
                }
                node.to_unsubscribe.push(name);
            }
        }
        self.metrics.rooms.set(i64::try_from(self.rooms.len()).unwrap_or(i64::MAX));
    }

    /// Memory is for those who come back soon.
    fn forget_old(&mut self) {
        let moment = now();
        if moment.instant < self.next_forgetting {
            return;
        }
        self.next_forgetting = moment.instant + FORGETTING;
        let age = i64::try_from(self.config.recent_age.as_micros()).unwrap_or(i64::MAX);
        let oldest = Micros(moment.wall.0.saturating_sub(age));
        self.rooms.values_mut().for_each(|entry| entry.room.forget_before(oldest));
    }

    /// Reads the heads of a server's live rooms in turn: a message that pub/sub lost shows there.
    fn check_heads(&mut self, name: &str) {
        let moment = Instant::now();
        let Some(node) = self.nodes.get(name) else { return };
        let Some(link) = &node.link else { return };
        if node.sweeping || moment < node.next_sweep {
            return;
        }
        if node.sweep.is_empty() {
            let is_its = |entry: &&Entry| entry.node.as_deref() == Some(name);
            node.sweep = self.rooms.values().filter(is_its).map(|entry| entry.name.clone()).collect();
        }
        let count = node.sweep.len().min(self.config.head_checks);
        let rooms = node.sweep.drain(..count);
        let asked: Vec<_> = rooms
            .filter_map(|room| {
                let entry = self.rooms.get(&room)?;
                let asks = entry.room.is_live() && entry.node.as_deref() == Some(name);
                asks.then(|| (room, entry.room.cursor().offset))
            })
            .collect();
        node.next_sweep = moment + Duration::from_secs(1);
        if asked.is_empty() {
            return;
        }
        node.sweeping = true;
        self.metrics.redis_reads.with_label_values(&["heads"]).inc();
        let mut read = link.read.clone();
        let number = node.number;
        self.work.push(
            async move {
                let names: Vec<_> = asked.iter().map(|(name, _)| name.clone()).collect();
                let result = read.heads(&names).await;
                Done::Heads(number, asked, result)
            }
            .boxed(),
        );
    }

    /// A half-open link shows only to a ping, and a demoted master only when it is asked.
    fn ping(&mut self, name: &str) {
        let moment = Instant::now();
        let Some(node) = self.nodes.get(name) else { return };
        let Some(link) = &node.link else { return };
        if node.pinging || moment < node.next_ping {
            return;
        }
        node.pinging = true;
        node.next_ping = moment + Duration::from_secs(1);
        let (mut subscriptions, mut read, number) =
            (link.subscriptions.clone(), link.read.clone(), node.number);
        self.work.push(
            async move {
                let (published, asked) = tokio::join!(subscriptions.ping(), read.ping());
                Done::Pinged(number, published.and(asked))
            }
            .boxed(),
        );
    }

    pub(super) async fn judge_light(&mut self) {
        let checked = |node: &Node| node.link.as_ref().is_some_and(|link| link.unchecked.is_empty());
        let late = self.moving.values().any(|since| since.elapsed() > MOVE);
        let whole = !late
            && self.nodes.topology.as_ref().is_some_and(Topology::is_whole)
            && self.nodes.iter().all(checked);
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

    pub(super) fn judge_ready(&self) {
        // Where one of several servers is gone, the rooms of the others are served.
        let link = self.nodes.iter().find_map(|node| node.link.as_ref());
        match (link, self.generation, self.sheets.missing()) {
            (None, ..) => self.ready.set_not_ready("no link to Redis"),
            (Some(_), None, _) => self.ready.set_not_ready("no listener has ever been heard"),
            (Some(_), Some(_), Some(sheet)) => {
                self.ready.set_not_ready(format!("the {} are not loaded", sheet.name()))
            }
            (Some(_), Some(_), None) => self.ready.set_ready(),
        }
    }
}
