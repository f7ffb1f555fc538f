//! One worker thread's sessions and their rooms: fan-out, and the way between sessions and the hub.
//!
//! Everything here runs on one thread and never waits. An event comes in once and goes to every local session of
//! its room; the sockets' tasks are woken and write what is queued.

#[cfg(test)]
mod bench;
mod judging;
mod revoking;
mod switching;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use rand::RngExt;
use rowcast_protocol::{ClientMessage, CloseCode, Micros, Revocations, RoomName, Switches};
use tokio::sync::mpsc;

use crate::accept::Caller;
use crate::auth::{Identity, TokenFault, Verifier};
use crate::event::Event;
use crate::light::Light;
use crate::limits::{Held, Limit, Limits};
use crate::metrics::Metrics;
use crate::room::{Answer, Join};
use crate::session::{Delivery, Effect, Now, Session, SessionLimits};
pub use judging::SignIn;
use judging::{Judging, Refreshes};

/// Resyncs of one worker in a second, where a whole history is declared void; and over how long at most.
const RESYNCS_A_SECOND: u32 = 500;
const LONGEST_SPREAD: Duration = Duration::from_secs(4);

/// Names a session within its edge.
pub type SessionKey = u64;

/// Names a worker within its edge.
pub type WorkerKey = usize;

/// Who joins a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The worker.
    pub worker: WorkerKey,
    /// The session there.
    pub session: SessionKey,
    /// The session's number for this attempt.
    pub attempt: u32,
}

/// From the hub to a worker, in order.
#[derive(Debug)]
pub enum ToWorker {
    /// The answer to a session's join.
    Joined {
        /// Whose.
        ticket: Ticket,
        /// Which room.
        room: RoomName,
        /// The answer.
        answer: Answer,
    },
    /// An event of a room.
    Event(RoomName, Arc<Event>),
    /// What the room's sessions know of its history does not go on: each finds out by joining again.
    Void(RoomName),
    /// Events of this room did not fit into the channel.
    LostTrack(RoomName),
    /// The light changed.
    Light(Light),
    /// Switches were loaded, or have changed. Sockets that these close are sent away spread over this time.
    Switches(Switches, Duration),
    /// Revocations were loaded, or have changed. Whoever's token is among them goes at once.
    Revocations(Arc<Revocations>),
    /// Sockets are to be sent elsewhere, spread over this time.
    Drain(Duration),
}

/// From a worker to the hub.
#[derive(Debug)]
pub enum ToHub {
    /// A worker is there.
    Register(WorkerKey, mpsc::Sender<ToWorker>),
    /// A session wants to join a room.
    Join(RoomName, Join<Ticket>),
    /// Nobody waits for the answer to this join any more.
    Cancel(RoomName, Ticket),
    /// No session of this worker is in the room any more.
    Leave(RoomName, WorkerKey),
    /// Every worker is to send its sockets elsewhere, spread over this time.
    Drain(Duration),
}

/// What carries a session; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket that speaks Rowcast's own protocol.
    WebSocket,
    /// A WebSocket that speaks Socket.IO.
    SocketIo,
    /// Server-sent events: what the client has to say, it said in its request.
    EventStream,
    /// One answer to one request, which may wait for something to say.
    Page,
}

impl Transport {
    /// A metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::SocketIo => "socketio",
            Self::EventStream => "sse",
            Self::Page => "page",
        }
    }

    /// Whether it is one of the sockets, which can be switched off.
    pub fn is_socket(self) -> bool {
        matches!(self, Self::WebSocket | Self::SocketIo)
    }
}

/// A session and who is to be woken when something waits for its socket.
pub struct Connection {
    /// Names it.
    pub key: SessionKey,
    /// What carries it.
    pub transport: Transport,
    /// The session.
    pub session: RefCell<Session>,
    waker: RefCell<Option<Waker>>,
    bye_at: RefCell<Option<Instant>>,
    caller: Caller,
    /// What it takes of its user's and its rooms' numbers, from its sign-in on.
    held: RefCell<Option<Held>>,
    /// When it is to be sent to polling.
    polls_at: Cell<Option<Instant>>,
    judging: RefCell<Option<Judging>>,
    /// Why its token lets nobody in, once it was judged so.
    fault: Cell<Option<TokenFault>>,
    refreshes: Cell<Refreshes>,
}

impl Connection {
    /// Has the socket's task run.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Why its token does not let its client in, or no longer.
    pub fn fault(&self) -> TokenFault {
        let revoked = self.session.borrow().is_revoked();
        let ended = if revoked { TokenFault::Revoked } else { TokenFault::Expired };
        self.fault.get().unwrap_or(ended)
    }

