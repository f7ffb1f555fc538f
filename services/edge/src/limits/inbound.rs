//! How much a socket may send: frames of every kind, and bytes. Both are counted before anything is made of them.

use std::time::Instant;

use super::Limit;
use super::rate::{Meter, Rate};

/// What sockets may send.
#[derive(Debug, Clone, Copy, Default)]
pub struct InboundLimits {
    /// Frames; control frames and fragments are some too.
    pub messages: Option<Rate>,
    /// Bytes.
    pub bytes: Option<Rate>,
}

/// What one socket has sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inbound {
    messages: Meter,
    bytes: Meter,
}

impl Inbound {
    /// So many bytes have come.
    pub fn bytes(&mut self, limits: &InboundLimits, count: usize, now: Instant) -> Result<(), Limit> {
        let fits = limits.bytes.is_none_or(|rate| rate.take(&mut self.bytes, count as u64, now));
        if fits { Ok(()) } else { Err(Limit::Bytes) }
    }

    /// So many frames were in them.
    pub fn frames(&mut self, limits: &InboundLimits, count: u32, now: Instant) -> Result<(), Limit> {
        let fits = limits.messages.is_none_or(|rate| rate.take(&mut self.messages, count.into(), now));
        if fits { Ok(()) } else { Err(Limit::Messages) }
    }
}
