//! The leader's way to one of Redis's servers: one pipeline at a time on a link that nobody else retries on, and a new link
//! when it breaks.

use std::time::{Duration, Instant};

use rowcast_bus::{BusError, Command, PublishLink, Server};
use rowcast_process::metrics::seconds_since;
use rowcast_protocol::Sheet;

use crate::backoff::Backoff;
use crate::core::Step;
use crate::history;
use crate::publisher::{LaneId, Outcome};
use crate::term::{Lost, Term};

/// What one link came to.
enum End {
    Stopped,
    Broken(BusError),
}

/// Sends until the process is to stop (`Ok`) or the lead is lost. No fault of Redis ends it.
pub(crate) async fn run(term: &Term<'_>, lane: LaneId, server: &Server) -> Result<(), Lost> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    while !term.setting.shutdown.is_requested() {
        let connecting = PublishLink::connect_to(&term.setting.bus, server, term.setting.retention);
        let end = match connecting.await {
            Ok(link) => drive(term, lane, server, link, &mut backoff).await?,
            Err(error) => End::Broken(error),
        };
        let End::Broken(error) = end else { break };
        term.core().publisher.on_link_lost(lane, Instant::now());
        term.redis_takes(lane, false);
        term.setting.redis_ready.set_not_ready(format!("no link to Redis at {server}"));
        term.setting.metrics.on_redis_lost(server, &error);
        // It may have been demoted, or have given its slots away.
        term.find_again.notify_one();
        pause(term, backoff.wait()).await;
        if !term.core().leadership.may_publish(Instant::now()) {
            return Err(Lost::ProofTooOld);
        }
    }
    Ok(())
}

async fn drive(
    term: &Term<'_>,
    lane: LaneId,
    server: &Server,
    mut link: PublishLink,
    backoff: &mut Backoff,
) -> Result<End, Lost> {
    let mut recognised = None;
    while !term.setting.shutdown.is_requested() {
        let (epoch, fenced) = {
            let core = term.core();
            (core.publisher.epoch(), core.publisher.fenced().is_some())
        };
        if recognised != Some(epoch) && !fenced {
            if let Err(error) = history::recognise_redis(term, lane, server, &mut link, epoch).await? {
                return Ok(End::Broken(error));
            }
            term.redis_takes(lane, true);
            recognised = Some(epoch);
            continue;
        }
        let step = term.core().next_step(lane, Instant::now());
        let sent = match step {
            Step::Stop => return Err(Lost::ProofTooOld),
            Step::Send(commands) => send(term, lane, &mut link, &commands, backoff).await.map(|outcome| {
                if outcome.history_gone {
                    recognised = None;
                }
            }),
            Step::Wait(until) => {
                tokio::select! {
                    () = term.to_send.notified() => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = term.setting.shutdown.requested() => {}
                }
                Ok(())
            }
        };
        if let Err(error) = sent {
            return Ok(End::Broken(error));
        }
    }
    Ok(End::Stopped)
}

async fn send(
    term: &Term<'_>,
    lane: LaneId,
    link: &mut PublishLink,
    commands: &[Command],
    backoff: &mut Backoff,
) -> Result<Outcome, BusError> {
    let metrics = &term.setting.metrics;
    let began = Instant::now();
    let replies = link.run(commands).await?;
    metrics.publish_seconds.observe(seconds_since(began));
    metrics.batch.observe(commands.len() as f64);
    let outcome = {
        let mut core = term.core();
        let now = Instant::now();
        let (outcome, published) = core.on_replies(lane, now, replies);
        metrics.published.inc_by(published as u64);
        metrics.pending.set(i64::try_from(core.publisher.pending()).unwrap_or(i64::MAX));
        if outcome.heartbeat_sent {
            metrics.heartbeats.inc();
            for sheet in Sheet::ALL {
                metrics.sheet(sheet).set(crate::metrics::gauge(core.publisher.standing(sheet)));
            }
            metrics.lag_seconds.set(core.lag(now).as_secs_f64());
        }
        outcome
    };
    if outcome.heartbeat_sent {
        term.told.notify_one();
    }
    metrics.moved.inc_by(outcome.moved as u64);
    metrics.streams.inc_by(outcome.created as u64);
    term.to_clean.notify_one();
    term.to_read.notify_one();
    if outcome.scripts_missing {
        metrics.on_scripts_missing();
        link.load_scripts().await?;
    }
    term.redis_takes(lane, outcome.refused.is_empty());
    if let Some(elsewhere) = outcome.refused.iter().find(|refusal| refusal.is_elsewhere()) {
        metrics.on_refused(&outcome.refused);
        return Err(BusError::Refused(elsewhere.clone()));
    }
    if outcome.refused.is_empty() {
        backoff.reset();
    } else {
        metrics.on_refused(&outcome.refused);
        pause(term, backoff.wait()).await;
    }
    Ok(outcome)
}

async fn pause(term: &Term<'_>, wait: Duration) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = term.setting.shutdown.requested() => {}
    }
}
