//! The certificate of the public port: read at the start, and again when its files change. A new one that can not be used
//! changes nothing: the old one goes on, and it is said.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use rowcast_process::shutdown::Signal;
use rowcast_tls::{Reload, ServerCertificate};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::Metrics;

/// Shows when the certificate in use ends.
pub fn show_expiry(certificate: &ServerCertificate, metrics: &Metrics) {
    let seconds = certificate.expires().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs());
    metrics.tls_certificate_expires.set(i64::try_from(seconds).unwrap_or(i64::MAX));
}

/// Looks at the files so often, and whenever the process gets SIGHUP, until the end.
///
/// # Errors
/// When signals can not be heard.
pub async fn keep_fresh(
    certificate: Arc<ServerCertificate>,
    every: Duration,
    metrics: Arc<Metrics>,
    end: Signal,
) -> anyhow::Result<()> {
    let mut asked = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = asked.recv() => {}
            () = end.requested() => return Ok(()),
        }
        let looking = Arc::clone(&certificate);
        // Files can lie on a disk that is slow or gone.
        let found = tokio::task::spawn_blocking(move || looking.reload()).await;
        match found.context("reading the certificate again")? {
            Reload::Unchanged => {}
            Reload::Replaced => {
                metrics.tls_reload("replaced");
                show_expiry(&certificate, &metrics);
                tracing::info!("a new certificate is in use for new connections");
            }
            Reload::Refused(error) => {
                metrics.tls_reload("refused");
                tracing::error!(%error, "the new certificate can not be used; the old one goes on");
            }
        }
    }
}
