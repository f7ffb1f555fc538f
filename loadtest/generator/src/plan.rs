//! What a run does, and where: the settings, and `dev.json` of a running `rowcast dev`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::process::Watched;

/// How an event comes into PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// `INSERT` into a table that this run makes, watches and drops.
    Table,
    /// `rowcast.publish`.
    Publish,
    /// `INSERT` into an unwatched table and `pg_notify` in the same statement: for the floor.
    Notify,
}

/// What sockets speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Speaks {
    /// `rowcast.v1`.
    Native,
    /// Socket.IO, as a stock client that recovers does.
    #[value(name = "socketio")]
    SocketIo,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names its rooms and its table; different for runs that are on at the same time.
    pub name: String,
    /// Edges as `http://host:port[/base]` (or `ws://`); sockets take turns.
    pub edges: Vec<String>,
    /// Where events are written.
    pub database_url: String,
    /// The HS256 secret of the edges.
    pub jwt_secret: String,
    /// The claim that names a token's room.
    pub room_claim: String,
    /// What they speak.
    pub speaks: Speaks,
    /// Sockets that are held.
    pub sockets: usize,
    /// Rooms that they are in; each edge has sockets of each room where there are enough.
    pub rooms: usize,
    /// Events that are written; rooms take turns.
    pub events: u64,
    /// Events a second over all writers; 0 is as fast as they can.
    pub rate: f64,
    /// Connections that write. A room's events all come from one, so that their order is known.
    pub writers: usize,
    /// How they are written.
    pub via: Via,
    /// Bytes of padding in each row.
    pub padding: usize,
    /// Sockets that sign in at the same time.
    pub sign_ins: usize,
    /// How long all sockets together may take to sign in.
    pub sign_in_limit: Duration,
    /// The run is over when nothing has arrived for so long, complete or not.
    pub settle: Duration,
    /// How long it goes on listening for repeats when all is there.
    pub linger: Duration,
    /// Processes whose CPU and memory are measured.
    pub processes: Vec<Watched>,
}

impl Plan {
    /// A small run with these addresses; change the fields that matter.
    pub fn new(edges: Vec<String>, database_url: String, jwt_secret: String) -> Self {
        Self {
            name: format!("{:08x}", rand::random::<u32>()),
            edges,
            database_url,
            jwt_secret,
            room_claim: "merchantId".to_owned(),
            speaks: Speaks::Native,
            sockets: 100,
            rooms: 10,
            events: 2_000,
            rate: 200.0,
            writers: 2,
            via: Via::Table,
            padding: 100,
            sign_ins: 64,
            sign_in_limit: Duration::from_secs(60),
            settle: Duration::from_secs(10),
            linger: Duration::from_millis(500),
            processes: Vec::new(),
        }
    }

    /// # Errors
    /// When it can not be run, saying what to change.
    pub fn validate(&self) -> Result<()> {
        ensure!(!self.edges.is_empty(), "no edge: give --edge URL, or --dev DIR");
        ensure!(self.sockets > 0 && self.rooms > 0, "at least one socket and one room");
        ensure!(self.writers > 0, "at least one writer");
        ensure!(self.rate >= 0.0 && self.rate.is_finite(), "--rate is a number of events a second, or 0");
        ensure!(self.events >= self.rooms as u64, "fewer events than rooms: some rooms would see nothing");
        Ok(())
    }

    /// The name of a room, counted from 0.
    pub fn room(&self, room: usize) -> String {
        format!("load-{}-{room}", self.name)
    }

    /// The room of a socket.
    pub fn room_of_socket(&self, socket: usize) -> usize {
        socket / self.edges.len() % self.rooms
    }

    /// The edge of a socket.
    pub fn edge_of_socket(&self, socket: usize) -> &str {
        &self.edges[socket % self.edges.len()]
    }

    /// The number of events that a room gets: event `i` goes to room `i % rooms`.
    pub fn events_of_room(&self, room: usize) -> u64 {
        let (rooms, room) = (self.rooms as u64, room as u64);
        self.events / rooms + u64::from(room < self.events % rooms)
    }

    /// The table that is written to.
    pub fn table(&self) -> String {
        format!("rowcast_load_{}", self.name)
    }

    /// The channel that the floor listens to.
    pub fn channel(&self) -> String {
        format!("rowcast_floor_{}", self.name)
    }
}

/// The parts of `dev.json` that are needed here.
#[derive(Debug, Deserialize)]
pub struct Dev {
    /// A role that may create tables and watch them.
    pub database_url: String,
    /// The balancer.
    pub url: String,
    /// The HS256 secret.
    pub jwt_secret: String,
    edges: Vec<DevEdge>,
    listeners: Vec<DevServer>,
    postgres: DevServer,
    redis: DevServer,
}

#[derive(Debug, Deserialize)]
struct DevEdge {
    url: String,
    pid: u32,
}

#[derive(Debug, Deserialize)]
struct DevServer {
    pid: u32,
}

impl Dev {
    /// Reads it from the folder of a running `rowcast dev`.
    ///
    /// # Errors
    /// When it is not there or not understood.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("dev.json");
        let text = std::fs::read(&path).with_context(|| {
            format!("reading {}: is `rowcast dev` running there, and ready?", path.display())
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not understood", path.display()))
    }

    /// The edges themselves, past the balancer.
    pub fn edge_urls(&self) -> Vec<String> {
        self.edges.iter().map(|edge| edge.url.clone()).collect()
    }

    /// All its processes.
    pub fn processes(&self) -> Vec<Watched> {
        let edges = self.edges.iter().map(|edge| Watched::new("edge", edge.pid));
        let listeners = self.listeners.iter().map(|server| Watched::new("listener", server.pid));
        edges.chain(listeners).chain([self.postgres(), Watched::new("redis", self.redis.pid)]).collect()
    }

    /// The postmaster.
    pub fn postgres(&self) -> Watched {
        Watched::new("postgres", self.postgres.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_belongs_to_one_room_and_every_room_is_on_every_edge() {
        let mut plan = Plan::new(vec!["http://a".into(), "http://b".into()], String::new(), String::new());
        (plan.sockets, plan.rooms, plan.events) = (1_000, 100, 10_007);
        assert_eq!((0..100).map(|room| plan.events_of_room(room)).sum::<u64>(), 10_007);
        for room in 0..100 {
            for edge in ["http://a", "http://b"] {
                let there = |socket: &usize| {
                    plan.room_of_socket(*socket) == room && plan.edge_of_socket(*socket) == edge
                };
                assert_eq!((0..1_000).filter(there).count(), 5, "{room} on {edge}");
            }
        }
    }

    #[test]
    fn dev_json_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"database_url":"postgres://x","redis_url":"redis://x","url":"http://127.0.0.1:1","jwt_secret":"s",
            "edges":[{"url":"http://127.0.0.1:2","admin":"http://127.0.0.1:3","pid":4}],
            "listeners":[{"admin":"http://127.0.0.1:5","pid":6}],"postgres":{"pid":7},"redis":{"pid":8}}"#;
        std::fs::write(folder.path().join("dev.json"), text).unwrap();
        let dev = Dev::read(folder.path()).unwrap();
        assert_eq!(dev.edge_urls(), ["http://127.0.0.1:2"]);
        let pids: Vec<_> =
            dev.processes().iter().map(|watched| (watched.name.clone(), watched.pid)).collect();
        let expected = [("edge", 4), ("listener", 6), ("postgres", 7), ("redis", 8)];
        assert_eq!(pids, expected.map(|(name, pid)| (name.to_owned(), pid)));
    }
}
