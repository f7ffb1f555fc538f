//! `rowcast-generator`: load on running edges, the same on the floor, and both compared.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use rowcast_generator::hostile::Siege;
use rowcast_generator::plan::Dev;
use rowcast_generator::process::Watched;
use rowcast_generator::{Plan, Report, Speaks, Via, compare, floor};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

/// Puts load on Rowcast and accounts for every delivery. Exit 0: nothing lost, repeated, out of order or foreign;
/// 1: something was; 2: the run could not be carried out.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load on the edges.
    Run(RunArguments),
    /// The same load on a bare LISTEN → socket loop: the least that a delivery takes.
    Floor(RunArguments),
    /// Runs of both in turn, and a table of medians.
    Compare {
        #[command(flatten)]
        load: RunArguments,
        /// Counted runs of each.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Runs with clients of Socket.IO too.
        #[arg(long)]
        socketio: bool,
    },
    /// Runs beside each attack in turn, quiet ones between them, and a table.
    Hostile {
        #[command(flatten)]
        load: RunArguments,
        #[command(flatten)]
        attacks: AttackArguments,
    },
    /// The floor's server; `floor` starts it.
    #[command(hide = true)]
    FloorServer {
        #[arg(long, env = "ROWCAST_DATABASE__URL", hide_env_values = true)]
        database_url: String,
        #[arg(long)]
        channel: String,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Folder of a running `rowcast dev`: gives the addresses, the secret and the processes.
    #[arg(long, value_name = "DIR")]
    dev: Option<PathBuf>,
    /// With --dev: go through the balancer instead of to the edges.
    #[arg(long, requires = "dev")]
    through_balancer: bool,
    /// An edge, as http://host:port; may be repeated, sockets take turns.
    #[arg(long = "edge", value_name = "URL")]
    edges: Vec<String>,
    /// PostgreSQL; the role must be able to create tables in `public` and to watch them.
    #[arg(long, env = "ROWCAST_DATABASE__URL", hide_env_values = true)]
    database_url: Option<String>,
    /// The HS256 secret of the edges.
    #[arg(long, env = "ROWCAST_AUTH__HS256_SECRET", hide_env_values = true)]
    jwt_secret: Option<String>,
    /// The claim that names a token's room.
    #[arg(long, default_value = "merchantId")]
    room_claim: String,
    /// What sockets speak.
    #[arg(long, value_enum, default_value_t = Speaks::Native)]
    speak: Speaks,
    /// Sockets to hold.
    #[arg(long, default_value_t = 100)]
    sockets: usize,
    /// Rooms that they are in.
    #[arg(long, default_value_t = 10)]
    rooms: usize,
    /// Events to write; rooms take turns.
    #[arg(long, default_value_t = 2_000)]
    events: u64,
    /// Events a second; 0 is as fast as the writers can.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Connections that write; a room's events come from one.
    #[arg(long, default_value_t = 2)]
    writers: usize,
    /// How events are written.
    #[arg(long, value_enum, default_value_t = Via::Table)]
    via: Via,
    /// Bytes of padding in each row.
    #[arg(long, default_value_t = 100)]
    padding: usize,
    /// Sockets that sign in at the same time.
    #[arg(long, default_value_t = 64)]
    sign_ins: usize,
    /// Seconds without any arrival after which the rest counts as lost.
    #[arg(long, default_value_t = 10)]
    settle: u64,
    /// Processes to measure, as NAME=PID, separated by commas; --dev knows its own.
    #[arg(long, value_delimiter = ',', value_parser = watched)]
    pids: Vec<Watched>,
    /// Threads of this program.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A `resync` is a fault too.
    #[arg(long)]
    forbid_resync: bool,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AttackArguments {
    /// Names of attacks, separated by commas; all unless given.
    #[arg(long, value_delimiter = ',')]
    attacks: Vec<String>,
    /// How long each goes on; so long events are written.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The attacker's new connections a second.
    #[arg(long, default_value_t = 200.0)]
    connections_a_second: f64,
    /// The attacker's bytes a second.
    #[arg(long, default_value_t = 1_000_000.0)]
    bytes_a_second: f64,
}

fn watched(text: &str) -> Result<Watched, String> {
    Watched::parse(text).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    match start(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("rowcast-generator: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(command: Command) -> Result<bool> {
    match command {
        Command::Run(load) => with_runtime(load.threads, run(&load)),
        Command::Floor(load) => with_runtime(load.threads, run_floor(&load)),
        Command::Compare { load, runs, socketio } => {
            with_runtime(load.threads, run_both(&load, runs, socketio))
        }
        Command::Hostile { load, attacks } => with_runtime(load.threads, run_hostile(&load, &attacks)),
        Command::FloorServer { database_url, channel } => serve_floor(&database_url, &channel),
    }
}

fn with_runtime<T>(threads: usize, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads.max(1)).enable_all().build()?;
    runtime.block_on(work)
}

async fn run(load: &RunArguments) -> Result<bool> {
    let (plan, _) = load.plan(true)?;
    load.print(&rowcast_generator::run_until(&plan, interrupted()).await?)
}

async fn run_floor(load: &RunArguments) -> Result<bool> {
    let (plan, postgres) = load.plan(false)?;
    let program = std::env::current_exe()?;
    load.print(&compare::run_floor(&plan, &program, postgres, interrupted()).await?)
}

async fn run_both(load: &RunArguments, runs: usize, socketio: bool) -> Result<bool> {
    let (plan, postgres) = load.plan(true)?;
    let program = std::env::current_exe()?;
    let comparison = compare::compare(&plan, &program, postgres, runs, socketio, pin!(interrupted())).await?;
    match load.json {
        true => println!("{}", serde_json::to_string_pretty(&comparison)?),
        false => println!("{}", comparison.table()),
    }
    // A run that is not clean is an error there.
    Ok(true)
}

async fn run_hostile(load: &RunArguments, attacks: &AttackArguments) -> Result<bool> {
    let (plan, _) = load.plan(true)?;
    let siege = Siege {
        attacks: attacks.attacks.clone(),
        seconds: attacks.seconds,
        connections_a_second: attacks.connections_a_second,
        bytes_a_second: attacks.bytes_a_second,
        program: std::env::current_exe()?.with_file_name("rowcast-attack"),
    };
    siege.run(plan, pin!(interrupted())).await
}

/// Ctrl-C.
async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        eprintln!("rowcast-generator: Ctrl-C can not be heard, and will not clean up: {error}");
        std::future::pending().await
    }
}