    /// Notes whom to wake.
    pub fn set_waker(&self, waker: &Waker) {
        let mut current = self.waker.borrow_mut();
        match &*current {
            Some(known) if known.will_wake(waker) => {}
            _ => *current = Some(waker.clone()),
        }
    }
}

#[derive(Default)]
struct LocalRoom {
    /// Sessions at the room's end; each knows its place here.
    members: Vec<Rc<Connection>>,
    /// Sessions that have the room, at its end or not.
    interested: usize,
}

/// One worker thread's state.
pub struct Worker {
    key: WorkerKey,
    verifier: Arc<Verifier>,
    limits: SessionLimits,
    metrics: Arc<Metrics>,
    /// How many may come in to the edge, and who has.
    numbers: Arc<Limits>,
    light: Light,
    /// All on until the hub has spoken; nobody is welcomed before that.
    switches: Switches,
    /// None until the hub has spoken; the same holds.
    revocations: Arc<Revocations>,
    connections: HashMap<SessionKey, Rc<Connection>>,
    rooms: HashMap<RoomName, LocalRoom>,
    to_hub: mpsc::Sender<ToHub>,
    /// What did not fit into the channel; sent before anything else. At most a join for each room of a session.
    backlog: VecDeque<ToHub>,
    /// Until when all sockets are to be sent elsewhere.
    draining: Option<Instant>,
    next: SessionKey,
}

/// The time on both clocks.
pub fn now() -> Now {
    Now { instant: Instant::now(), wall: Micros::from_system_time(SystemTime::now()) }
}

impl Worker {
    /// A worker without sessions. The light is dark until the hub has spoken.
    pub fn new(
        key: WorkerKey,
        verifier: Arc<Verifier>,
        limits: SessionLimits,
        metrics: Arc<Metrics>,
        numbers: Arc<Limits>,
        to_hub: mpsc::Sender<ToHub>,
    ) -> Self {
        let light = Light { live: false, since: now().wall, reason: "starting" };
        Self {
            key,
            verifier,
            limits,
            metrics,
            numbers,
            light,
            switches: Switches::default(),
            revocations: Arc::default(),
            connections: HashMap::new(),
            rooms: HashMap::new(),
            to_hub,
            backlog: VecDeque::new(),
            draining: None,
            next: 0,
        }
    }

    /// Makes the worker known to the hub.
    pub fn register(&mut self, sender: mpsc::Sender<ToWorker>) {
        self.tell_hub(ToHub::Register(self.key, sender));
    }

    /// A new socket, with the token if the handshake brought one.
    pub fn connect(&mut self, token: Option<&str>, caller: Caller) -> Rc<Connection> {
        let connection = self.open(Transport::WebSocket, caller, self.limits, now());
        if let Some(token) = token {
            self.sign_in(&connection, token, SignIn::default());
        }
        connection
    }

    /// A request by somebody whose token was judged ([`Worker::judge`], [`Worker::admit_new`]). Nothing more will be heard of its client.
    pub fn enter(
        &mut self,
        transport: Transport,
        caller: Caller,
        identity: Identity,
        resume: &BTreeMap<String, String>,
        types: Option<&[String]>,
    ) -> Result<Rc<Connection>, Limit> {
        let held = self.numbers.admit(&identity)?;
        let limits = SessionLimits { silence: None, ..self.limits };
        let connection = self.open(transport, caller, limits, now());
        self.let_in(&connection, held, identity, resume, types);
        Ok(connection)
    }

    /// Somebody who has yet to sign in.
    pub fn open(
        &mut self,
        transport: Transport,
        caller: Caller,
        limits: SessionLimits,
        now: Now,
    ) -> Rc<Connection> {
        self.next += 1;
        let key = self.next;
        let name = format!("{:016x}", rand::rng().random::<u64>());
        let connection = Rc::new(Connection {
            key,
            transport,
            session: RefCell::new(Session::new(name, limits, self.light, now)),
            waker: RefCell::new(None),
            bye_at: RefCell::new(self.draining.map(|until| bye_time(now.instant, until))),
            caller,
            held: RefCell::new(None),
            polls_at: Cell::new(None),
            judging: RefCell::new(None),
            fault: Cell::new(None),
            refreshes: Cell::default(),
        });
        self.connections.insert(key, Rc::clone(&connection));
        self.metrics.connections(transport).inc();
        connection
    }

    /// Whether clients are being sent elsewhere.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Counts a sign-in that brought no token to be judged.
    pub fn no_token(&self) {
        self.metrics.sign_in("missing");
    }

    /// The client is gone.
    pub fn disconnect(&mut self, connection: &Rc<Connection>) {
        if self.connections.remove(&connection.key).is_none() {
            return;
        }
        self.metrics.connections(connection.transport).dec();
        if let Some(place) = &connection.caller.place {
            place.waits();
        }
        connection.held.take();
        let rooms: Vec<_> = connection.session.borrow().rooms().cloned().collect();
        for room in rooms {
            self.leave(connection, &room);
        }
    }

