//! `rowcast-edge`: telemetry → configuration → bind → serve → signal → drain.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use rowcast_edge::config::Config;
use rowcast_edge::run::run;
use rowcast_process::shutdown::Signal;
use rowcast_process::{CommonArgs, config, ports, telemetry};

/// The Rowcast edge: serves rooms over WebSockets and reads them from Redis.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rowcast-edge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    let config: Config = args.common.load()?;
    config.validate()?;
    if args.common.check {
        print!("{}", config::print(&config)?);
        return Ok(());
    }
    telemetry::init(&config.log)?;
    let public = ports::bind("edge.listen", &config.edge.listen)?;
    let admin = ports::bind("admin.listen", &config.admin.listen)?;
    let (listen, admin_listen) = (public.local_addr()?, admin.local_addr()?);
    tracing::info!(%listen, admin = %admin_listen, installation = config.installation, "the edge starts");
    if let Some(path) = &args.common.ports_file {
        let bound = serde_json::json!({ "listen": listen.to_string(), "admin": admin_listen.to_string() });
        ports::write_file(path, &bound)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let shutdown = Signal::on_signals()?;
        run(config, public, admin, shutdown).await
    })
}
