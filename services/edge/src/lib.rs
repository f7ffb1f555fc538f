//! The edge: rooms and sessions; sockets in front, Redis behind. It holds no database credentials.
//!
//! The way of an event: [`hub`] takes a record from Redis and gives it to its [`room`], which hands it on when it
//! is the next one; the [`worker`]s with sessions there queue the same frame for each [`session`]; each
//! [`socket`] writes what is queued. Rooms, sessions, the [`light`] and framing ([`wire`]) are without IO.

pub mod accept;
pub mod address;
pub mod auth;
pub mod certificate;
mod client_metrics;
pub mod config;
pub mod event;
pub mod files;
pub mod http;
pub mod hub;
pub mod light;
pub mod limits;
pub mod metrics;
pub mod reach;
pub mod reflection;
pub mod room;
pub mod run;
pub mod server;
pub mod session;
pub mod socket;
pub mod socketio;
pub mod upgrade;
pub mod wire;
pub mod worker;
