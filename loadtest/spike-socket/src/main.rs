//! Measures three ways to carry a WebSocket on actix. Start it with `run.sh`; `README.md` says what is measured.

mod carrier_body;
mod carrier_raw;
mod carrier_ws;
mod clients;
mod hub;
mod incoming;
mod measure;
mod probe;
mod serve;
mod server;

use std::fmt;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// What carries a socket.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Carrier {
    /// (a) `actix-ws`.
    Ws,
    /// (b) A response body of our own.
    Body,
    /// (c) The raw stream of an upgrade, frames written where they lie.
    Raw,
    /// (c′) The same, frames copied into one buffer first.
    RawCopy,
}

impl Carrier {
    const ALL: [Self; 4] = [Self::Ws, Self::Body, Self::Raw, Self::RawCopy];

    fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Body => "body",
            Self::Raw => "raw",
            Self::RawCopy => "raw-copy",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ws => "(a) actix-ws",
            Self::Body => "(b) body",
            Self::Raw => "(c) upgrade",
            Self::RawCopy => "(c′) upgrade, copying",
        })
    }
}

#[derive(Parser)]
enum Command {
    /// The server under measurement; the other commands start it.
    Serve(serve::Settings),
    /// Costs: CPU a delivery, memory a connection, the attack.
    Measure(measure::Settings),
    /// Behaviour: idle, half-close, reset, graceful stop, limits.
    Probe,
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Serve(settings) => serve::serve(settings),
        Command::Measure(settings) => measure::measure(settings),
        Command::Probe => probe::probe(),
    }
}
