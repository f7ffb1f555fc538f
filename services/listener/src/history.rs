//! Whether history goes on where it stopped: which PostgreSQL and which Redis this is, and what raises the generation.

mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rowcast_bus::{BusError, Claim, PublishLink, Refusal, Reply, Server, Topology};
use rowcast_protocol::{Epoch, Generation};
use rowcast_store::{Cleaner, Identity, LeadSession, Lineage, State, StoreError};

use self::servers::Servers;
use crate::candidate::Setting;
use crate::publisher::LaneId;
use crate::term::{Lost, Term};

/// Whose history this is.
pub(crate) struct Known {
    identity: Identity,
    servers: Servers,
}

impl Known {
    /// Redis's servers are these now ([`Servers::meet`]).
    pub fn meet(&mut self, topology: &Topology) -> BTreeSet<Arc<str>> {
        self.servers.meet(topology)
    }
}

/// Compares PostgreSQL with what is recorded. Where it is another one, the generation is raised before anything is
/// published, and so is the epoch: numbers that went back are given out again, and two leaders with one epoch fence nobody.
pub(crate) async fn recognise(
    setting: &Setting,
    session: &mut LeadSession,
    cleaner: &mut Cleaner,
) -> Result<(Known, Generation), Lost> {
    let state = cleaner.load_state().await?;
    let identity = cleaner.identity().await?;
    let installation = &setting.config.installation;
    let mut generation = state.generation;
    let cause = difference(&state, installation, &identity);
    if let Some(cause) = &cause {
        generation = cleaner.raise_generation_above_all(cause).await?;
        setting.metrics.on_generation_raised(generation, cause);
        // Before it is recorded: a leader that dies in between leaves the next one the same to find.
        session.raise_epoch_above(Epoch(generation.0)).await?;
    }
    let copied = state.identity.as_ref().is_some_and(|known| identity.is_copy_of(known));
    if copied {
        // Transaction ids of the other one mean nothing here.
        let rows = cleaner.adopt_foreign_rows().await?;
        tracing::warn!(
            rows,
            "this database was copied from another one; its outbox is read from the beginning"
        );
    }
    if state.identity.as_ref() != Some(&identity) || cause.is_some() {
        cleaner.record_identity(installation, &identity, &state.redis_run_ids).await?;
    }
    if copied {
        return Err(Lost::Adopted);
    }
    setting.metrics.generation.set(crate::metrics::gauge(generation.0));
    let known = Known { identity, servers: Servers::new(state.redis_run_ids) };
    Ok((known, generation))
}

/// Why this is not the recorded history; `None` where it is, or where none is recorded.
fn difference(state: &State, installation: &str, identity: &Identity) -> Option<String> {
    let known = state.identity.as_ref()?;
    if state.installation.as_deref().is_some_and(|recorded| recorded != installation) {
        return Some("the installation's name changed".to_owned());
    }
    if known.system_identifier != identity.system_identifier {
        return Some("another PostgreSQL cluster".to_owned());
    }
    if identity.is_copy_of(known) {
        return Some("another database of this PostgreSQL cluster".to_owned());
    }
    (known.timeline != identity.timeline).then(|| "another timeline of PostgreSQL".to_owned())
}

