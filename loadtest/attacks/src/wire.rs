//! Bytes of WebSocket frames as no library would write them, and how much of the server's bytes is understood: statuses,
//! ops and close codes.

use std::collections::BTreeSet;

/// Any key will do: a server must not care.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// FIN and an opcode.
pub const TEXT: u8 = 0x81;
/// See [`TEXT`].
pub const BINARY: u8 = 0x82;
/// See [`TEXT`].
pub const CLOSE: u8 = 0x88;
/// See [`TEXT`].
pub const PING: u8 = 0x89;
/// See [`TEXT`].
pub const PONG: u8 = 0x8a;
/// Without FIN: the first of several.
pub const TEXT_BEGINS: u8 = 0x01;
/// One that goes on, and is not the last.
pub const GOES_ON: u8 = 0x00;
/// The last one.
pub const GOES_ON_LAST: u8 = 0x80;

/// A masked frame with this first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => bytes.push(0x80 | short),
        (_, Ok(medium)) => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame's header alone, which declares a length in the longest form.
pub fn declares(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127], length.to_be_bytes().as_slice(), &MASK].concat()
}

/// A text frame that is not masked.
pub fn unmasked(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short ones are enough to be wrong");
    [&[TEXT, length], payload].concat()
}

/// A request for an upgrade. It offers compression, which nobody may take.
pub fn handshake(path: &str, token: &str) -> Vec<u8> {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: attacked\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: rowcast.v1\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    );
    if !token.is_empty() {
        request.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// What a server said so far, as far as it matters.
#[derive(Debug, Default)]
pub struct Heard {
    bytes: Vec<u8>,
    /// Bytes of a frame that are passed over.
    skip: usize,
    /// Whether frames follow.
    pub upgraded: bool,
    /// Statuses of answers.
    pub statuses: Vec<u16>,
    /// The close code, 1005 where none was said.
    pub close: Option<u16>,
    /// A compression that was agreed to.
    pub compresses: bool,
    /// The `op`s of frames, each once.
    pub ops: BTreeSet<String>,
}

/// No line of an answer and no frame's begin that matters is longer.
const ENOUGH: usize = 512;

impl Heard {
    /// More bytes came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while if self.upgraded { self.frame() } else { self.line() } {}
    }

    /// Takes a line of HTTP; whether there was one.
    fn line(&mut self) -> bool {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            let surplus = self.bytes.len().saturating_sub(ENOUGH);
            self.bytes.drain(..surplus);
            return false;
        };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line).trim_end().to_ascii_lowercase();
        // Bodies end without a line break: the next answer may stand behind one.
        if let Some(at) = line.find("http/1.1 ").or_else(|| line.find("http/1.0 ")) {
            self.statuses.extend(line[at + 9..].split(' ').next().and_then(|text| text.parse::<u16>().ok()));
        } else if line.starts_with("sec-websocket-extensions:") {
            self.compresses = true;
        } else if line.is_empty() && self.statuses.last() == Some(&101) {
            self.upgraded = true;
        }
        true
    }

    /// Takes a frame, or passes over a part of one; whether there was one.
    fn frame(&mut self) -> bool {
        let skipped = self.skip.min(self.bytes.len());
        self.bytes.drain(..skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return false;
        }
        let header = match self.bytes.get(1) {
            Some(126) => 4,
            Some(127) => 10,
            _ => 2,
        };
        if self.bytes.len() < header {
            return false;
        }
        let length = match &self.bytes[1..header] {
            [short] => usize::from(*short),
            long => long[1..].iter().fold(0, |sum: usize, byte| (sum << 8) | usize::from(*byte)),
        };
        if self.bytes.len() < header + length.min(ENOUGH) {
            return false;
        }
        let begin = &self.bytes[header..header + length.min(ENOUGH)];
        match self.bytes[0] & 0x0f {
            0x8 => {
                let code = begin.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.close.get_or_insert(code);
            }
            0x1 => {
                self.ops.insert(op(begin));
            }
            _ => {}
        }
        self.skip = header + length;
        true
    }
}

/// The `op` that a frame begins with; of a packet of Socket.IO its kind, two digits.
fn op(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    if text.starts_with('4') {
        return text.chars().take(2).collect();
    }
    let value = text.strip_prefix(r#"{"op":""#).and_then(|rest| rest.split('"').next());
    value.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_heard_however_it_is_cut() {
        let mut said = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n".to_vec();
        for (first, payload) in [
            (TEXT, &br#"{"op":"welcome","session":"x"}"#[..]),
            (PING, b""),
            (TEXT, b"{}"),
            (TEXT, b"44/a,{}"),
        ] {
            said.extend([first, u8::try_from(payload.len()).unwrap()]);
            said.extend(payload);
        }
        let long = format!(r#"{{"op":"event","data":"{}"}}"#, "x".repeat(70_000));
        said.extend([TEXT, 127]);
        said.extend((long.len() as u64).to_be_bytes());
        said.extend(long.as_bytes());
        said.extend([CLOSE, 4, 0x03, 0xf1, b'n', b'o']);
        for cut in [1, 3, 1_000, 100_000] {
            let mut heard = Heard::default();
            said.chunks(cut).for_each(|chunk| heard.feed(chunk));
            assert_eq!(heard.close, Some(1009), "{cut}");
            assert!(heard.ops.contains("welcome") && heard.ops.contains("event") && heard.ops.contains("44"));
            assert!(heard.upgraded && !heard.compresses && heard.statuses == [101]);
        }
        let mut heard = Heard::default();
        heard.feed(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(heard.statuses, [404, 400]);
    }

    #[test]
    fn frames_have_the_length_that_they_declare() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let frame = frame(TEXT, &vec![b'x'; length]);
            let header = match length {
                0..126 => 6,
                126..65_536 => 8,
                _ => 14,
            };
            assert_eq!(frame.len(), header + length);
        }
    }
}
