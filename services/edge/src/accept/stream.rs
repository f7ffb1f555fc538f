//! What a request is read from and an answer written to.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_rt::net::TcpStream;
use rowcast_tls::tokio_rustls::server::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pending::{Occupant, Place};

/// A TCP connection that fails once its place is taken from it.
pub struct Tcp {
    io: TcpStream,
    occupant: Occupant,
}

impl Tcp {
    /// A connection with its place.
    pub fn new(io: TcpStream, occupant: Occupant) -> Self {
        Self { io, occupant }
    }

    /// Its place among those that carry nobody.
    pub fn place(&self) -> &Rc<Place> {
        self.occupant.place()
    }

    fn check(&self, context: &Context<'_>) -> Result<()> {
        let place = self.occupant.place();
        if place.is_over() {
            return Err(Error::new(ErrorKind::ConnectionAborted, "too many connections carry nobody"));
        }
        place.watch(context);
        Ok(())
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// What carries requests and sockets.
pub enum Stream {
    /// TCP alone.
    Plain(Tcp),
    /// TLS over it.
    Tls(Box<TlsStream<Tcp>>),
}

impl Stream {
    /// The connection's place among those that carry nobody.
    pub fn place(&self) -> &Rc<Place> {
        match self {
            Self::Plain(tcp) => tcp.place(),
            Self::Tls(tls) => tls.get_ref().0.place(),
        }
    }
}

/// The same call on whatever it is.
macro_rules! on_each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            Stream::Plain($io) => $call,
            Stream::Tls($io) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        on_each!(self.get_mut(), io => Pin::new(io).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        on_each!(self.get_mut(), io => Pin::new(io).poll_write(context, buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        on_each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        on_each!(self, io => io.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        on_each!(self.get_mut(), io => Pin::new(io).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        on_each!(self.get_mut(), io => Pin::new(io).poll_shutdown(context))
    }
}
