//! The hub's side of switches: loading them when the leader tells of them, and handing them to the workers. Until the
//! first were loaded nobody is let in: joins wait.

use futures_util::FutureExt;
use rowcast_bus::BusError;
use rowcast_protocol::{Heartbeat, Mirror, Sheet, Switches};

use super::{Done, Hub};
use crate::worker::{ToWorker, WorkerKey};

impl Hub {
    /// A leader was heard, now or, where nothing is known yet, some time ago.
    pub(super) fn hear_switches(&mut self, heartbeat: &Heartbeat) {
        if self.reflection.hear(heartbeat.generation(), heartbeat.switches) {
            self.load_switches();
        }
    }

    fn load_switches(&mut self) {
        let Some(link) = &self.link else { return };
        let (mut read, number) = (link.read.clone(), self.link_number);
        self.metrics.redis_reads.with_label_values(&["switches"]).inc();
        self.work.push(async move { Done::Switches(number, read.mirror(Sheet::Switches).await) }.boxed());
    }

    pub(super) async fn switches_loaded(&mut self, result: Result<Option<Mirror>, BusError>) {
        let found = match result {
            Ok(found) => found,
            Err(error) => return self.lost(&error.to_string()).await,
        };
        let loaded = self.reflection.loaded(found);
        if loaded.again {
            self.load_switches();
        }
        let Some(mirror) = loaded.taken else { return };
        let content = mirror.as_ref().map_or("{}", |mirror| mirror.content.as_str());
        match Switches::parse(content) {
            Ok(switches) => self.take_switches(switches).await,
            Err(error) => {
                tracing::error!(%error, "the switches from Redis cannot be read");
                self.metrics.unreadable.inc();
                self.reflection.unreadable();
            }
        }
    }

    async fn take_switches(&mut self, switches: Switches) {
        let version = self.reflection.version();
        self.metrics.switches.set(i64::try_from(version).unwrap_or(i64::MAX));
        if self.switches != Some(switches) {
            tracing::info!(version, websocket = switches.websocket, "switches");
        }
        self.switches = Some(switches);
        self.judge_ready();
        for worker in 0..self.workers.len() {
            self.tell_switches(worker).await;
        }
        for (name, join) in std::mem::take(&mut self.early) {
            self.join(name, join).await;
        }
    }

    pub(super) async fn tell_switches(&mut self, worker: WorkerKey) {
        if let Some(switches) = self.switches {
            self.send(worker, ToWorker::Switches(switches, self.config.switch_window)).await;
        }
    }
}
