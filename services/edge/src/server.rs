//! The public port: HTTP by actix-web, upgrades on the raw stream, one worker a thread.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::header::HeaderMap;
use actix_http::{Extensions, HttpService};
use actix_rt::net::TcpStream;
use actix_service::{ServiceFactoryExt, fn_service, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use tokio::sync::mpsc;

use crate::accept::heads::Heads;
use crate::accept::pending::{Pending, PendingCount, Place};
use crate::accept::stream::Stream;
use crate::accept::tls::Tls;
use crate::accept::{Caller, Door};
use crate::address::{Addresses, Trusted};
use crate::auth::Verifier;
use crate::http;
use crate::http::origins::Origins;
use crate::hub::CHANNEL;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::session::SessionLimits;
use crate::socketio;
use crate::upgrade;
use crate::worker::{ToHub, Worker};

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
                    upgrade::serve(upgrades.clone(), request, framed)
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
