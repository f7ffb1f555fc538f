//! Clients of Socket.IO: Engine.IO 4 and Socket.IO 5 over a WebSocket, in front of the same sessions that native sockets
//! have. A socket carries a session for each namespace that its client is connected to ([`talk`]); what a session has to
//! say is put into packets by its [`seat`]. How packets are written is [`rowcast_protocol::socketio`]'s.
//!
//! There is no HTTP long-polling: a session of it lives in one server's memory from request to request, and edges are
//! stateless.

pub mod frames;
pub mod handshake;
mod refusal;
mod seat;
mod talk;

use std::time::Duration;

use crate::session::SessionLimits;
pub use talk::{Talk, Visitor};

use rowcast_protocol::socketio::Shape;

/// What all clients of Socket.IO have in common.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether they are served.
    pub enabled: bool,
    /// Where they may connect to. Events' frames are made for the first, and shared.
    pub namespaces: Vec<String>,
    /// What an event is given as.
    pub shape: Shape,
    /// Bounds of sessions. Their clients watch for pings.
    pub session: SessionLimits,
    /// How long a client may take to answer a ping.
    pub ping_timeout: Duration,
    /// The largest message from a client, in bytes.
    pub max_message: u64,
}

impl Settings {
    /// The place of a namespace among those that are served.
    fn namespace(&self, name: &str) -> Option<usize> {
        self.namespaces.iter().position(|served| served == name)
    }
}

#[cfg(test)]
mod tests;
