//! The listener: leads, reads the outbox, publishes to Redis.
