//! The listener: one of its replicas leads, reads the outbox and publishes to Redis.
//!
//! - [`publisher`], [`election`], [`doorbell`]: the decisions, as state machines without IO.
//! - `candidate` → `term` → `reader`, `sender`, `cleaner`: what drives them, from waiting for the lead to the end of one
//!   leadership.
//!
//! SQL is in `rowcast-store`, Redis in `rowcast-bus`; nothing here repeats a command that it did not decide to repeat.

mod backoff;
mod candidate;
mod cleaner;
pub mod config;
mod core;
pub mod doorbell;
mod drift;
pub mod election;
mod floor;
mod history;
mod lane;
mod metrics;
mod mirror;
mod pages;
mod past;
mod pending;
pub mod plain;
pub mod publisher;
mod reader;
mod redis_advice;
mod room;
mod rooms;
#[cfg(test)]
mod schedules;
mod sender;
mod servers;
mod term;

use std::net::TcpListener;
use std::sync::Arc;

use rowcast_process::admin;
use rowcast_process::metrics::Metrics;
use rowcast_process::readiness::Readiness;
use rowcast_process::shutdown::Signal;
use rowcast_process::supervise::Tasks;

pub use config::Config;

/// Runs a listener on a bound admin socket until the shutdown is requested and everything is handed over.
///
/// # Errors
/// A wrong configuration, or a defect (a task that panicked). Outages of PostgreSQL and Redis are waited out.
pub async fn run(mut config: Config, admin_socket: TcpListener, shutdown: Signal) -> anyhow::Result<()> {
    config.validate()?;
    config.database.url = config.database.address();
    if let Some(warning) = rowcast_store::check_address(config.database.url.expose())? {
        tracing::warn!("{warning}");
    }
    let registry = Metrics::new("listener", env!("CARGO_PKG_VERSION"))?;
    let readiness = Readiness::new();
    let metrics = metrics::ListenerMetrics::new(&registry)?;
    let handed_over = Signal::manual();
    let grace = config.listener.stop_timeout;
    let setting = Arc::new(candidate::Setting::new(config, metrics, &readiness, shutdown.clone())?);

    let mut tasks = Tasks::new();
    let until = handed_over.clone();
    tasks.finite("admin", async move {
        Ok(admin::serve(admin_socket, registry, readiness, async move { until.requested().await }).await?)
    });
    tasks.essential("leadership", async move {
        candidate::run(&setting).await;
        handed_over.trigger();
        Ok(())
    });
    let ran = tasks.run(&shutdown).await;
    let finished = tasks.finish(grace).await;
    Ok(ran.and(finished)?)
}