fn serve_floor(database_url: &str, channel: &str) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        floor::serve(listener, database_url, channel).await
    })?;
    Ok(true)
}

impl RunArguments {
    /// The plan, and PostgreSQL's process where it is known.
    fn plan(&self, with_edges: bool) -> Result<(Plan, Option<Watched>)> {
        let dev = self.dev.as_deref().map(Dev::read).transpose()?;
        let edges = match &dev {
            Some(dev) if self.edges.is_empty() && self.through_balancer => vec![dev.url.clone()],
            Some(dev) if self.edges.is_empty() => dev.edge_urls(),
            _ => self.edges.clone(),
        };
        let of_dev = |get: fn(&Dev) -> &String| dev.as_ref().map(|dev| get(dev).clone());
        let database_url = self.database_url.clone().or_else(|| of_dev(|dev| &dev.database_url));
        let database_url = database_url.context("no PostgreSQL: give --database-url, or --dev DIR")?;
        let secret = self.jwt_secret.clone().or_else(|| of_dev(|dev| &dev.jwt_secret));
        // The floor asks for no token, but the clients are the same.
        let secret = secret.or_else(|| (!with_edges).then(|| "floor".to_owned()));
        let secret = secret.context("no secret to sign tokens with: give --jwt-secret, or --dev DIR")?;
        let mut plan = Plan::new(edges, database_url, secret);
        plan.processes.clone_from(&self.pids);
        plan.processes.extend(dev.iter().flat_map(Dev::processes));
        self.fill(&mut plan);
        let given = self.pids.iter().find(|watched| watched.name == "postgres").cloned();
        Ok((plan, given.or_else(|| dev.as_ref().map(Dev::postgres))))
    }

    fn fill(&self, plan: &mut Plan) {
        plan.room_claim.clone_from(&self.room_claim);
        plan.speaks = self.speak;
        (plan.sockets, plan.rooms) = (self.sockets, self.rooms);
        (plan.events, plan.rate, plan.writers) = (self.events, self.rate, self.writers);
        (plan.via, plan.padding, plan.sign_ins) = (self.via, self.padding, self.sign_ins);
        plan.settle = Duration::from_secs(self.settle);
    }

    fn print(&self, report: &Report) -> Result<bool> {
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(report)?),
            false => print!("{report}"),
        }
        Ok(report.counts.is_clean(!self.forbid_resync))
    }
}
