//! Clients of Socket.IO before a real edge and a real Redis, packet by packet. Not here: stock clients, which are
//! `clients/socketio`'s, and hostile ones, which are `hostile`'s.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod engine;
mod payloads;
mod protocol;
mod recovery;
mod rooms;
