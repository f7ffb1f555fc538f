//! Waiting for conditions instead of sleeping. What is waited for is the caller's affair.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// Between two looks. Short enough to cost a test nothing, long enough to leave the machine to what is waited for.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Waits until the condition holds. `what` completes the sentence "… did not happen: ".
///
/// # Errors
/// After `timeout`, naming `what` and the place of the call.
#[track_caller]
pub fn wait_until<F, C>(
    what: impl Display,
    timeout: Duration,
    mut condition: C,
) -> impl Future<Output = Result<()>>
where
    C: FnMut() -> F,
    F: Future<Output = bool>,
{
    wait_for(what, timeout, move || {
        let holds = condition();
        async move { if holds.await { Ok(()) } else { Err("not yet") } }
    })
}

/// Waits until the attempt gives a value, and returns it.
///
/// # Errors
/// After `timeout`, naming `what`, the place of the call and the last attempt's error. An attempt that hangs is cut off
/// at the same moment.
#[track_caller]
pub fn wait_for<T, E, F, C>(
    what: impl Display,
    timeout: Duration,
    mut attempt: C,
) -> impl Future<Output = Result<T>>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let place = Location::caller();
    async move {
        let end = Instant::now() + timeout;
        let mut last = "the first attempt hung".to_owned();
        loop {
            match tokio::time::timeout_at(end, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= end {
                bail!("{what}: still not so after {timeout:?} ({last}), waited for at {place}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
