//! Many clients in one thread: they shake hands, and count and check what arrives.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use anyhow::{Result, ensure};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::hub;

/// A client's handshake.
pub const HANDSHAKE: &[u8] =
    b"GET /ws HTTP/1.1\r\nhost: spike\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const SCRATCH: usize = 64 * 1024;

/// Clients that are connected.
pub struct Clients {
    count: Rc<Count>,
    tasks: JoinSet<Result<()>>,
}

struct Count {
    frames: Cell<u64>,
    target: Cell<u64>,
    reached: Notify,
    scratch: RefCell<Vec<u8>>,
    expected: Vec<u8>,
}

impl Clients {
    /// Connects this many. Call it inside a `LocalSet`.
    pub async fn connect(address: SocketAddr, sockets: usize) -> Result<Self> {
        let mut expected = hub::frame();
        while expected.len() < SCRATCH + hub::FRAME {
            expected.extend_from_within(..hub::FRAME);
        }
        let count = Rc::new(Count {
            frames: Cell::new(0),
            target: Cell::new(u64::MAX),
            reached: Notify::new(),
            scratch: RefCell::new(vec![0; SCRATCH]),
            expected,
        });
        let mut tasks = JoinSet::new();
        let mut opening = stream::iter(0..sockets).map(|_| shake_hands(address)).buffer_unordered(32);
        while let Some(socket) = opening.next().await {
            tasks.spawn_local(receive(socket?, count.clone()));
        }
        drop(opening);
        Ok(Self { count, tasks })
    }

    /// Closes all.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits until this many more frames than before have arrived, all of them as they must be.
    pub async fn wait_for(&mut self, frames: u64) -> Result<()> {
        let target = self.count.target.get();
        let before = if target == u64::MAX { 0 } else { target };
        self.count.target.set(before + frames);
        while self.count.frames.get() < self.count.target.get() {
            tokio::select! {
                () = self.count.reached.notified() => {}
                Some(ended) = self.tasks.join_next() => ended??,
            }
        }
        ensure!(self.count.frames.get() == self.count.target.get(), "more frames than were sent");
        Ok(())
    }
}

async fn shake_hands(address: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(HANDSHAKE).await?;
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    Ok(socket)
}

async fn receive(mut socket: TcpStream, count: Rc<Count>) -> Result<()> {
    let mut at = 0;
    poll_fn(|context| {
        let mut scratch = count.scratch.borrow_mut();
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut socket).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) => {}
            }
            let bytes = buffer.filled();
            if bytes.is_empty() || bytes != &count.expected[at..at + bytes.len()] {
                return Poll::Ready(Err(anyhow::anyhow!("the server closed, or sent what is not the frame")));
            }
            let complete = (at + bytes.len()) / hub::FRAME;
            at = (at + bytes.len()) % hub::FRAME;
            count.frames.set(count.frames.get() + complete as u64);
            if count.frames.get() >= count.target.get() {
                count.reached.notify_one();
            }
        }
    })
    .await
}
