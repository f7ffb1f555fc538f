//! What a request is refused with: a status, a code of few values, and what to do, as JSON. The same for requests of the
//! `App` and for handshakes, which do not come through it.

use std::borrow::Cow;

use actix_http::StatusCode;
use actix_http::header::{self, HeaderName, HeaderValue};
use actix_web::HttpResponse;
use rand::RngExt;
use rowcast_protocol::SUBPROTOCOL;
use serde_json::{Value, json};

use crate::auth::TokenFault;
use crate::limits::Limit;
use crate::socketio::handshake::EngineFault;

/// Why a request gets no answer of the kind that it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It brings no token.
    NoToken,
    /// Its token does not let anybody in.
    Token(TokenFault),
    /// Its token does not name the room that it asks for.
    NotAllowed,
    /// It comes from a page of an origin that is not on the list.
    Origin,
    /// A parameter or a header cannot be understood.
    Malformed(Cow<'static, str>),
    /// A limit is reached.
    Limit(Limit),
    /// This edge is going away.
    Draining,
    /// There is nothing; clients of this base path are told where something is.
    NotFound(String),
    /// Nothing but GET is served.
    Method,
    /// A WebSocket's path, and no handshake.
    NoUpgrade,
    /// The path of Socket.IO, and not a handshake that can be served.
    Engine(EngineFault),
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Token(TokenFault::NoRoom) | Self::NotAllowed | Self::Origin => StatusCode::FORBIDDEN,
            Self::NoToken | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::Malformed(_) | Self::Engine(_) => StatusCode::BAD_REQUEST,
            Self::Limit(limit) if !limit.is_the_edges() => StatusCode::TOO_MANY_REQUESTS,
            Self::Limit(_) | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade => StatusCode::UPGRADE_REQUIRED,
        }
    }

    /// What programs look at.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(TokenFault::NoRoom) | Self::NotAllowed => "not_allowed",
            Self::NoToken | Self::Token(_) => "token",
            Self::Origin => "origin",
            Self::Malformed(_) => "malformed",
            Self::Limit(_) => "limit",
            Self::Draining => "draining",
            Self::NotFound(_) => "not_found",
            Self::Method => "method",
            Self::NoUpgrade => "upgrade_required",
            Self::Engine(_) => "engine_io",
        }
    }

    fn message(&self) -> Cow<'static, str> {
        let text = match self {
            Self::NoToken => "send the token as Authorization: Bearer <token>",
            Self::Token(fault) => fault.message(),
            Self::NotAllowed => "the token does not name this room",
            Self::Origin => "pages of this origin may not come here; add it to edge.allowed_origins",
            Self::Malformed(what) => return what.clone(),
            Self::Limit(limit) => {
                let reason = limit.reason();
                reason.split_once(": ").map_or(reason, |(_, text)| text)
            }
            Self::Draining => "this edge is going away; try again, another edge serves",
            Self::Method => "use GET",
            Self::NoUpgrade => {
                "WebSockets are here, and this request asks for none; a proxy must pass on Upgrade and Connection"
            }
            Self::Engine(fault) => fault.message(),
            Self::NotFound(base) => {
                let text = format!(
                    "nothing is here; WebSockets are at {base}/ws, with subprotocol {SUBPROTOCOL}, events by HTTP at {base}/v1/events, and Socket.IO at {base}/socket.io/ where it is enabled"
                );
                return text.into();
            }
        };
        text.into()
    }

    /// Headers that belong to it.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let own = match self {
            Self::Token(TokenFault::NoRoom) => None,
            Self::NoToken | Self::Token(_) => Some((header::WWW_AUTHENTICATE, "Bearer")),
            Self::Draining => Some((header::RETRY_AFTER, "1")),
            Self::Method => Some((header::ALLOW, "GET")),
            Self::NoUpgrade => Some((header::UPGRADE, "websocket")),
            _ => None,
        };
        headers.extend(own.map(|(name, value)| (name, HeaderValue::from_static(value))));
        if let Self::Limit(_) = self {
            // Not all in the same moment again.
            let seconds = rand::rng().random_range(1..=5_u16);
            headers.push((header::RETRY_AFTER, seconds.into()));
        }
        headers
    }

    /// The body.
    pub fn body(&self) -> String {
        let mut body = json!({ "error": self.code(), "message": self.message() });
        if let Self::Engine(fault) = self {
            body = json!({ "code": fault.code(), "message": fault.message(), "hint": fault.hint() });
        }
        if let Self::NotFound(base) = self {
            body["base_path"] = Value::from(base.as_str());
            body["websocket"] = format!("{base}/ws").into();
            body["events"] = format!("{base}/v1/events").into();
        }
        if let Self::Limit(limit) = self {
            body["limit"] = limit.label().into();
        }
        body.to_string()
    }

    /// The answer of the `App`.
    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        for header in self.headers() {
            response.insert_header(header);
        }
        if *self == Self::Draining {
            response.force_close();
        }
        response.body(self.body())
    }
}
