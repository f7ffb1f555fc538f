//! The driver of one WebSocket: bytes in, messages to the session; the session's queue out, many frames a write.
//!
//! It runs inside the upgrade's future on the raw stream. An idle socket holds no buffers: what is read goes
//! through a buffer that all sockets of the thread share, what is written are the shared frames themselves.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use rowcast_protocol::CloseCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::inbound::Inbound;
use crate::limits::{Limit, Limits};
use crate::session::Outgoing;
use crate::wire::{self, Decoder, Incoming};
use crate::worker::{Connection, Worker, now};

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

/// One socket.
pub struct Socket<IO> {
    io: IO,
    connection: Rc<Connection>,
    worker: Rc<RefCell<Worker>>,
    decoder: Decoder,
    /// What was read may hold messages that have yet to be taken.
    unheard: bool,
    limits: Arc<Limits>,
    inbound: Inbound,
    writing: VecDeque<Bytes>,
    close_written: Option<CloseCode>,
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

impl<IO: AsyncRead + AsyncWrite + Unpin> Socket<IO> {
    /// A socket whose handshake is done; `received` came with it.
    pub fn new(
        io: IO,
        received: &[u8],
        max_message: usize,
        connection: Rc<Connection>,
        worker: Rc<RefCell<Worker>>,
        limits: Arc<Limits>,
    ) -> Self {
        let mut decoder = Decoder::new(max_message);
        decoder.feed(received);
        Self {
            io,
            connection,
            worker,
            decoder,
            unheard: !received.is_empty(),
            limits,
            inbound: Inbound::default(),
            writing: VecDeque::new(),
            close_written: None,
            ended: false,
        }
    }

    /// Runs until the socket ends; the close code that was sent, if one was.
    pub async fn run(mut self) -> Option<CloseCode> {
        std::future::poll_fn(|context| self.poll(context)).await;
        self.close_written
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.set_waker(context.waker());
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
        if self.connection.is_judging() {
            self.worker.borrow_mut().poll_verdict(&self.connection, context);
        }
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            tracing::debug!(session = self.connection.session.borrow().name(), %error, "the socket broke");
            return Turn::End;
        }
        if self.connection.session.borrow().is_over(now()) || self.ended {
            return Turn::End;
        }
        if self.connection.session.borrow().is_congested() {
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
                self.connection.session.borrow_mut().received(now());
                match self.inbound.bytes(self.limits.inbound(), received, Instant::now()) {
                    Ok(()) => self.take_messages(messages),
                    Err(limit) => self.refuse(limit),
                }
                Turn::Again
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(session = self.connection.session.borrow().name(), %error, "the socket broke");
                Turn::End
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
            // Once this side closes, whatever comes is only waited for to end.
            if !self.connection.session.borrow().is_closing() {
                self.decoder.feed(buffer.filled());
                self.unheard = true;
            }
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Ends a socket that sends too much.
    fn refuse(&mut self, limit: Limit) {
        let mut session = self.connection.session.borrow_mut();
        if !session.is_closing() {
            session.close(CloseCode::Limit, self.limits.reached(limit).reason(), now());
        }
    }

    /// Takes so many messages, or all that are here; fewer where what waits to be sent is too much already.
    fn take_messages(&mut self, messages: &mut usize) {
        while *messages > 0 && self.unheard && !self.connection.session.borrow().is_congested() {
            if self.connection.session.borrow().is_closing() {
                self.unheard = false;
                return;
            }
            *messages -= 1;
            let taken = self.decoder.next_message();
            let frames = self.decoder.take_frames();
            if frames > 0
                && let Err(limit) = self.inbound.frames(self.limits.inbound(), frames, Instant::now())
            {
                return self.refuse(limit);
            }
            match taken {
                Ok(None) => self.unheard = false,
                Ok(Some(Incoming::Text(text))) => self.worker.borrow_mut().message(&self.connection, &text),
                Ok(Some(Incoming::Ping(payload))) => {
                    self.connection.session.borrow_mut().push(Outgoing::Pong(payload));
                }
                Ok(Some(Incoming::Pong)) => {}
                Ok(Some(Incoming::Close)) => {
                    self.connection.session.borrow_mut().close(CloseCode::Normal, "", now());
                    self.ended = true;
                }
                Err(code) => {
                    let reason = match code {
                        CloseCode::TooLarge => "the message is too large",
                        CloseCode::NotUtf8 => "text must be UTF-8",
                        CloseCode::Malformed => "rowcast.v1 has no binary messages",
                        _ => "not a valid WebSocket frame",
                    };
                    self.connection.session.borrow_mut().close(code, reason, now());
                }
            }
        }
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
            let effects = self.connection.session.borrow_mut().wrote(now());
            if !effects.is_empty() {
                self.worker.borrow_mut().carry_out(&self.connection, effects);
            }
        }
    }

    fn fill(&mut self) {
        let mut session = self.connection.session.borrow_mut();
        let mut bytes: usize = self.writing.iter().map(Bytes::len).sum();
        while self.writing.len() < FRAMES_A_WRITE && bytes < BYTES_A_WRITE {
            let Some(outgoing) = session.next_outgoing() else {
                break;
            };
            let frame = match outgoing {
                Outgoing::Event(event) => event.websocket_frame().clone(),
                Outgoing::Ping => wire::ping_frame(),
                Outgoing::Pong(payload) => wire::pong_frame(&payload),
                Outgoing::Close(code, reason) => {
                    self.close_written = Some(code);
                    wire::close_frame(code, reason)
                }
                frame => wire::text_frame(frame.json().expect("everything else has a text")),
            };
            bytes += frame.len();
            self.writing.push_back(frame);
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

/// However a socket ends, by a panic too, its session leaves its rooms.
impl<IO> Drop for Socket<IO> {
    fn drop(&mut self) {
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            worker.disconnect(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests;
