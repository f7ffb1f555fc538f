//! The store against a real PostgreSQL. One binary, one server; every test has a database of its own.
#![allow(clippy::unwrap_used)]

mod cases;
mod database;
mod dead_rows;
mod encryption;
mod hosts;
mod leading;
mod migrating;
mod model;
mod reading;
mod revocations;
mod rights;
mod state;
mod switches;
mod triggers;
mod watching;
