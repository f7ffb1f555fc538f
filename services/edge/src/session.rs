//! One client's session, without IO and without knowledge of what carries it.
//!
//! The worker feeds it messages, answers to joins, events and the time; it fills a bounded queue, which a
//! transport empties, and says what is to be asked of the hub. A session that reads too slowly leaves the rooms'
//! fan-out and catches up from its own cursor once its queue is drained: a join like any other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rowcast_protocol::frame::{RoomWelcome, ServerFrame};
use rowcast_protocol::{CloseCode, Cursor, Micros, Offset, RecordKind, RoomName, StreamId, TypeFilter};

use crate::auth::{Identity, TokenFault};
use crate::event::Event;
use crate::light::Light;
use crate::room::{Answer, Resume};

/// When a session's client is pinged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pings {
    /// When nothing was heard from it for as long as a heartbeat.
    WhenSilent,
    /// At every heartbeat, and before it has signed in too: where the client watches for them.
    Always,
}

/// Bounds and times of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// How long a client may take to sign in.
    pub sign_in: Duration,
    /// A socket is pinged so often.
    pub heartbeat: Duration,
    /// When.
    pub pings: Pings,
    /// One from which nothing is heard for so long is dead. None where a client has no way to be heard: what carries
    /// such a session finds out by itself when its client is gone.
    pub silence: Option<Duration>,
    /// Frames that may wait for the socket before the session falls back to the log.
    pub queue_frames: usize,
    /// Their bytes.
    pub queue_bytes: usize,
    /// A socket that takes nothing for so long is closed.
    pub stalled: Duration,
    /// How long the client may take to answer a close.
    pub closing: Duration,
    /// Refreshes of its token in a minute; 0 sets no limit.
    pub refreshes: u32,
}

/// A session that is further behind than this is told that it is not live.
const BEHIND: Duration = Duration::from_secs(5);

/// How long a client whose token was revoked may take to answer the close, at most: it is to be gone within a second.
const REVOKED_CLOSING: Duration = Duration::from_millis(500);

/// What a client is told that refreshes before it is in.
pub const REFRESH_TOO_EARLY: &str = "sign in and wait for the welcome before refreshing";

/// How early a client hears that its token ends.
const EXPIRY_NOTICE_SECONDS: i64 = 60;

/// How often a filtering session hears how far it is, and after how many events that it did not see: a log keeps
/// a number of events.
const CURSOR_NOTICE: Duration = Duration::from_secs(10);
const CURSOR_NOTICE_EVENTS: u64 = 100;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For intervals.
    pub instant: Instant,
    /// For what tokens say.
    pub wall: Micros,
}

/// Something for the transport to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// An event, encoded already.
    Event(Arc<Event>),
    /// The first frame.
    Welcome(Box<Greeting>),
    /// History does not reach back: what the client has of a room ends, and goes on elsewhere.
    Resync(Box<Placed>),
    /// How far the client is in a room of which it does not see everything.
    Cursor(Box<Placed>),
    /// Another frame's JSON text.
    Text(Bytes),
    /// The answer to a refresh: where the client is in each room that it has now.
    Refreshed(Box<Greeting>),
    /// How the light is, as a frame's JSON text. The newest alone waits in a queue.
    Status(Bytes),
    /// The frame's JSON text that tells of the close that follows.
    Bye(Bytes),
    /// Ask for a sign of life.
    Ping,
    /// Answer one.
    Pong(Bytes),
    /// The last thing.
    Close(CloseCode, &'static str),
}

/// Where the client starts in each room, and whether it goes on from what it brought, or had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The rooms.
    pub rooms: Vec<(RoomName, Cursor, bool)>,
    json: Bytes,
}

/// A frame that puts the client somewhere in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The room.
    pub room: RoomName,
    /// Where the client stands there from now on.
    pub cursor: Cursor,
    json: Bytes,
}

impl Greeting {
    /// The frame's JSON text.
    pub fn json(&self) -> &str {
        text_of(&self.json)
    }
}

impl Placed {
    /// The frame's JSON text.
    pub fn json(&self) -> &str {
        text_of(&self.json)
    }
}

