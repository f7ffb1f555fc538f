//! What every process has: configuration, shutdown, readiness, telemetry, metrics, admin port, owned tasks.
//!
//! Nothing here knows PostgreSQL, Redis or a socket of a client: the processes bring those themselves.

pub mod admin;
pub mod args;
pub mod config;
pub mod metrics;
pub mod ports;
mod procfs;
pub mod readiness;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;

pub use args::CommonArgs;
pub use prometheus;
