//! The driver of one WebSocket: bytes in, messages to what is spoken over it ([`Speech`]); what that has to say out, many
//! frames a write. What the messages mean is the speech's: Rowcast's own ([`native`]) or
//! [Socket.IO's](crate::socketio).
//!
//! It runs inside the upgrade's future on the raw stream. An idle socket holds no buffers: what is read goes
//! through a buffer that all sockets of the thread share, what is written are the shared frames themselves.

pub mod native;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use rowcast_protocol::CloseCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::inbound::Inbound;
use crate::limits::{Limit, Limits};
use crate::session::Now;
use crate::wire::{Decoder, Incoming};
use crate::worker::now;

/// Frames that leave in one write.
const FRAMES_A_WRITE: usize = 64;

/// Their bytes, roughly.
const BYTES_A_WRITE: usize = 256 * 1024;

/// Messages that are taken from one socket before others have their turn. What was read may hold thousands.
const MESSAGES_A_TURN: usize = 32;

/// Reads of [`READ`] bytes before others have their turn.
const READS_A_TURN: usize = 4;

/// Bytes that are read at once.
const READ: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// What is spoken over a socket: what its messages mean, and what it has to say. When it is dropped, its sessions leave
/// their rooms.
pub trait Speech {
    /// Notes who is to be woken when there is something to say.
    fn set_waker(&mut self, waker: &Waker);

