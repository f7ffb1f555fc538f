//! What becomes of clients whose token is revoked. How an edge learns of it is the hub's.
//!
//! Whoever is in goes at once, whatever carries it, and gets nothing that still waited for it; nobody new gets in. Judging
//! a token, letting its bearer in and taking over new revocations happen on the worker's thread, each in one piece: who was
//! judged by the old ones is among the connections when the new ones come, or is judged again when it is let in.

use std::rc::Rc;
use std::sync::Arc;

use rowcast_protocol::Revocations;

use super::{Connection, Worker, now};
use crate::auth::{Identity, TokenFault};

impl Worker {
    /// Revocations were loaded, or have changed.
    pub(super) fn revoke(&mut self, revocations: Arc<Revocations>) {
        self.revocations = revocations;
        if self.revocations.is_empty() {
            return;
        }
        let is_hit = |connection: &&Rc<Connection>| {
            connection.session.borrow().identity().is_some_and(|identity| self.is_revoked(identity))
        };
        let now = now();
        let mut ended = 0_u64;
        for connection in self.connections.values().filter(is_hit) {
            if connection.session.borrow_mut().revoke(now) {
                self.metrics.revoked(connection.transport);
                ended += 1;
            }
            connection.wake();
        }
        if ended > 0 {
            tracing::info!(
                worker = self.key,
                sessions = ended,
                "tokens were revoked; their sessions are ended"
            );
        }
    }

    /// A token that is good otherwise.
    pub(super) fn unless_revoked(&self, identity: Identity) -> Result<Identity, TokenFault> {
        if self.is_revoked(&identity) { Err(TokenFault::Revoked) } else { Ok(identity) }
    }

    fn is_revoked(&self, identity: &Identity) -> bool {
        let Identity { subject, token_id, issued_at, rooms, elsewhere, .. } = identity;
        let rooms = rooms.iter().chain(elsewhere);
        self.revocations.revokes(subject.as_deref(), token_id.as_deref(), *issued_at, rooms).is_some()
    }
}

#[cfg(test)]
mod tests;
