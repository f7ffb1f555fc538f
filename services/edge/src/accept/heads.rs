//! Between a stream and actix: whole heads of requests, one at a time. What is behind it is handed a head when all of it is
//! here, and the next one when something was answered.
//!
//! actix would take up to 128 KiB for a head, look at it anew with each byte that comes, and make as many requests of what it
//! has read as are in there, thousands, before it answers the first. What follows a head waits where it is, most of it in
//! the kernel. Nobody here takes a body: of a request that has one, everything behind the head is thrown away.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest head: a token, cookies of the same site, and cursors of many rooms fit into it.
pub const MAX_HEAD: usize = 32 * 1024;

/// Bytes that are read at once.
const READ: usize = 4 * 1024;

/// What is read and thrown away, so that its sender hears the answer, before the connection ends.
const DISCARDED: usize = 256 * 1024;

const TOO_LONG: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A stream of requests.
pub struct Heads<IO> {
    io: IO,
    held: BytesMut,
    phase: Phase,
    /// The last head announced a body.
    body: bool,
    /// Something was written: an answer of this side's own would stand amid others.
    answered: bool,
    reader: Option<Waker>,
}

enum Phase {
    /// A head is to come whole.
    Reading(Scan),
    /// So many held bytes are one.
    Whole(usize),
    /// It was handed on, and nothing was answered yet.
    Answering,
    /// It was too long, or had a body: so many bytes more are thrown away.
    Refused(usize),
}

/// How far a head was looked at.
#[derive(Default)]
struct Scan {
    seen: usize,
    /// Behind blank lines, which may precede a request.
    begun: bool,
    line_is_empty: bool,
}

impl<IO> Heads<IO> {
    /// Requests of a connection.
    pub fn new(io: IO) -> Self {
        Self {
            io,
            held: BytesMut::new(),
            phase: Phase::Reading(Scan::default()),
            body: false,
            answered: false,
            reader: None,
        }
    }

    /// The stream.
    pub fn stream(&self) -> &IO {
        &self.io
    }

    /// The stream, on which something else than requests follows, and what was read of that.
    pub fn into_stream(self) -> (IO, BytesMut) {
        (self.io, self.held)
    }
}

impl Scan {
    /// The length of a head, if all of it is there; of what cannot be one, the length of all.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(&byte) = bytes.get(self.seen) {
            self.seen += 1;
            match byte {
                b'\n' if self.line_is_empty && self.begun => return Some(self.seen),
                b'\n' => self.line_is_empty = true,
                b'\r' => {}
                // TLS where none is spoken, for instance: it is told at once.
                other if !self.begun && !other.is_ascii_alphabetic() => return Some(bytes.len()),
                _ => (self.begun, self.line_is_empty) = (true, false),
            }
        }
        None
    }
}

