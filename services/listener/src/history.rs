//! Whether history goes on where it stopped: which PostgreSQL and which Redis this is, and what raises the generation.

use std::collections::BTreeMap;
use std::time::Instant;

use rowcast_bus::{BusError, PublishLink, Refusal, Reply, ServerIdentity};
use rowcast_protocol::{Epoch, Generation};
use rowcast_store::{Cleaner, Identity, LeadSession, State, StoreError};

use crate::candidate::Setting;
use crate::term::{Lost, Term};

/// The name of the one Redis node in the recorded state.
const NODE: &str = "main";

/// Whose history this is, as it is recorded.
pub(crate) struct Known {
    identity: Identity,
    run_ids: BTreeMap<String, String>,
    redis: RedisHistory,
}

/// What this leader did about Redis's history.
#[derive(Debug, Default)]
struct RedisHistory {
    /// The epoch that it wrote there.
    claimed: Option<Epoch>,
    /// The generation was raised, and nothing was published since: whatever else is lost meanwhile, nobody knows it.
    raised: bool,
}

impl RedisHistory {
    /// Why what was published through Redis may be gone; `None` where it is there, or was never there.
    fn loss(&self, recorded: Option<&String>, found: &ServerIdentity) -> Option<&'static str> {
        let recorded = recorded?;
        if *recorded != found.run_id {
            return Some("Redis was restarted or is another one");
        }
        let gone = match (self.claimed, found.claimed) {
            (_, None) => true,
            (Some(own), Some(found)) => found < own,
            (None, Some(_)) => false,
        };
        gone.then_some("Redis was flushed")
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
    let known = Known { identity, run_ids: state.redis_run_ids, redis: RedisHistory::default() };
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

/// Compares Redis with what is recorded, before anything is published through a new link, under a new epoch, or after
/// history was found to be gone; and writes there whose history it is from now on.
pub(crate) async fn recognise_redis(
    term: &Term<'_>,
    link: &mut PublishLink,
    epoch: Epoch,
) -> Result<Result<(), BusError>, Lost> {
    let server = match link.identity().await {
        Ok(server) => server,
        Err(error) => return Ok(Err(error)),
    };
    if server.role != "master" {
        return Ok(Err(refusal("READONLY", format!("it is a {}, and a master is needed", server.role))));
    }
    term.setting.metrics.on_redis_policy(&server.maxmemory_policy);
    let mut known = term.known.lock().await;
    let recorded = known.run_ids.get(NODE);
    let is_recorded = recorded == Some(&server.run_id);
    if let Some(cause) = known.redis.loss(recorded, &server) {
        if !known.redis.raised {
            raise(term, cause).await?;
            known.redis.raised = true;
        }
        term.core().publisher.forget_heads();
    }
    // After the generation: a leader that dies in between leaves the next one the same to find.
    match link.claim(epoch, server.claimed).await {
        Ok(Reply::Done) => {
            known.redis = RedisHistory { claimed: Some(epoch), raised: false };
            term.core().doubt_mirrors();
        }
        Ok(Reply::Fenced(newer)) => term.core().publisher.fence(newer),
        Ok(Reply::Refused(refusal)) => return Ok(Err(BusError::Refused(refusal))),
        Ok(Reply::Moved | Reply::TooLate | Reply::Synced { .. }) => {
            return Ok(Err(refusal("CLAIMED", "somebody else has claimed it at this moment".to_owned())));
        }
        Err(error) => return Ok(Err(error)),
    }
    if !is_recorded {
        tracing::info!(run_id = server.run_id, version = server.version, "Redis recorded");
        known.run_ids.insert(NODE.to_owned(), server.run_id);
        let installation = &term.setting.config.installation;
        term.cleaner.record_identity(installation, &known.identity, &known.run_ids).await?;
    }
    Ok(Ok(()))
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
        term.to_send.notify_one();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn history_in_redis_is_gone_when_what_a_leader_wrote_there_is() {
        let found = |run_id: &str, claimed: Option<u64>| ServerIdentity {
            run_id: run_id.to_owned(),
            version: String::new(),
            role: "master".to_owned(),
            maxmemory_policy: String::new(),
            claimed: claimed.map(Epoch),
        };
        let recorded = "a".to_owned();
        let new = RedisHistory::default();
        assert_eq!(new.loss(None, &found("a", None)), None, "the first leader of all");
        assert_eq!(new.loss(Some(&recorded), &found("a", Some(3))), None, "the leader before's");
        assert!(
            new.loss(Some(&recorded), &found("b", Some(3))).is_some(),
            "restarted, from whatever it had saved"
        );
        assert!(new.loss(Some(&recorded), &found("a", None)).is_some(), "flushed while nobody led");
        let claimed = RedisHistory { claimed: Some(Epoch(4)), raised: false };
        assert_eq!(claimed.loss(Some(&recorded), &found("a", Some(4))), None);
        assert_eq!(claimed.loss(Some(&recorded), &found("a", Some(5))), None, "a newer leader's");
        assert!(
            claimed.loss(Some(&recorded), &found("a", Some(3))).is_some(),
            "flushed, and an old leader wrote again"
        );
    }
}
