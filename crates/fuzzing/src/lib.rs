//! Fuzz targets: functions of bytes that panic where a promise about hostile input is broken. One for each reader of bytes
//! that come from outside: clients, PostgreSQL, Redis, operators.
//!
//! The same functions are run in three ways: over their corpora and some thousand changed inputs by `cargo test`
//! ([`engine`]), for as long as one likes by `make fuzz`, and guided by coverage by cargo-fuzz (`fuzz/`, which needs a
//! nightly compiler). A target's corpus is the folder `corpus/<name>`, one file an input.

pub mod engine;
mod reference;
pub mod targets;

/// A reader of bytes, with what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and its corpus's.
    pub name: &'static str,
    /// Panics where something does not hold.
    pub check: fn(&[u8]),
    /// What an input of it is made of: put into others by the engine.
    pub words: &'static [&'static [u8]],
}

impl Target {
    /// The target of that name.
    pub fn find(name: &str) -> Option<Self> {
        targets::ALL.into_iter().find(|target| target.name == name)
    }
}
