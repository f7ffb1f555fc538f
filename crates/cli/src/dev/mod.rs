//! The command `dev`: all of Rowcast on this machine, with real servers of its own, in one folder. It starts them, keeps
//! them running, and stops them. What the processes do is theirs; how servers are started is the sandbox's.

mod database;
mod demo;
mod folder;
mod keeper;
mod rowcast;
mod say;
mod start;

use std::process::ExitCode;
use std::time::Duration;
use std::path::PathBuf;

use rowcast_process::shutdown::Signal;

use folder::DevFolder;
use keeper::Fleet;
use say::Say;

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Where everything lives; made if it is not there, taken up again if it is [default: ./demo-data, or a temporary
    /// folder when another dev runs there].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// How many listeners; one of them leads.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub listeners: u8,
    /// How many edges, behind the balancer.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub edges: u8,
    /// How long after its end a process is started again, on the same port and data.
    #[arg(long, value_name = "SECONDS|never", default_value = "1", value_parser = RestartAfter::parse)]
    pub restart_after: RestartAfter,
    /// Without the bookings that come and change by themselves.
    #[arg(long)]
    pub no_demo: bool,
    /// End after so long; with the demo, the exit status says whether events flowed (0) or not (1).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub seconds: Option<Duration>,
}

/// When a process that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartAfter {
    /// So long after its end.
    Pause(Duration),
    /// Not at all.
    Never,
}

impl RestartAfter {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            _ => seconds(text).map(Self::Pause).map_err(|error| format!("{error}, or \"never\"")),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    number.ok_or_else(|| "a number of seconds is needed, such as 1 or 0.5".to_owned())
}

/// Starts everything, runs until it is asked to end, and stops everything.
///
/// # Errors
/// When something is missing or does not start, with what its log says.
pub async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    let shutdown = Signal::on_signals()?;
    let say = Say::new();
    let folder = DevFolder::open(args.dir.as_deref(), say)?;
    let started = tokio::select! {
        started = start::everything(&args, &folder, say) => started?,
        () = shutdown.requested() => {
            // What was started ends with the future that was dropped just now.
            say.line("stopped before it was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let fleet = Fleet::keep(started, args.restart_after, &folder, say)?;
    say.line(&format!("ready: {}; addresses in {}", fleet.url(), folder.dev_file().display()));
    let outcome = work(&args, &fleet, &shutdown, say).await;
    say.line("stopping");
    folder.forget_dev_file();
    fleet.stop().await;
    say.line("stopped");
    outcome
}

async fn work(args: &DevArgs, fleet: &Fleet, shutdown: &Signal, say: Say) -> anyhow::Result<ExitCode> {
    let end = async {
        match args.seconds {
            Some(seconds) => tokio::select! {
                () = tokio::time::sleep(seconds) => {}
                () = shutdown.requested() => {}
            },
            None => shutdown.requested().await,
        }
    };
    let demo = async {
        match args.no_demo {
            true => std::future::pending().await,
            false => demo::run(&fleet.dev(), say).await,
        }
    };
    tokio::select! {
        () = end => {}
        failed = fleet.failed() => return Err(failed),
        failed = demo => return Err(failed),
    }
    Ok(ExitCode::SUCCESS)
}