/// The text of a frame that this has made.
pub fn text_of(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("frames are made from texts")
}

impl Outgoing {
    /// The frame's JSON text; none where it is not a frame of the protocol but a matter of what carries it.
    pub fn json(&self) -> Option<&[u8]> {
        match self {
            Self::Event(event) => Some(event.json()),
            Self::Welcome(greeting) | Self::Refreshed(greeting) => Some(&greeting.json),
            Self::Resync(placed) | Self::Cursor(placed) => Some(&placed.json),
            Self::Text(bytes) | Self::Status(bytes) | Self::Bye(bytes) => Some(bytes),
            Self::Ping | Self::Pong(_) | Self::Close(..) => None,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Event(event) => event.websocket_frame().len(),
            Self::Pong(payload) => payload.len(),
            other => other.json().map_or(2, <[u8]>::len),
        }
    }
}

/// A room that the hub is to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The room.
    pub room: RoomName,
    /// From where.
    pub resume: Resume,
    /// It comes back with the answer: an answer to an earlier attempt is not taken.
    pub attempt: u32,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It waits for the socket.
    Queued,
    /// The session does not want it.
    Filtered,
    /// The queue is full: take the session out of the room's fan-out.
    FellBehind,
    /// The session is not in the room, or not at its end.
    NotHere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    SigningIn { until: Instant },
    Joining,
    Open,
    Closing { until: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The hub was asked, and has never answered.
    New,
    /// In the fan-out.
    Live,
    /// Not in the fan-out; the queue is to drain first.
    Behind,
    /// The hub was asked to go on from the cursor.
    CatchingUp,
}

#[derive(Debug)]
struct Membership {
    room: RoomName,
    standing: Standing,
    resumed: bool,
    /// Whether a welcome or a refresh's answer has named the room.
    announced: bool,
    /// Where the first answer put the session; what it missed follows from there.
    start: Cursor,
    /// The last event that was queued or left out.
    cursor: Cursor,
    /// The last one that the client knows of.
    told: Offset,
    /// The number of the join that is to be answered.
    attempt: u32,
    /// Where the session stands in the worker's list of the room's members.
    slot: usize,
}

impl Membership {
    /// The frame that tells the client how far it is.
    fn tell_cursor(&mut self) -> Outgoing {
        self.told = self.cursor.offset;
        let frame = ServerFrame::Cursor { room: self.room.as_str(), cursor: self.cursor };
        let json = frame.to_json().into();
        Outgoing::Cursor(Box::new(Placed { room: self.room.clone(), cursor: self.cursor, json }))
    }
}

/// One client's session.
#[derive(Debug)]
pub struct Session {
    name: String,
    limits: SessionLimits,
    phase: Phase,
    identity: Option<Identity>,
    wanted: TypeFilter,
    memberships: Vec<Membership>,
    refreshing: bool,
    attempts: u32,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    /// How many frames have waited since when, at least; none when nothing waits.
    oldest: Option<(usize, Instant)>,
    behind_since: Option<Instant>,
    /// The welcome is the queue's first.
    welcome_waits: bool,
    /// Rooms are not joined again before this.
    hold_until: Option<Instant>,
    light: Light,
    shown_live: bool,
    /// It was called not live because it was slow itself.
    shown_slow: bool,
    last_received: Instant,
    last_progress: Instant,
    last_ping: Instant,
    last_cursor_notice: Instant,
    expiry_noticed: bool,
    revoked: bool,
}

impl Session {
    /// A session that has yet to sign in.
    pub fn new(name: String, limits: SessionLimits, light: Light, now: Now) -> Self {
        Self {
            name,
            limits,
            phase: Phase::SigningIn { until: now.instant + limits.sign_in },
            identity: None,
            wanted: TypeFilter::all(),
            memberships: Vec::new(),
            refreshing: false,
            attempts: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            oldest: None,
            behind_since: None,
            welcome_waits: false,
            hold_until: None,
            light,
            shown_live: light.live,
            shown_slow: false,
            last_received: now.instant,
            last_progress: now.instant,
            last_ping: now.instant,
            last_cursor_notice: now.instant,
            expiry_noticed: false,
            revoked: false,
        }
    }

