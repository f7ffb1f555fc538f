//! Frames of a client, read from pieces as they arrive, with the declared length checked before anything is kept.

use bytes::Bytes;

/// The longest message that is taken, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A complete frame of a client.
pub enum Incoming {
    /// A text or binary message.
    Message,
    /// To be answered by a pong with the same bytes.
    Ping(Vec<u8>),
    /// The client closes.
    Close,
}

/// Why a socket is ended: the close code.
pub struct Violation(pub u16);

/// What has arrived of a frame. Empty, it owns no memory.
#[derive(Default)]
pub struct FrameReader {
    kept: Vec<u8>,
}

impl FrameReader {
    /// Takes what has arrived and hands over each complete frame.
    pub fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Incoming)) -> Result<(), Violation> {
        if self.kept.is_empty() {
            while let Some((frame, length)) = parse(bytes)? {
                take(frame);
                bytes = &bytes[length..];
            }
            self.kept.extend_from_slice(bytes);
            return Ok(());
        }
        self.kept.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((frame, length)) = parse(&self.kept[at..])? {
            take(frame);
            at += length;
        }
        if at == self.kept.len() {
            self.kept = Vec::new();
        } else {
            self.kept.drain(..at);
        }
        Ok(())
    }
}

/// One frame and its length on the wire; `None` when more must arrive, which is never more than the bound.
fn parse(bytes: &[u8]) -> Result<Option<(Incoming, usize)>, Violation> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    if second & 0x80 == 0 {
        return Err(Violation(1002));
    }
    let (declared, at) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(two) => (u64::from(u16::from_be_bytes([two[0], two[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes[2..].first_chunk::<8>() {
            Some(eight) => (u64::from_be_bytes(*eight), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if declared > MAX_MESSAGE as u64 {
        return Err(Violation(1009));
    }
    let end = at + 4 + declared as usize;
    let (Some(mask), Some(payload)) = (bytes.get(at..at + 4), bytes.get(at + 4..end)) else {
        return Ok(None);
    };
    let frame = match first & 0x0f {
        1 | 2 => Incoming::Message,
        8 => Incoming::Close,
        9 => Incoming::Ping(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect()),
        _ => return Err(Violation(1002)),
    };
    Ok(Some((frame, end)))
}

/// A pong of the server.
pub fn pong(payload: &[u8]) -> Bytes {
    let mut frame = vec![0x8a, payload.len().min(125) as u8];
    frame.extend_from_slice(&payload[..payload.len().min(125)]);
    frame.into()
}

/// A close frame of the server.
pub fn close(code: u16) -> Bytes {
    let [high, low] = code.to_be_bytes();
    Bytes::copy_from_slice(&[0x88, 2, high, low])
}
