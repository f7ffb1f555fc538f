//! Log lines. What is logged is up to those who log.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::shared::{LogConfig, LogFormat};

/// actix says as an error what any client can make happen any number of times: a request that is none. Whoever wants to see
/// it has it with level debug.
const CAUSED_BY_CLIENTS: &str = "actix_http::h1::dispatcher=off";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is neither a level nor a filter.
    #[error(
        "`log.level` is neither a level (error, warn, info, debug, trace) nor a filter such as \"info,rowcast_edge=debug\": {0}"
    )]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Logging was set up before.
    #[error("logging is already set up: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends log lines to standard error. Call it once, in `main`.
///
/// # Errors
/// When the level is wrong, or logging is already set up.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(&config.level)?;
    let filter = match filter.max_level_hint() {
        Some(level) if level >= LevelFilter::DEBUG => filter,
        _ => filter.add_directive(CAUSED_BY_CLIENTS.parse()?),
    };
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_writer(std::io::stderr),
            )
            .try_init()?,
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry
                .with(tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr))
                .try_init()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_level_is_refused_before_anything_starts() {
        let config = LogConfig { level: "edge=lowd".to_owned(), ..LogConfig::default() };
        assert!(init(&config).unwrap_err().to_string().contains("`log.level`"));
    }
}
