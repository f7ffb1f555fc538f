//! What is run, and against which faults.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::release::Release;
use crate::stores::Topology;

/// Runs all of Rowcast with real servers, writes rows and holds clients while faults are injected, and says whether every
/// committed event reached every client once and in order.
///
/// The same seed gives the same list of faults and times (--list prints it). The exit status is 0 when every promise was
/// kept and 1 when one was broken; what was broken is printed with its client, room, cursor, time and the faults around it.
#[derive(Debug, Clone, Parser)]
#[command(name = "rowcast-torture", version, after_help = EXAMPLES)]
pub struct Plan {
    /// How long faults are injected and rows written; then everything is healed and has to catch up.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub seconds: u64,
    /// The seed of the faults and of what writers and clients do.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Listeners; one of them leads.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub listeners: u8,
    /// Edges; a client takes one at random, each time anew.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub edges: u8,
    /// Clients: each with a token for one room, every tenth for three; half of them speak Socket.IO.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    pub clients: u16,
    /// Rooms.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(3..=1_000))]
    pub rooms: u16,
    /// Writers, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub writers: u8,
    /// Events a second, about, of all writers.
    #[arg(long, value_name = "N", default_value_t = 150.0)]
    pub rate: f64,
    /// What Redis is made of. Links to it are disturbed only where it is one server.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub redis: Topology,
    /// Kinds of faults.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_enum, default_values_t = Class::ALL)]
    pub faults: Vec<Class>,
    /// None at all.
    #[arg(long, conflicts_with = "faults")]
    pub no_faults: bool,
    /// Commits do not wait for PostgreSQL's standby, and each fail-over loses the last of them, though they were acknowledged.
    #[arg(long)]
    pub asynchronous: bool,
    /// Only print the list of faults.
    #[arg(long)]
    pub list: bool,
    /// Where data and logs live, and stay; a temporary folder that stays only after a broken promise, unless given.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where `rowcast`, `rowcast-listener` and `rowcast-edge` of the release before this one are (`make test-compat` builds
    /// them). With it, a rolling restart is an upgrade, which migrates first, or the way back from it, in turn.
    #[arg(long, value_name = "DIR")]
    pub previous: Option<PathBuf>,
    /// Whose programs the listeners are of when it begins.
    #[arg(long, value_enum, default_value_t = Release::This, requires = "previous")]
    pub listeners_of: Release,
    /// Whose programs the edges are of when it begins.
    #[arg(long, value_enum, default_value_t = Release::This, requires = "previous")]
    pub edges_of: Release,
    /// Who makes the schema; `both` is the release before this one, and then this one.
    #[arg(long, value_enum, default_value_t = Release::This, requires = "previous")]
    pub schema_of: Release,
    /// How long everyone may take to catch up after the last fault.
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    pub catch_up: u64,
}

const EXAMPLES: &str = "Examples:
  rowcast-torture --seconds 600 --seed 7
  rowcast-torture --seconds 60 --faults kill,stop,rolling    (Redis is left alone: no resync is allowed at all)
  rowcast-torture --seconds 600 --redis cluster
  rowcast-torture --seconds 60 --redis cluster --faults slots   (slots that move explain no resync)
  rowcast-torture --seconds 60 --seed 7 --list";

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Class {
    /// SIGKILL of a listener or an edge.
    Kill,
    /// SIGSTOP of a listener, an edge or Redis, and SIGCONT after a while.
    Stop,
    /// A link that is held (half-open), cut or refused.
    Partition,
    /// A link that is slow.
    Delay,
    /// PostgreSQL: restarted in order, crashed, killed.
    Restart,
    /// Redis loses history: flushed, restarted, restarted from old data; with replicas: a master is killed, stopped, cut off or
    /// handed over, and a replica takes its place. This and the next one are what explains a resync.
    Redis,
    /// PostgreSQL's primary dies and its synchronous standby is promoted; then a new standby is made.
    Failover,
    /// Slots of a Cluster go from one master to another, with all that is in them: nothing is lost, and no resync is allowed.
    Slots,
    /// All listeners and edges, one after the other, are asked to end and started again, with --previous as the other release.
    Rolling,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::Stop,
        Self::Partition,
        Self::Delay,
        Self::Restart,
        Self::Redis,
        Self::Failover,
        Self::Slots,
        Self::Rolling,
    ];

    /// Whether clients may be told that history is gone.
    pub(crate) fn explains_resyncs(self) -> bool {
        matches!(self, Self::Redis | Self::Failover)
    }
}

impl Plan {
    /// The time for faults.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Whether faults of a kind are wanted.
    pub fn wants(&self, class: Class) -> bool {
        !self.no_faults && self.faults.contains(&class)
    }

    /// Whether Redis is one server, between which and everybody else there are proxies.
    pub(crate) fn has_one_redis(&self) -> bool {
        self.redis == Topology::One
    }

    /// Which release a rolling restart leads to, if it changes that: `rolled` others came before it.
    pub(crate) fn rolls_to(&self, rolled: usize) -> Option<Release> {
        self.previous.as_ref()?;
        let upgrade = self.listeners_of != Release::This || self.edges_of != Release::This;
        Some(if upgrade == rolled.is_multiple_of(2) { Release::This } else { Release::Previous })
    }

    /// A room's name.
    pub(crate) fn room(&self, number: u16) -> String {
        room(number)
    }

    /// Whether a client speaks Socket.IO: half of those of one room, and half of those of three.
    pub(crate) fn speaks_socketio(&self, client: u16) -> bool {
        (client + client / 10) % 2 == 1
    }

    /// The rooms of a client's token.
    pub(crate) fn rooms_of(&self, client: u16) -> Vec<u16> {
        let first = client % self.rooms;
        if client % 10 == 9 {
            vec![first, (first + 1) % self.rooms, (first + 2) % self.rooms]
        } else {
            vec![first]
        }
    }
}

/// A room's name.
pub(crate) fn room(number: u16) -> String {
    format!("room-{number}")
}
