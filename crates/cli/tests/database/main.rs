//! The commands that look at an application's database, against a real PostgreSQL. One binary, one server; every test has a
//! database of its own.

mod adopt;
mod configured;
mod migrating;
mod revoking;
#[path = "../support/mod.rs"]
mod support;
mod switching;
mod types;
mod watching;
