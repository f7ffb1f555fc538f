//! WebSocket framing over bytes, without IO: what a client sent, what it is sent.
//!
//! The frame parser is actix-http's. What it does not do is done here: a frame is judged by its header before its
//! payload arrives, fragments are put together within a bound, text is checked to be UTF-8.

use actix_http::ws::{OpCode, Parser, ProtocolError};
use bytes::{Bytes, BytesMut};
use rowcast_protocol::CloseCode;

/// Something that a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message.
    Text(String),
    /// To be answered with the same payload.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// The client closes.
    Close,
}

/// Takes bytes as they come and gives out messages.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// What is here of a message whose end is not.
    fragments: Option<BytesMut>,
    empty_fragments: usize,
    max_message: usize,
    frames: u32,
}

/// Fragments without a byte in one message. They are allowed, and nothing else bounds their number.
const MAX_EMPTY_FRAGMENTS: usize = 16;

impl Decoder {
    /// Messages have at most `max_message` bytes, and no more than that is ever buffered for one.
    pub fn new(max_message: usize) -> Self {
        Self { buffer: BytesMut::new(), fragments: None, empty_fragments: 0, max_message, frames: 0 }
    }

    /// Adds what was received.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that are held for what is to come.
    pub fn held(&self) -> usize {
        self.buffer.len() + self.fragments.as_ref().map_or(0, BytesMut::len)
    }

    /// Frames of every kind that were taken apart since this was last asked.
    pub fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// The next message, if it is complete.
    pub fn next_message(&mut self) -> Result<Option<Incoming>, CloseCode> {
        loop {
            self.judge_header()?;
            // Of control frames, whose bound is their own, the parser takes as many bytes too.
            let most = self.max_message.max(usize::from(LONGEST_CONTROL));
            let parsed = Parser::parse(&mut self.buffer, true, most).map_err(|error| match error {
                ProtocolError::Overflow => CloseCode::TooLarge,
                _ => CloseCode::Protocol,
            })?;
            let Some((finished, opcode, payload)) = parsed else {
                return Ok(None);
            };
            self.frames += 1;
            let payload = payload.unwrap_or_default();
            if let Some(incoming) = self.take(finished, opcode, payload)? {
                self.release();
                return Ok(Some(incoming));
            }
        }
    }

    /// Judges the frame at the buffer's begin by as much of its header as is there, so that what a client is told does
    /// not depend on how its bytes were cut, and nothing is waited for that will be refused.
    fn judge_header(&self) -> Result<(), CloseCode> {
        let [first, second, ..] = *self.buffer else { return Ok(()) };
        let (finished, reserved, masked) = (first & 0x80 != 0, first & 0x70 != 0, second & 0x80 != 0);
        let opcode = OpCode::from(first & 0x0f);
        let fits = match opcode {
            OpCode::Text => self.fragments.is_none(),
            OpCode::Continue => self.fragments.is_some(),
            OpCode::Ping | OpCode::Pong | OpCode::Close => finished && second & 0x7f <= LONGEST_CONTROL,
            OpCode::Binary => true,
            OpCode::Bad => false,
        };
        if reserved || !masked || !fits {
            return Err(CloseCode::Protocol);
        }
        if opcode == OpCode::Binary {
            // The protocol has none.
            return Err(CloseCode::Malformed);
        }
        let control = matches!(opcode, OpCode::Ping | OpCode::Pong | OpCode::Close);
        let buffered = self.fragments.as_ref().map_or(0, BytesMut::len);
        match declared_length(&self.buffer) {
            Some(length) if !control && length > (self.max_message - buffered) as u64 => {
                Err(CloseCode::TooLarge)
            }
            _ => Ok(()),
        }
    }

    /// What it makes of a frame whose header was judged.
    fn take(
        &mut self,
        finished: bool,
        opcode: OpCode,
        payload: BytesMut,
    ) -> Result<Option<Incoming>, CloseCode> {
        match opcode {
            // A copy: the payload itself would keep all that was read with it in memory until it is sent back.
            OpCode::Ping => Ok(Some(Incoming::Ping(Bytes::copy_from_slice(&payload)))),
            OpCode::Pong => Ok(Some(Incoming::Pong)),
            OpCode::Close => {
                Parser::try_parse_close_payload(&payload).map_err(|_| CloseCode::Protocol)?;
                Ok(Some(Incoming::Close))
            }
            OpCode::Text | OpCode::Continue => {
                self.count_fragment(opcode, payload.is_empty())?;
                let mut message = self.fragments.take().unwrap_or_default();
                if message.is_empty() {
                    message = payload;
                } else {
                    message.extend_from_slice(&payload);
                }
                if finished {
                    return text(message.into()).map(Some);
                }
                self.fragments = Some(message);
                Ok(None)
            }
            OpCode::Binary | OpCode::Bad => Err(CloseCode::Protocol),
        }
    }