/// Compares a server with what is recorded, before anything is published through a new link, under a new epoch, or after
/// history was found to be gone; and writes there whose history it is from now on.
pub(crate) async fn recognise_redis(
    term: &Term<'_>,
    lane: LaneId,
    server: &Server,
    link: &mut PublishLink,
    epoch: Epoch,
) -> Result<Result<(), BusError>, Lost> {
    let found = match link.identity().await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    if found.role != "master" {
        return Ok(Err(BusError::Replica(server.to_string())));
    }
    term.setting.metrics.redis.on_link(&server.to_string(), &found.info);
    let _one_by_one = term.recognising.lock().await;
    let identity = term.known().identity.clone();
    // As it is written beside the claim in Redis.
    let origin = identity.to_string();
    let replaces = &term.setting.config.listener.replaces;
    if let Some(other) = found.origin.as_ref().filter(|other| **other != origin && *other != replaces) {
        return Ok(Err(foreign(term, &origin, other)));
    }
    if let Some(claimed) = found.claimed.filter(|claimed| *claimed >= epoch)
        && !term.known().servers.has_sent(server, epoch)
    {
        // The same epoch twice comes from a database that went back, and fences nobody.
        term.core().publisher.fence(claimed);
        return Ok(Ok(()));
    }
    let own = term.core().generation();
    if let Some(told) = found.generation.filter(|told| *told > own) {
        // Whoever told of it had it from a database that has gone back since.
        let cause = "PostgreSQL does not know the generation that Redis has heard of";
        let generation = term.cleaner.raise_generation_above(told, cause).await?;
        term.setting.metrics.on_generation_raised(generation, cause);
        term.core().set_generation(generation, Instant::now());
    }
    let loss = term.known().servers.loss(server, &found);
    if let Some(cause) = loss {
        let answered_for = term.core().is_answered_for(lane);
        if !answered_for {
            raise(term, cause).await?;
        }
        term.core().publisher.forget_heads(lane);
    }
    // After the generation: a leader that dies in between leaves the next one the same to find.
    term.known().servers.send(server, epoch);
    let timeline = identity.timeline;
    let claim = Claim { epoch, found: found.claimed, origin: &origin, replaces, timeline };
    match link.claim(claim).await {
        Ok(Reply::Done) => term.core().doubt_mirrors(lane),
        Ok(Reply::Fenced(newer)) => {
            term.core().publisher.fence(newer);
            return Ok(Ok(()));
        }
        Ok(Reply::Replaced(newer)) => {
            let own = Lineage { system_identifier: identity.system_identifier, timeline };
            tracing::warn!(
                "a leader on timeline {newer} has the history of this very database in Redis, and this is timeline {timeline}; where \
                 it is to go on all the same, set ROWCAST_LISTENER__REPLACES={origin}"
            );
            return Err(term.setting.replaced(own, newer).into());
        }
        Ok(Reply::Refused(refusal)) => return Ok(Err(BusError::Refused(refusal))),
        Ok(Reply::Foreign(other)) => return Ok(Err(foreign(term, &origin, &other))),
        Ok(Reply::Moved | Reply::TooLate | Reply::Synced { .. }) => {
            return Ok(Err(refusal("CLAIMED", "somebody else has claimed it at this moment".to_owned())));
        }
        Err(error) => return Ok(Err(error)),
    }
    let recorded = {
        let mut known = term.known();
        let news = known.servers.claim(server, &found, epoch);
        news.then(|| known.servers.recorded().clone())
    };
    if let Some(recorded) = recorded {
        tracing::info!(%server, run_id = found.run_id, version = found.version, "Redis recorded");
        let installation = &term.setting.config.installation;
        term.cleaner.record_identity(installation, &identity, &recorded).await?;
    }
    Ok(Ok(()))
}

/// A copy of a database has its settings too: it must not go on where the other is.
fn foreign(term: &Term<'_>, own: &str, other: &str) -> BusError {
    let installation = &term.setting.config.installation;
    refusal(
        "FOREIGN",
        format!(
            "the database {other} has its history there as installation {installation:?}, and this is {own}: give this one \
             another name (ROWCAST_INSTALLATION), here and at its edges; or, where it takes the other's place, stop the \
             other's listeners and set ROWCAST_LISTENER__REPLACES={other}"
        ),
    )
}

fn refusal(code: &str, detail: String) -> BusError {
    BusError::Refused(Refusal { code: code.to_owned(), detail })
}

pub(crate) async fn raise(term: &Term<'_>, cause: &str) -> Result<(), StoreError> {
    let generation = term.cleaner.raise_generation(cause).await?;
    term.setting.metrics.on_generation_raised(generation, cause);
    term.core().set_generation(generation, Instant::now());
    Ok(())
}

/// Raises the generation where the last page asked for it: a TRUNCATE, or losses of triggers that have become quiet.
pub(crate) async fn settle(term: &Term<'_>) -> Result<(), StoreError> {
    let (requested, quiet) = {
        let mut core = term.core();
        (std::mem::take(&mut core.raise_requested), std::mem::take(&mut core.losses_are_quiet))
    };
    let mut raised = None;
    if requested {
        raised = term.cleaner.settle_raise_requests().await?.map(|generation| (generation, "requested"));
    }
    if quiet && let Some(generation) = term.cleaner.settle_losses().await? {
        raised = Some((generation, "triggers lost events"));
    }
    if let Some((generation, cause)) = raised {
        term.setting.metrics.on_generation_raised(generation, cause);
        term.core().set_generation(generation, Instant::now());
        term.to_send.notify_waiters();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_another_history_than_the_recorded_one_raises_the_generation() {
        let identity = Identity { system_identifier: "7".to_owned(), timeline: 1, database: Some(5) };
        let mut state = State {
            generation: Generation(1),
            last_cause: String::new(),
            installation: None,
            identity: None,
            redis_run_ids: BTreeMap::new(),
        };
        assert_eq!(difference(&state, "default", &identity), None);
        state.identity = Some(identity.clone());
        state.installation = Some("default".to_owned());
        assert_eq!(difference(&state, "default", &identity), None);
        assert!(difference(&state, "other", &identity).is_some());
        let promoted = Identity { timeline: 2, ..identity.clone() };
        assert!(difference(&state, "default", &promoted).is_some());
        let copied = Identity { system_identifier: "8".to_owned(), ..identity.clone() };
        assert!(difference(&state, "default", &copied).is_some() && copied.is_copy_of(&identity));
        assert!(!promoted.is_copy_of(&identity), "rows and transactions are the same");
        let beside = Identity { database: Some(6), ..identity.clone() };
        assert!(difference(&state, "default", &beside).is_some() && beside.is_copy_of(&identity));
        state.identity = Some(Identity { database: None, ..identity });
        assert_eq!(difference(&state, "default", &beside), None, "recorded by a listener that did not look");
    }
}