fn announces_body(head: &[u8]) -> bool {
    let starts = |line: &[u8], name: &str| {
        line.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name.as_bytes()))
    };
    head.split(|byte| *byte == b'\n')
        .any(|line| starts(line, "content-length:") || starts(line, "transfer-encoding:"))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Heads<IO> {
    /// Reads more; ready with nothing at the stream's end.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<Result<usize>> {
        let mut space = [0; READ];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer))?;
        self.held.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn refuse(&mut self, context: &mut Context<'_>) {
        self.held = BytesMut::new();
        self.phase = Phase::Refused(DISCARDED);
        if !self.answered {
            // It fits into a connection on which nothing was sent; if not, the connection's end says it too.
            let _ = Pin::new(&mut self.io).poll_write(context, TOO_LONG);
        }
    }

    /// What was written answers the head that was handed on.
    fn wrote(&mut self, result: &Poll<Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.answered = true;
            if matches!(self.phase, Phase::Answering) {
                self.phase =
                    if self.body { Phase::Refused(DISCARDED) } else { Phase::Reading(Scan::default()) };
                self.reader.take().into_iter().for_each(Waker::wake);
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Heads<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.phase {
                Phase::Reading(scan) => {
                    if let Some(length) = scan.end(&this.held) {
                        this.body = announces_body(&this.held[..length]);
                        this.phase = Phase::Whole(length);
                    } else if this.held.len() > MAX_HEAD {
                        this.refuse(context);
                    } else if ready!(this.fill(context))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Phase::Whole(length) => {
                    let count = buffer.remaining().min(*length);
                    buffer.put_slice(&this.held[..count]);
                    this.held.advance(count);
                    *length -= count;
                    if *length == 0 {
                        this.phase = Phase::Answering;
                        if this.held.is_empty() {
                            // An idle connection holds no buffer.
                            this.held = BytesMut::new();
                        }
                    }
                    return Poll::Ready(Ok(()));
                }
                Phase::Answering => {
                    // The end of the stream is to be noticed while an answer is waited for, unless more came before it.
                    if this.held.is_empty() && ready!(this.fill(context))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    this.reader = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Phase::Refused(left) => {
                    let mut left = *left;
                    let count = ready!(this.fill(context))?;
                    this.held.clear();
                    left = left.saturating_sub(count);
                    this.phase = Phase::Refused(left);
                    if count == 0 || left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heads<IO> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        if matches!(this.phase, Phase::Refused(_)) && !this.body {
            // It has its answer.
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut this.io).poll_write(context, bytes);
        this.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_write(context, first)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn stream() -> (DuplexStream, Heads<DuplexStream>) {
        let (client, server) = duplex(1024 * 1024);
        (client, Heads::new(server))
    }

    /// What there is to be read by now; nothing where there is no more, or the end.
    async fn read(heads: &mut Heads<DuplexStream>) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 100_000];
        let count = std::future::poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut buffer);
            Poll::Ready(match Pin::new(&mut *heads).poll_read(context, &mut buffer) {
                Poll::Ready(result) => Some(result.map(|()| buffer.filled().len())),
                Poll::Pending => None,
            })
        });
        let count = count.await?.expect("no error");
        buffer.truncate(count);
        Some(buffer)
    }

    #[tokio::test]
    async fn a_head_is_handed_on_whole_and_the_next_one_behind_an_answer() {
        let (mut client, mut heads) = stream();
        for &byte in &HEAD[..HEAD.len() - 1] {
            client.write_all(&[byte]).await.unwrap();
            assert_eq!(read(&mut heads).await, None, "half a head is nobody's");
        }
        client.write_all(&[b"\n", HEAD, b"\r\n\n", HEAD].concat()).await.unwrap();
        for blank in [&b""[..], b"", b"\r\n\n"] {
            assert_eq!(read(&mut heads).await, Some([blank, HEAD].concat()));
            assert_eq!(read(&mut heads).await, None, "one is being answered");
            heads.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        }
        assert_eq!(read(&mut heads).await, None);
        drop(client);
        assert_eq!(read(&mut heads).await, Some(Vec::new()));
    }

    #[tokio::test]
    async fn the_end_of_a_client_that_waits_for_its_answer_is_seen() {
        let (mut client, mut heads) = stream();
        client.write_all(HEAD).await.unwrap();
        assert_eq!(read(&mut heads).await, Some(HEAD.to_vec()));
        assert_eq!(read(&mut heads).await, None);
        drop(client);
        assert_eq!(read(&mut heads).await, Some(Vec::new()));
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused_and_what_follows_thrown_away() {
        let (mut client, mut heads) = stream();
        client.write_all(&[b'a'; MAX_HEAD]).await.unwrap();
        assert_eq!(read(&mut heads).await, None);
        client.write_all(&[b'a'; READ]).await.unwrap();
        assert_eq!(read(&mut heads).await, None);
        assert!(heads.held.capacity() < MAX_HEAD, "what was held is given back");
        heads.write_all(b"HTTP/1.1 408 too late").await.unwrap();
        client.write_all(&[b'a'; DISCARDED]).await.unwrap();
        assert_eq!(read(&mut heads).await, Some(Vec::new()));
        drop(heads);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, TOO_LONG);
    }

    #[tokio::test]
    async fn a_body_is_thrown_away_and_ends_the_connection() {
        for header in ["Content-Length: 1000000", "transfer-encoding: chunked"] {
            // Else tokio thinks that this task has done enough.
            tokio::task::yield_now().await;
            let (mut client, mut heads) = stream();
            let head = format!("POST / HTTP/1.1\r\n{header}\r\n\r\n");
            client.write_all(&[head.as_bytes(), HEAD].concat()).await.unwrap();
            assert_eq!(read(&mut heads).await, Some(head.into_bytes()));
            assert_eq!(read(&mut heads).await, None);
            for part in ["HTTP/1.1 405 Method ", "Not Allowed\r\n\r\n"] {
                heads.write_all(part.as_bytes()).await.unwrap();
                assert_eq!(read(&mut heads).await, None);
            }
            client.write_all(&[b'a'; DISCARDED]).await.unwrap();
            assert_eq!(read(&mut heads).await, Some(Vec::new()));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_request_is_not_waited_for() {
        let (mut client, mut heads) = stream();
        client.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
        assert_eq!(read(&mut heads).await, Some(b"\x16\x03\x01\x02\x00".to_vec()));
    }

    #[tokio::test]
    async fn what_follows_an_upgrade_is_given_back() {
        let (mut client, mut heads) = stream();
        client.write_all(&[HEAD, b"\x81\x80\0\0\0\0"].concat()).await.unwrap();
        assert_eq!(read(&mut heads).await, Some(HEAD.to_vec()));
        assert_eq!(heads.into_stream().1, b"\x81\x80\0\0\0\0".as_slice());
    }
}