    fn count_fragment(&mut self, opcode: OpCode, empty: bool) -> Result<(), CloseCode> {
        let before = if opcode == OpCode::Text { 0 } else { self.empty_fragments };
        self.empty_fragments = before + usize::from(empty);
        if self.empty_fragments > MAX_EMPTY_FRAGMENTS { Err(CloseCode::TooLarge) } else { Ok(()) }
    }

    /// An idle socket holds no buffer.
    fn release(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
        }
    }
}

fn text(payload: Vec<u8>) -> Result<Incoming, CloseCode> {
    String::from_utf8(payload).map(Incoming::Text).map_err(|_| CloseCode::NotUtf8)
}

/// The payload's length that the frame at the buffer's begin declares; `None` until its header is there.
fn declared_length(buffer: &[u8]) -> Option<u64> {
    match buffer.get(1)? & 0x7f {
        126 => Some(u64::from(u16::from_be_bytes(*buffer.get(2..4)?.first_chunk()?))),
        127 => Some(u64::from_be_bytes(*buffer.get(2..10)?.first_chunk()?)),
        short => Some(u64::from(short)),
    }
}

/// The longest payload of a ping, a pong or a close.
const LONGEST_CONTROL: u8 = 125;

/// The longest header of a frame that a server sends.
const LONGEST_HEADER: usize = 10;

/// A buffer to which a text frame's payload is to be appended, for [`text_frame_in_place`].
pub fn space_for_header() -> Vec<u8> {
    vec![0; LONGEST_HEADER]
}

/// Makes a text frame of a payload that stands behind [`space_for_header`], without copying it. Returns the frame
/// and its header's length.
pub fn text_frame_in_place(mut buffer: Vec<u8>) -> (Bytes, usize) {
    let header = text_header(buffer.len() - LONGEST_HEADER);
    let begin = LONGEST_HEADER - header.len();
    buffer[begin..LONGEST_HEADER].copy_from_slice(&header);
    (Bytes::from(buffer).slice(begin..), header.len())
}

/// The header of a text frame whose payload has so many bytes.
pub fn text_header(length: usize) -> BytesMut {
    let mut header = BytesMut::with_capacity(LONGEST_HEADER);
    header.extend_from_slice(&[0x81]);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => header.extend_from_slice(&[short]),
        (_, Ok(medium)) => {
            header.extend_from_slice(&[126]);
            header.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            header.extend_from_slice(&[127]);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header
}

/// A text frame.
pub fn text_frame(payload: &[u8]) -> Bytes {
    frame(payload, OpCode::Text)
}

/// An empty ping.
pub fn ping_frame() -> Bytes {
    Bytes::from_static(&[0x89, 0])
}

/// The answer to a ping.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(payload, OpCode::Pong)
}

/// A close frame; of the reason, as much as fits.
pub fn close_frame(code: CloseCode, reason: &str) -> Bytes {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    frame(&[&code.code().to_be_bytes(), &reason.as_bytes()[..end]].concat(), OpCode::Close)
}

