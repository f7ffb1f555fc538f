//! A link that can be disturbed: a TCP proxy on a free port, whose connections are delayed, held or cut on demand. Not
//! here: what travels over it.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How a link is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Everything passes at once.
    Through,
    /// Everything arrives so much later, in each direction.
    Slow(Duration),
    /// Nothing passes, not even that an end has closed; new connections are accepted, and lead nowhere. What was held
    /// arrives when it is over.
    Held,
    /// Nobody is connected, or can connect.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct State {
    link: Link,
    /// Connections of earlier rounds are closed.
    round: u64,
}

/// A proxy in front of one server. Ends with its value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    /// Dropped first: by that the thread ends.
    state: Option<watch::Sender<State>>,
    thread: Option<JoinHandle<()>>,
}

/// Chunks of one direction that are under way; at the bound nothing more is read from the sender's side.
const CHUNKS: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;

impl Proxy {
    /// Listens on a free port and passes everything on to `target` (`127.0.0.1:5432`), which need not be there yet.
    pub fn start(target: impl Into<String>) -> io::Result<Self> {
        let target = target.into();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (state, watched) = watch::channel(State { link: Link::Through, round: 0 });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // A thread of its own: a test's runtime ends with the test.
        let thread = thread::Builder::new().name("sandbox-proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                match TcpListener::from_std(listener) {
                    Ok(listener) => serve(listener, target, watched).await,
                    Err(error) => tracing::error!("the proxy can not listen: {error}"),
                }
            });
        })?;
        Ok(Self { port, state: Some(state), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sets how the link is from now on.
    pub fn set(&self, link: Link) {
        self.change(|state| {
            state.link = link;
            state.round += u64::from(link == Link::Refused);
        });
    }

    /// Closes all connections that there are.
    pub fn cut(&self) {
        self.change(|state| state.round += 1);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = &self.state {
            state.send_modify(change);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the proxy's thread has panicked");
        }
    }
}

async fn serve(listener: TcpListener, target: String, mut state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a connection of the proxy: {error}");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(carry(client, target.clone(), state.clone()));
                }
                Err(error) => {
                    tracing::warn!("the proxy accepts nothing: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Carries one connection until an end closes it, or it is cut. Then both ends find it closed.
async fn carry(client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let State { link, round } = *state.borrow();
    if link == Link::Refused {
        return;
    }
    let mut watched = state.clone();
    let connection = async move {
        open(&mut watched).await;
        let server = TcpStream::connect(&target).await?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::try_join!(
            direction(from_client, to_server, watched.clone()),
            direction(from_server, to_client, watched)
        )?;
        io::Result::Ok(())
    };
    tokio::select! {
        // An end has gone, or the target is not there: what the other one sees says it.
        _ended = connection => {}
        _cut = state.wait_for(|state| state.round != round) => {}
    }
}

/// Waits while the link is held.
async fn open(state: &mut watch::Receiver<State>) {
    // An error says that the proxy ends, and with it this connection.
    let _ = state.wait_for(|state| state.link != Link::Held).await;
}

/// Reads as fast as it can, and writes when each chunk is due.
async fn direction(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let reading = async {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = from.read(&mut chunk).await?;
            chunk.truncate(read);
            // An empty one is the end.
            if sender.send((Instant::now(), chunk)).await.is_err() || read == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let writing = async {
        while let Some((arrived, chunk)) = chunks.recv().await {
            open(&mut state).await;
            let link = state.borrow().link;
            if let Link::Slow(delay) = link {
                sleep_until(arrived + delay).await;
                open(&mut state).await;
            }
            if chunk.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}