    /// Names the session in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it still has to sign in.
    pub fn is_signing_in(&self) -> bool {
        matches!(self.phase, Phase::SigningIn { .. })
    }

    /// Whether it has signed in and waits for its welcome.
    pub fn is_joining(&self) -> bool {
        self.phase == Phase::Joining
    }

    /// Whether it was welcomed and no close is on its way.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether a close is on its way.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether the client has had its time to answer the close.
    pub fn is_over(&self, now: Now) -> bool {
        matches!(self.phase, Phase::Closing { until } if now.instant >= until)
    }

    /// Whether so much waits for the socket that nothing more should be read from it.
    pub fn is_congested(&self) -> bool {
        self.queue.len() > self.limits.queue_frames || self.queued_bytes > self.limits.queue_bytes
    }

    /// The light as it was last set.
    pub fn light(&self) -> Light {
        self.light
    }

    /// Its bounds and times.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Whether everything that there is in its rooms has been taken from it.
    pub fn is_caught_up(&self) -> bool {
        let open = self.phase == Phase::Open && !self.refreshing && self.queue.is_empty();
        open && self.memberships.iter().all(|membership| membership.standing == Standing::Live)
    }

    /// How far the client is in each room, what it does not want included; nothing as long as something waits for it.
    pub fn reached(&self) -> impl Iterator<Item = (&RoomName, Cursor)> {
        let all_taken = self.phase == Phase::Open && self.queue.is_empty();
        let known = self.memberships.iter().filter(move |m| all_taken && m.standing != Standing::New);
        known.map(|membership| (&membership.room, membership.cursor))
    }

