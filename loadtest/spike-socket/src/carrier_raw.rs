//! Carrier (c): `HttpService::upgrade`, the raw stream, and the socket's work inside the upgrade's own future.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_codec::Framed;
use actix_http::{HttpMessage, Request, h1, ws};
use actix_rt::net::TcpStream;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::hub::Membership;
use crate::incoming::{self, FrameReader, Incoming};

/// What actix hands over: the request, and the stream with what was read of it and is not written yet.
type Upgrade = (Request, Framed<TcpStream, h1::Codec>);

/// Frames in one write at most.
const SLICES: usize = 32;

thread_local! {
    /// All sockets of a thread read into one buffer: an idle socket owns none.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 16 * 1024]);
}

/// Serves an upgrade request until its socket ends. Every upgrade comes here, whatever its path.
pub async fn socket(upgrade: Upgrade, copying: bool) -> Result<(), actix_web::Error> {
    Ok(serve(upgrade, copying).await?)
}

async fn serve((request, framed): Upgrade, copying: bool) -> io::Result<()> {
    let mut parts = framed.into_parts();
    // Answers to requests that came before this one on the same connection may not have been written yet.
    parts.io.write_all(&parts.write_buf).await?;
    let Some(head) = answer(&request) else {
        return parts
            .io
            .write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    parts.io.write_all(&head).await?;
    drop(request);
    let mut socket = Socket {
        io: parts.io,
        membership: Membership::join(),
        reader: FrameReader::default(),
        ended: false,
        copying,
    };
    // A client may send its first frame together with the request.
    socket.take(&parts.read_buf);
    drop((head, parts.read_buf, parts.write_buf, parts.codec));
    poll_fn(|context| socket.poll(context)).await
}

fn answer(request: &Request) -> Option<Vec<u8>> {
    if request.path() != "/ws" || ws::verify_handshake(request.head()).is_err() {
        return None;
    }
    let key = request.headers().get("sec-websocket-key")?;
    let accept = ws::hash_key(key.as_bytes());
    let mut head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ".to_vec();
    head.extend_from_slice(&accept);
    head.extend_from_slice(b"\r\n\r\n");
    Some(head)
}

struct Socket {
    io: TcpStream,
    membership: Membership,
    reader: FrameReader,
    ended: bool,
    copying: bool,
}

impl Socket {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.read(context);
        let written = self.write(context);
        if written.is_pending() {
            return Poll::Pending;
        }
        if let Poll::Ready(Err(error)) = written {
            return Poll::Ready(Err(error));
        }
        if self.ended || self.membership.ended() {
            return Poll::Ready(Ok(()));
        }
        self.membership.register(context);
        Poll::Pending
    }

    fn read(&mut self, context: &mut Context<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            while !self.ended {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.ended = true,
                    Poll::Ready(Ok(())) => self.take(buffer.filled()),
                    Poll::Ready(Err(_)) => self.ended = true,
                    Poll::Pending => return,
                }
            }
        });
    }

    fn take(&mut self, bytes: &[u8]) {
        let (membership, ended) = (&self.membership, &mut self.ended);
        let read = self.reader.feed(bytes, |frame| match frame {
            Incoming::Message => {}
            Incoming::Ping(payload) => membership.push(incoming::pong(&payload)),
            Incoming::Close => *ended = true,
        });
        if let Err(violation) = read {
            membership.push(incoming::close(violation.0));
            self.ended = true;
        }
    }

    /// Ready when nothing waits any more.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (io, membership) = (&mut self.io, &self.membership);
        membership.with_queue(|queue| {
            while !queue.is_empty() {
                let written = if self.copying && queue.len() > 1 {
                    write_copied(io, context, queue)
                } else {
                    write_in_place(io, context, queue)
                };
                match written {
                    Poll::Ready(Ok(written)) => advance(queue, written),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

fn write_in_place(
    io: &mut TcpStream,
    context: &mut Context<'_>,
    queue: &VecDeque<Bytes>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    for (slice, frame) in slices.iter_mut().zip(queue) {
        *slice = IoSlice::new(frame);
    }
    Pin::new(io).poll_write_vectored(context, &slices[..queue.len().min(SLICES)])
}

fn write_copied(
    io: &mut TcpStream,
    context: &mut Context<'_>,
    queue: &VecDeque<Bytes>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut at = 0;
        for frame in queue {
            let step = frame.len().min(scratch.len() - at);
            scratch[at..at + step].copy_from_slice(&frame[..step]);
            at += step;
        }
        Pin::new(io).poll_write(context, &scratch[..at])
    })
}

fn advance(queue: &mut VecDeque<Bytes>, mut written: usize) {
    while written > 0 {
        let front = queue.front_mut().expect("no more is written than was waiting");
        let step = written.min(front.len());
        front.advance(step);
        written -= step;
        if front.is_empty() {
            queue.pop_front();
        }
    }
}
