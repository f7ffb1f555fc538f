//! Tokens on a worker's thread: signing in and refreshing. A verdict that is not there yet is waited for by the client's own
//! task, which polls it; the thread goes on meanwhile, and so does the client's time to sign in.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rowcast_protocol::{CloseCode, RoomName};
use serde_json::Value;

use super::{Connection, Worker, now};
use crate::auth::{Judged, TokenFault, Verdict};
use crate::limits::Limit;
use crate::session::{Now, REFRESH_TOO_EARLY};

/// The time in which refreshes of one socket are counted.
const REFRESH_WINDOW: Duration = Duration::from_secs(60);

/// What a client says with its token.
#[derive(Debug, Default)]
pub struct SignIn {
    /// How far it is in rooms.
    pub resume: BTreeMap<String, String>,
    /// Only these types.
    pub types: Option<Vec<String>>,
    /// What it counted.
    pub report: Option<Value>,
}

/// What a verdict decides.
pub(super) enum Purpose {
    SignIn(SignIn),
    Refresh,
}

/// A verdict that a connection waits for.
pub(super) struct Judging {
    verdict: Pin<Box<dyn Future<Output = Judged> + Send>>,
    purpose: Purpose,
}

/// How often a socket has refreshed its token of late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refreshes {
    since: Option<Instant>,
    count: u32,
}

impl Refreshes {
    /// One more; whether it is one of so many in [`REFRESH_WINDOW`]. 0 is no limit.
    fn one_more(&mut self, most: u32, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= REFRESH_WINDOW) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        most == 0 || self.count <= most
    }
}

impl Connection {
    /// Whether a token of it is being judged.
    pub fn is_judging(&self) -> bool {
        self.judging.borrow().is_some()
    }
}

impl Worker {
    /// Judges a token. What comes of it goes through [`Worker::admit`].
    pub fn judge(&self, token: &str) -> Verdict {
        self.verifier.judge(token, now().wall)
    }

    /// The last word on whoever a verdict lets in, now: on this thread, and without waiting.
    pub fn admit(&self, judged: Judged) -> Judged {
        judged.and_then(|identity| self.unless_revoked(identity))
    }

    /// The last word on somebody who wants to come in, counted.
    pub fn admit_new(&self, judged: Judged) -> Judged {
        let judged = self.admit(judged);
        self.metrics.sign_in(judged.as_ref().map_or_else(|fault| fault.label(), |_| "ok"));
        judged
    }

    /// Somebody who is not in brings a token.
    pub fn sign_in(&mut self, connection: &Rc<Connection>, token: &str, asks: SignIn) {
        match self.judge(token) {
            Verdict::Known(judged) => self.signed_in(connection, judged, asks, now()),
            Verdict::Waiting(verdict) => {
                let purpose = Purpose::SignIn(asks);
                connection.judging.replace(Some(Judging { verdict, purpose }));
                connection.wake();
            }
        }
    }

    fn signed_in(&mut self, connection: &Rc<Connection>, judged: Judged, asks: SignIn, now: Now) {
        match self.admit_new(judged) {
            Err(fault) => self.refuse(connection, fault, now),
            Ok(identity) => {
                if let Some(report) = &asks.report {
                    self.metrics.report(report);
                }
                if self.turns_away(connection, now) {
                    return;
                }
                match self.numbers.admit(&identity) {
                    Ok(held) => self.let_in(connection, held, identity, &asks.resume, asks.types.as_deref()),
                    Err(limit) => self.close(connection, CloseCode::Limit, limit.reason(), now),
                }
            }
        }
    }

    /// Somebody who is in brings a new token.
    pub fn refresh(&mut self, connection: &Rc<Connection>, token: &str) {
        let now = now();
        let mut refreshes = connection.refreshes.get();
        let may = refreshes.one_more(self.limits.refreshes, now.instant);
        connection.refreshes.set(refreshes);
        if !may {
            self.metrics.refresh("limit");
            self.metrics.limited(Limit::Refreshes.label()).inc();
            return self.close(connection, CloseCode::Limit, Limit::Refreshes.reason(), now);
        }
        match self.judge(token) {
            Verdict::Known(judged) => self.refreshed(connection, judged, now),
            Verdict::Waiting(verdict) if connection.session.borrow().is_open() => {
                // The newest token counts: of two that are judged at a time, the older is forgotten.
                connection.judging.replace(Some(Judging { verdict, purpose: Purpose::Refresh }));
                connection.wake();
            }
            Verdict::Waiting(_) => self.close(connection, CloseCode::Malformed, REFRESH_TOO_EARLY, now),
        }
    }

    fn refreshed(&mut self, connection: &Rc<Connection>, judged: Judged, now: Now) {
        let identity = match self.admit(judged) {
            Ok(identity) => identity,
            Err(fault) => {
                self.metrics.refresh(fault.label());
                return self.refuse(connection, fault, now);
            }
        };
        if !connection.session.borrow_mut().may_refresh(&identity, now) {
            self.metrics.refresh("not_allowed");
            return connection.wake();
        }
        let changed =
            connection.held.borrow_mut().as_mut().map_or(Ok(()), |held| held.change(&identity.rooms));
        if let Err(limit) = changed {
            self.metrics.refresh("limit");
            return self.close(connection, CloseCode::Limit, limit.reason(), now);
        }
        self.metrics.refresh("ok");
        let left: Vec<RoomName> = {
            let session = connection.session.borrow();
            session.rooms().filter(|room| !identity.rooms.contains(room)).cloned().collect()
        };
        // The worker's lists are put right while the session still knows its places in them.
        for room in &left {
            self.leave(connection, room);
        }
        let identity = self.intern(identity);
        let effects = connection.session.borrow_mut().refresh(identity, now);
        self.carry_out(connection, effects);
    }

    fn refuse(&mut self, connection: &Rc<Connection>, fault: TokenFault, now: Now) {
        connection.fault.set(Some(fault));
        self.close(connection, fault.close_code(), fault.message(), now);
    }

    /// Lets the connection's task wait for the verdict on its token, and does what it decides.
    pub fn poll_verdict(&mut self, connection: &Rc<Connection>, context: &mut Context<'_>) {
        let Some(mut judging) = connection.judging.take() else { return };
        if connection.session.borrow().is_closing() {
            return;
        }
        match judging.verdict.as_mut().poll(context) {
            Poll::Pending => drop(connection.judging.replace(Some(judging))),
            Poll::Ready(judged) => match judging.purpose {
                Purpose::SignIn(asks) => self.signed_in(connection, judged, asks, now()),
                Purpose::Refresh => self.refreshed(connection, judged, now()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshes_are_counted_within_a_minute() {
        let began = Instant::now();
        let mut refreshes = Refreshes::default();
        assert!((0..3).all(|_| refreshes.one_more(3, began)));
        assert!(!refreshes.one_more(3, began + REFRESH_WINDOW / 2));
        assert!(refreshes.one_more(3, began + REFRESH_WINDOW));
        assert!((0..100).all(|_| refreshes.one_more(0, began + REFRESH_WINDOW)), "0 is no limit");
    }
}
