//! All SQL of Rowcast: migrations, watches, the outbox and its reading, leadership, the durable state.
//!
//! Nothing else in the workspace speaks to PostgreSQL. What is *not* here: when to read, what to publish, what to do
//! about an error. The listener decides that; this crate only says what an error is.
//!
//! - [`Standby`] → [`LeadSession`]: the connection that holds the leader's lock and reads the outbox.
//! - [`Cleaner`]: the second connection, for everything durable: deletion, floor, generation, dead letters.
//! - [`reading`]: the pure state machine behind [`LeadSession::read`].
//! - [`migrate`], [`Watches`]: for the command line.
//! - `mirror`: what edges go by and have from Redis.

mod address;
mod cleaner;
mod columns;
mod drift;
mod error;
mod hosts;
mod lead;
mod migration;
mod mirror;
mod notifying;
mod outbox;
mod pooler;
pub mod reading;
mod revocations;
mod session;
mod state;
mod trial;
mod values;
mod watches;

pub use cleaner::{Backlog, Cleaner, RowKey};
pub use columns::{Column, JsonType};
pub use drift::{Drift, Inspection, inspect, settle_unrecorded};
pub use error::StoreError;
pub use hosts::newer_primary;
pub use lead::{Election, LeadSession, Standby};
pub use migration::{
    MigrateOptions, Migration, MigrationState, Report, Waiting, migrate, migrate_with, migrations,
    try_migrations,
};
pub use mirror::{Switch, SwitchList};
pub use notifying::{NotifyingFunction, NotifyingTrigger};
pub use outbox::{Bell, Page, Ring, Row};
pub use revocations::{Before, NewRevocation, Revocation};
pub use session::{
    Lineage, Needs, Note, Session, SessionOptions, Subscription, check_address, library_config,
};
pub use state::{Identity, State};
pub use trial::Trial;
pub use watches::{OnError, WatchOptions, Watched, Watches};

/// The channel on which a committing transaction rings the leader.
pub const DOORBELL_CHANNEL: &str = "rowcast";
/// The channel on which a leaving leader tells the standbys.
pub const LEADER_CHANNEL: &str = "rowcast_leader";
/// The channel on which the leader is told that something of a sheet ([`rowcast_protocol::Sheet`]) has changed.
pub const CONTROL_CHANNEL: &str = "rowcast_control";
/// First half of the keys of all advisory locks that Rowcast takes ("rowc"). They count within one database.
pub const LOCK_CLASS: i32 = 0x726f_7763;
/// Second half of the key of the leader's lock.
pub const LEADER_LOCK: i32 = 1;
/// Second half of the key of the lock under which migrations run.
pub const MIGRATION_LOCK: i32 = 2;
