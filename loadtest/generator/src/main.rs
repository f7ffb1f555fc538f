//! Load generator: holds sockets, publishes through PostgreSQL, counts loss, repeats, order and latency.
fn main() {}