    /// The rooms that it is in.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.memberships.iter().map(|membership| &membership.room)
    }

    /// Any frame proves life.
    pub fn received(&mut self, now: Now) {
        self.last_received = now.instant;
    }

    /// A verified token lets the client in.
    pub fn sign_in(
        &mut self,
        identity: Identity,
        resume: &BTreeMap<String, String>,
        types: Option<&[String]>,
    ) -> Vec<Effect> {
        self.phase = Phase::Joining;
        self.wanted = types.map_or_else(TypeFilter::all, TypeFilter::of);
        let mut effects = Vec::with_capacity(identity.rooms.len());
        for room in &identity.rooms {
            let resume = match resume.get(room.as_str()).map(|text| text.parse()) {
                None => Resume::Nothing,
                Some(Ok(cursor)) => Resume::After(cursor),
                Some(Err(_)) => Resume::Unreadable,
            };
            effects.push(self.add_room(room.clone(), resume));
        }
        self.identity = Some(identity);
        effects
    }

    /// Whether a new token may take the old one's place; closes the session if not. To be asked before anything
    /// is done for the refresh.
    pub fn may_refresh(&mut self, identity: &Identity, now: Now) -> bool {
        let fault = match &self.identity {
            _ if self.is_closing() => return false,
            Some(current) if self.phase == Phase::Open && current.is_same_client(identity) => return true,
            Some(_) if self.phase == Phase::Open => {
                (CloseCode::NotAllowed, "a refresh must be for the same subject")
            }
            _ => (CloseCode::Malformed, REFRESH_TOO_EARLY),
        };
        self.close(fault.0, fault.1, now);
        false
    }

    /// A new token in place of the old one, after [`Session::may_refresh`].
    pub fn refresh(&mut self, identity: Identity, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.memberships.retain(|membership| identity.rooms.contains(&membership.room));
        for room in &identity.rooms {
            if !self.memberships.iter().any(|membership| membership.room == *room) {
                effects.push(self.add_room(room.clone(), Resume::Nothing));
            }
        }
        self.take_back(&identity.types);
        self.identity = Some(identity);
        self.expiry_noticed = false;
        self.refreshing = true;
        self.greet_when_joined(now);
        effects
    }

    /// What waits for the socket and is none of the client's business any more is not sent: events of rooms that it has left,
    /// and those of types that it may no longer see. What stands before the answer to an earlier refresh stays: that answer
    /// says where the client is once it has them.
    fn take_back(&mut self, types: &TypeFilter) {
        let (memberships, bytes) = (&mut self.memberships, &mut self.queued_bytes);
        let mut told: Vec<Option<Offset>> = vec![None; memberships.len()];
        let is_answer = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Refreshed(_));
        let mut settled = self.queue.iter().rposition(is_answer).map_or(0, |index| index + 1);
        let frames = self.queue.len();
        self.queue.retain(|outgoing| {
            if settled > 0 {
                settled -= 1;
                return true;
            }
            let (room, hidden) = match outgoing {
                Outgoing::Event(event) if event.kind == RecordKind::Event => {
                    (&event.room, Some(event.offset).filter(|_| !types.takes(&event.event_type)))
                }
                Outgoing::Event(event) => (&event.room, None),
                Outgoing::Cursor(placed) => (&placed.room, None),
                // Who is owed a resync is told, of whatever room.
                _ => return true,
            };
            let index = memberships.iter().position(|membership| membership.room == *room);
            let stays = index.is_some_and(|index| {
                told[index] = hidden.map(|offset| told[index].unwrap_or(Offset(offset.0.saturating_sub(1))));
                hidden.is_none()
            });
            *bytes -= if stays { 0 } else { outgoing.size() };
            stays
        });
        // Of what was taken back behind the last that is sent, the client does not know.
        for (membership, told) in memberships.iter_mut().zip(told) {
            membership.told = told.unwrap_or(membership.told);
        }
        if self.queue.len() < frames {
            self.oldest = None;
        }
    }

    fn add_room(&mut self, room: RoomName, resume: Resume) -> Effect {
        let nowhere = Cursor {
            generation: rowcast_protocol::Generation(0),
            stream: StreamId::NONE,
            offset: Offset::ZERO,
        };
        self.attempts = self.attempts.wrapping_add(1);
        self.memberships.push(Membership {
            room: room.clone(),
            standing: Standing::New,
            resumed: false,
            announced: false,
            start: nowhere,
            cursor: nowhere,
            told: Offset::ZERO,
            attempt: self.attempts,
            slot: 0,
        });
        Effect { room, resume, attempt: self.attempts }
    }

    /// The hub's answer to a join. True when the session belongs into the room's fan-out from now on.
    pub fn joined(&mut self, room: &RoomName, attempt: u32, answer: Answer, now: Now) -> bool {
        let Some(index) = self.index(room) else {
            return false;
        };
        let membership = &mut self.memberships[index];
        let asked = matches!(membership.standing, Standing::New | Standing::CatchingUp);
        if !asked || membership.attempt != attempt {
            return false;
        }
        membership.cursor = answer.cursor;
        if membership.standing == Standing::New || answer.resync.is_some() {
            membership.told = answer.cursor.offset;
        }
        if membership.standing == Standing::New {
            membership.start = answer.cursor;
            membership.resumed = answer.resumed;
        }
        membership.standing = if answer.caught_up { Standing::Live } else { Standing::Behind };
        let announced = membership.announced;
        if self.refreshing && !announced && self.has_unanswered() {
            // Until the answer to the refresh names the room, nothing of it may be sent: it waits at its start.
            self.memberships[index].standing = Standing::Behind;
            self.note_standing(now);
            return false;
        }
        if let Some(reason) = answer.resync {
            let cursor = answer.cursor;
            let json = ServerFrame::Resync { room: room.as_str(), cursor, reason }.to_json().into();
            self.push(Outgoing::Resync(Box::new(Placed { room: room.clone(), cursor, json })));
        }
        self.greet_when_joined(now);
        for event in answer.events {
            self.take_event(index, event);
        }
        self.note_standing(now);
        self.show_light(now);
        answer.caught_up
    }

    fn has_unanswered(&self) -> bool {
        self.memberships.iter().any(|membership| membership.standing == Standing::New)
    }

    /// Everything has been answered: the welcome, or the answer to a refresh, can go out.
    fn greet_when_joined(&mut self, now: Now) {
        if self.has_unanswered() {
            return;
        }
        if self.phase == Phase::Joining {
            self.phase = Phase::Open;
            let welcome = self.welcome(now);
            self.queued_bytes += welcome.size();
            self.queue.push_front(welcome);
            self.welcome_waits = true;
        } else if self.phase != Phase::Open || !self.refreshing {
            return;
        }
        if std::mem::take(&mut self.refreshing) {
            let stands = |membership: &Membership| Cursor { offset: membership.told, ..membership.cursor };
            let rooms = self.room_welcomes(stands);
            let frame = ServerFrame::Refreshed { expires_at: self.expires_at(), rooms, now: now.wall };
            let greeting = self.greeting(&frame, stands);
            self.push(Outgoing::Refreshed(Box::new(greeting)));
        }
        // From here on these are rooms that the client has.
        for membership in &mut self.memberships {
            membership.resumed = true;
            membership.announced = true;
        }
    }

    fn welcome(&mut self, now: Now) -> Outgoing {
        self.shown_live = self.light.live;
        let welcome = ServerFrame::Welcome {
            session: &self.name,
            rooms: self.room_welcomes(|membership| membership.start),
            heartbeat: self.limits.heartbeat.as_secs(),
            expires_at: self.expires_at(),
            live: self.light.live,
            now: now.wall,
        };
        Outgoing::Welcome(Box::new(self.greeting(&welcome, |membership| membership.start)))
    }

    fn greeting(&self, frame: &ServerFrame<'_>, cursor: impl Fn(&Membership) -> Cursor) -> Greeting {
        let rooms = self.memberships.iter().map(|m| (m.room.clone(), cursor(m), m.resumed)).collect();
        Greeting { rooms, json: frame.to_json().into() }
    }

    fn room_welcomes(&self, cursor: impl Fn(&Membership) -> Cursor) -> BTreeMap<&str, RoomWelcome> {
        let welcome = |m: &Membership| RoomWelcome { cursor: cursor(m), resumed: m.resumed };
        self.memberships.iter().map(|membership| (membership.room.as_str(), welcome(membership))).collect()
    }

    /// When its token ends.
    pub fn expires_at(&self) -> Micros {
        self.identity.as_ref().map_or(Micros(0), |identity| identity.expires_at)
    }

    /// An event of a room, handed to everyone in its fan-out.
    pub fn deliver(&mut self, room: &RoomName, event: &Arc<Event>, now: Now) -> Delivery {
        let Some(index) = self.index(room) else {
            return Delivery::NotHere;
        };
        if self.memberships[index].standing != Standing::Live || self.is_closing() {
            return Delivery::NotHere;
        }
        let cursor = self.memberships[index].cursor;
        if event.stream == cursor.stream && event.offset <= cursor.offset {
            return Delivery::NotHere;
        }
        if !follows(cursor, event) || self.is_congested() {
            self.memberships[index].standing = Standing::Behind;
            self.note_standing(now);
            return Delivery::FellBehind;
        }
        if self.take_event(index, Arc::clone(event)) { Delivery::Queued } else { Delivery::Filtered }
    }

    /// The worker missed events of the room: the session joins again from its cursor.
    pub fn lost_track(&mut self, room: &RoomName, now: Now) {
        if let Some(index) = self.index(room)
            && self.memberships[index].standing == Standing::Live
        {
            self.memberships[index].standing = Standing::Behind;
            self.note_standing(now);
        }
    }

    /// What the session knows of the room's history does not go on. It joins again when `hold` has passed, and is
    /// told then; it is not called live again before.
    pub fn void(&mut self, room: &RoomName, hold: Duration, now: Now) {
        self.lost_track(room, now);
        self.hold_until = self.hold_until.max(Some(now.instant + hold));
    }

    fn take_event(&mut self, index: usize, event: Arc<Event>) -> bool {
        let membership = &mut self.memberships[index];
        membership.cursor.stream = event.stream;
        membership.cursor.offset = event.offset;
        let allowed = self.identity.as_ref().is_some_and(|identity| identity.types.takes(&event.event_type));
        let takes = event.kind == RecordKind::Resync || (allowed && self.wanted.takes(&event.event_type));
        if takes {
            membership.told = event.offset;
            self.push(Outgoing::Event(event));
        } else if event.offset.0.saturating_sub(membership.told.0) >= CURSOR_NOTICE_EVENTS {
            let frame = membership.tell_cursor();
            self.push(frame);
        }
        takes
    }

    /// The light changed.
    pub fn set_light(&mut self, light: Light, now: Now) {
        self.light = light;
        self.show_light(now);
    }

    fn show_light(&mut self, now: Now) {
        if self.phase != Phase::Open {
            return;
        }
        let moment = now.instant;
        let too_long = |since: Instant| moment.saturating_duration_since(since) > BEHIND;
        let too_far_behind =
            self.behind_since.is_some_and(too_long) || self.oldest.is_some_and(|(_, since)| too_long(since));
        // Live again is said when nothing is left to be caught up with, and is read behind the last of it.
        let catching_up = !self.shown_live && self.is_behind();
        let slow = too_far_behind || (self.shown_slow && (catching_up || !self.queue.is_empty()));
        let live = self.light.live && !slow && !catching_up;
        if live == self.shown_live {
            return;
        }
        let own = self.light.live && (!live || self.shown_slow);
        let since = if own { now.wall } else { self.light.since };
        let reason = if own && !live { "slow" } else { self.light.reason };
        self.shown_live = live;
        self.shown_slow = slow;
        let status = ServerFrame::Status { live, since, reason }.to_json();
        self.push_status(live, Outgoing::Status(status.into()));
    }

    /// Queues what the light is in place of what it was: if not live, in front of what the client is slow to read.
    fn push_status(&mut self, live: bool, status: Outgoing) {
        let bytes = &mut self.queued_bytes;
        self.queue.retain(|outgoing| {
            let stays = !matches!(outgoing, Outgoing::Status(_));
            *bytes -= if stays { 0 } else { outgoing.size() };
            stays
        });
        if live || self.is_closing() {
            return self.push(status);
        }
        self.queued_bytes += status.size();
        self.queue.insert(usize::from(self.welcome_waits), status);
    }

    fn is_behind(&self) -> bool {
        self.behind_since.is_some() || self.hold_until.is_some()
    }

    fn note_standing(&mut self, now: Now) {
        let behind =
            self.memberships.iter().any(|m| matches!(m.standing, Standing::Behind | Standing::CatchingUp));
        if !behind {
            self.behind_since = None;
            self.hold_until = None;
        } else if self.behind_since.is_none() {
            self.behind_since = Some(now.instant);
        }
    }

    /// Answers a client's `ping`.
    pub fn pong(&mut self) {
        self.push_frame(&ServerFrame::Pong);
    }

    /// Queues what is not an event.
    pub fn push(&mut self, outgoing: Outgoing) {
        if self.is_closing() {
            return;
        }
        self.queued_bytes += outgoing.size();
        self.queue.push_back(outgoing);
    }

    fn push_frame(&mut self, frame: &ServerFrame<'_>) {
        self.push(Outgoing::Text(frame.to_json().into()));
    }

    /// Takes the next thing to send; nothing before the welcome.
    pub fn next_outgoing(&mut self) -> Option<Outgoing> {
        let outgoing = if self.phase == Phase::Joining {
            // Signs of life are asked for and given while the client waits for its welcome.
            let alive = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Ping | Outgoing::Pong(_));
            let index = self.queue.iter().position(alive)?;
            self.queue.remove(index)?
        } else {
            self.queue.pop_front()?
        };
        self.queued_bytes -= outgoing.size();
        self.welcome_waits &= self.phase == Phase::Joining;
        self.oldest = self.oldest.and_then(|(frames, since)| Some((frames.checked_sub(1)?, since)));
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        Some(outgoing)
    }

    /// The transport wrote something. When the queue has drained, rooms in which the session is behind are
    /// joined again.
    pub fn wrote(&mut self, now: Now) -> Vec<Effect> {
        self.last_progress = now.instant;
        self.catch_up(now)
    }

    /// Joins the rooms again in which the session is behind, once nothing waits for the socket any more.
    pub fn catch_up(&mut self, now: Now) -> Vec<Effect> {
        if self.hold_until.is_some_and(|until| now.instant < until) {
            return Vec::new();
        }
        let due = self.phase == Phase::Open && !self.refreshing;
        if !due || !self.queue.is_empty() || self.behind_since.is_none() {
            return Vec::new();
        }
        let mut effects = Vec::new();
        for membership in self.memberships.iter_mut().filter(|m| m.standing == Standing::Behind) {
            self.attempts = self.attempts.wrapping_add(1);
            membership.standing = Standing::CatchingUp;
            membership.attempt = self.attempts;
            let resume = Resume::After(membership.cursor);
            effects.push(Effect { room: membership.room.clone(), resume, attempt: membership.attempt });
        }
        effects
    }

    /// Begins to close.
    pub fn close(&mut self, code: CloseCode, reason: &'static str, now: Now) {
        if self.is_closing() {
            return;
        }
        // Nothing but the close reaches a client that was not welcomed, or that does not read.
        if self.phase == Phase::Joining || code == CloseCode::TooSlow {
            self.drop_queue();
        }
        self.end(code, reason, now);
    }

    fn drop_queue(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
    }

    fn end(&mut self, code: CloseCode, reason: &'static str, now: Now) {
        self.push(Outgoing::Close(code, reason));
        self.phase = Phase::Closing { until: now.instant + self.limits.closing };
    }

    /// Its token counts no more: nothing that waits for the client reaches it but the close. False where it was closing
    /// already, and goes for that reason.
    pub fn revoke(&mut self, now: Now) -> bool {
        let closing = self.is_closing();
        self.revoked = true;
        if closing {
            self.queue.retain(|outgoing| matches!(outgoing, Outgoing::Bye(_) | Outgoing::Close(..)));
            self.queued_bytes = self.queue.iter().map(Outgoing::size).sum();
        } else {
            self.drop_queue();
            self.end(CloseCode::Token, TokenFault::Revoked.message(), now);
        }
        if let Phase::Closing { until } = &mut self.phase {
            *until = (*until).min(now.instant + REVOKED_CLOSING);
        }
        !closing
    }

    /// Whether it was ended because its token was revoked.
    pub fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// Who its client is, once that has signed in.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Sends the client elsewhere.
    pub fn bye(&mut self, code: CloseCode, reconnect_in: Duration, now: Now) {
        self.tell_bye(code, reconnect_in);
        self.close(code, "this edge is going away", now);
    }

    fn tell_bye(&mut self, code: CloseCode, reconnect_in: Duration) {
        let milliseconds = u64::try_from(reconnect_in.as_millis()).unwrap_or(u64::MAX);
        self.push(Outgoing::Bye(ServerFrame::bye(code, milliseconds).to_json().into()));
    }

    /// Sends the client to polling: behind what it has yet to read, or in place of its welcome.
    pub fn switch_to_polling(&mut self, reconnect_in: Duration, now: Now) {
        if self.is_closing() {
            return;
        }
        if self.phase == Phase::Joining {
            self.drop_queue();
        }
        self.push_frame(&ServerFrame::Mode { transport: "polling" });
        self.tell_bye(CloseCode::SwitchedToPolling, reconnect_in);
        self.end(CloseCode::SwitchedToPolling, "sockets are switched off: use polling", now);
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        match self.phase {
            Phase::SigningIn { until } if now.instant >= until => {
                self.close(CloseCode::SignInTimeout, "no sign-in in time", now);
            }
            Phase::SigningIn { .. } if self.limits.pings == Pings::Always => self.watch_life(now),
            Phase::Open | Phase::Joining => {
                self.watch_expiry(now);
                self.watch_life(now);
                self.tell_cursors(now);
                self.note_age(now);
                if self.is_behind() {
                    // A room in which it was behind may have been left.
                    self.note_standing(now);
                }
                self.show_light(now);
            }
            _ => {}
        }
        self.catch_up(now)
    }

    fn watch_expiry(&mut self, now: Now) {
        let left = self.expires_at().0.saturating_sub(now.wall.0);
        if left <= 0 {
            self.close(CloseCode::Token, "the token has expired", now);
        } else if left <= EXPIRY_NOTICE_SECONDS * 1_000_000
            && !self.expiry_noticed
            && self.phase == Phase::Open
        {
            self.expiry_noticed = true;
            let seconds = u64::try_from(left.div_euclid(1_000_000)).unwrap_or(0);
            self.push_frame(&ServerFrame::TokenExpiring { r#in: seconds });
        }
    }

    /// From when on the time to the next ping counts.
    fn last_heartbeat(&self) -> Instant {
        match self.limits.pings {
            Pings::WhenSilent => self.last_received.max(self.last_ping),
            Pings::Always => self.last_ping,
        }
    }

    fn watch_life(&mut self, now: Now) {
        let since = |moment: Instant| now.instant.saturating_duration_since(moment);
        if !self.queue.is_empty()
            && self.phase == Phase::Open
            && since(self.last_progress) > self.limits.stalled
        {
            self.close(CloseCode::TooSlow, "the client reads too slowly", now);
        } else if self.limits.silence.is_some_and(|silence| since(self.last_received) > silence)
            && !self.is_congested()
        {
            self.close(CloseCode::TooSlow, "no sign of life", now);
        } else if since(self.last_heartbeat()) >= self.limits.heartbeat {
            self.last_ping = now.instant;
            self.push(Outgoing::Ping);
        }
        if self.queue.is_empty() || self.phase != Phase::Open {
            self.last_progress = now.instant;
        }
    }

    /// Once all that waited has gone, what waits by now is timed.
    fn note_age(&mut self, now: Now) {
        match self.queue.len() {
            0 => self.oldest = None,
            frames if self.oldest.is_none() => self.oldest = Some((frames - 1, now.instant)),
            _ => {}
        }
    }

    /// With a filter, much can pass that the client does not see; its cursor must not fall off the log for that.
    fn tell_cursors(&mut self, now: Now) {
        let due = now.instant.saturating_duration_since(self.last_cursor_notice) >= CURSOR_NOTICE;
        if !due || self.phase != Phase::Open {
            return;
        }
        self.last_cursor_notice = now.instant;
        let mut frames = Vec::new();
        for membership in &mut self.memberships {
            if membership.told < membership.cursor.offset {
                frames.push(membership.tell_cursor());
            }
        }
        frames.into_iter().for_each(|frame| self.push(frame));
    }

    /// The number of the join of the room that has yet to be answered.
    pub fn unanswered(&self, room: &RoomName) -> Option<u32> {
        let membership = &self.memberships[self.index(room)?];
        matches!(membership.standing, Standing::New | Standing::CatchingUp).then_some(membership.attempt)
    }

    /// Where the session stands in the worker's list of the room's members.
    pub fn slot(&self, room: &RoomName) -> Option<usize> {
        self.index(room).map(|index| self.memberships[index].slot)
    }

    /// Notes it.
    pub fn set_slot(&mut self, room: &RoomName, slot: usize) {
        if let Some(index) = self.index(room) {
            self.memberships[index].slot = slot;
        }
    }

    /// Whether the hub has yet to answer the first join of the room.
    pub fn is_new_to(&self, room: &RoomName) -> bool {
        self.index(room).is_some_and(|index| self.memberships[index].standing == Standing::New)
    }

    /// Whether something waits for the socket.
    pub fn has_outgoing(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the worker has the session in its list of the room's members.
    pub fn is_member(&self, room: &RoomName) -> bool {
        self.index(room).is_some_and(|index| self.memberships[index].standing == Standing::Live)
    }

    fn index(&self, room: &RoomName) -> Option<usize> {
        self.memberships.iter().position(|membership| membership.room == *room)
    }
}

/// Whether an event is the next one after a cursor.
fn follows(cursor: Cursor, event: &Event) -> bool {
    let begins = cursor.stream == StreamId::NONE && event.stream.is_first();
    (event.stream == cursor.stream || begins) && event.offset == cursor.offset.next()
}
