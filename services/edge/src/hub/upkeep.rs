//! What the clock asks of the hub: the light, readiness, rooms without clients, heads to be compared, pings.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rowcast_protocol::Micros;

use super::{Done, Entry, Hub};
use crate::worker::{ToWorker, now};

/// How often old events are let go of.
const FORGETTING: Duration = Duration::from_secs(5);

impl Hub {
    pub(super) async fn tick(&mut self) {
        self.tell_lost_track();
        self.release_rooms();
        self.forget_old();
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

    pub(super) async fn judge_light(&mut self) {
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

    pub(super) fn judge_ready(&self) {
        match (&self.link, self.generation, self.sheets.missing()) {
            (None, ..) => self.ready.set_not_ready("no link to Redis"),
            (Some(_), None, _) => self.ready.set_not_ready("no listener has ever been heard"),
            (Some(_), Some(_), Some(sheet)) => {
                self.ready.set_not_ready(format!("the {} are not loaded", sheet.name()))
            }
            (Some(_), Some(_), None) => self.ready.set_ready(),
        }
    }
}
