//! What is known of the servers of a `dev`: their processes in `dev.json`, and which of them run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::folder::write_dev_file;
use crate::devfile::DevFile;

/// One of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The database server.
    Postgres,
    /// Redis.
    Redis,
    /// HAProxy.
    Balancer,
    /// A listener, counted from 0.
    Listener(usize),
    /// An edge, counted from 0.
    Edge(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres => f.write_str("PostgreSQL"),
            Self::Redis => f.write_str("Redis"),
            Self::Balancer => f.write_str("HAProxy"),
            Self::Listener(number) => write!(f, "listener {}", number + 1),
            Self::Edge(number) => write!(f, "edge {}", number + 1),
        }
    }
}

/// Whether a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It does, as far as its process says.
    Up,
    /// Its process is stopped, and continues when it is told to.
    Paused,
    /// It has ended.
    Down,
}

/// `dev.json` as it is now, and the servers' conditions.
pub struct Board {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    dev: DevFile,
    conditions: BTreeMap<Place, Condition>,
    websockets: bool,
}

impl Board {
    /// For what has just been started. Nothing is written yet.
    pub fn new(path: PathBuf, dev: DevFile) -> Self {
        let known = Known { dev, conditions: BTreeMap::new(), websockets: true };
        Self { path, known: Mutex::new(known) }
    }

    /// What `dev.json` says.
    pub fn dev(&self) -> DevFile {
        self.known().dev.clone()
    }

    /// Writes `dev.json`.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn write(&self) -> anyhow::Result<()> {
        write_dev_file(&self.path, &self.known().dev)
    }

    /// Whether a server runs. What was started and not heard of since does.
    pub fn condition(&self, place: Place) -> Condition {
        self.known().conditions.get(&place).copied().unwrap_or(Condition::Up)
    }

    /// Notes whether a server runs.
    pub fn set_condition(&self, place: Place, condition: Condition) {
        self.known().conditions.insert(place, condition);
    }

    /// Whether the balancer lets WebSockets through.
    pub fn websockets(&self) -> bool {
        self.known().websockets
    }

    /// Notes whether it does.
    pub fn set_websockets(&self, allowed: bool) {
        self.known().websockets = allowed;
    }

    /// A server runs in a new process: `dev.json` is written anew.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn set_pid(&self, place: Place, pid: u32) -> anyhow::Result<()> {
        // Held while it is written: of two that change it at once, the later file has both.
        let mut known = self.known();
        known.conditions.insert(place, Condition::Up);
        let dev = &mut known.dev;
        match place {
            Place::Postgres => dev.postgres.pid = pid,
            Place::Redis => dev.redis.pid = pid,
            Place::Balancer => return Ok(()),
            Place::Listener(number) => dev.listeners[number].pid = pid,
            Place::Edge(number) => dev.edges[number].pid = pid,
        }
        write_dev_file(&self.path, &known.dev)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
