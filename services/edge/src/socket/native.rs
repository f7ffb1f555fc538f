//! `rowcast.v1`, Rowcast's own way of speaking over a socket: the session's frames as they are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use rowcast_protocol::CloseCode;

use super::Speech;
use crate::session::{Now, Outgoing};
use crate::wire;
use crate::worker::{Connection, Worker};

/// A client that speaks `rowcast.v1`: one session.
pub struct Native {
    connection: Rc<Connection>,
    worker: Rc<RefCell<Worker>>,
    close_said: Option<CloseCode>,
}

impl Native {
    /// A client of this worker.
    pub fn new(connection: Rc<Connection>, worker: Rc<RefCell<Worker>>) -> Self {
        Self { connection, worker, close_said: None }
    }
}

impl Speech for Native {
    fn set_waker(&mut self, waker: &Waker) {
        self.connection.set_waker(waker);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.connection.is_judging() {
            self.worker.borrow_mut().poll_verdict(&self.connection, context);
        }
    }

    fn name(&self) -> String {
        self.connection.session.borrow().name().to_owned()
    }

    fn is_over(&self, now: Now) -> bool {
        self.connection.session.borrow().is_over(now)
    }

    fn is_congested(&self) -> bool {
        self.connection.session.borrow().is_congested()
    }

    fn is_closing(&self) -> bool {
        self.connection.session.borrow().is_closing()
    }

    fn received(&mut self, now: Now) {
        self.connection.session.borrow_mut().received(now);
    }

    fn message(&mut self, text: &str) {
        self.worker.borrow_mut().message(&self.connection, text);
    }

    fn ping(&mut self, payload: Bytes) {
        self.connection.session.borrow_mut().push(Outgoing::Pong(payload));
    }

    fn close(&mut self, code: CloseCode, reason: &'static str, now: Now) {
        self.connection.session.borrow_mut().close(code, reason, now);
    }

    fn say(&mut self, frames: &mut VecDeque<Bytes>) -> bool {
        let Some(outgoing) = self.connection.session.borrow_mut().next_outgoing() else { return false };
        frames.push_back(match outgoing {
            Outgoing::Event(event) => event.websocket_frame().clone(),
            Outgoing::Ping => wire::ping_frame(),
            Outgoing::Pong(payload) => wire::pong_frame(&payload),
            Outgoing::Close(code, reason) => {
                self.close_said = Some(code);
                wire::close_frame(code, reason)
            }
            frame => wire::text_frame(frame.json().expect("everything else has a text")),
        });
        true
    }

    fn wrote(&mut self, now: Now) {
        let effects = self.connection.session.borrow_mut().wrote(now);
        if !effects.is_empty() {
            self.worker.borrow_mut().carry_out(&self.connection, effects);
        }
    }

    fn close_said(&self) -> Option<CloseCode> {
        self.close_said
    }
}

/// However a socket ends, by a panic too, its session leaves its rooms.
impl Drop for Native {
    fn drop(&mut self) {
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            worker.disconnect(&self.connection);
        }
    }
}