    /// A text message from the client.
    pub fn message(&mut self, connection: &Rc<Connection>, text: &str) {
        let now = now();
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Ping) => connection.session.borrow_mut().pong(),
            Ok(ClientMessage::Auth(auth))
                if connection.session.borrow().is_signing_in() && !connection.is_judging() =>
            {
                let asks = SignIn { resume: auth.resume, types: auth.types, report: auth.report };
                self.sign_in(connection, &auth.token, asks);
            }
            Ok(ClientMessage::Auth(_)) => {
                self.close(
                    connection,
                    CloseCode::Malformed,
                    "one auth is enough: use refresh for a new token",
                    now,
                );
            }
            Ok(ClientMessage::Refresh { token }) => self.refresh(connection, &token),
            Err(error) => {
                tracing::debug!(session = connection.session.borrow().name(), %error, "malformed message");
                self.close(connection, CloseCode::Malformed, "not a message of rowcast.v1", now);
            }
        }
    }

    fn let_in(
        &mut self,
        connection: &Rc<Connection>,
        held: Held,
        identity: Identity,
        resume: &BTreeMap<String, String>,
        types: Option<&[String]>,
    ) {
        // Since the token was judged, revocations may have come.
        let Ok(identity) = self.unless_revoked(identity) else {
            connection.session.borrow_mut().revoke(now());
            return connection.wake();
        };
        connection.held.replace(Some(held));
        if let Some(place) = &connection.caller.place {
            place.carries();
        }
        let identity = self.intern(identity);
        let effects = connection.session.borrow_mut().sign_in(identity, resume, types);
        self.carry_out(connection, effects);
    }

    /// Names rooms that are known here by the same text in memory: comparing it is then comparing an address.
    fn intern(&self, mut identity: Identity) -> Identity {
        for room in &mut identity.rooms {
            if let Some((known, _)) = self.rooms.get_key_value(room) {
                *room = known.clone();
            }
        }
        identity
    }

    /// Closes a session from this side.
    pub fn close(&self, connection: &Rc<Connection>, code: CloseCode, reason: &'static str, now: Now) {
        connection.session.borrow_mut().close(code, reason, now);
        connection.wake();
    }

    /// Does what a session asked for.
    pub fn carry_out(&mut self, connection: &Rc<Connection>, effects: Vec<Effect>) {
        for Effect { room, resume, attempt } in effects {
            if connection.session.borrow().is_new_to(&room) {
                self.rooms.entry(room.clone()).or_default().interested += 1;
            }
            let ticket = Ticket { worker: self.key, session: connection.key, attempt };
            self.tell_hub(ToHub::Join(room, Join { ticket, resume }));
        }
    }

    fn leave(&mut self, connection: &Rc<Connection>, room: &RoomName) {
        let unanswered = connection.session.borrow().unanswered(room);
        if let Some(attempt) = unanswered {
            let ticket = Ticket { worker: self.key, session: connection.key, attempt };
            self.tell_hub(ToHub::Cancel(room.clone(), ticket));
        }
        if connection.session.borrow().is_member(room) {
            self.remove_member(connection, room);
        }
        let Some(local) = self.rooms.get_mut(room) else {
            return;
        };
        local.interested -= 1;
        if local.interested == 0 {
            self.rooms.remove(room);
            self.tell_hub(ToHub::Leave(room.clone(), self.key));
        }
    }

    fn tell_hub(&mut self, message: ToHub) {
        self.backlog.push_back(message);
        self.flush_backlog();
    }

    fn flush_backlog(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(message)) = self.to_hub.try_send(message) {
                self.backlog.push_front(message);
                return;
            }
        }
    }

    /// Something from the hub.
    pub fn receive(&mut self, message: ToWorker) {
        match message {
            ToWorker::Event(room, event) => self.fan_out(&room, &event),
            ToWorker::Joined { ticket, room, answer } => self.joined(ticket, &room, answer),
            ToWorker::Void(room) => {
                let spread = self.spread();
                self.take_out(&room, |session, now| {
                    let hold = spread.mul_f64(rand::rng().random_range(0.0..1.0));
                    session.void(&room, hold, now);
                });
            }
            ToWorker::LostTrack(room) => self.take_out(&room, |session, now| session.lost_track(&room, now)),
            ToWorker::Light(light) => {
                self.light = light;
                let now = now();
                for connection in self.connections.values() {
                    connection.session.borrow_mut().set_light(light, now);
                    connection.wake();
                }
            }
            ToWorker::Switches(switches, window) => self.switch(switches, window),
            ToWorker::Revocations(revocations) => self.revoke(revocations),
            ToWorker::Drain(window) => self.drain(window),
        }
    }

    fn fan_out(&mut self, room: &RoomName, event: &Arc<Event>) {
        // The sessions compare the room's name with their own: by address, if it is the same text in memory.
        let Some((room, local)) = self.rooms.get_key_value(room) else { return };
        let room = &room.clone();
        let now = now();
        let mut queued = 0;
        let mut fell_behind = Vec::new();
        for connection in &local.members {
            match connection.session.borrow_mut().deliver(room, event, now) {
                Delivery::Queued => queued += 1,
                Delivery::Filtered => continue,
                Delivery::FellBehind => fell_behind.push(Rc::clone(connection)),
                Delivery::NotHere => continue,
            }
            connection.wake();
        }
        self.metrics.deliveries.inc_by(queued);
        self.metrics.slow_sessions.inc_by(fell_behind.len() as u64);
        for connection in fell_behind {
            self.remove_member(&connection, room);
        }
    }

    fn joined(&mut self, ticket: Ticket, room: &RoomName, answer: Answer) {
        if !self.rooms.contains_key(room) {
            // The session went before the hub opened the room for it.
            return self.tell_hub(ToHub::Leave(room.clone(), self.key));
        }
        let Some(connection) = self.connections.get(&ticket.session).cloned() else {
            return;
        };
        let now = now();
        self.metrics.joined(&answer);
        self.metrics.deliveries.inc_by(answer.events.len() as u64);
        let joins = connection.session.borrow_mut().joined(room, ticket.attempt, answer, now);
        if joins && let Some(local) = self.rooms.get_mut(room) {
            connection.session.borrow_mut().set_slot(room, local.members.len());
            local.members.push(Rc::clone(&connection));
        }
        let effects = connection.session.borrow_mut().catch_up(now);
        self.carry_out(&connection, effects);
        connection.wake();
    }

    /// Everyone leaves the room's fan-out, to join again.
    fn take_out(&mut self, room: &RoomName, tell: impl Fn(&mut Session, Now)) {
        let now = now();
        let Some(local) = self.rooms.get_mut(room) else { return };
        for connection in std::mem::take(&mut local.members) {
            tell(&mut connection.session.borrow_mut(), now);
        }
    }

    /// Over how long this worker's clients are told to fetch anew: their snapshots come from somewhere.
    fn spread(&self) -> Duration {
        let sockets = u32::try_from(self.connections.len()).unwrap_or(u32::MAX);
        (Duration::from_secs(1) * sockets / RESYNCS_A_SECOND).min(LONGEST_SPREAD)
    }

    fn remove_member(&mut self, connection: &Rc<Connection>, room: &RoomName) {
        let Some(local) = self.rooms.get_mut(room) else {
            return;
        };
        let Some(slot) = connection.session.borrow().slot(room) else {
            return;
        };
        if !local.members.get(slot).is_some_and(|member| Rc::ptr_eq(member, connection)) {
            return;
        }
        local.members.swap_remove(slot);
        if let Some(moved) = local.members.get(slot) {
            moved.session.borrow_mut().set_slot(room, slot);
        }
    }

    fn drain(&mut self, window: Duration) {
        let now = now().instant;
        let until = now + window;
        self.draining = Some(until);
        for connection in self.connections.values() {
            // Who waits for an answer gets it at once, and asks another edge next.
            let until = if connection.transport == Transport::Page { now } else { until };
            *connection.bye_at.borrow_mut() = Some(bye_time(now, until));
        }
    }

    /// Lets time pass for every session.
    pub fn tick(&mut self) {
        self.flush_backlog();
        let now = now();
        let mut effects = Vec::new();
        for connection in self.connections.values() {
            let mut session = connection.session.borrow_mut();
            let waited_for = session.tick(now);
            if !waited_for.is_empty() {
                effects.push((Rc::clone(connection), waited_for));
            }
            if connection.bye_at.borrow().is_some_and(|at| now.instant >= at) && !session.is_closing() {
                // Clients come back to another edge, not all in the same moment.
                let reconnect_in = Duration::from_millis(rand::rng().random_range(100..2_000));
                session.bye(CloseCode::Restart, reconnect_in, now);
            }
            drop(session);
            self.send_away_when_due(connection, now);
            let session = connection.session.borrow();
            if session.has_outgoing() || session.is_closing() {
                connection.wake();
            }
        }
        for (connection, effects) in effects {
            self.carry_out(&connection, effects);
        }
    }
}

fn bye_time(now: Instant, until: Instant) -> Instant {
    let window = until.saturating_duration_since(now);
    now + window.mul_f64(rand::rng().random_range(0.0..1.0))
}

#[cfg(test)]
mod tests;
