//! Readiness by latches: a process is ready when each of its parts has said so.
//!
//! Liveness is not here: it depends on nothing.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The latches of one process. Clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// Why each latch is not ready; `None` when it is.
    latches: watch::Sender<BTreeMap<&'static str, Option<String>>>,
}

impl Readiness {
    /// No latches: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new latch, not ready ("starting"). A second one of the same name takes the first one's place.
    pub fn latch(&self, name: &'static str) -> Latch {
        let latch = Latch { readiness: self.clone(), name };
        latch.set_not_ready("starting");
        latch
    }

    /// The latches that are not ready, with their reasons; none when the process is ready.
    pub fn waiting_for(&self) -> Vec<(&'static str, String)> {
        let latches = self.latches.borrow();
        latches.iter().filter_map(|(name, reason)| Some((*name, reason.clone()?))).collect()
    }

    /// Whether all latches are ready.
    pub fn is_ready(&self) -> bool {
        self.latches.borrow().values().all(Option::is_none)
    }

    /// Resolves when all latches are ready.
    pub async fn ready(&self) {
        let mut latches = self.latches.subscribe();
        // It cannot be closed: `self` holds a sender.
        let _ = latches.wait_for(|latches| latches.values().all(Option::is_none)).await;
    }
}

/// One part's say in readiness. When it is dropped it stays not ready: what it stood for has ended.
#[derive(Debug)]
pub struct Latch {
    readiness: Readiness,
    name: &'static str,
}

impl Latch {
    /// This part is ready.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// This part is not ready, and why in a few words ("connecting to Redis").
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.readiness.latches.send_if_modified(|latches| {
            let before = latches.insert(self.name, reason);
            before.as_ref() != latches.get(self.name)
        });
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.set_not_ready("ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_every_latch_is_and_not_after_one_has_ended() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (redis, outbox) = (readiness.latch("redis"), readiness.latch("outbox"));
        redis.set_ready();
        assert_eq!(readiness.waiting_for(), [("outbox", "starting".to_owned())]);
        outbox.set_ready();
        readiness.ready().await;

        redis.set_not_ready("reconnecting");
        assert_eq!(readiness.waiting_for(), [("redis", "reconnecting".to_owned())]);
        redis.set_ready();
        drop(outbox);
        assert_eq!(readiness.waiting_for(), [("outbox", "ended".to_owned())]);
    }
}
