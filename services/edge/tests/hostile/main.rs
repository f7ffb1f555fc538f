//! Hostile clients before a real edge: what each attack is answered with, and that nobody beside notices it. The attacks
//! themselves are `loadtest/attacks`, which the benchmark uses too.

#[path = "../support/mod.rs"]
mod support;

mod floods;
mod frames;
mod held;
mod messages;
mod requests;
mod siege;
mod socketio;
