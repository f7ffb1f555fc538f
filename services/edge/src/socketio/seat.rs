//! A client in one namespace: its session, and what that has to say put into packets.
//!
//! Stock clients keep the last argument of whatever they hear, if it is a text, and bring it back as the offset from which
//! they are to be recovered. It holds the cursors of all rooms; one in which the client is owed a resync is not in it
//! before that is said. Nothing else may end with a text.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use rowcast_protocol::close::Reconnect;
use rowcast_protocol::frame::ServerFrame;
use rowcast_protocol::socketio::{self, Emit};
use rowcast_protocol::{CloseCode, Cursor, RoomName};
use serde_json::json;

use super::Settings;
use super::frames::{self, packet};
use super::refusal::Refusal;
use crate::event::Event;
use crate::reach::Reach;
use crate::session::{Greeting, Outgoing, text_of};
use crate::wire;
use crate::worker::Connection;

/// Why a client fetches a room that it comes to without having been there.
const START: &str = "start";

/// Refreshes that may wait to be acknowledged. An application asks for one at a time.
const MOST_ACKNOWLEDGED: usize = 16;

/// One client in one namespace.
pub struct Seat {
    /// The namespace's place among those that are served.
    pub namespace: usize,
    /// The session.
    pub connection: Rc<Connection>,
    /// The connection that is to be recovered.
    pid: Option<String>,
    brought: BTreeMap<String, String>,
    reach: Reach,
    /// Its CONNECT was answered: it is in.
    welcomed: bool,
    said_bye: bool,
    /// The numbers of refreshes that wait to be acknowledged. The newest token counts: all have its answer.
    refresh: Vec<u64>,
}

