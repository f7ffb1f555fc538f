//! The edge: rooms and sessions, WebSocket in front, Redis behind.
fn main() {}
