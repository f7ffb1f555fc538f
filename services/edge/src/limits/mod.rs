//! How many may come in, and how fast. Exact for the whole edge, whichever thread serves whom; whoever is counted holds
//! something that counts back when it is dropped, however it ends. Who may come in at all is [`crate::auth`]'s.

pub mod counts;
pub mod inbound;
pub mod rate;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rowcast_protocol::RoomName;

use crate::auth::Identity;
use crate::metrics::Metrics;
use counts::Counts;
use inbound::InboundLimits;
use rate::{Meter, Meters, Rate};

/// A limit that is reached; a metric label, and what clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Clients of this edge.
    Connections,
    /// Connections that carry nobody.
    Pending,
    /// Clients of an address.
    Address,
    /// Clients of a user.
    User,
    /// Clients of a room.
    Room,
    /// Clients that come in a second.
    Handshakes,
    /// Those of an address.
    AddressHandshakes,
    /// Frames from a socket.
    Messages,
    /// Bytes from a socket.
    Bytes,
    /// Refreshes of a socket's token.
    Refreshes,
    /// Sign-ins of a socket of Socket.IO, and those that were refused.
    SignIns,
}

impl Limit {
    /// Every one, for documentation and tests.
    pub const ALL: [Self; 11] = [
        Self::Connections,
        Self::Pending,
        Self::Address,
        Self::User,
        Self::Room,
        Self::Handshakes,
        Self::AddressHandshakes,
        Self::Messages,
        Self::Bytes,
        Self::Refreshes,
        Self::SignIns,
    ];

    /// A metric label, and what programs look at.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Address => "address",
            Self::User => "user",
            Self::Room => "room",
            Self::Handshakes => "handshakes",
            Self::AddressHandshakes => "address_handshakes",
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Refreshes => "refreshes",
            Self::SignIns => "sign_ins",
        }
    }

    /// What is wrong and what to do, in as many bytes as a close frame holds.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Connections => {
                "connections: this edge has as many clients as it may; try again, another may serve"
            }
            Self::Pending => "pending: too many connections that carry nobody",
            Self::Address => "address: too many clients from your address; close some",
            Self::User => "user: too many clients of this user; close some",
            Self::Room => "room: too many clients in a room of this token on this edge; try again later",
            Self::Handshakes => "handshakes: too many clients come at once; try again in some seconds",
            Self::AddressHandshakes => {
                "address_handshakes: too many attempts from your address; try again in some seconds"
            }
            Self::Messages => "messages: too many frames in too short a time; send fewer",
            Self::Bytes => "bytes: too many bytes in too short a time; send less",
            Self::Refreshes => "refreshes: too many new tokens in too short a time; refresh less often",
            Self::SignIns => "sign_ins: too many sign-ins on this socket; open another",
        }
    }

    /// Whether another edge may have room: the limit is this one's, not the client's.
    pub fn is_the_edges(self) -> bool {
        matches!(self, Self::Connections | Self::Handshakes | Self::Pending)
    }
}

/// How much of everything; 0 sets no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitsConfig {
    /// Clients.
    pub connections: usize,
    /// Clients of an address.
    pub per_address: usize,
    /// Clients of a user.
    pub per_user: usize,
    /// Clients of a room.
    pub per_room: usize,
    /// Clients that come in a second.
    pub handshakes: u64,
    /// Those of an address.
    pub handshakes_per_address: u64,
    /// What sockets may send.
    pub inbound: InboundLimits,
}

/// The limits of an edge, and what is used of them.
pub struct Limits {
    config: LimitsConfig,
    metrics: Arc<Metrics>,
    open: AtomicUsize,
    addresses: Counts<IpAddr>,
    users: Counts<Box<str>>,
    rooms: Counts<RoomName>,
    handshakes: Option<(Rate, Mutex<Meter>)>,
    handshakes_by_address: Option<Meters<IpAddr>>,
}

