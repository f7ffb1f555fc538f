//! Handshakes: a request that asks for a WebSocket is answered, and what is spoken over it is begun. Such requests do not come
//! through the `App`, so their paths and refusals are judged here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::{BodySize, MessageBody};
use actix_http::h1::{Codec, Message};
use actix_http::header::{self, HeaderMap, HeaderValue};
use actix_http::{Request, Response, StatusCode, ws};
use futures_util::SinkExt;
use rowcast_protocol::{BEARER_SUBPROTOCOL, SUBPROTOCOL};

use crate::accept::Caller;
use crate::accept::heads::Heads;
use crate::accept::stream::Stream;
use crate::http;
use crate::http::error::Refusal;
use crate::http::origins::Judgement;
use crate::limits::Open;
use crate::server::{Local, ServerConfig, Shared};
use crate::socket::native::Native;
use crate::socket::{Socket, Speech};
use crate::socketio::handshake::{self, EngineFault};
use crate::socketio::{Talk, Visitor};
use crate::worker::Transport;

/// Serves a request that asks for an upgrade, whatever its path.
///
/// # Errors
/// None: a handshake that breaks off is nobody's.
pub async fn serve(
    local: Local,
    request: Request,
    framed: Framed<Heads<Stream>, Codec>,
) -> Result<(), actix_web::Error> {
    if let Err(error) = upgrade(local, request, framed).await {
        tracing::debug!(%error, "a handshake broke off");
    }
    Ok(())
}

async fn upgrade(
    local: Local,
    request: Request,
    mut framed: Framed<Heads<Stream>, Codec>,
) -> Result<(), std::io::Error> {
    let config = Arc::clone(&local.shared.config);
    let caller = local.shared.caller(request.peer_addr(), &request.head().headers, request.conn_data());
    let (mut answer, entered) = answer(&local.shared, &request, &caller);
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    local.shared.metrics.handshake(status.as_u16());
    let entered = entered.filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
    respond(&mut framed, answer).await?;
    let Some((way, _open)) = entered else { return framed.close().await };
    let worker = Rc::clone(&local.worker);
    let (stream, received) = framed.into_parts().io.into_stream();
    match way {
        Way::Native => {
            let token = token(&request.head().headers);
            drop(request);
            let connection = worker.borrow_mut().connect(token.as_deref(), caller);
            carry(&local.shared, stream, &received, way, Native::new(connection, worker)).await;
        }
        Way::SocketIo => {
            let token = http::bearer(&request.head().headers).map(str::to_owned).or_else(|| {
                let query = request.uri().query().filter(|_| config.token_in_url);
                query.and_then(handshake::token)
            });
            drop(request);
            let (settings, limits) = (Arc::clone(&config.socketio), Arc::clone(&local.shared.limits));
            let talk = Talk::new(settings, worker, limits, Visitor { caller, token });
            // Boxed, so that native sockets are not as large as these.
            Box::pin(carry(&local.shared, stream, &received, way, talk)).await;
        }
    }
    Ok(())
}

/// What is spoken over a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Native,
    SocketIo,
}

impl Way {
    /// By a request's path; none where nothing is spoken.
    fn of(config: &ServerConfig, path: &str) -> Option<Self> {
        if path.strip_prefix(config.base_path.as_str()) == Some("/ws") {
            return Some(Self::Native);
        }
        let socketio = config.socketio.enabled && handshake::is_here(path, &config.base_path);
        socketio.then_some(Self::SocketIo)
    }

    fn transport(self) -> Transport {
        match self {
            Self::Native => Transport::WebSocket,
            Self::SocketIo => Transport::SocketIo,
        }
    }
}

/// Carries a socket to its end.
async fn carry<S: Speech + Unpin>(shared: &Shared, stream: Stream, received: &[u8], way: Way, speech: S) {
    let limits = Arc::clone(&shared.limits);
    let code = Socket::new(stream, received, shared.config.max_message, speech, limits).run().await;
    shared.metrics.closed(way.transport(), code);
}

/// The answer to a handshake, and where it is a good one, what is to be spoken and the client that is counted.
fn answer(shared: &Shared, request: &Request, caller: &Caller) -> (Response<String>, Option<(Way, Open)>) {
    let judgement = shared.config.origins.judge(&request.head().headers);
    let refusal = match judgement {
        Judgement::Refused => Refusal::Origin,
        _ => match enter(shared, request, caller) {
            Ok((way, open)) => return (upgraded(request, way), Some((way, open))),
            Err(refusal) => refusal,
        },
    };
    let mut response = Response::with_body(refusal.status(), refusal.body());
    let headers = refusal.headers().into_iter().chain(shared.config.origins.headers(&judgement));
    headers.for_each(|(name, value)| response.headers_mut().append(name, value));
    if matches!(refusal, Refusal::Malformed(_)) {
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    (response, None)
}

fn enter(shared: &Shared, request: &Request, caller: &Caller) -> Result<(Way, Open), Refusal> {
    let config = &shared.config;
    let Some(way) = Way::of(config, request.path()) else {
        return Err(Refusal::NotFound(config.base_path.clone()));
    };
    let engine = way == Way::SocketIo;
    if engine {
        let query = request.uri().query().unwrap_or_default();
        handshake::judge(request.method(), query).map_err(Refusal::Engine)?;
    }
    if let Err(error) = ws::verify_handshake(request.head()) {
        let malformed = Refusal::Malformed(error.to_string().into());
        return Err(if engine { Refusal::Engine(EngineFault::Request) } else { malformed });
    }
    // What follows would be a body to a proxy, and frames to this edge.
    if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| request.head().headers.contains_key(name))
    {
        return Err(Refusal::Malformed("a request for an upgrade has no body".into()));
    }
    shared.limits.knock(caller.address, Instant::now()).map_err(Refusal::Limit)?;
    shared.limits.enter(caller.address).map(|open| (way, open)).map_err(Refusal::Limit)
}

fn upgraded(request: &Request, way: Way) -> Response<String> {
    let mut response = ws::handshake_response(request.head());
    if way == Way::Native && subprotocols(&request.head().headers).any(|name| name == SUBPROTOCOL) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
    }
    response
        .message_body(String::new())
        .unwrap_or_else(|error| Response::from(error).map_body(|_, _| String::new()))
}

async fn respond<T>(framed: &mut Framed<T, Codec>, response: Response<String>) -> std::io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (head, body) = response.into_parts();
    let response = head.map_body(|_, ()| ());
    let size = if upgraded { BodySize::None } else { body.size() };
    framed.feed(Message::Item((response, size))).await?;
    if !upgraded {
        framed.feed(Message::Chunk(Some(body.into()))).await?;
        framed.feed(Message::Chunk(None)).await?;
    }
    framed.flush().await
}

/// The token, where the handshake brings one.
fn token(headers: &HeaderMap) -> Option<String> {
    if let Some(token) = subprotocols(headers).find_map(|name| name.strip_prefix(BEARER_SUBPROTOCOL)) {
        return Some(token.to_owned());
    }
    http::bearer(headers).map(str::to_owned)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}