    /// Goes on with what was waited for, such as a verdict on a token.
    fn go_on(&mut self, context: &mut Context<'_>);

    /// Names the client in logs.
    fn name(&self) -> String;

    /// Whether the client has had its time to answer the close.
    fn is_over(&self, now: Now) -> bool;

    /// Whether so much waits to be sent that nothing more should be read.
    fn is_congested(&self) -> bool;

    /// Whether a close is on its way.
    fn is_closing(&self) -> bool;

    /// Something was received, which proves life.
    fn received(&mut self, now: Now);

    /// A text message.
    fn message(&mut self, text: &str);

    /// A ping, to be answered with the same payload.
    fn ping(&mut self, payload: Bytes);

    /// Begins to close.
    fn close(&mut self, code: CloseCode, reason: &'static str, now: Now);

    /// Puts the frames of the next thing to say behind those that are there; false where there is nothing.
    fn say(&mut self, frames: &mut VecDeque<Bytes>) -> bool;

    /// Something was written.
    fn wrote(&mut self, now: Now);

    /// The code of the close that was said, if one was.
    fn close_said(&self) -> Option<CloseCode>;
}

/// One socket.
pub struct Socket<IO, S> {
    io: IO,
    speech: S,
    decoder: Decoder,
    /// What was read may hold messages that have yet to be taken.
    unheard: bool,
    /// What comes is no frames any more: it is read, and nothing is made of it.
    deaf: bool,
    limits: Arc<Limits>,
    inbound: Inbound,
    writing: VecDeque<Bytes>,
    ended: bool,
}

enum Turn {
    /// Nothing to do until something happens.
    Wait,
    /// There may be more to do at once.
    Again,
    /// The socket is done with.
    End,
}

impl<IO: AsyncRead + AsyncWrite + Unpin, S: Speech + Unpin> Socket<IO, S> {
    /// A socket whose handshake is done; `received` came with it.
    pub fn new(io: IO, received: &[u8], max_message: usize, speech: S, limits: Arc<Limits>) -> Self {
        let mut decoder = Decoder::new(max_message);
        decoder.feed(received);
        Self {
            io,
            speech,
            decoder,
            unheard: !received.is_empty(),
            deaf: false,
            limits,
            inbound: Inbound::default(),
            writing: VecDeque::new(),
            ended: false,
        }
    }

    /// Runs until the socket ends; the close code that was sent, if one was.
    pub async fn run(mut self) -> Option<CloseCode> {
        std::future::poll_fn(|context| self.poll(context)).await;
        self.speech.close_said()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.speech.set_waker(context.waker());
        let mut messages = MESSAGES_A_TURN;
        for _ in 0..READS_A_TURN {
            match self.turn(context, &mut messages) {
                Turn::Wait => return Poll::Pending,
                Turn::End => return Poll::Ready(()),
                Turn::Again if messages > 0 => {}
                Turn::Again => break,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, context: &mut Context<'_>, messages: &mut usize) -> Turn {
        self.speech.go_on(context);
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            tracing::debug!(session = self.speech.name(), %error, "the socket broke");
            return Turn::End;
        }
        if self.speech.is_over(now()) || self.ended {
            return Turn::End;
        }
        if self.speech.is_congested() {
            return Turn::Wait;
        }
        if self.unheard {
            self.take_messages(messages);
            return Turn::Again;
        }
        match self.poll_read(context) {
            Poll::Pending => Turn::Wait,
            Poll::Ready(Ok(0)) => Turn::End,
            Poll::Ready(Ok(received)) => {
                self.speech.received(now());
                match self.inbound.bytes(self.limits.inbound(), received, Instant::now()) {
                    Ok(()) => self.take_messages(messages),
                    Err(limit) => self.refuse(limit),
                }
                Turn::Again
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(session = self.speech.name(), %error, "the socket broke");
                Turn::End
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            if !self.deaf {
                self.decoder.feed(buffer.filled());
                self.unheard = true;
            }
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Ends a socket that sends too much.
    fn refuse(&mut self, limit: Limit) {
        if !self.speech.is_closing() {
            self.speech.close(CloseCode::Limit, self.limits.reached(limit).reason(), now());
        }
    }

    /// Takes so many messages, or all that are here; fewer where what waits to be sent is too much already.
    fn take_messages(&mut self, messages: &mut usize) {
        while *messages > 0 && self.unheard && !self.speech.is_congested() {
            *messages -= 1;
            let taken = self.decoder.next_message();
            if self.speech.is_closing() {
                self.wait_for_answer(taken);
                continue;
            }
            let frames = self.decoder.take_frames();
            if frames > 0
                && let Err(limit) = self.inbound.frames(self.limits.inbound(), frames, Instant::now())
            {
                return self.refuse(limit);
            }
            match taken {
                Ok(None) => self.unheard = false,
                Ok(Some(Incoming::Text(text))) => self.speech.message(&text),
                Ok(Some(Incoming::Ping(payload))) => self.speech.ping(payload),
                Ok(Some(Incoming::Pong)) => {}
                Ok(Some(Incoming::Close)) => {
                    self.speech.close(CloseCode::Normal, "", now());
                    self.ended = true;
                }
                Err(code) => {
                    let reason = match code {
                        CloseCode::TooLarge => "the message is too large",
                        CloseCode::NotUtf8 => "text must be UTF-8",
                        CloseCode::Malformed => "binary messages are not taken here",
                        _ => "not a valid WebSocket frame",
                    };
                    self.deaf = true;
                    self.speech.close(code, reason, now());
                }
            }
        }
    }

    /// This side closes: of what comes only the answer to that matters, behind which clients wait for the connection's end.
    fn wait_for_answer(&mut self, taken: Result<Option<Incoming>, CloseCode>) {
        match taken {
            Ok(Some(Incoming::Close)) => self.ended = true,
            Ok(Some(_)) => return,
            Ok(None) => {}
            Err(_) => self.deaf = true,
        }
        self.unheard = false;
    }

    /// Writes what is queued; ready when nothing is left.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            self.fill();
            if self.writing.is_empty() {
                return Pin::new(&mut self.io).poll_flush(context);
            }
            let mut slices = [IoSlice::new(&[]); FRAMES_A_WRITE];
            for (slice, frame) in slices.iter_mut().zip(&self.writing) {
                *slice = IoSlice::new(frame);
            }
            let used = self.writing.len().min(FRAMES_A_WRITE);
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, &slices[..used]))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.speech.wrote(now());
        }
    }

    fn fill(&mut self) {
        let mut bytes: usize = self.writing.iter().map(Bytes::len).sum();
        while self.writing.len() < FRAMES_A_WRITE && bytes < BYTES_A_WRITE {
            let there = self.writing.len();
            if !self.speech.say(&mut self.writing) {
                break;
            }
            bytes += self.writing.range(there..).map(Bytes::len).sum::<usize>();
        }
        // What a burst needed is given back; what one frame needs is not worth it.
        if self.writing.is_empty() && self.writing.capacity() > 8 {
            self.writing = VecDeque::new();
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(frame) = self.writing.front_mut() {
            if written < frame.len() {
                frame.advance(written);
                return;
            }
            written -= frame.len();
            self.writing.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
