//! Whether a request is a handshake of Engine.IO that can be served, and what it is told in Engine.IO's own numbers if not.

use actix_http::Method;
use rowcast_protocol::socketio::ENGINE_VERSION;

/// Where clients of Socket.IO come, behind the base path.
pub const PATH: &str = "/socket.io";

/// Why a handshake is refused. The numbers and the messages are Engine.IO's: its clients know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineFault {
    /// A transport that is not here.
    Transport,
    /// A session that is to be gone on with: there is none outside of a WebSocket.
    Session,
    /// Not GET.
    Method,
    /// A parameter that comes twice, or a request for a WebSocket that is none.
    Request,
    /// Another version of the protocol.
    Version,
}

impl EngineFault {
    /// Engine.IO's number for it.
    pub fn code(self) -> u8 {
        match self {
            Self::Transport => 0,
            Self::Session => 1,
            Self::Method => 2,
            Self::Request => 3,
            Self::Version => 5,
        }
    }

    /// Engine.IO's words for it.
    pub fn message(self) -> &'static str {
        match self {
            Self::Transport => "Transport unknown",
            Self::Session => "Session ID unknown",
            Self::Method => "Bad handshake method",
            Self::Request => "Bad request",
            Self::Version => "Unsupported protocol version",
        }
    }

    /// What to do.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Transport => {
                "only WebSockets are served here: set transports: ['websocket'] in the client; what polls over HTTP reads /v1/events"
            }
            Self::Session => "no session outlives its WebSocket here: connect without sid",
            Self::Method => "a handshake is a GET that asks for a WebSocket",
            Self::Request => {
                "a handshake is one request for a WebSocket with each parameter once; a proxy must pass on Upgrade and Connection"
            }
            Self::Version => "version 4 is served, which clients speak from socket.io-client 3 on: EIO=4",
        }
    }
}

/// Whether a path is the one of Socket.IO.
pub fn is_here(path: &str, base: &str) -> bool {
    let below = path.strip_prefix(base).and_then(|rest| rest.strip_prefix(PATH));
    matches!(below, Some("" | "/"))
}

/// Judges a request by its method and its query, in the order in which Engine.IO does.
///
/// # Errors
/// Why it is refused.
pub fn judge(method: &Method, query: &str) -> Result<(), EngineFault> {
    let (mut transport, mut version, mut session, mut token) = (None, None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "transport" => &mut transport,
            "EIO" => &mut version,
            "sid" => &mut session,
            "token" => &mut token,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(EngineFault::Request);
        }
    }
    if transport.as_deref() != Some("websocket") {
        return Err(EngineFault::Transport);
    }
    if session.is_some() {
        return Err(EngineFault::Session);
    }
    if *method != Method::GET {
        return Err(EngineFault::Method);
    }
    if version.as_deref() != Some(ENGINE_VERSION) {
        return Err(EngineFault::Version);
    }
    Ok(())
}

/// The token in a query, where clients of Socket.IO put it.
pub fn token(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "token").map(|(_, token)| token.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_websocket_of_the_fourth_version_is_served() {
        let get = |query: &str| judge(&Method::GET, query);
        assert_eq!(get("EIO=4&transport=websocket&t=x&token=y&t=z"), Ok(()));
        assert_eq!(get("EIO=4&transport=polling"), Err(EngineFault::Transport));
        assert_eq!(get("EIO=4"), Err(EngineFault::Transport));
        assert_eq!(get("EIO=4&transport=websocket&sid=x"), Err(EngineFault::Session));
        assert_eq!(get("EIO=3&transport=websocket"), Err(EngineFault::Version));
        assert_eq!(get("transport=websocket"), Err(EngineFault::Version));
        for twice in ["EIO=4&transport=websocket&EIO=4", "EIO=4&transport=websocket&token=x&token=y"] {
            assert_eq!(get(twice), Err(EngineFault::Request));
        }
        assert_eq!(token("EIO=4&token=a%2Eb"), Some("a.b".to_owned()));
        assert_eq!(judge(&Method::POST, "EIO=4&transport=websocket"), Err(EngineFault::Method));
    }

    #[test]
    fn it_is_at_its_path_with_and_without_the_last_slash() {
        for (path, base, expected) in [
            ("/socket.io/", "", true),
            ("/socket.io", "", true),
            ("/rt/socket.io/", "/rt", true),
            ("/socket.io/", "/rt", false),
            ("/socket.io/x", "", false),
            ("/socket.iox", "", false),
        ] {
            assert_eq!(is_here(path, base), expected, "{path} behind {base:?}");
        }
    }
}
