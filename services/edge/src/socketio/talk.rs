//! What a client of Socket.IO says over its socket, and what it is told: a session for each namespace that it is in, and one
//! that waits as long as it is in none, so that its time to sign in is bounded.

mod heard;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rowcast_protocol::{CloseCode, socketio};

use super::Settings;
use super::frames::packet;
use super::seat::{After, Seat};
use crate::accept::Caller;
use crate::limits::Limits;
use crate::session::{Now, Outgoing, SessionLimits};
use crate::socket::Speech;
use crate::wire;
use crate::worker::{Connection, Transport, Worker, now};

/// How long a client may take to come again whose CONNECT was refused: its application gets another token. Some clients stay
/// on their socket meanwhile.
const AFTER_REFUSAL: Duration = Duration::from_secs(45);

/// How long a client is kept, in milliseconds, that is to come back by itself and was never in. It would else do so once a
/// second: stock clients take an open socket for a success and wait no longer from time to time.
const KEPT_MS: std::ops::Range<u64> = 2_000..10_000;

/// Answers of its own that may wait to be written before nothing more is read.
const MOST_WAITING: usize = 64;

/// Who comes.
pub struct Visitor {
    /// From where.
    pub caller: Caller,
    /// The token that the handshake brought, for CONNECTs that bring none.
    pub token: Option<String>,
}

