//! What all sockets and writers of a run share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rowcast_protocol::Micros;
use tokio::sync::{Notify, Semaphore, watch};

use crate::latency::{self, Latency};
use crate::plan::Plan;

/// Sockets record into one of so many histograms, so that threads seldom meet.
const SHARDS: usize = 8;

pub(crate) struct Shared {
    origin: Instant,
    /// Nanoseconds after `origin` at which each event's statement was first sent; 0 is not yet.
    sent: Box<[AtomicU64]>,
    latency: [Mutex<Latency>; SHARDS],
    /// Bounds the sign-ins that are under way.
    pub(crate) sign_ins: Semaphore,
    signed_in: AtomicUsize,
    complete: AtomicUsize,
    arrivals: AtomicU64,
    /// Nanoseconds after `origin`.
    last_arrival: AtomicU64,
    changed: Notify,
    trouble: Mutex<Option<String>>,
    over: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            origin: Instant::now(),
            sent: (0..plan.events).map(|_| AtomicU64::new(0)).collect(),
            latency: std::array::from_fn(|_| Mutex::new(Latency::new())),
            sign_ins: Semaphore::new(plan.sign_ins.max(1)),
            signed_in: AtomicUsize::new(0),
            complete: AtomicUsize::new(0),
            arrivals: AtomicU64::new(0),
            last_arrival: AtomicU64::new(0),
            changed: Notify::new(),
            trouble: Mutex::new(None),
            over: watch::Sender::new(false),
        }
    }

    /// Nanoseconds since the run began, never 0.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Notes that an event's statement is sent now; a repetition changes nothing.
    pub(crate) fn sending(&self, event: u64) {
        let slot = &self.sent[usize::try_from(event).expect("events fit into memory")];
        // Of two values the first stays, which is all that is wanted of a failed exchange.
        let _ = slot.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether an event was sent at all, and its latency if so.
    pub(crate) fn arrived(&self, socket: usize, event: u64, at: &str) -> bool {
        let now = self.now();
        let slot = usize::try_from(event).ok().and_then(|event| self.sent.get(event));
        let Some(sent) = slot.map(|slot| slot.load(Ordering::Relaxed)).filter(|sent| *sent > 0) else {
            return false;
        };
        self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.last_arrival.store(now, Ordering::Relaxed);
        let mut latency = self.latency[socket % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        latency::record(&mut latency.sent, now.saturating_sub(sent) / 1_000);
        if let Some(at) = Micros::parse(at) {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let wall = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
            latency::record(&mut latency.at, u64::try_from(wall.saturating_sub(at.0)).unwrap_or(0));
        }
        true
    }

    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    pub(crate) fn last_arrival(&self) -> u64 {
        self.last_arrival.load(Ordering::Relaxed)
    }

    pub(crate) fn latency(&self) -> Latency {
        let mut sum = Latency::new();
        for shard in &self.latency {
            sum.add(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    pub(crate) fn socket_signed_in(&self) {
        self.signed_in.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn socket_complete(&self) {
        self.complete.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub(crate) fn signed_in(&self) -> usize {
        self.signed_in.load(Ordering::Relaxed)
    }

    pub(crate) fn complete(&self) -> usize {
        self.complete.load(Ordering::Relaxed)
    }

    /// Resolves when one of the counts has reached `sockets`.
    pub(crate) async fn all(&self, count: fn(&Self) -> usize, sockets: usize) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if count(self) >= sockets {
                return;
            }
            changed.await;
        }
    }

    /// Remembers what went wrong last.
    pub(crate) fn note_trouble(&self, trouble: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the sockets to close.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Resolves when the sockets are to close.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut over = self.over.subscribe();
        async move {
            // That the sender is gone means the same.
            let _ = over.wait_for(|over| *over).await;
        }
    }
}
