//! The request to end. How long a process then takes, and what it finishes first, is its own.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

/// Exit status after a second signal: the process ended at once and finished nothing.
pub const IMPATIENT_EXIT: i32 = 130;

/// The request to end, shared by all parts of a process. Clones are the same request.
#[derive(Clone, Debug)]
pub struct Signal {
    requested: watch::Sender<bool>,
    _listening: Option<Arc<AbortOnDrop>>,
}

impl Signal {
    /// A request made only by [`Signal::trigger`], for tests and for phases within a process.
    pub fn manual() -> Self {
        Self { requested: watch::Sender::new(false), _listening: None }
    }

    /// A request made by SIGTERM or SIGINT. The second signal ends the process at once with status 130.
    /// Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let requested = watch::Sender::new(false);
        let sender = requested.clone();
        let listening = tokio::spawn(async move {
            let mut patient = true;
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if !patient {
                    tracing::warn!(signal = name, "second signal: exiting at once");
                    std::process::exit(IMPATIENT_EXIT);
                }
                tracing::info!(signal = name, "shutting down; a second signal exits at once");
                patient = false;
                sender.send_replace(true);
            }
        });
        Ok(Self { requested, _listening: Some(Arc::new(AbortOnDrop(listening))) })
    }

    /// Requests the end. Doing so twice is the same as once.
    pub fn trigger(&self) {
        self.requested.send_replace(true);
    }

    /// Whether the end was requested.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Resolves once the end is requested; at once if it was already.
    pub async fn requested(&self) {
        let mut requested = self.requested.subscribe();
        // It cannot be closed: `self` holds a sender.
        let _ = requested.wait_for(|requested| *requested).await;
    }
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_one_trigger_and_late_ones_hear_it_too() {
        let signal = Signal::manual();
        let waiting = tokio::spawn({
            let signal = signal.clone();
            async move { signal.requested().await }
        });
        assert!(!signal.is_requested());
        signal.clone().trigger();
        waiting.await.unwrap();
        signal.requested().await;
        assert!(signal.is_requested());
    }
}