/// One client of Socket.IO.
pub struct Talk {
    settings: Arc<Settings>,
    worker: Rc<RefCell<Worker>>,
    limits: Arc<Limits>,
    visitor: Visitor,
    /// The session of a client that is in no namespace.
    waiting: Option<Rc<Connection>>,
    seats: Vec<Seat>,
    /// Namespaces that were ended from here, for which packets may still be on their way.
    ended: Vec<usize>,
    connects: u32,
    refused: u32,
    /// Answers that are none of a session's.
    own: VecDeque<Bytes>,
    opened: bool,
    /// How it ends when it was kept long enough.
    kept: Option<(CloseCode, &'static str)>,
    closing: Option<(CloseCode, &'static str)>,
    closed: Option<CloseCode>,
    waker: Option<Waker>,
}

impl Talk {
    /// A client whose handshake is done.
    pub fn new(
        settings: Arc<Settings>,
        worker: Rc<RefCell<Worker>>,
        limits: Arc<Limits>,
        visitor: Visitor,
    ) -> Self {
        let mut talk = Self {
            settings,
            worker,
            limits,
            visitor,
            waiting: None,
            seats: Vec::new(),
            ended: Vec::new(),
            connects: 0,
            refused: 0,
            own: VecDeque::new(),
            opened: false,
            kept: None,
            closing: None,
            closed: None,
            waker: None,
        };
        talk.waiting = Some(talk.open(talk.settings.session.sign_in));
        talk
    }

    fn open(&self, sign_in: Duration) -> Rc<Connection> {
        let caller = self.visitor.caller.clone();
        let session = SessionLimits { sign_in, ..self.settings.session };
        let connection = self.worker.borrow_mut().open(Transport::SocketIo, caller, session, now());
        if let Some(waker) = &self.waker {
            connection.set_waker(waker);
        }
        connection
    }

    fn connections(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.seats.iter().map(|seat| &seat.connection).chain(&self.waiting)
    }

    fn seat(&self, namespace: &str) -> Option<usize> {
        let place = self.settings.namespace(namespace)?;
        self.seats.iter().position(|seat| seat.namespace == place)
    }

    /// The client is in this namespace no more. If it is in none, it may take so long to sign in.
    fn leave(&mut self, index: usize, sign_in: Duration) {
        let seat = self.seats.remove(index);
        self.worker.borrow_mut().disconnect(&seat.connection);
        if self.seats.is_empty() && self.waiting.is_none() {
            let waiting = self.open(sign_in);
            // The client watches for pings, of which the next would come late.
            waiting.session.borrow_mut().push(Outgoing::Ping);
            self.waiting = Some(waiting);
        }
        if let Some(place) = &self.visitor.caller.place
            && self.seats.iter().any(Seat::is_welcomed)
        {
            place.carries();
        }
    }

    /// The last frames of the socket.
    fn finish(&mut self, code: CloseCode, reason: &'static str, frames: &mut VecDeque<Bytes>) {
        for seat in &mut self.seats {
            let namespace = &self.settings.namespaces[seat.namespace];
            seat.put_out(code, reason, namespace, frames);
        }
        frames.push_back(wire::close_frame(code, reason));
        self.closed = Some(code);
        let now = now();
        for connection in self.connections() {
            connection.session.borrow_mut().close(code, reason, now);
        }
    }

    fn say_of_seat(&mut self, index: usize, outgoing: &Outgoing, frames: &mut VecDeque<Bytes>) {
        let seat = &mut self.seats[index];
        match seat.say(outgoing, &self.settings, frames) {
            After::On => {}
            After::Refused => {
                // It may have taken the answer to a CONNECT before this one for its own.
                self.ended.push(seat.namespace);
                self.leave(index, AFTER_REFUSAL);
                self.count_refusal();
            }
            After::Ended => {
                self.ended.push(seat.namespace);
                self.leave(index, self.settings.session.sign_in);
            }
            After::Keep(code, reason) if self.seats.len() == 1 => {
                self.kept = Some((code, reason));
                let kept = rand::rng().random_range(KEPT_MS);
                self.leave(index, Duration::from_millis(kept));
            }
            After::Keep(code, reason) | After::Close(code, reason) => self.finish(code, reason, frames),
        }
    }

    fn say_of_waiting(&mut self, outgoing: &Outgoing, frames: &mut VecDeque<Bytes>) {
        match outgoing {
            Outgoing::Ping => frames.push_back(packet(socketio::PING)),
            Outgoing::Close(CloseCode::SignInTimeout, reason) => {
                let (code, reason) = self.kept.unwrap_or((CloseCode::SignInTimeout, reason));
                self.finish(code, reason, frames);
            }
            Outgoing::Close(code, reason) => self.finish(*code, reason, frames),
            // The close says it, to who is in no namespace.
            _ => {}
        }
    }
}

impl Speech for Talk {
    fn set_waker(&mut self, waker: &Waker) {
        self.connections().for_each(|connection| connection.set_waker(waker));
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        for seat in self.seats.iter().filter(|seat| seat.connection.is_judging()) {
            self.worker.borrow_mut().poll_verdict(&seat.connection, context);
        }
    }

    fn name(&self) -> String {
        let first = self.connections().next();
        first.map_or_else(String::new, |connection| connection.session.borrow().name().to_owned())
    }

    fn is_over(&self, now: Now) -> bool {
        self.connections().any(|connection| connection.session.borrow().is_over(now))
    }

    fn is_congested(&self) -> bool {
        self.own.len() > MOST_WAITING
            || self.connections().any(|connection| connection.session.borrow().is_congested())
    }

    fn is_closing(&self) -> bool {
        self.closing.is_some() || self.closed.is_some()
    }

    fn received(&mut self, now: Now) {
        self.connections().for_each(|connection| connection.session.borrow_mut().received(now));
    }

    fn message(&mut self, text: &str) {
        self.hear(text);
    }

    fn ping(&mut self, payload: Bytes) {
        self.own.push_back(wire::pong_frame(&payload));
    }

    fn close(&mut self, code: CloseCode, reason: &'static str, _: Now) {
        if !self.is_closing() {
            self.closing = Some((code, reason));
        }
    }

    fn say(&mut self, frames: &mut VecDeque<Bytes>) -> bool {
        if self.closed.is_some() {
            return false;
        }
        if !std::mem::replace(&mut self.opened, true) {
            let settings = &self.settings;
            let (interval, timeout) = (settings.session.heartbeat, settings.ping_timeout);
            let open = socketio::open(&self.name(), interval, timeout, settings.max_message);
            frames.push_back(packet(&open));
            return true;
        }
        if let Some((code, reason)) = self.closing {
            frames.extend(self.own.drain(..));
            self.finish(code, reason, frames);
            return true;
        }
        if let Some(answer) = self.own.pop_front() {
            frames.push_back(answer);
            return true;
        }
        let next = |connection: &Connection| connection.session.borrow_mut().next_outgoing();
        let mut seats = self.seats.iter().enumerate();
        if let Some((index, outgoing)) =
            seats.find_map(|(index, seat)| Some((index, next(&seat.connection)?)))
        {
            self.say_of_seat(index, &outgoing, frames);
            return true;
        }
        if let Some(outgoing) = self.waiting.as_deref().and_then(next) {
            self.say_of_waiting(&outgoing, frames);
            return true;
        }
        false
    }

    fn wrote(&mut self, now: Now) {
        for connection in self.connections() {
            let effects = connection.session.borrow_mut().wrote(now);
            if !effects.is_empty() {
                self.worker.borrow_mut().carry_out(connection, effects);
            }
        }
    }

    fn close_said(&self) -> Option<CloseCode> {
        self.closed
    }
}

/// However a socket ends, by a panic too, its sessions leave their rooms.
impl Drop for Talk {
    fn drop(&mut self) {
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            self.connections().for_each(|connection| worker.disconnect(connection));
        }
    }
}
