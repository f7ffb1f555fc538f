//! What becomes of sockets when they are switched off at run time, and on again. How an edge learns of it is the hub's.
//!
//! Off: whoever is in is sent to polling at a moment of its own within the window, whoever signs in is sent there in
//! place of a welcome. On again: whoever has not been sent away stays. Ways in over HTTP go on either way.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rowcast_protocol::Switches;

use super::{Connection, Worker, now};
use crate::session::Now;

/// Whom a socket is taken from, for the metric, and how soon it may come by polling: from one that was open, and in
/// place of a welcome. The first have been spread over the window already; the others wait for their first data.
type Leaving = (&'static str, Duration);
const OPEN: Leaving = ("open", Duration::from_millis(1_000));
const SIGN_IN: Leaving = ("sign_in", Duration::from_millis(250));

impl Worker {
    /// By what clients are to come at present, as pages and frames name it.
    pub fn transport(&self) -> &'static str {
        if self.switches.websocket { "websocket" } else { "polling" }
    }

    /// Switches were loaded, or have changed.
    pub(super) fn switch(&mut self, switches: Switches, window: Duration) {
        let before = std::mem::replace(&mut self.switches, switches);
        if before.websocket == switches.websocket {
            return;
        }
        let now = now();
        for connection in self.connections.values().filter(|one| one.transport.is_socket()) {
            if switches.websocket {
                connection.polls_at.set(None);
            } else if connection.session.borrow().is_joining() {
                self.send_to_polling(connection, SIGN_IN, now);
            } else {
                let moment = window.mul_f64(rand::rng().random_range(0.0..1.0));
                connection.polls_at.set(Some(now.instant + moment));
            }
        }
    }

    /// Somebody has signed in. Where it may not stay, it is told so, and this is true.
    pub(super) fn turns_away(&self, connection: &Rc<Connection>, now: Now) -> bool {
        let away = connection.transport.is_socket() && !self.switches.websocket;
        if away {
            self.send_to_polling(connection, SIGN_IN, now);
        }
        away
    }

    /// Sends a socket away whose moment has come. One that has yet to sign in is judged when it does.
    pub(super) fn send_away_when_due(&self, connection: &Rc<Connection>, now: Now) {
        let is_due = |at: Instant| now.instant >= at;
        if connection.polls_at.get().is_some_and(is_due) && connection.session.borrow().is_open() {
            self.send_to_polling(connection, OPEN, now);
        }
    }

    fn send_to_polling(&self, connection: &Rc<Connection>, (when, within): Leaving, now: Now) {
        connection.polls_at.set(None);
        let reconnect_in = within.mul_f64(rand::rng().random_range(0.0..1.0));
        connection.session.borrow_mut().switch_to_polling(reconnect_in, now);
        connection.wake();
        self.metrics.sent_to_polling.with_label_values(&[when]).inc();
    }
}

#[cfg(test)]
mod tests;
