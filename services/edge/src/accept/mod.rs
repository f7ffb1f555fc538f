//! From a connection to a stream that requests are read from: what the kernel is to watch, who the client is, and a
//! place among those that carry nobody yet. What is said on the stream is not known here.

pub mod heads;
pub mod pending;
pub mod stream;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_rt::net::TcpStream;
use rustix::net::sockopt;

use crate::session::SessionLimits;
use heads::Heads;
use pending::Pending;
use stream::{Stream, Tcp};

/// One worker thread's door.
pub struct Door {
    /// Bounds of sessions, which the kernel's follow.
    pub session: SessionLimits,
    /// Connections that carry nobody.
    pub pending: Rc<Pending>,
}

impl Door {
    /// Takes a connection in; with it comes the address that it is from.
    ///
    /// # Errors
    /// When it ends before it is a stream.
    pub async fn accept(&self, tcp: TcpStream) -> std::io::Result<(Heads<Stream>, Option<SocketAddr>)> {
        watch_peer(&tcp, &self.session);
        let address = tcp.peer_addr().ok();
        let tcp = Tcp::new(tcp, self.pending.admit());
        Ok((Heads::new(Stream::Plain(tcp)), address))
    }
}

/// Has small writes leave at once, and the kernel find peers that are gone without a word: their connections fail, and so
/// do the sessions on them. One that reads nothing is cut too, somewhat later than a session that can still say why
/// would close.
fn watch_peer(socket: &TcpStream, limits: &SessionLimits) {
    let unacknowledged = limits.stalled + Duration::from_secs(5);
    let milliseconds = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    let set = || {
        sockopt::set_tcp_nodelay(socket, true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, limits.heartbeat)?;
        sockopt::set_tcp_keepintvl(socket, limits.heartbeat)?;
        sockopt::set_tcp_user_timeout(socket, milliseconds)
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "a connection is not watched by the kernel");
    }
}
