//! The `rowcast` command: everything an operator or developer does by hand.
//!
//! What a running service does is not here; SQL is in `rowcast-store`, the wire's language in `rowcast-protocol`.

mod adopt;
pub mod args;
pub mod client;
mod columns;
pub mod config;
mod database;
pub mod dev;
pub mod devfile;
mod migrating;
mod publish;
mod revoke;
mod switch;
mod tail;
pub mod token;
mod types;
mod watching;

use std::process::ExitCode;

use clap::Parser as _;
use rowcast_process::{
    config::shared::{LogConfig, LogFormat},
    telemetry,
};

use args::{Cli, Command};

/// Reads the arguments, does what they say, and gives the exit status: 0 done, 1 failed, 2 wrong arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rowcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let level = if cli.verbose { "info,rowcast_cli=debug,rowcast_store=debug" } else { "warn" };
    telemetry::init(&LogConfig { format: LogFormat::Text, level: level.to_owned() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(cli.command))
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match command {
        Command::Migrate(args) => migrating::migrate(args, &mut out).await?,
        Command::Watch(args) => watching::watch(args, &mut out).await?,
        Command::Unwatch(args) => watching::unwatch(args, &mut out).await?,
        Command::Watches(args) => watching::watches(args, &mut out).await?,
        Command::Adopt(args) => adopt::adopt(args, &mut out).await?,
        Command::Types(args) => types::types(args, &mut out).await?,
        Command::Publish(args) => publish::publish(args, &mut out).await?,
        Command::Switch(args) => switch::switch(args, &mut out).await?,
        Command::Revoke(args) => revoke::revoke(args, &mut out).await?,
        Command::Token(args) => token::print(&args, &mut out)?,
        Command::Tail(args) => return tail::run(args, &mut out).await,
        Command::Dev(args) => return dev::run(args).await,
    }
    Ok(ExitCode::SUCCESS)
}
