//! From a connection to a stream that requests are read from: what the kernel is to watch, who the client is, and a
//! place among those that carry nobody yet. What is said on the stream is not known here.

pub mod header;
pub mod heads;
pub mod pending;
pub mod stream;
pub mod tls;

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::TcpStream;
use rustix::net::sockopt;

use crate::address::Trusted;
use crate::metrics::Metrics;
use crate::session::SessionLimits;
use heads::Heads;
use pending::{Pending, Place};
use stream::{Stream, Tcp};
use tls::Tls;

/// How long a proxy may take to say whom it speaks for.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// Who is at the door.
#[derive(Clone, Default)]
pub struct Caller {
    /// The connection's place among those that carry nobody; none where nothing is accepted.
    pub place: Option<Rc<Place>>,
    /// What counts as the client's address; none where only that of a trusted proxy is known.
    pub address: Option<IpAddr>,
}

/// One worker thread's door.
pub struct Door {
    /// Bounds of sessions, which the kernel's follow.
    pub session: SessionLimits,
    /// Connections that carry nobody.
    pub pending: Rc<Pending>,
    /// Proxies that begin each connection with a PROXY protocol header; nobody's is read where there are none.
    pub header_from: Trusted,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// TLS, where the edge itself ends it.
    pub tls: Option<Tls>,
}

impl Door {
    /// Takes a connection in; with it comes the address that it is from. It is none where a proxy that is to name its
    /// client does not: what the request says is its client's word then, not the proxy's.
    ///
    /// # Errors
    /// When it ends before it is a stream.
    pub async fn accept(&self, tcp: TcpStream) -> Result<(Heads<Stream>, Option<SocketAddr>)> {
        watch_peer(&tcp, &self.session);
        let mut address = tcp.peer_addr().ok();
        let mut tcp = Tcp::new(tcp, self.pending.admit());
        if address.is_some_and(|address| self.header_from.contains(address.ip())) {
            // Boxed: it is over when the connection's long part begins.
            address = Box::pin(self.read_header(&mut tcp)).await?;
        }
        let stream = match &self.tls {
            Some(tls) => tls.accept(tcp).await?,
            None => Stream::Plain(tcp),
        };
        Ok((Heads::new(stream), address))
    }

    /// Whom a proxy speaks for.
    async fn read_header(&self, tcp: &mut Tcp) -> Result<Option<SocketAddr>> {
        let read = tokio::time::timeout(HEADER_TIME, header::read(tcp)).await;
        let (result, label) = match read {
            Ok(Ok(client)) => (Ok(client), if client.is_some() { "client" } else { "local" }),
            Ok(Err(fault)) => {
                let label = fault.label();
                (Err(Error::new(ErrorKind::InvalidData, fault)), label)
            }
            Err(_) => (Err(ErrorKind::TimedOut.into()), "timeout"),
        };
        if let Err(error) = &result {
            tracing::debug!(%error, "a connection of a trusted proxy is closed");
        }
        self.metrics.proxy_header(label);
        result
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
