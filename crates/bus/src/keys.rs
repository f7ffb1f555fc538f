//! The names of keys and channels in Redis.

use rowcast_protocol::RoomName;

use crate::topology::Server;

/// Names everything of one installation. The room stands in a hash tag, so that a room's log and head share a
/// slot of Redis Cluster.
#[derive(Debug, Clone)]
pub struct Keys {
    base: String,
}

impl Keys {
    /// Keys below `<prefix>:<installation>:`.
    pub fn new(prefix: &str, installation: &str) -> Self {
        Self { base: format!("{prefix}:{installation}:") }
    }

    /// The stream of a room's events.
    pub fn log(&self, room: &RoomName) -> String {
        self.of_room(room, "log")
    }

    /// The hash with a room's stream id, offset and last leader's epoch.
    pub fn head(&self, room: &RoomName) -> String {
        self.of_room(room, "head")
    }

    /// The channel on which a room's events are published.
    pub fn events(&self, room: &RoomName) -> String {
        self.of_room(room, "events")
    }

    /// The channel of the leader's heartbeats through a server.
    pub fn heartbeat(&self, server: &Server) -> String {
        self.of_server(server, "heartbeat")
    }

    /// The hash in which a server keeps the last heartbeat, the leader's claim, and what edges go by.
    pub fn state(&self, server: &Server) -> String {
        self.of_server(server, "state")
    }

    /// Whether the first hash tag in a key would be another than the room's.
    pub(crate) fn has_brace(&self) -> bool {
        self.base.contains(['{', '}'])
    }

    fn of_server(&self, server: &Server, what: &str) -> String {
        match server.tag {
            Some(tag) => format!("{}{{{tag}}}:{what}", self.base),
            None => format!("{}{what}", self.base),
        }
    }

    fn of_room(&self, room: &RoomName, what: &str) -> String {
        format!("{}{{{}}}:{what}", self.base, room.encoded())
    }
}
