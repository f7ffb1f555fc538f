//! All Redis: the keys, the scripts that append to a room's log, reading of logs and heads, subscriptions.
//!
//! What to append, and when to try again, is decided by the callers' state machines; nothing here retries or
//! reconnects by itself, because a repeated command that nobody knows of is how events double.

mod connect;
mod error;
mod find;
mod info;
mod keys;
mod place;
mod publish;
mod read;
mod script;
mod subscribe;
mod topology;

pub use connect::BusConfig;
pub use error::{BusError, Refusal};
pub use find::Finder;
pub use info::info_field;
pub use keys::Keys;
pub use publish::{Claim, Command, PublishLink, Reply, Retention, ServerIdentity};
pub use read::{Head, Loaded, Range, ReadLink, parse_entries, parse_head};
pub use rowcast_tls::ClientFiles;
pub use subscribe::{Heard, Message, Subscription, Subscriptions, subscribe, subscribe_at};
pub use topology::{Address, Server, Topology};
