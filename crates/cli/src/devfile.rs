//! `dev.json`: where a running `rowcast dev` tells others its addresses. `dev` writes it; all commands can read it.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The file's name within the folder.
pub const FILE_NAME: &str = "dev.json";

/// What the file says. URLs are `http://127.0.0.1:port`; each pid is the server itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevFile {
    /// A role that may create tables in `public` and watch them.
    pub database_url: String,
    /// Redis.
    pub redis_url: String,
    /// The balancer before all edges.
    pub url: String,
    /// The HS256 secret of the edges.
    pub jwt_secret: String,
    /// The edges.
    pub edges: Vec<Edge>,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The postmaster.
    pub postgres: Server,
    /// The Redis server.
    pub redis: Server,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// For clients.
    pub url: String,
    /// The admin port's URL.
    pub admin: String,
    /// Its process.
    pub pid: u32,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The admin port's URL.
    pub admin: String,
    /// Its process.
    pub pid: u32,
}

/// A server that Rowcast needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its process.
    pub pid: u32,
}

impl DevFile {
    /// Reads the file of the `rowcast dev` that runs in `folder`.
    ///
    /// # Errors
    /// When there is none yet, or it is not what `dev` writes.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let text = std::fs::read(&path).with_context(|| {
            format!(
                "cannot read {}: is `rowcast dev --dir {}` running, and ready?",
                path.display(),
                folder.display()
            )
        })?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `rowcast dev` writes", path.display()))
    }
}
