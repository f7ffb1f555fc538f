//! Who a token says its bearer is.

use std::sync::Arc;

use rowcast_protocol::{Micros, RoomName, TypeFilter};

/// What a verified token says.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Which of the configured issuers said so; none for the keys of this installation's own.
    pub issuer: Option<Arc<str>>,
    /// `sub`; a refresh must have the same.
    pub subject: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `iat`; a token without one counts as old as can be wherever its age is asked for.
    pub issued_at: Option<Micros>,
    /// The rooms, sorted, at least one.
    pub rooms: Vec<RoomName>,
    /// Rooms that the token names too, and that its bearer did not ask for.
    pub elsewhere: Vec<RoomName>,
    /// What the token may see, whatever the client asks for.
    pub types: TypeFilter,
    /// `exp`.
    pub expires_at: Micros,
}

impl Identity {
    /// Its bearer asks for one room only. Whether the token names that.
    pub fn ask_for(&mut self, room: &str) -> bool {
        let (asked, others) =
            std::mem::take(&mut self.rooms).into_iter().partition(|one| one.as_str() == room);
        (self.rooms, self.elsewhere) = (asked, others);
        !self.rooms.is_empty()
    }

    /// Whether both are the same client: a subject is one only within its issuer.
    pub fn is_same_client(&self, other: &Self) -> bool {
        self.subject == other.subject && self.issuer == other.issuer
    }
}
