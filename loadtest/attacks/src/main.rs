//! `rowcast-attack`: one attack on an address, for some seconds, and what came of it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use rowcast_attacks::{Pace, Target};

/// Attacks an edge that is yours. Prints as JSON how its connections ended.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The attack's name; without one, all are listed.
    attack: Option<String>,
    /// host:port.
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// A good token, for attacks from inside.
    #[arg(long, env = "ROWCAST_TOKEN", hide_env_values = true, default_value = "")]
    token: String,
    /// The room that it names.
    #[arg(long, default_value = "")]
    room: String,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Connections at a time; as many as the attack takes unless given.
    #[arg(long)]
    connections: Option<usize>,
    /// New connections a second, all together; 0 sets no limit.
    #[arg(long, default_value_t = 200.0)]
    connections_a_second: f64,
    /// Bytes a second, all together; 0 sets no limit.
    #[arg(long, default_value_t = 2_000_000.0)]
    bytes_a_second: f64,
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rowcast-attack: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: Arguments) -> Result<()> {
    let Some(name) = &arguments.attack else {
        rowcast_attacks::all().for_each(|attack| println!("{:<26}{}", attack.name, attack.does));
        return Ok(());
    };
    let attack = rowcast_attacks::named(name)
        .with_context(|| format!("there is no attack {name:?}; `rowcast-attack` alone lists them"))?;
    let target = Target { address: arguments.address, token: arguments.token, room: arguments.room };
    let pace = Arc::new(Pace::new(arguments.connections_a_second, arguments.bytes_a_second));
    let connections = arguments.connections.unwrap_or(attack.connections);
    let time = Duration::from_secs_f64(arguments.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counts = runtime.block_on(attack.run(&target, connections, &pace, time));
    println!("{}", serde_json::to_string(&counts)?);
    Ok(())
}
