//! Free ports. Whoever takes one must still be ready to find it taken: nothing reserves a port but a bound socket.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::says_address_in_use;

/// Below the range from which Linux (32768) and macOS (49152) give out ports for outgoing connections. A port out of
/// that range can be lost while a server restarts: to a client, even to one that connects to the very server (a TCP
/// connection to a port nobody listens on can become one to itself).
const RANGE: Range<u16> = 15_000..32_000;

/// Ports given out by this process, so that two servers that start at the same time do not get the same.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port of 127.0.0.1 that nobody listens on at this moment, and that this process was not given before.
///
/// # Errors
/// When none was found in as many attempts as there are ports.
pub fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..RANGE.len())
        .map(|_| random_port())
        .find(|&port| !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .inspect(|&port| {
            given.insert(port);
        })
        .context("no free port between 15000 and 32000")
}

fn random_port() -> u16 {
    // RandomState is keyed anew each time, which is all the randomness that is needed.
    let random = RandomState::new().hash_one(RANGE.len());
    let offset = u16::try_from(random % RANGE.len() as u64).expect("below the length of a range of u16");
    RANGE.start + offset
}

/// How many free ports are tried.
const ATTEMPTS: usize = 10;
/// How long a given port, or what an earlier run left behind, is waited for.
const PATIENCE: Duration = Duration::from_secs(4);

/// Starts a server on the port given, or on a free one; where another was faster to take it, on another. A given port
/// is waited for up to 4 s: what ran there before may still be going.
///
/// # Errors
/// That of the last start. A start tells that its port is taken by saying "address already in use" somewhere in its
/// error, as [`Process::wait_ready`](crate::Process::wait_ready) does, which quotes the log.
pub async fn on_a_port<T, F, S>(given: Option<u16>, mut start: S) -> Result<(u16, T)>
where
    S: FnMut(u16) -> F,
    F: Future<Output = Result<T>>,
{
    let begun = Instant::now();
    let mut attempt = 1;
    loop {
        let port = given.map_or_else(free_port, Ok)?;
        let error = match start(port).await {
            Ok(started) => return Ok((port, started)),
            Err(error) => error,
        };
        let again = match (says_address_in_use(&error), given) {
            (true, None) => attempt < ATTEMPTS,
            (true, Some(_)) => begun.elapsed() < PATIENCE,
            (false, _) => says_left_over(&error) && begun.elapsed() < PATIENCE,
        };
        if !again {
            return Err(error);
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a killed PostgreSQL has left: its backends, which end by themselves, or a postmaster about to go.
fn says_left_over(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("pre-existing shared memory block")
        || text.contains("lock file \"postmaster.pid\" already exists")
}
