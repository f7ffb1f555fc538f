//! One term of leadership: three loops on one task, until the process stops or the lead is lost.
//!
//! The reader proves the lock and fills the publisher, the sender carries its commands to Redis, the cleaner makes
//! durable what follows. The first of them that fails ends the term; nothing is sent after that.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rowcast_store::{Cleaner, LeadSession, SessionOptions, StoreError};
use tokio::sync::Notify;

use crate::candidate::Setting;
use crate::core::Core;
use crate::doorbell::Doorbell;
use crate::election::Leadership;
use crate::history::{self, Known};
use crate::publisher::{LaneId, Publisher};
use crate::{cleaner, mirror, plain, reader, servers};

/// How long the deletion of what was published may hold up a planned stop.
const LAST_DELETION: Duration = Duration::from_secs(3);

/// Why a term ended before the process was to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the lock could not be proven for {} s", crate::election::PROOF_LIFETIME.as_secs())]
    ProofTooOld,
    #[error("the outbox came from another database; it is read from the beginning")]
    Adopted,
}

impl Lost {
    /// A metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Store(error) => error.kind(),
            Self::ProofTooOld => "proof_too_old",
            Self::Adopted => "adopted",
        }
    }
}

/// A term, as its loops see it.
pub(crate) struct Term<'a> {
    pub setting: &'a Setting,
    pub cleaner: Cleaner,
    known: Mutex<Known>,
    /// One server after the other is recognised: where several are in doubt, the generation is raised once.
    pub recognising: tokio::sync::Mutex<()>,
    core: Mutex<Core>,
    /// There may be something to send. All senders that wait are woken; those that do not look before they wait.
    pub to_send: Notify,
    /// A server is not what it was: they are to be asked for anew.
    pub find_again: Notify,
    /// The reader may go on: there is room, or a newer leader was met.
    pub to_read: Notify,
    /// Redis takes what is read, or does so no more: the doorbell follows.
    pub redis_changed: Notify,
    /// There may be something to delete or to settle.
    pub to_clean: Notify,
    /// A heartbeat has told the edges which sheets there are.
    pub told: Notify,
    /// The sender has ended: what is left to do is the last deletion.
    pub sent_all: Notify,
}

impl Term<'_> {
    /// What the loops share. It is held for moments, never over an await.
    pub fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("a loop that panicked has ended the term")
    }

    /// Whose history it is. It is held for moments too.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("a loop that panicked has ended the term")
    }

    /// Whether a server takes what is read. Commits ring while any of them does.
    pub fn redis_takes(&self, lane: LaneId, takes: bool) {
        let (changed, all) = {
            let mut core = self.core();
            core.publisher.lane(lane).takes = takes;
            let any = core.publisher.lanes().any(|lane| lane.takes);
            let all = core.publisher.lanes().all(|lane| lane.takes);
            (core.doorbell.on_redis(any), all)
        };
        if changed {
            self.redis_changed.notify_one();
        }
        if all {
            self.setting.redis_ready.set_ready();
        }
    }
}

/// Leads until the process is to stop (`Ok`, the lead handed over) or the lead is lost.
pub(crate) async fn lead(setting: &Setting, mut session: LeadSession, asked_at: Instant) -> Result<(), Lost> {
    let options = SessionOptions::new("rowcast-listener cleaner");
    let mut cleaner = Cleaner::beside(session.session(), &options).await?;
    let (known, generation) = history::recognise(setting, &mut session, &mut cleaner).await?;
    let sheets = mirror::load(&cleaner, |_| None).await?;
    let plain = plain::listen(&setting.config.listener, &setting.metrics.plain, session.session()).await?;

    let mut leadership = Leadership::Standby;
    leadership.elected(asked_at);
    let publisher = Publisher::new(session.epoch(), setting.config.limits(), Box::new(rand::random));
    let rings_by_default = session.rings_by_default();
    let doorbell = Doorbell::new(Instant::now(), rings_by_default, setting.config.listener.timer_interval);
    if !rings_by_default {
        tracing::info!(
            "transactions can be prepared here (max_prepared_transactions), so commits do not ring: the outbox is read on \
             a timer; sessions, roles or databases that never prepare any may SET rowcast.doorbell = on"
        );
    }
    setting.metrics.on_lead(session.epoch());
    let term = Term {
        setting,
        cleaner,
        known: Mutex::new(known),
        recognising: tokio::sync::Mutex::new(()),
        core: Mutex::new(Core::new(publisher, leadership, doorbell, generation)),
        to_send: Notify::new(),
        find_again: Notify::new(),
        to_read: Notify::new(),
        redis_changed: Notify::new(),
        to_clean: Notify::new(),
        told: Notify::new(),
        sent_all: Notify::new(),
    };
    sheets.into_iter().for_each(|sheet| {
        term.core().mirror(sheet);
    });
    let control = session.session().control().clone();
    let (lead_ended, cleaner_ended) = (session.session().ended(), term.cleaner.session().ended());
    let publishing = async {
        let sending = async {
            let sent = servers::run(&term).await;
            term.sent_all.notify_one();
            sent
        };
        tokio::try_join!(sending, cleaner::run(&term)).map(|_| ())
    };
    let ended = tokio::select! {
        ended = publishing => ended,
        lost = reader::run(&term, &mut session) => Err(lost),
        // A primary that dies or is fenced is left at once, not at the next read.
        lost = lead_ended => Err(lost.into()),
        lost = cleaner_ended => Err(lost.into()),
        never = plain::run(&term, plain) => match never {},
        never = crate::drift::run(&term) => match never {},
        never = mirror::run(&term, &control) => match never {},
    };
    ended?;
    hand_over(&term, session).await
}

/// After the last answer of Redis: deletes what it has, frees the lock and tells the standbys.
async fn hand_over(term: &Term<'_>, session: LeadSession) -> Result<(), Lost> {
    if tokio::time::timeout(LAST_DELETION, cleaner::clean(term)).await.is_err() {
        tracing::warn!("published rows were left to the next leader to delete");
    }
    session.unlock_and_announce().await?;
    term.setting.metrics.on_handed_over();
    Ok(())
}
