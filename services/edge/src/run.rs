//! Puts an edge together and runs it: serve, until asked to end; then drain; then stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rowcast_bus::Keys;
use rowcast_process::metrics::Metrics as Registry;
use rowcast_process::readiness::{Latch, Readiness};
use rowcast_process::shutdown::Signal;
use rowcast_process::supervise::Tasks;
use tokio::sync::mpsc;

use crate::accept::pending::PendingCount;
use crate::accept::tls::Tls;
use crate::auth::Verifier;
use crate::certificate;
use crate::config::Config;
use crate::files;
use crate::hub::{CHANNEL, Hub, HubConfig};
use crate::limits::{Limit, Limits};
use crate::metrics::Metrics;
use crate::room::RoomLimits;
use crate::server::{self, ServerConfig, Shared};
use crate::session::{Pings, SessionLimits};
use crate::socketio;
use crate::worker::ToHub;

/// How long parts may take to end once every socket is gone.
const GRACE: Duration = Duration::from_secs(3);

/// Runs an edge on bound sockets until `shutdown`, and then until it has drained.
///
/// # Errors
/// When a part fails that the edge cannot do without.
pub async fn run(
    config: Config,
    public: TcpListener,
    admin: TcpListener,
    shutdown: Signal,
) -> anyhow::Result<()> {
    files::allow(&config.edge);
    let registry = Registry::new("edge", env!("CARGO_PKG_VERSION"))?;
    let metrics = Arc::new(Metrics::new(&registry)?);
    let readiness = Readiness::new();
    let serving = readiness.latch("serving");
    let (to_hub, inbox) = mpsc::channel(CHANNEL);

    // Parts end when every socket is gone, not when the end is first asked for.
    let drained = Signal::manual();
    let hub = Hub::new(hub_config(&config), Arc::clone(&metrics), readiness.latch("redis"), inbox);
    let certificate = config.edge.tls.certificate()?.map(Arc::new);
    let mut shared = shared(&config, metrics, to_hub)?;
    if let Some(certificate) = &certificate {
        certificate::show_expiry(certificate, &shared.metrics);
        let (limit, metrics) = (config.edge.sign_in_timeout, Arc::clone(&shared.metrics));
        shared.tls = Some(Tls::new(certificate, limit, metrics)?);
    }
    let server = server::serve(public, shared.clone()).context("cannot serve the public port")?;
    let handle = server.handle();

    let mut tasks = Tasks::new();
    tasks.essential("hub", hub.run(drained.clone()));
    tasks.essential("server", async move { server.await.context("the public port failed") });
    for issuer in shared.verifier.issuers() {
        tasks.essential("issuer", Arc::clone(issuer).run(Arc::clone(&shared.metrics), drained.clone()));
    }
    if let Some(certificate) = certificate {
        let (every, metrics) = (config.edge.tls.reload_interval, Arc::clone(&shared.metrics));
        tasks.essential("certificate", certificate::keep_fresh(certificate, every, metrics, drained.clone()));
    }
    let admin_ends = drained.clone();
    tasks.essential("admin", async move {
        let ends = async move { admin_ends.requested().await };
        rowcast_process::admin::serve(admin, registry, readiness, ends).await.context("the admin port failed")
    });
    serving.set_ready();

    tokio::select! {
        result = tasks.run(&drained) => result?,
        () = drain(&config, &shared, &serving, &shutdown) => {}
    }
    drained.trigger();
    handle.stop(false).await;
    tasks.finish(GRACE).await?;
    Ok(())
}

/// Waits to be asked to end, and then sends every socket elsewhere.
async fn drain(config: &Config, shared: &Shared, serving: &Latch, shutdown: &Signal) {
    shutdown.requested().await;
    serving.set_not_ready("draining");
    let open = || shared.limits.open();
    tracing::info!(sockets = open(), delay = ?config.edge.drain_delay, "not ready; accepting until balancers notice");
    tokio::time::sleep(config.edge.drain_delay).await;
    tracing::info!(sockets = open(), window = ?config.edge.drain_window, "sending sockets elsewhere");
    if shared.to_hub.send(ToHub::Drain(config.edge.drain_window)).await.is_err() {
        return;
    }
    let closing = shared.config.session.closing + Duration::from_secs(1);
    let until = Instant::now() + config.edge.drain_window + closing;
    while open() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::info!(left = open(), "drained");
}

fn hub_config(config: &Config) -> HubConfig {
    let keys = Keys::new(&config.redis.prefix, &config.installation);
    HubConfig {
        bus: config.bus(keys),
        rooms: RoomLimits {
            recent_events: config.edge.recent_events,
            recent_bytes: usize::try_from(config.edge.recent_size).unwrap_or(usize::MAX),
            page: config.edge.queue_frames.min(256),
            page_bytes: usize::try_from(config.edge.queue_size).unwrap_or(usize::MAX),
        },
        linger: config.edge.room_linger,
        head_checks: config.edge.head_checks,
        recent_age: config.edge.recent_age,
        switch_window: config.edge.switch_window,
    }
}

fn sessions(config: &Config) -> SessionLimits {
    SessionLimits {
        sign_in: config.edge.sign_in_timeout,
        heartbeat: config.edge.heartbeat,
        pings: Pings::WhenSilent,
        silence: Some(2 * config.edge.heartbeat),
        queue_frames: config.edge.queue_frames,
        queue_bytes: usize::try_from(config.edge.queue_size).unwrap_or(usize::MAX),
        stalled: config.edge.stalled_timeout,
        closing: Duration::from_secs(2),
        refreshes: config.auth.max_refreshes,
    }
}

fn socketio(config: &Config) -> Arc<socketio::Settings> {
    let socketio = &config.edge.socketio;
    let silence = Some(config.edge.heartbeat + socketio.ping_timeout);
    Arc::new(socketio::Settings {
        enabled: socketio.enabled,
        namespaces: socketio.namespaces.clone(),
        shape: socketio.payload,
        session: SessionLimits { pings: Pings::Always, silence, ..sessions(config) },
        ping_timeout: socketio.ping_timeout,
        max_message: config.edge.max_message,
    })
}

fn shared(config: &Config, metrics: Arc<Metrics>, to_hub: mpsc::Sender<ToHub>) -> anyhow::Result<Shared> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pending = {
        let cut = metrics.limited(Limit::Pending.label());
        PendingCount::new(config.edge.max_pending, metrics.pending(), move || cut.inc())
    };
    let limits = Limits::new(config.edge.limits(), Arc::clone(&metrics));
    Ok(Shared {
        pending,
        limits,
        tls: None,
        config: Arc::new(ServerConfig {
            socketio: socketio(config),
            workers: if config.edge.workers == 0 { cores } else { config.edge.workers },
            base_path: config.edge.base_path.clone(),
            session: sessions(config),
            max_message: usize::try_from(config.edge.max_message).unwrap_or(usize::MAX),
            addresses: config.edge.addresses()?,
            proxy_protocol: config.edge.proxy_protocol,
            origins: config.edge.origins()?,
            max_wait: config.edge.max_wait,
            token_in_url: config.auth.token_in_url,
        }),
        verifier: Arc::new(Verifier::new(&config.auth)?),
        metrics,
        to_hub,
    })
}
