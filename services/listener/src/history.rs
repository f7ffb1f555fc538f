//! Whether history goes on where it stopped: which PostgreSQL and which Redis this is, and what raises the generation.

use std::collections::BTreeMap;
use std::time::Instant;

use rowcast_bus::{BusError, PublishLink, Refusal};
use rowcast_protocol::Generation;
use rowcast_store::{Cleaner, Identity, State, StoreError};

use crate::candidate::Setting;
use crate::term::{Lost, Term};

/// The name of the one Redis node in the recorded state.
const NODE: &str = "main";

/// Whose history this is, as it is recorded.
pub(crate) struct Known {
    identity: Identity,
    run_ids: BTreeMap<String, String>,
}

/// Compares PostgreSQL with what is recorded. Where it is another one, the generation is raised before anything is
/// published.
pub(crate) async fn recognise(setting: &Setting, cleaner: &mut Cleaner) -> Result<(Known, Generation), Lost> {
    let state = cleaner.load_state().await?;
    let identity = cleaner.identity().await?;
    let installation = &setting.config.installation;
    let mut generation = state.generation;
    let cause = difference(&state, installation, &identity);
    if let Some(cause) = &cause {
        generation = cleaner.raise_generation(cause).await?;
        setting.metrics.on_generation_raised(generation, cause);
    }
    let copied =
        state.identity.as_ref().is_some_and(|known| known.system_identifier != identity.system_identifier);
    if copied {
        // Transaction ids of the old cluster mean nothing here.
        let rows = cleaner.adopt_foreign_rows().await?;
        tracing::warn!(
            rows,
            "this database was copied from another cluster; its outbox is read from the beginning"
        );
    }
    if cause.is_some() || state.identity.is_none() {
        cleaner.record_identity(installation, &identity, &state.redis_run_ids).await?;
    }
    if copied {
        return Err(Lost::Adopted);
    }
    setting.metrics.generation.set(crate::metrics::gauge(generation.0));
    Ok((Known { identity, run_ids: state.redis_run_ids }, generation))
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
    (known.timeline != identity.timeline).then(|| "another timeline of PostgreSQL".to_owned())
}

/// Compares Redis with what is recorded, on each new link, before anything is published through it.
pub(crate) async fn recognise_redis(
    term: &Term<'_>,
    link: &mut PublishLink,
) -> Result<Result<(), BusError>, Lost> {
    let server = match link.identity().await {
        Ok(server) => server,
        Err(error) => return Ok(Err(error)),
    };
    if server.role != "master" {
        let detail = format!("it is a {}, and a master is needed", server.role);
        return Ok(Err(BusError::Refused(Refusal { code: "READONLY".to_owned(), detail })));
    }
    let mut known = term.known.lock().await;
    let recorded = known.run_ids.get(NODE);
    if recorded == Some(&server.run_id) {
        return Ok(Ok(()));
    }
    if recorded.is_some() {
        let cause = "Redis was restarted or is another one";
        raise(term, cause).await?;
        term.core().publisher.forget_heads();
    }
    tracing::info!(run_id = server.run_id, version = server.version, "Redis recorded");
    known.run_ids.insert(NODE.to_owned(), server.run_id);
    term.cleaner.record_identity(&term.setting.config.installation, &known.identity, &known.run_ids).await?;
    Ok(Ok(()))
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
        let identity = Identity { system_identifier: "7".to_owned(), timeline: 1 };
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
        let copied = Identity { system_identifier: "8".to_owned(), ..identity };
        assert!(difference(&state, "default", &copied).is_some());
    }
}
