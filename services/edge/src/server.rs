//! The public port: HTTP by actix-web, upgrades on the raw stream, one worker a thread.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::{BodySize, MessageBody};
use actix_http::error::DispatchError;
use actix_http::h1::{Codec, Message};
use actix_http::header::{self, HeaderMap, HeaderValue};
use actix_http::{Extensions, HttpService, Request, Response, StatusCode, ws};
use actix_rt::net::TcpStream;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use futures_util::SinkExt;
use rowcast_protocol::{BEARER_SUBPROTOCOL, SUBPROTOCOL};
use tokio::sync::mpsc;

use crate::accept::heads::Heads;
use crate::accept::pending::{Pending, PendingCount, Place};
use crate::accept::stream::Stream;
use crate::accept::tls::Tls;
use crate::accept::{Caller, Door};
use crate::address::{Addresses, Trusted};
use crate::auth::Verifier;
use crate::http;
use crate::http::error::Refusal;
use crate::http::origins::{Judgement, Origins};
use crate::hub::CHANNEL;
use crate::limits::{Limits, Open};
use crate::metrics::Metrics;
use crate::session::SessionLimits;
use crate::socket::native::Native;
use crate::socket::{Socket, Speech};
use crate::socketio::handshake::{self, EngineFault};
use crate::socketio::{self, Talk, Visitor};
use crate::worker::{ToHub, Transport, Worker};

/// How often a worker looks after its sessions: deadlines, pings, expiries, drain.
const TICK: Duration = Duration::from_millis(100);

/// How long an idle connection may wait for its next request: longer than balancers keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

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
    /// Whose word on a client's address counts.
    pub addresses: Addresses,
    /// Whether trusted proxies begin each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// From where pages may come.
    pub origins: Origins,
    /// How long a page may be waited for, at most.
    pub max_wait: Duration,
    /// Whether requests may bring their token in the URL.
    pub token_in_url: bool,
    /// Clients of Socket.IO.
    pub socketio: Arc<socketio::Settings>,
}

impl ServerConfig {
    fn header_from(&self) -> Trusted {
        if self.proxy_protocol { self.addresses.trusted.clone() } else { Trusted::default() }
    }
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
    /// How many may come in, and who has.
    pub limits: Arc<Limits>,
    /// Connections that carry nobody yet.
    pub pending: Arc<PendingCount>,
    /// TLS, where the edge itself ends it.
    pub tls: Option<Tls>,
}

impl Shared {
    /// Who a request is from.
    pub fn caller(&self, peer: Option<SocketAddr>, headers: &HeaderMap, place: Option<&Rc<Place>>) -> Caller {
        Caller { place: place.cloned(), address: self.config.addresses.of(peer, headers) }
    }
}

/// One worker thread's part: its sessions and what all share.
#[derive(Clone)]
pub struct Local {
    /// What all share.
    pub shared: Shared,
    /// The thread's sessions.
    pub worker: Rc<RefCell<Worker>>,
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
            let origins = shared.config.origins.clone();
            let app = App::new()
                .configure(|routes| http::routes(routes, &local))
                .wrap(from_fn(move |request, next| http::guard(origins.clone(), request, next)));
            let pending = Pending::new(Arc::clone(&shared.pending));
            let door = Rc::new(Door {
                session: shared.config.session,
                pending,
                header_from: shared.config.header_from(),
                metrics: Arc::clone(&shared.metrics),
                tls: shared.tls.clone(),
            });
            let http = HttpService::build()
                .keep_alive(KEEP_ALIVE)
                // The end of a request that waits, or of a stream, is seen by the end of what its client says.
                .h1_allow_half_closed(false)
                .on_connect_ext(|heads: &Heads<Stream>, data: &mut Extensions| {
                    data.insert(Rc::clone(heads.stream().place()));
                })
                .client_request_timeout(Duration::from_secs(5))
                .client_disconnect_timeout(Duration::from_secs(1))
                .upgrade(fn_service(move |(request, framed)| {
                    serve_upgrade(upgrades.clone(), request, framed)
                }))
                .h1(map_config(app, |_| AppConfig::default()));
            fn_service(move |tcp: TcpStream| {
                let door = Rc::clone(&door);
                async move { door.accept(tcp).await.map_err(DispatchError::Io) }
            })
            .and_then(http)
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
        Arc::clone(&shared.limits),
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

/// Any request that asks for an upgrade comes here, whatever its path.
async fn serve_upgrade(
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
            carry(&local.shared, stream, &received, way, talk).await;
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
