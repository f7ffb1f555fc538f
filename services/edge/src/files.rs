//! Open files: every connection is one, and a process may have only so many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::EdgeConfig;

/// For Redis, the admin port, logs and the like.
const RESERVE: u64 = 256;

/// Takes as many open files as the system gives, and warns where those are fewer than the limits let in: then
/// connections wait outside unanswered, where a limit would have said why.
pub fn allow(config: &EdgeConfig) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut allowed = current;
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => allowed = maximum,
            Err(error) => {
                tracing::warn!(%error, "the number of open files cannot be raised to what the system allows")
            }
        }
    }
    let needed = needed(config.max_connections, config.max_pending);
    if let Some(allowed) = allowed.filter(|allowed| needed.is_some_and(|needed| *allowed < needed)) {
        tracing::warn!(
            allowed,
            needed,
            "too few open files for edge.max_connections and edge.max_pending: raise the limit (LimitNOFILE, ulimit -n), or \
             lower these"
        );
    }
}

/// None where no number is enough.
fn needed(connections: usize, pending: usize) -> Option<u64> {
    let both = (connections > 0 && pending > 0).then(|| connections.saturating_add(pending));
    both.map(|both| RESERVE.saturating_add(both as u64))
}
