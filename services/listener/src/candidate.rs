//! Waiting for the lead, again and again: connect, try for the lock, lead, and begin anew after whatever ended it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rowcast_bus::{BusConfig, BusError, Finder, Keys, ReadLink, Retention};
use rowcast_process::readiness::{Latch, Readiness};
use rowcast_process::shutdown::Signal;
use rowcast_store::{Election, LeadSession, Lineage, SessionOptions, Standby, StoreError};
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::metrics::ListenerMetrics;
use crate::pages::Pages;
use crate::term::{self, Lost};

/// Between two attempts at the lock; jittered.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(250);
/// An attempt that takes longer has lost its connection.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// How often a standby asks whether Redis answers, and how soon again where it does not.
const REDIS_CHECK_INTERVAL: Duration = Duration::from_secs(5);
const REDIS_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Between two attempts to connect: a standby that is promoted is found so soon, even after a long outage.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Between two looks at all hosts of an address, where there are several.
const RIVALS_INTERVAL: Duration = Duration::from_secs(5);
/// A term of this length was not a failed attempt: whoever was paused, or cut off, stands in line again at once.
const STABLE: Duration = Duration::from_secs(2);

/// What everything in a listener is given.
pub(crate) struct Setting {
    pub config: Config,
    pub bus: BusConfig,
    pub retention: Retention,
    pub metrics: ListenerMetrics,
    pub postgres_ready: Latch,
    pub redis_ready: Latch,
    pub shutdown: Signal,
    pub pages: Pages,
    /// The latest history of PostgreSQL's that was met: an old primary that goes on beside it is not taken again.
    pub newest: Mutex<Option<Lineage>>,
}

impl Setting {
    pub fn new(
        config: Config,
        metrics: ListenerMetrics,
        readiness: &Readiness,
        shutdown: Signal,
    ) -> anyhow::Result<Self> {
        let keys = Keys::new(&config.redis.prefix, &config.installation);
        let retention = Retention {
            log_entries: config.redis.log_max_entries,
            log_lifetime: config.redis.log_ttl,
            head_lifetime: config.redis.head_ttl,
        };
        Ok(Self {
            bus: config.bus(keys),
            retention,
            metrics,
            postgres_ready: readiness.latch("postgresql"),
            redis_ready: readiness.latch("redis"),
            shutdown,
            pages: Pages::new(config.listener.read_rows.min(config.listener.max_rows)),
            newest: Mutex::default(),
            config,
        })
    }

    /// PostgreSQL's options for a session that waits for the lead.
    fn options(&self) -> SessionOptions {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SessionOptions { not_before: newest, ..SessionOptions::new("rowcast-listener") }
    }

    /// This PostgreSQL was replaced.
    pub fn replaced(&self, own: Lineage, newer: i64) -> StoreError {
        let error = StoreError::Replaced { own: own.timeline, newer };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Lineage { timeline: newer, ..own });
        error
    }
}

/// Resolves when another host of the address is found to have replaced this one.
async fn watch_rivals(setting: &Setting, own: &Lineage) -> StoreError {
    let options = SessionOptions::new("rowcast-listener look");
    loop {
        let url = setting.config.database.url.expose();
        if let Some(newer) = rowcast_store::newer_primary(url, &options, own).await {
            return setting.replaced(own.clone(), newer.timeline);
        }
        sleep(RIVALS_INTERVAL).await;
    }
}

/// Leads whenever it can, until the process is to stop. No outage ends it.
pub(crate) async fn run(setting: &Setting) {
    let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST_WAIT);
    while !setting.shutdown.is_requested() {
        let began = Instant::now();
        let Err(lost) = once(setting).await else { return };
        setting.metrics.on_lost(&lost);
        setting.postgres_ready.set_not_ready(lost.to_string());
        if began.elapsed() > STABLE {
            backoff.reset();
        }
        tokio::select! {
            () = sleep(backoff.wait()) => {}
            () = setting.shutdown.requested() => {}
        }
    }
}

/// One connection's life as a standby and then as a leader; `Ok` when the process is to stop.
async fn once(setting: &Setting) -> Result<(), Lost> {
    let standby = Standby::connect(setting.config.database.url.expose(), &setting.options()).await?;
    let own = standby.session().lineage().await?;
    let leading = async {
        let won = tokio::select! {
            won = compete(setting, standby) => won?,
            never = watch_redis(setting) => match never {},
        };
        match won {
            Some((session, asked_at)) => term::lead(setting, *session, asked_at).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        ended = leading => ended,
        replaced = watch_rivals(setting, &own) => Err(replaced.into()),
    }
}

/// Tries for the lock until this process has it; `None` when it is to stop.
async fn compete(
    setting: &Setting,
    mut standby: Standby,
) -> Result<Option<(Box<LeadSession>, Instant)>, StoreError> {
    let departure = standby.session().departure().clone();
    loop {
        let asked_at = Instant::now();
        let attempt = timeout(ATTEMPT_LIMIT, standby.try_lead()).await;
        let attempt =
            attempt.map_err(|_| StoreError::Ended("no answer to the attempt at the lock".to_owned()))?;
        standby = match attempt? {
            Election::Elected(session) => {
                setting.postgres_ready.set_ready();
                return Ok(Some((session, asked_at)));
            }
            Election::Standby(standby) => standby,
        };
        setting.postgres_ready.set_ready();
        tokio::select! {
            () = sleep(ATTEMPT_INTERVAL.mul_f64(0.75 + rand::random::<f64>() / 2.0)) => {}
            () = departure.notified() => {}
            () = setting.shutdown.requested() => {
                standby.close().await;
                return Ok(None);
            }
        }
    }
}

/// A standby is ready when it could take over, so it must reach Redis too. As a leader, the sender knows.
async fn watch_redis(setting: &Setting) -> std::convert::Infallible {
    loop {
        let error = match reach_redis(setting).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        setting.redis_ready.set_not_ready(error.to_string());
        sleep(REDIS_RETRY_INTERVAL).await;
    }
}

/// Links to all servers that there are now, and says that it does until one of them is gone or there are others.
async fn reach_redis(setting: &Setting) -> Result<std::convert::Infallible, BusError> {
    let mut finder = Finder::new(&setting.bus)?;
    let topology = finder.find().await?;
    let mut links = Vec::new();
    for server in topology.servers() {
        links.push(ReadLink::connect_to(&setting.bus, server).await?);
    }
    loop {
        for link in &mut links {
            link.ping().await?;
        }
        setting.redis_ready.set_ready();
        sleep(REDIS_CHECK_INTERVAL).await;
        if finder.interval().is_some() && finder.find().await? != topology {
            return Err(BusError::Nowhere("there are others now".to_owned()));
        }
    }
}
