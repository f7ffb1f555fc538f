//! An edge's address, and the opening of a socket to it. Loopback and test networks: no TLS.

use anyhow::{Context, Result, bail};
use rowcast_protocol::SUBPROTOCOL;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// An open socket.
pub type Stream = WebSocketStream<TcpStream>;

/// Where sockets are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
    url: String,
    subprotocol: Option<&'static str>,
}

impl Endpoint {
    /// From `http://host:port[/base]` or `ws://…`; `path` follows the base.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn new(url: &str, path: &str) -> Result<Self> {
        let rest = match url.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(("https" | "wss", _)) => bail!("{url}: TLS is not spoken here; name the edge itself"),
            _ => bail!("{url} is not an address of the form http://host:port"),
        };
        let rest = rest.trim_end_matches('/');
        let authority = rest.split('/').next().unwrap_or_default();
        let authority =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority, url: format!("ws://{rest}{path}"), subprotocol: Some(SUBPROTOCOL) })
    }

    /// The same, where no subprotocol is spoken.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { subprotocol: None, ..self }
    }

    /// Opens a socket.
    ///
    /// # Errors
    /// When nobody answers, or with something else than a WebSocket.
    pub async fn open(&self) -> Result<Stream> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("connecting to {}", self.authority))?;
        stream.set_nodelay(true)?;
        let mut request = self.url.as_str().into_client_request()?;
        if let Some(name) = self.subprotocol {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(name));
        }
        // The defaults are 128 KiB a socket for each direction.
        let mut config = WebSocketConfig::default();
        (config.read_buffer_size, config.write_buffer_size) = (4 * 1024, 0);
        let (socket, _) = client_async_with_config(request, stream, Some(config))
            .await
            .with_context(|| format!("shaking hands with {}", self.url))?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let endpoint = Endpoint::new("http://127.0.0.1:8080/", "/ws").unwrap();
        assert_eq!((&*endpoint.authority, &*endpoint.url), ("127.0.0.1:8080", "ws://127.0.0.1:8080/ws"));
        let endpoint = Endpoint::new("ws://edge/base", "/ws").unwrap();
        assert_eq!((&*endpoint.authority, &*endpoint.url), ("edge:80", "ws://edge/base/ws"));
        assert!(Endpoint::new("https://edge", "/ws").is_err() && Endpoint::new("edge:1", "/ws").is_err());
    }
}
