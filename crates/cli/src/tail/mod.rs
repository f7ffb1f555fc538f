//! The command `tail`: a client in the terminal. The connection is [`crate::client`]'s, the lines are [`lines`]'s.

pub(crate) mod lines;

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use rowcast_process::shutdown::Signal;

use crate::{
    args::TailArgs,
    client::{Client, Options, TokenSource},
    devfile::DevFile,
    token,
};
use lines::{Json, Lines, Text};

/// Follows until Ctrl-C, `--count`, `--for`, or a refusal for good.
pub(crate) async fn run(args: TailArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut lines: Box<dyn Lines> = match args.json {
        true => Box::new(Json),
        false => {
            let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            Box::new(Text::new(colours))
        }
    };
    let mut client = Client::new(options(&args)?);
    let signal = Signal::on_signals()?;
    let started = tokio::time::Instant::now();

    let outcome = follow(&args, &mut client, &signal, lines.as_mut(), out).await;
    let counters = client.counters();
    client.close().await;
    match outcome {
        Ok(()) => {}
        // Nobody reads any more, as with `rowcast tail | head`: that is an end, not a failure.
        Err(error) if is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
        Err(error) => return Err(error),
    }
    if !args.json {
        eprintln!(
            "{} events in {:.1} s; {} reconnections, {} resyncs, {} repeats, {} gaps",
            counters.events,
            started.elapsed().as_secs_f64(),
            counters.reconnects,
            counters.resyncs,
            counters.repeats,
            counters.gaps
        );
    }
    // A script that asked for a number of events wants to know whether they came.
    let short = args.count.is_some_and(|count| counters.events < count) && !signal.is_requested();
    Ok(if short { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn follow(
    args: &TailArgs,
    client: &mut Client,
    signal: &Signal,
    lines: &mut dyn Lines,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    // Without --for there is no end in sight: a century is far enough for a timer.
    let end = tokio::time::sleep(args.duration.unwrap_or(Duration::from_secs(100 * 365 * 86_400)));
    tokio::pin!(end);
    while args.count.is_none_or(|count| client.counters().events < count) {
        let event = tokio::select! {
            biased;
            () = signal.requested() => break,
            () = &mut end => break,
            event = client.next() => event?,
        };
        let Some(line) = lines.line(&event) else { continue };
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}

fn options(args: &TailArgs) -> anyhow::Result<Options> {
    let dev = args.dev.as_deref().map(DevFile::read).transpose()?;
    let url = match (&args.url, &dev) {
        (Some(url), _) => url.clone(),
        (None, Some(dev)) => dev.url.clone(),
        (None, None) => variable("ROWCAST_TAIL__URL").context(
            "which server? Give --url http://host:port, or the --dev folder of a running `rowcast dev`",
        )?,
    };
    let given = args.token.clone();
    let token =
        match given.or_else(|| args.claims.merchant.is_empty().then(|| variable("ROWCAST_TAIL__TOKEN"))?) {
            Some(token) => TokenSource::Fixed(token),
            None if args.claims.merchant.is_empty() => {
                bail!("whose events? Give --merchant ID, to sign a token for it, or --token")
            }
            None => {
                let (claims, signer) = token::by_arguments(&args.claims, dev.as_ref())?;
                TokenSource::Renewable(Arc::new(move || claims.signed_by(&signer, SystemTime::now())))
            }
        };
    Ok(Options { types: args.types.clone(), ..Options::new(url, token) })
}

/// A variable that is set, and not to nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
