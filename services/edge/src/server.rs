//! The public port: HTTP by actix-web, upgrades on the raw stream, one worker a thread.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::{BodySize, MessageBody};
use actix_http::h1::{Codec, Message};
use actix_http::header::{self, HeaderMap, HeaderValue};
use actix_http::{HttpService, Request, Response, StatusCode, ws};
use actix_service::{fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, HttpResponse, web};
use futures_util::SinkExt;
use rowcast_protocol::{BEARER_SUBPROTOCOL, SUBPROTOCOL};
use tokio::sync::mpsc;

use crate::auth::Verifier;
use crate::hub::CHANNEL;
use crate::metrics::Metrics;
use crate::session::SessionLimits;
use crate::socket::Socket;
use crate::worker::{ToHub, Worker};

/// How often a worker looks after its sessions: deadlines, pings, expiries, drain.
const TICK: Duration = Duration::from_millis(100);

/// What the public port needs.
#[derive(Clone)]
pub struct ServerConfig {
    /// Threads that serve sockets.
    pub workers: usize,
    /// A path before `/ws`.
    pub base_path: String,
    /// Bounds of sessions.
    pub session: SessionLimits,
    /// The largest message from a client, in bytes.
    pub max_message: usize,
    /// Sockets at most; 0 sets no limit.
    pub max_connections: usize,
}

/// What all workers share.
#[derive(Clone)]
pub struct Shared {
    /// Configuration.
    pub config: Arc<ServerConfig>,
    /// Judges tokens.
    pub verifier: Arc<Verifier>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The way to the hub.
    pub to_hub: mpsc::Sender<ToHub>,
    /// Open sockets of this edge.
    pub open: Arc<AtomicUsize>,
}

/// One worker thread's part: its sessions and what all share.
#[derive(Clone)]
struct Local {
    shared: Shared,
    worker: Rc<RefCell<Worker>>,
}

/// Starts to serve the bound socket. The returned server is a future to be driven; its handle stops it.
pub fn serve(listener: TcpListener, shared: Shared) -> std::io::Result<actix_server::Server> {
    let next_worker = Arc::new(AtomicUsize::new(0));
    let workers = shared.config.workers;
    let server = actix_server::Server::build()
        .workers(workers)
        // The edge's own limit, which is answered, comes first.
        .max_concurrent_connections(1_000_000)
        .backlog(4_096)
        .disable_signals()
        .shutdown_timeout(1)
        .listen("edge", listener, move || {
            let key = next_worker.fetch_add(1, Ordering::Relaxed);
            let local = start_worker(key, shared.clone());
            let upgrades = local.clone();
            let base_path = shared.config.base_path.clone();
            let app = App::new().default_service(web::to(move || not_found(base_path.clone())));
            HttpService::build()
                .client_request_timeout(Duration::from_secs(5))
                .client_disconnect_timeout(Duration::from_secs(1))
                .tcp_nodelay(true)
                .upgrade(fn_service(move |(request, framed)| {
                    serve_upgrade(upgrades.clone(), request, framed)
                }))
                .h1(map_config(app, |_| AppConfig::default()))
                .tcp()
        })?;
    Ok(server.run())
}

/// Makes this thread's worker, and the task on it that listens to the hub and to the clock.
fn start_worker(key: usize, shared: Shared) -> Local {
    let (sender, mut inbox) = mpsc::channel(CHANNEL);
    let worker = Worker::new(
        key,
        Arc::clone(&shared.verifier),
        shared.config.session,
        Arc::clone(&shared.metrics),
        shared.to_hub.clone(),
    );
    let worker = Rc::new(RefCell::new(worker));
    worker.borrow_mut().register(sender);
    let own = Rc::clone(&worker);
    // It ends with its thread, or when the hub is gone.
    actix_rt::spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => own.borrow_mut().receive(message),
                    None => return,
                },
                _ = ticks.tick() => own.borrow_mut().tick(),
            }
        }
    });
    Local { shared, worker }
}

async fn not_found(base_path: String) -> HttpResponse {
    HttpResponse::NotFound().json(serde_json::json!({
        "error": format!("nothing is here; WebSockets are at {base_path}/ws, with subprotocol {SUBPROTOCOL}")
    }))
}

/// Any request that asks for an upgrade comes here, whatever its path.
async fn serve_upgrade<T>(
    local: Local,
    request: Request,
    framed: Framed<T, Codec>,
) -> Result<(), actix_web::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = upgrade(local, request, framed).await {
        tracing::debug!(%error, "a handshake broke off");
    }
    Ok(())
}

async fn upgrade<T>(
    local: Local,
    request: Request,
    mut framed: Framed<T, Codec>,
) -> Result<(), std::io::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let config = Arc::clone(&local.shared.config);
    let mut answer = answer(&local.shared, &request);
    let status = answer.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    local.shared.metrics.handshake(status.as_u16());
    let _open = (status == StatusCode::SWITCHING_PROTOCOLS).then(|| Open::new(&local.shared));
    respond(&mut framed, answer).await?;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return framed.close().await;
    }
    let connection = local.worker.borrow_mut().connect(token(&request.head().headers).as_deref());
    drop(request);
    let parts = framed.into_parts();
    let socket =
        Socket::new(parts.io, &parts.read_buf, config.max_message, connection, Rc::clone(&local.worker));
    let code = socket.run().await;
    local.shared.metrics.closed(code);
    Ok(())
}

/// Counts an open socket for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(shared: &Shared) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&shared.open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(shared: &Shared, request: &Request) -> Response<String> {
    let config = &shared.config;
    let right_path = request.path().strip_prefix(config.base_path.as_str()) == Some("/ws");
    if !right_path {
        let text = format!("no WebSocket here; they are at {}/ws\n", config.base_path);
        return Response::with_body(StatusCode::NOT_FOUND, text);
    }
    if let Err(error) = ws::verify_handshake(request.head()) {
        let mut response = Response::with_body(StatusCode::BAD_REQUEST, format!("{error}\n"));
        if matches!(error, ws::HandshakeError::UnsupportedVersion) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        return response;
    }
    if config.max_connections > 0 && shared.open.load(Ordering::Relaxed) >= config.max_connections {
        let text = "this edge has as many sockets as it may\n".to_owned();
        let mut response = Response::with_body(StatusCode::SERVICE_UNAVAILABLE, text);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        return response;
    }
    let mut response = ws::handshake_response(request.head());
    if subprotocols(&request.head().headers).any(|name| name == SUBPROTOCOL) {
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
    let value = headers.get(header::AUTHORIZATION)?;
    let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}
