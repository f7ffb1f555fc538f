//! An issuer whose keys are fetched: what is known of them, and when they are fetched anew. The fetch itself is
//! [`super::fetch`]'s.
//!
//! Judging only looks at what is known. A token that names a key which is not may ask for a fetch and wait for it, and
//! however many do, the issuer is asked once in `min_interval`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::Algorithm;
use rowcast_process::shutdown::Signal;
use tokio::sync::{Notify, watch};

use super::fetch::{Fetched, Fetcher};
use super::keys::KeySet;
use crate::metrics::Metrics;

/// How soon a fetch that failed is tried again; twice as long after each further one, up to `min_interval`.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Times of fetching.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Keys are fetched so often, at the least.
    pub refresh: Duration,
    /// And at the most, whoever asks.
    pub min_interval: Duration,
    /// Keys count for so long while none can be fetched.
    pub keep: Duration,
}

/// An issuer.
pub struct Issuer {
    /// Its `iss`.
    pub name: Arc<str>,
    /// How its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// Whom its tokens are for.
    pub audience: Vec<String>,
    times: Times,
    fetcher: Fetcher,
    known: watch::Sender<Known>,
    wanted: Notify,
}

/// What is known of an issuer's keys.
#[derive(Debug, Clone)]
struct Known {
    keys: Arc<KeySet>,
    /// When they were fetched.
    fetched: Option<Instant>,
    /// How many fetches have ended.
    ended: u64,
    /// Whether one is under way.
    fetching: bool,
    /// Nobody's wish leads to a fetch before this.
    next: Instant,
}

/// What a token can hope for.
pub enum Keys {
    /// These count now. Where the token's key is not among them, a fetch may bring it.
    There(Arc<KeySet>, Option<Fetch>),
    /// There are none, and a fetch may bring some.
    Soon(Fetch),
    /// There are none, and the issuer was asked a moment ago.
    Away,
}

/// A fetch that can be waited for.
pub struct Fetch {
    issuer: Arc<Issuer>,
    after: u64,
}

impl Fetch {
    /// Asks for it, and waits until it has ended, however it does.
    pub async fn ended(self) {
        let mut known = self.issuer.known.subscribe();
        self.issuer.wanted.notify_one();
        // The sender is the issuer's own, so it does not go away meanwhile.
        let _known = known.wait_for(|known| known.ended > self.after).await;
    }
}

impl Issuer {
    /// One whose keys are not known yet.
    pub fn new(
        name: &str,
        algorithms: Vec<Algorithm>,
        audience: Vec<String>,
        times: Times,
        fetcher: Fetcher,
    ) -> Self {
        let known = Known {
            keys: Arc::default(),
            fetched: None,
            ended: 0,
            // The first begins with the process.
            fetching: true,
            next: Instant::now(),
        };
        let known = watch::Sender::new(known);
        Self { name: name.into(), algorithms, audience, times, fetcher, known, wanted: Notify::new() }
    }

    /// What is known now.
    pub fn keys(self: &Arc<Self>) -> Keys {
        let known = self.known.borrow();
        let now = Instant::now();
        let fetch = (known.fetching || now >= known.next)
            .then(|| Fetch { issuer: Arc::clone(self), after: known.ended });
        let count = known.fetched.is_some_and(|at| now.saturating_duration_since(at) <= self.times.keep);
        match (count, fetch) {
            (true, fetch) => Keys::There(Arc::clone(&known.keys), fetch),
            (false, Some(fetch)) => Keys::Soon(fetch),
            (false, None) => Keys::Away,
        }
    }

    /// Fetches the keys when they are due, or wanted, until `shutdown`.
    pub async fn run(self: Arc<Self>, metrics: Arc<Metrics>, shutdown: Signal) -> anyhow::Result<()> {
        let mut failures = 0;
        loop {
            let pause = tokio::select! {
                pause = self.fetch(&metrics, &mut failures) => pause,
                () = shutdown.requested() => return Ok(()),
            };
            let due = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = shutdown.requested() => return Ok(()),
                    () = tokio::time::sleep_until(due.into()) => break,
                    // One that was wanted before the last fetch had ended has been served by it.
                    () = self.wanted.notified() => if Instant::now() >= self.known.borrow().next { break },
                }
            }
        }
    }

    /// Fetches once; how long to leave the issuer alone then, unless somebody asks.
    async fn fetch(&self, metrics: &Metrics, failures: &mut u32) -> Duration {
        self.known.send_modify(|known| known.fetching = true);
        let result = self.fetcher.fetch().await;
        let next = Instant::now() + self.times.min_interval;
        let label = result.as_ref().map_or_else(|fault| fault.label(), |_| "ok");
        metrics.issuers.fetch(&self.name, label);
        match result {
            Ok(Fetched { keys, passed_over, max_age }) => {
                if *failures > 0 || self.known.borrow().ended == 0 {
                    tracing::info!(
                        issuer = &*self.name,
                        keys = keys.len(),
                        passed_over,
                        "the issuer's keys are here"
                    );
                } else {
                    tracing::debug!(
                        issuer = &*self.name,
                        keys = keys.len(),
                        passed_over,
                        "the issuer's keys are here"
                    );
                }
                *failures = 0;
                metrics.issuers.known(&self.name, keys.len(), passed_over);
                self.settle(next, Some(keys));
                let most = self.times.refresh.max(self.times.min_interval);
                max_age.unwrap_or(most).clamp(self.times.min_interval, most)
            }
            Err(fault) => {
                // At most one line in `min_interval`, or one for each of the doubling pauses before.
                tracing::warn!(issuer = &*self.name, %fault, "the issuer's keys cannot be fetched; those that are known go on to count for auth.jwks_keep");
                *failures = failures.saturating_add(1);
                self.settle(next, None);
                (FIRST_RETRY * 2_u32.saturating_pow((*failures - 1).min(16))).min(self.times.min_interval)
            }
        }
    }

    /// Notes how a fetch has ended. What is no key set takes nothing away.
    fn settle(&self, next: Instant, keys: Option<KeySet>) {
        self.known.send_modify(|known| {
            if let Some(keys) = keys {
                known.keys = Arc::new(keys);
                known.fetched = Some(Instant::now());
            }
            known.ended += 1;
            known.fetching = false;
            known.next = next;
        });
    }
}
