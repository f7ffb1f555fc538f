//! Starts a listener: arguments → configuration → logs → admin port → run, until a signal.

use clap::Parser;
use rowcast_listener::Config;
use rowcast_process::{CommonArgs, config, ports, shutdown::Signal, telemetry};

/// Reads committed events from PostgreSQL and publishes them to Redis. One of its replicas leads, the others wait.
#[derive(Debug, Parser)]
#[command(name = "rowcast-listener", version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config: Config = args.common.load()?;
    config.validate()?;
    if args.common.check {
        print!("{}", config::print(&config)?);
        return Ok(());
    }
    telemetry::init(&config.log)?;
    let shutdown = Signal::on_signals()?;
    let admin = ports::bind("admin.listen", &config.admin.listen)?;
    let address = admin.local_addr()?;
    tracing::info!(admin = %address, version = env!("CARGO_PKG_VERSION"), "listener starts");
    if let Some(path) = &args.common.ports_file {
        ports::write_file(path, &serde_json::json!({ "admin": address }))?;
    }
    rowcast_listener::run(config, admin, shutdown).await?;
    tracing::info!("listener ends");
    Ok(())
}
