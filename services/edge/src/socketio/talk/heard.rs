//! What a client says: packets, and what is done for them.

use std::collections::BTreeMap;
use std::rc::Rc;

use rowcast_protocol::client::MAX_RESUMED_ROOMS;
use rowcast_protocol::filter::MAX_PATTERNS;
use rowcast_protocol::socketio::{self, Auth, Emit, Packet};
use rowcast_protocol::{CloseCode, cursors};

use super::Talk;
use crate::http;
use crate::limits::Limit;
use crate::socket::Speech;
use crate::socketio::frames::{self, packet};
use crate::socketio::refusal::Refusal;
use crate::socketio::seat::Seat;
use crate::worker::{SignIn, now};

/// CONNECTs of one socket that may be refused, and CONNECTs of one socket at all: each costs what a sign-in does, and no
/// limit of handshakes sees it.
const MOST_REFUSALS: u32 = 16;
const MOST_CONNECTS: u32 = 256;

/// The longest name of a connection that is to be recovered.
const LONGEST_PID: usize = 64;

impl Talk {
    /// One packet.
    pub(super) fn hear(&mut self, text: &str) {
        match Packet::parse(text) {
            Ok(Packet::Alive | Packet::Ack { .. }) => {}
            Ok(Packet::Close) => self.close(CloseCode::Normal, "", now()),
            Ok(Packet::Connect { namespace, auth }) => self.connect(namespace, auth),
            Ok(Packet::Disconnect { namespace }) => {
                if let Some(index) = self.seat(namespace) {
                    self.leave(index, self.settings.session.sign_in);
                }
            }
            Ok(Packet::Event { namespace, id, name, argument }) => {
                self.emitted(namespace, id, &name, argument);
            }
            Ok(Packet::Binary { namespace }) => match self.seat(namespace) {
                Some(index) => {
                    let mut session = self.seats[index].connection.session.borrow_mut();
                    session.close(CloseCode::Malformed, "binary is not taken here", now());
                }
                None => self.nobody(namespace),
            },
            Err(error) => {
                tracing::debug!(session = self.name(), %error, "malformed packet");
                self.malformed("not a packet of Engine.IO 4 and Socket.IO 5");
            }
        }
    }

    fn answer(&mut self, text: &str) {
        self.own.push_back(packet(text));
    }

    fn malformed(&mut self, reason: &'static str) {
        self.close(CloseCode::Malformed, reason, now());
    }

    fn connect(&mut self, namespace: &str, auth: Auth) {
        self.connects += 1;
        if self.connects > MOST_CONNECTS {
            return self.too_many();
        }
        if let Some((code, reason)) = self.kept {
            return self.close(code, reason, now());
        }
        let Some(place) = self.settings.namespace(namespace) else {
            return self.refuse(namespace, &Refusal::Namespace);
        };
        // A client that had no answer yet says nothing when it leaves: who comes again has left.
        if let Some(index) = self.seat(namespace) {
            self.ended.push(place);
            self.leave(index, self.settings.session.sign_in);
        }
        if auth.types.as_ref().is_some_and(|types| types.len() > MAX_PATTERNS) {
            return self.malformed("too many patterns in types");
        }
        let Some(token) = auth.token.as_deref().map(bare).or(self.visitor.token.as_deref()) else {
            self.worker.borrow().no_token();
            return self.refuse(namespace, &Refusal::NoToken);
        };
        self.ended.retain(|ended| *ended != place);
        let resume = auth.offset.as_deref().map(brought).unwrap_or_default();
        let connection = self.waiting.take().unwrap_or_else(|| self.open(self.settings.session.sign_in));
        let seat =
            Seat::new(place, Rc::clone(&connection), auth.pid.filter(|pid| is_pid(pid)), resume.clone());
        let asks = SignIn { resume, types: auth.types, report: None };
        self.worker.borrow_mut().sign_in(&connection, token, asks);
        self.seats.push(seat);
    }

    fn refuse(&mut self, namespace: &str, refusal: &Refusal) {
        self.answer(&refusal.packet(namespace));
        self.count_refusal();
    }

    pub(super) fn count_refusal(&mut self) {
        self.refused += 1;
        if self.refused >= MOST_REFUSALS {
            self.too_many();
        }
    }

    fn too_many(&mut self) {
        let reason = self.limits.reached(Limit::SignIns).reason();
        self.close(CloseCode::Limit, reason, now());
    }

    fn emitted(&mut self, namespace: &str, id: Option<u64>, name: &str, argument: Option<&str>) {
        let Some(index) = self.seat(namespace) else {
            return self.nobody(namespace);
        };
        if !self.seats[index].is_welcomed() {
            // It is meant for the connection before, which the client has left.
            return;
        }
        match (name, id) {
            ("ping", Some(id)) => self.answer(&socketio::ack(namespace, id, None)),
            ("ping", None) => {
                // With an argument: a client would keep the name for an offset.
                let pong = Emit { name: "pong".into(), payload: "{}".into() };
                self.own.push_back(frames::emit(namespace, &pong, None));
            }
            // Without a token it is an application's own.
            ("refresh", id) if let Some(token) = argument.and_then(socketio::refresh_token) => {
                let seat = &mut self.seats[index];
                seat.acknowledge_refresh(id);
                let connection = Rc::clone(&seat.connection);
                self.worker.borrow_mut().refresh(&connection, bare(&token));
            }
            // Applications emit what there was somebody for, once.
            _ => {}
        }
    }

    /// A packet for a namespace in which the client is not.
    fn nobody(&mut self, namespace: &str) {
        let place = self.settings.namespace(namespace);
        if !place.is_some_and(|place| self.ended.contains(&place)) {
            self.malformed("connect to the namespace before anything else");
        }
    }
}

/// A token without the scheme that some put in front of it.
fn bare(token: &str) -> &str {
    http::of_bearer(token).unwrap_or(token)
}

fn is_pid(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= LONGEST_PID && text.bytes().all(plain)
}

/// The cursors that an offset holds; none where no edge gave it out.
fn brought(offset: &str) -> BTreeMap<String, String> {
    let cursors = cursors::parse(offset).unwrap_or_default();
    if cursors.len() > MAX_RESUMED_ROOMS { BTreeMap::new() } else { cursors }
}