fn frame(payload: &[u8], opcode: OpCode) -> Bytes {
    let mut bytes = BytesMut::with_capacity(payload.len() + 10);
    Parser::write_message(&mut bytes, payload, opcode, true, false);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(payload: &[u8], opcode: OpCode, finished: bool) -> BytesMut {
        let mut bytes = BytesMut::new();
        Parser::write_message(&mut bytes, payload, opcode, finished, true);
        bytes
    }

    fn drain(decoder: &mut Decoder) -> Result<Vec<Incoming>, CloseCode> {
        std::iter::from_fn(|| decoder.next_message().transpose()).collect()
    }

    #[test]
    fn a_frame_that_declares_too_much_is_refused_before_its_payload_arrives() {
        let mut decoder = Decoder::new(1_000);
        decoder.feed(&[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(decoder.next_message(), Err(CloseCode::TooLarge));
        let mut decoder = Decoder::new(1_000);
        decoder.feed(&masked(&[b'a'; 900], OpCode::Text, false));
        assert_eq!(decoder.next_message(), Ok(None));
        decoder.feed(&masked(&[b'a'; 101], OpCode::Continue, true)[..2]);
        assert_eq!(decoder.next_message(), Err(CloseCode::TooLarge));
    }

    #[test]
    fn what_breaks_the_protocol_closes_with_the_code_for_it() {
        let cases: [(&[u8], CloseCode); 12] = [
            (&[0x81, 0x01, b'a'], CloseCode::Protocol),
            (&[0xc1, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
            (&[0x83, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
            (&masked(b"x", OpCode::Continue, true), CloseCode::Protocol),
            (&masked(b"x", OpCode::Ping, false), CloseCode::Protocol),
            (&[0x80, 0x81], CloseCode::Protocol),
            (&[0x89, 0xfe], CloseCode::Protocol),
            (&[0x88, 0xff], CloseCode::Protocol),
            (&[0x81, 0x7f], CloseCode::Protocol),
            (&[0x82, 0xff], CloseCode::Malformed),
            (&masked(b"x", OpCode::Binary, true), CloseCode::Malformed),
            (&masked(&[0xff], OpCode::Text, true), CloseCode::NotUtf8),
        ];
        for (bytes, code) in cases {
            let mut decoder = Decoder::new(1_000);
            decoder.feed(bytes);
            assert_eq!(decoder.next_message(), Err(code), "{bytes:x?}");
        }
    }

    #[test]
    fn a_ping_between_fragments_takes_nothing_from_what_a_message_may_have() {
        let mut decoder = Decoder::new(1_000);
        for bytes in [
            masked(&[b'a'; 990], OpCode::Text, false),
            masked(&[b'?'; 125], OpCode::Ping, true),
            masked(&[b'a'; 10], OpCode::Continue, true),
        ] {
            decoder.feed(&bytes);
        }
        let expected = vec![Incoming::Ping(Bytes::from(vec![b'?'; 125])), Incoming::Text("a".repeat(1_000))];
        assert_eq!(drain(&mut decoder), Ok(expected));
    }

    #[test]
    fn fragments_without_a_byte_are_counted() {
        let mut decoder = Decoder::new(1_000);
        // Those of an earlier message do not count.
        for expected in ["x", "y"] {
            decoder.feed(&masked(b"", OpCode::Text, false));
            for _ in 1..MAX_EMPTY_FRAGMENTS {
                decoder.feed(&masked(b"", OpCode::Continue, false));
            }
            decoder.feed(&masked(expected.as_bytes(), OpCode::Continue, true));
            assert_eq!(decoder.next_message(), Ok(Some(Incoming::Text(expected.to_owned()))));
        }
        decoder.feed(&masked(b"z", OpCode::Text, false));
        for _ in 0..=MAX_EMPTY_FRAGMENTS {
            assert_eq!(decoder.next_message(), Ok(None));
            decoder.feed(&masked(b"", OpCode::Continue, false));
        }
        assert_eq!(decoder.next_message(), Err(CloseCode::TooLarge));
    }

    #[test]
    fn a_pong_that_waits_does_not_keep_in_memory_what_came_with_its_ping() {
        let mut decoder = Decoder::new(1_000);
        decoder.feed(&[masked(b"?", OpCode::Ping, true).to_vec(), vec![0; 16_000]].concat());
        let read = decoder.buffer.as_ptr_range();
        let Ok(Some(Incoming::Ping(payload))) = decoder.next_message() else { panic!("a ping") };
        assert!(!read.contains(&payload.as_ptr()), "the payload is a part of what was read");
    }

    #[test]
    fn control_frames_may_come_between_fragments() {
        let mut decoder = Decoder::new(1_000);
        for bytes in [
            masked(b"he", OpCode::Text, false),
            masked(b"?", OpCode::Ping, true),
            masked(b"llo", OpCode::Continue, true),
        ] {
            decoder.feed(&bytes);
        }
        let expected = vec![Incoming::Ping(Bytes::from_static(b"?")), Incoming::Text("hello".to_owned())];
        assert_eq!(drain(&mut decoder), Ok(expected));
    }

    #[test]
    fn a_frame_made_in_place_is_the_same_frame() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 300_000] {
            let payload = vec![b'x'; length];
            let mut buffer = space_for_header();
            buffer.extend_from_slice(&payload);
            let (made, header) = text_frame_in_place(buffer);
            assert_eq!(made, text_frame(&payload));
            assert_eq!(made.len() - header, length);
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = close_frame(CloseCode::Token, &"ü".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
    }

    proptest! {
        #[test]
        fn messages_round_trip_however_the_bytes_are_cut(
            texts in prop::collection::vec("\\PC{0,300}", 1..5), cut in 1usize..50,
        ) {
            let mut stream = BytesMut::new();
            for text in &texts {
                Parser::write_message(&mut stream, text.as_bytes(), OpCode::Text, true, true);
            }
            let mut decoder = Decoder::new(4_096);
            let mut received = Vec::new();
            for chunk in stream.chunks(cut) {
                decoder.feed(chunk);
                received.extend(drain(&mut decoder).expect("valid frames"));
            }
            prop_assert_eq!(received, texts.into_iter().map(Incoming::Text).collect::<Vec<_>>());
        }

        #[test]
        fn decoding_anything_never_panics_and_buffers_no_more_than_its_bound(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let mut decoder = Decoder::new(256);
            for chunk in chunks {
                decoder.feed(&chunk);
                if drain(&mut decoder).is_err() {
                    break;
                }
                prop_assert!(decoder.held() <= 256 + 256 + 14);
            }
        }
    }
}
