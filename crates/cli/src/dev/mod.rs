//! The command `dev`: all of Rowcast on this machine, with real servers of its own, in one folder. It starts them, keeps
//! them running, and stops them. What the processes do is theirs; how servers are started is the sandbox's. Its parts are public for
//! whoever runs the same processes to another end.

mod board;
mod browser;
pub mod database;
mod demo;
mod fleet;
pub mod folder;
mod keeper;
mod page;
pub mod rowcast;
pub mod say;
mod start;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use rowcast_process::shutdown::Signal;

use demo::Tally;
use fleet::Fleet;
use folder::DevFolder;
use page::{PageServer, Site};
use say::Say;
use start::Demo;
pub use start::green;

use crate::devfile::DevFile;

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
    /// Without the bookings that come and change by themselves, and without their page.
    #[arg(long)]
    pub no_demo: bool,
    /// Where the demo's built page is [default: clients/demo/dist, above the program or in the current folder].
    #[arg(long, value_name = "DIR", conflicts_with = "no_demo")]
    pub page: Option<PathBuf>,
    /// Do not open the demo's page in a browser; it is opened where there is a terminal and a display, unless `CI` is set
    /// or --seconds is given.
    #[arg(long)]
    pub no_open: bool,
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
    let mut started = tokio::select! {
        started = start::everything(&args, &folder, say) => started?,
        () = shutdown.requested() => {
            // What was started ends with the future that was dropped just now.
            say.line("stopped before it was ready");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let demo = started.demo.take();
    let mut fleet = Fleet::keep(started, args.restart_after, &folder, say)?;
    let dev = fleet.dev_file();
    say.line(&format!("ready: {}; all addresses are in {}", dev.url, folder.dev_file().display()));
    let outcome = work(&args, &dev, demo, &mut fleet, &shutdown, say).await;
    say.line("stopping");
    folder.forget_dev_file();
    fleet.stop().await;
    say.line("stopped");
    outcome
}

async fn work(
    args: &DevArgs,
    dev: &DevFile,
    demo: Option<Demo>,
    fleet: &mut Fleet,
    shutdown: &Signal,
    say: Say,
) -> anyhow::Result<ExitCode> {
    let time_is_up = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(seconds).await,
            None => std::future::pending().await,
        }
    };
    let end = async {
        tokio::select! {
            () = shutdown.requested() => {}
            () = time_is_up => {}
        }
    };
    let Some(Demo { shop, page }) = demo else {
        return tokio::select! {
            () = end => Ok(ExitCode::SUCCESS),
            error = fleet.failed() => Err(error),
        };
    };
    let mut page = PageServer::start(page, site(args, dev, &shop, fleet)?)?;
    say.line(&format!("the page: {}", dev.url));
    if !args.no_open && args.seconds.is_none() {
        browser::open(&dev.url, say);
    }
    let tally = Tally::default();
    let outcome = tokio::select! {
        () = end => Ok(()),
        error = fleet.failed() => Err(error),
        error = page.failed() => Err(error),
        error = demo::run(dev, &shop, &tally, say) => Err(error.context("the demo failed")),
    };
    page.stop().await;
    outcome?;
    say.line(&tally.summary());
    // Who set a time asks whether it works; who pressed Ctrl-C does not.
    let failed = args.seconds.is_some() && !tally.flowed();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn site(args: &DevArgs, dev: &DevFile, shop: &str, fleet: &Fleet) -> anyhow::Result<Site> {
    let port = dev.url.rsplit(':').next().and_then(|port| port.parse().ok());
    Ok(Site {
        controls: fleet.controls(),
        bookings: demo::Bookings::new(shop.to_owned()),
        database_url: dev.database_url.clone(),
        page: args.page.clone().unwrap_or_else(built_page),
        port: port.with_context(|| format!("{} has a port", dev.url))?,
        jwt_secret: dev.jwt_secret.clone(),
    })
}

/// Where the page is built, above this program or here. Whether it was is seen when somebody asks for it.
fn built_page() -> PathBuf {
    let demo = Path::new("clients").join("demo");
    let program = std::env::current_exe().unwrap_or_default();
    let above = program.ancestors().skip(1).map(|folder| folder.join(&demo)).find(|demo| demo.is_dir());
    above.unwrap_or(demo).join("dist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_comes_after_seconds_or_never() {
        assert_eq!(RestartAfter::parse("never"), Ok(RestartAfter::Never));
        assert_eq!(RestartAfter::parse("0.25"), Ok(RestartAfter::Pause(Duration::from_millis(250))));
        assert_eq!(RestartAfter::parse("0"), Ok(RestartAfter::Pause(Duration::ZERO)));
        for wrong in ["", "-1", "nan", "1e300", "soon"] {
            let error = RestartAfter::parse(wrong).unwrap_err();
            assert!(error.contains("\"never\""), "{wrong}: {error}");
        }
    }
}
