//! One WebSocket connection: opening it, reading it, noticing that it is gone. When to open the next is not here.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rowcast_protocol::SUBPROTOCOL;
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        self, ClientRequestBuilder, Message,
        http::{Response, Uri, header::RETRY_AFTER},
        protocol::WebSocketConfig,
    },
};

use super::frames::Frame;

/// Time for the TCP connection and the handshake, and then for the welcome.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Events have at most 256 KiB by default; what is far above that is not from an edge.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Longest wait that a server's Retry-After can impose.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// An address that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address {url:?} cannot be used: {reason}; it looks like http://host:port or ws://host:port/ws")]
pub struct InvalidUrl {
    url: String,
    reason: String,
}

#[derive(Debug)]
pub(super) enum OpenError {
    Url(InvalidUrl),
    Refused { code: u16, reason: String },
    Failed { reason: String, retry_after: Option<Duration> },
}

#[derive(Debug)]
pub(super) enum Incoming {
    Frame(Frame),
    Lost { reason: String, code: Option<u16> },
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// When silence means that nobody is there.
    deadline: Instant,
    patience: Duration,
}

/// The WebSocket's address for what a person gives: `http://host:port` means its `/ws`.
///
/// # Errors
/// When it is not an address, or needs TLS, which this build lacks.
pub fn socket_url(url: &str) -> Result<Uri, InvalidUrl> {
    let invalid = |reason: &str| InvalidUrl { url: url.to_owned(), reason: reason.to_owned() };
    let uri: Uri = url.parse().map_err(|error| invalid(&format!("{error}")))?;
    let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
    let path = uri.path().trim_end_matches('/');
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = match uri.scheme_str() {
        Some("http") if !path.ends_with("/ws") => format!("{path}/ws"),
        Some("ws") if path.is_empty() => "/ws".to_owned(),
        Some("http" | "ws") => path.to_owned(),
        Some("https" | "wss") => return Err(invalid("this build has no TLS")),
        _ => return Err(invalid("it begins with neither http:// nor ws://")),
    };
    format!("ws://{authority}{path}{query}").parse().map_err(|error| invalid(&format!("{error}")))
}

impl Connection {
    /// Connects and sends the first frame.
    pub async fn open(url: &str, hello: String) -> Result<Self, OpenError> {
        let uri = socket_url(url).map_err(OpenError::Url)?;
        let place = uri.authority().map(ToString::to_string).unwrap_or_default();
        let failed = |reason: String| OpenError::Failed { reason, retry_after: None };
        let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let connecting = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
        let (mut socket, _) = match tokio::time::timeout(OPEN_TIMEOUT, connecting).await {
            Err(_) => return Err(failed(format!("{place} did not answer within {OPEN_TIMEOUT:?}"))),
            Ok(Err(tungstenite::Error::Http(response))) => return Err(refused(&place, &response)),
            Ok(Err(tungstenite::Error::Io(error))) => {
                return Err(failed(format!("cannot connect to {place}: {error}")));
            }
            Ok(Err(error)) => return Err(failed(format!("{place} does not answer as a WebSocket: {error}"))),
            Ok(Ok(connected)) => connected,
        };
        socket
            .send(Message::text(hello))
            .await
            .map_err(|error| failed(format!("{place} closed the connection: {error}")))?;
        Ok(Self { socket, deadline: Instant::now() + OPEN_TIMEOUT, patience: OPEN_TIMEOUT })
    }

    /// The server lets itself be heard within so many seconds; twice that and a little more is too long.
    pub fn expect_heartbeat(&mut self, seconds: u64) {
        self.patience = Duration::from_secs(seconds.clamp(1, 3600) * 2 + 5);
        self.deadline = Instant::now() + self.patience;
    }

    /// The next frame, or how the connection ended. May be dropped and called again.
    pub async fn next(&mut self) -> Incoming {
        loop {
            let message = match tokio::time::timeout_at(self.deadline, self.socket.next()).await {
                Err(_) => return lost(format!("no sign of life for {:?}", self.patience)),
                Ok(None) => return lost("the connection was closed".to_owned()),
                Ok(Some(Err(error))) => return lost(format!("the connection broke: {error}")),
                Ok(Some(Ok(message))) => message,
            };
            self.deadline = Instant::now() + self.patience;
            match message {
                Message::Text(text) => match Frame::parse(&text) {
                    Ok(frame) => return Incoming::Frame(frame),
                    Err(error) => {
                        return lost(format!("the server sent what is not a rowcast.v1 frame: {error}"));
                    }
                },
                Message::Close(Some(close)) => {
                    let code = u16::from(close.code);
                    return Incoming::Lost { reason: meaning(code, &close.reason), code: Some(code) };
                }
                Message::Close(None) => return lost("the server closed the connection".to_owned()),
                // Pings are answered below us, at the next read.
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Sends a text frame. That the connection is gone shows at the next read.
    pub async fn send(&mut self, text: String) {
        if let Err(error) = self.socket.send(Message::text(text)).await {
            tracing::debug!(%error, "a frame could not be sent");
        }
    }

    /// Says goodbye; the server's answer is awaited for a second.
    pub async fn close(mut self) {
        let goodbye = async {
            if self.socket.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        if tokio::time::timeout(Duration::from_secs(1), goodbye).await.is_err() {
            tracing::debug!("the server did not answer our goodbye");
        }
    }
}

fn lost(reason: String) -> Incoming {
    Incoming::Lost { reason, code: None }
}

/// A close code in words.
fn meaning(code: u16, reason: &str) -> String {
    let meaning = match code {
        1000 => "the server closed the connection",
        1009 => "a message was too large",
        1012 => "the edge restarts",
        4008 => "this client reads too slowly",
        4400 => "the server could not read a message",
        4401 => "the token is missing, wrong or expired",
        4403 => "the token names no merchant that may be heard here",
        4408 => "the sign-in took too long",
        4410 => "sockets are switched off here in favour of polling",
        4429 => "a limit of the edge is reached",
        _ => "the server closed the connection",
    };
    match reason {
        "" => format!("{meaning} ({code})"),
        reason => format!("{meaning} ({code}: {reason})"),
    }
}

/// An HTTP answer instead of the upgrade: some mean "later", others that it will never work.
fn refused(place: &str, response: &Response<Option<Vec<u8>>>) -> OpenError {
    let status = response.status();
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        return OpenError::Failed {
            reason: format!("{place} answered {status}"),
            retry_after: seconds.map(Duration::from_secs).map(|after| after.min(MAX_RETRY_AFTER)),
        };
    }
    let advice = match status.as_u16() {
        404 => "; is the path right? An edge serves /ws",
        403 => "; is this origin or address allowed?",
        _ => "; is this an edge?",
    };
    OpenError::Refused { code: status.as_u16(), reason: format!("{place} answered {status}{advice}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_server_leads_to_its_socket() {
        for (given, socket) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            ("http://127.0.0.1:8080/", "ws://127.0.0.1:8080/ws"),
            ("http://host/live", "ws://host/live/ws"),
            ("http://host/live/ws", "ws://host/live/ws"),
            ("ws://host:1", "ws://host:1/ws"),
            ("ws://host:1/socket?x=1", "ws://host:1/socket?x=1"),
        ] {
            assert_eq!(socket_url(given).unwrap().to_string(), socket);
        }
        for wrong in ["", "host", "host:80", "ftp://host", "wss://host", "http://"] {
            let message = socket_url(wrong).unwrap_err().to_string();
            assert!(message.contains("http://host:port"), "{message}");
        }
    }
}