impl Limits {
    /// Nobody is in.
    pub fn new(config: LimitsConfig, metrics: Arc<Metrics>) -> Arc<Self> {
        // As many may come at once as in a second.
        let rate = |per_second| Rate::new(per_second, per_second);
        Arc::new(Self {
            config,
            metrics,
            open: AtomicUsize::new(0),
            addresses: Counts::new(config.per_address),
            users: Counts::new(config.per_user),
            rooms: Counts::new(config.per_room),
            handshakes: rate(config.handshakes).map(|rate| (rate, Mutex::default())),
            handshakes_by_address: rate(config.handshakes_per_address).map(Meters::new),
        })
    }

    /// Clients of this edge: open sockets and streams, and requests that are being answered.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// What sockets may send.
    pub fn inbound(&self) -> &InboundLimits {
        &self.config.inbound
    }

    /// Counts what a limit refuses or ends.
    pub fn reached(&self, limit: Limit) -> Limit {
        self.metrics.limited(limit.label()).inc();
        limit
    }

    /// Somebody wants to come in, whoever it is. An address that is refused takes nothing from the others.
    pub fn knock(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Limit> {
        if let (Some(meters), Some(address)) = (&self.handshakes_by_address, address)
            && !meters.take(address, now)
        {
            return Err(self.reached(Limit::AddressHandshakes));
        }
        if let Some((rate, meter)) = &self.handshakes {
            let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
            if !rate.take(&mut meter, 1, now) {
                return Err(self.reached(Limit::Handshakes));
            }
        }
        Ok(())
    }

    /// A client of an address, as long as what is returned lives.
    pub fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Open, Limit> {
        let most = self.config.connections;
        let one_more = |open: usize| (most == 0 || open < most).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return Err(self.reached(Limit::Connections));
        }
        let mut open = Open { limits: Arc::clone(self), address: None };
        if let Some(address) = address.filter(|_| self.addresses.is_on()) {
            if !self.addresses.take(address) {
                return Err(self.reached(Limit::Address));
            }
            open.address = Some(address);
        }
        Ok(open)
    }

    /// Somebody whose token was judged, as long as what is returned lives.
    pub fn admit(self: &Arc<Self>, identity: &Identity) -> Result<Held, Limit> {
        let mut held = Held { limits: Arc::clone(self), user: None, rooms: Vec::new() };
        if let Some(user) = identity.subject.as_deref().filter(|_| self.users.is_on()) {
            if !self.users.take(user.into()) {
                return Err(self.reached(Limit::User));
            }
            held.user = Some(user.into());
        }
        held.change(&identity.rooms)?;
        Ok(held)
    }
}

/// A client that is counted.
pub struct Open {
    limits: Arc<Limits>,
    address: Option<IpAddr>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            self.limits.addresses.give_back(address);
        }
    }
}

/// What somebody who has signed in takes of its user's and its rooms' numbers.
pub struct Held {
    limits: Arc<Limits>,
    user: Option<Box<str>>,
    rooms: Vec<RoomName>,
}

impl Held {
    /// Other rooms from now on. Where there is no place in one of them, those that it had are kept.
    pub fn change(&mut self, rooms: &[RoomName]) -> Result<(), Limit> {
        let counts = &self.limits.rooms;
        if !counts.is_on() {
            return Ok(());
        }
        let begin = self.rooms.len();
        for room in rooms {
            if self.rooms[..begin].contains(room) {
                continue;
            }
            if !counts.take(room.clone()) {
                self.rooms.drain(begin..).for_each(|taken| counts.give_back(taken));
                return Err(self.limits.reached(Limit::Room));
            }
            self.rooms.push(room.clone());
        }
        self.rooms.retain(|room| {
            let stays = rooms.contains(room);
            if !stays {
                counts.give_back(room.clone());
            }
            stays
        });
        self.rooms.shrink_to_fit();
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(user) = self.user.take() {
            self.limits.users.give_back(user);
        }
        self.rooms.drain(..).for_each(|room| self.limits.rooms.give_back(room));
    }
}

#[cfg(test)]
mod tests;