/// What comes of something that was said.
pub enum After {
    /// It goes on.
    On,
    /// The client was not let in.
    Refused,
    /// The client was put out, and is not to come back by itself.
    Ended,
    /// The socket is to be closed: the client is to come back.
    Close(CloseCode, &'static str),
    /// The same after a while: it was not let in, and would try again at once.
    Keep(CloseCode, &'static str),
}

impl Seat {
    /// A client that has asked to come in, with the connection that it wants recovered and its cursors.
    pub fn new(
        namespace: usize,
        connection: Rc<Connection>,
        pid: Option<String>,
        brought: BTreeMap<String, String>,
    ) -> Self {
        let reach = Reach::new(&[], &brought);
        let (welcomed, said_bye, refresh) = (false, false, Vec::new());
        Self { namespace, connection, pid, brought, reach, welcomed, said_bye, refresh }
    }

    /// Whether it is in.
    pub fn is_welcomed(&self) -> bool {
        self.welcomed
    }

    /// The answer to its refresh is to be said as this acknowledgement too.
    pub fn acknowledge_refresh(&mut self, id: Option<u64>) {
        self.refresh.extend(id.filter(|_| self.refresh.len() < MOST_ACKNOWLEDGED));
    }

    /// Puts what its session has to say into frames.
    pub fn say(&mut self, outgoing: &Outgoing, settings: &Settings, frames: &mut VecDeque<Bytes>) -> After {
        let namespace = &settings.namespaces[self.namespace];
        match outgoing {
            Outgoing::Ping => frames.push_back(packet(socketio::PING)),
            Outgoing::Pong(payload) => frames.push_back(wire::pong_frame(payload)),
            Outgoing::Welcome(greeting) => self.welcome(greeting, namespace, frames),
            Outgoing::Close(code, reason) => return self.end(*code, reason, namespace, frames),
            // What else there is for somebody who is not let in, the answer to the CONNECT says.
            _ if !self.welcomed => {}
            Outgoing::Event(event) => {
                self.reach.note(outgoing);
                self.event(event, settings, frames);
            }
            Outgoing::Resync(placed) | Outgoing::Cursor(placed) => {
                self.reach.note(outgoing);
                self.emit_placed(placed.json(), namespace, frames);
            }
            Outgoing::Refreshed(greeting) => self.refreshed(greeting, namespace, frames),
            Outgoing::Text(json) | Outgoing::Status(json) => {
                emit_frame(text_of(json), namespace, None, frames)
            }
            Outgoing::Bye(json) => {
                self.said_bye = true;
                emit_frame(text_of(json), namespace, None, frames);
            }
        }
        After::On
    }

    fn event(&self, event: &Event, settings: &Settings, frames: &mut VecDeque<Bytes>) {
        let made = event.socketio(settings);
        if self.namespace == 0 && self.reach.is_of_one_room() {
            frames.push_back(made.whole().clone());
        } else {
            let namespace = &settings.namespaces[self.namespace];
            frames::around(frames, namespace, made.body(), Some(&self.reach.encoded()));
        }
    }

    fn welcome(&mut self, greeting: &Greeting, namespace: &str, frames: &mut VecDeque<Bytes>) {
        self.welcomed = true;
        let rooms: Vec<RoomName> = greeting.rooms.iter().map(|(room, _, _)| room.clone()).collect();
        self.reach = Reach::new(&rooms, &std::mem::take(&mut self.brought));
        for (room, start, resumed) in &greeting.rooms {
            if *resumed {
                self.reach.place(room, *start, false);
            }
        }
        let sid = self.connection.session.borrow().name().to_owned();
        // A client whose pid comes back takes itself for recovered.
        let recovered = greeting.rooms.iter().all(|(_, _, resumed)| *resumed);
        let pid = self.pid.take().filter(|_| recovered);
        frames.push_back(packet(&socketio::connected(namespace, &sid, pid.as_deref().unwrap_or(&sid))));
        let first = rooms.first().map_or("", |room| room.as_str());
        let connected = Emit::connected(greeting.json(), first).expect("a welcome is a frame");
        frames.push_back(frames::emit(namespace, &connected, None));
        for (room, start, _) in &greeting.rooms {
            // Who brought a cursor that is of no use is told so by the session.
            if !self.reach.stands_in(room) {
                self.begin(room, *start, namespace, frames);
            }
        }
    }

    fn refreshed(&mut self, greeting: &Greeting, namespace: &str, frames: &mut VecDeque<Bytes>) {
        self.reach.has(greeting);
        let emit = Emit::frame(greeting.json()).expect("an answer to a refresh is a frame");
        frames.push_back(frames::emit(namespace, &emit, None));
        for id in self.refresh.drain(..) {
            frames.push_back(packet(&socketio::ack(namespace, id, Some(&emit.payload))));
        }
        for (room, start, resumed) in &greeting.rooms {
            // It may have left the room and come back within one answer.
            if !resumed {
                self.begin(room, *start, namespace, frames);
            }
        }
    }

    /// Who comes to a room without having been there fetches it. Only once that is said does it stand there.
    fn begin(&mut self, room: &RoomName, start: Cursor, namespace: &str, frames: &mut VecDeque<Bytes>) {
        self.reach.place(room, start, true);
        let resync = ServerFrame::Resync { room: room.as_str(), cursor: start, reason: START }.to_json();
        self.emit_placed(&resync, namespace, frames);
    }

    /// Emits a frame by which the client comes to stand elsewhere.
    fn emit_placed(&self, json: &str, namespace: &str, frames: &mut VecDeque<Bytes>) {
        emit_frame(json, namespace, Some(&self.reach.encoded()), frames);
    }

    fn end(
        &mut self,
        code: CloseCode,
        reason: &'static str,
        namespace: &str,
        frames: &mut VecDeque<Bytes>,
    ) -> After {
        if !self.welcomed {
            return match Refusal::of(code, self.connection.fault()) {
                Some(refusal) => {
                    frames.push_back(packet(&refusal.packet(namespace)));
                    After::Refused
                }
                None if matches!(code, CloseCode::Limit | CloseCode::Token) => After::Keep(code, reason),
                None => After::Close(code, reason),
            };
        }
        self.put_out(code, reason, namespace, frames);
        if code.reconnect() == Reconnect::Never { After::Ended } else { After::Close(code, reason) }
    }

    /// Says why the client is put out, and where it is not to come back, puts it out.
    pub fn put_out(
        &mut self,
        code: CloseCode,
        reason: &'static str,
        namespace: &str,
        frames: &mut VecDeque<Bytes>,
    ) {
        if !self.welcomed || code == CloseCode::Normal {
            return;
        }
        if !std::mem::replace(&mut self.said_bye, true) {
            let payload = json!({ "code": code.code(), "reason": reason }).to_string();
            let bye = Emit { name: "rowcast.bye".into(), payload: payload.into() };
            frames.push_back(frames::emit(namespace, &bye, None));
        }
        if code.reconnect() == Reconnect::Never {
            frames.push_back(packet(&socketio::disconnect(namespace)));
        }
    }
}

fn emit_frame(json: &str, namespace: &str, offset: Option<&str>, frames: &mut VecDeque<Bytes>) {
    let emit = Emit::frame(json).expect("frames begin with their op");
    frames.push_back(frames::emit(namespace, &emit, offset));
}
