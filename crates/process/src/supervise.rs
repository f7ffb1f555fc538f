//! Owned tasks: each is awaited or aborted, and a panic or an early end of an essential one is an error.

use std::{collections::HashMap, future::Future, time::Duration};

use tokio::task::{Id, JoinError, JoinSet};

use crate::shutdown::Signal;

/// Why a set of tasks ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task panicked. The panic's message is on standard error.
    #[error("task `{0}` panicked")]
    Panicked(&'static str),
    /// A task returned an error.
    #[error("task `{name}` failed: {error:#}")]
    Failed {
        /// The task.
        name: &'static str,
        /// Its error.
        error: anyhow::Error,
    },
    /// An essential task returned while nobody had asked it to.
    #[error("task `{0}` ended although the process should go on")]
    Ended(&'static str),
    /// Tasks that had to be aborted because they did not end in time.
    #[error("these tasks did not end in time and were aborted: {0}")]
    Aborted(String),
}

/// A set of named tasks. Dropping it aborts them all.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, (&'static str, Kind)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Essential,
    Finite,
}

impl Tasks {
    /// No tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that is to run until shutdown: any earlier end ends the process.
    pub fn essential<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn(name, Kind::Essential, task);
    }

    /// Spawns a task that may end by itself; its error or panic ends the process all the same.
    pub fn finite<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn(name, Kind::Finite, task);
    }

    fn spawn<F>(&mut self, name: &'static str, kind: Kind, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), (name, kind));
    }

    /// Runs until `shutdown` is requested (`Ok`) or a task goes wrong, which requests it for all others.
    ///
    /// # Errors
    /// The first panic, error or early end.
    pub async fn run(&mut self, shutdown: &Signal) -> Result<(), TaskError> {
        loop {
            let joined = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                joined = next(&mut self.set) => joined,
            };
            // A task may have seen the request before this loop did.
            if let Err(error) = self.judge(joined, shutdown.is_requested()) {
                shutdown.trigger();
                return Err(error);
            }
        }
    }

    /// After a shutdown was requested: waits for all tasks to end, and aborts what is left after `grace`.
    ///
    /// # Errors
    /// The first panic or error, or the names of the aborted tasks.
    pub async fn finish(mut self, grace: Duration) -> Result<(), TaskError> {
        let deadline = tokio::time::Instant::now() + grace;
        let mut result = Ok(());
        while !self.set.is_empty() {
            match tokio::time::timeout_at(deadline, next(&mut self.set)).await {
                Ok(joined) => result = result.and(self.judge(joined, true)),
                Err(_) => {
                    let mut left: Vec<&str> = self.names.values().map(|(name, _)| *name).collect();
                    left.sort_unstable();
                    self.set.shutdown().await;
                    return result.and(Err(TaskError::Aborted(left.join(", "))));
                }
            }
        }
        result
    }

    fn judge(&mut self, joined: Joined, ending: bool) -> Result<(), TaskError> {
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let (name, kind) = self.names.remove(&id).expect("every task of the set has a name");
        match joined {
            Err(error) if error.is_panic() => Err(TaskError::Panicked(name)),
            // Nobody but this set can cancel its tasks.
            Err(_) => Err(TaskError::Ended(name)),
            Ok((_, Err(error))) => Err(TaskError::Failed { name, error }),
            Ok((_, Ok(()))) if kind == Kind::Essential && !ending => Err(TaskError::Ended(name)),
            Ok((_, Ok(()))) => Ok(()),
        }
    }
}

type Joined = Result<(Id, anyhow::Result<()>), JoinError>;

/// The next task to end; never, while there is none.
async fn next(set: &mut JoinSet<anyhow::Result<()>>) -> Joined {
    match set.join_next_with_id().await {
        Some(joined) => joined,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(task: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> (TaskError, Signal) {
        let shutdown = Signal::manual();
        let mut tasks = Tasks::new();
        tasks.essential("part", task);
        (tasks.run(&shutdown).await.unwrap_err(), shutdown)
    }

    #[tokio::test]
    async fn a_panic_an_error_and_an_early_end_are_seen_and_request_shutdown() {
        let (panicked, shutdown) = outcome(async { panic!("on purpose") }).await;
        assert!(matches!(panicked, TaskError::Panicked("part")) && shutdown.is_requested());
        let (failed, _) = outcome(async { anyhow::bail!("no luck") }).await;
        assert_eq!(failed.to_string(), "task `part` failed: no luck");
        let (ended, _) = outcome(async { Ok(()) }).await;
        assert!(matches!(ended, TaskError::Ended("part")));
    }

    #[tokio::test]
    async fn after_a_request_essential_tasks_may_end_and_slow_ones_are_named() {
        let shutdown = Signal::manual();
        let mut tasks = Tasks::new();
        let signal = shutdown.clone();
        tasks.essential("polite", async move {
            signal.requested().await;
            Ok(())
        });
        tasks.finite("early", async { Ok(()) });
        tasks.finite("stubborn", std::future::pending());
        shutdown.trigger();
        tasks.run(&shutdown).await.unwrap();
        let error = tasks.finish(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, TaskError::Aborted(names) if names == "stubborn"));
    }
}
