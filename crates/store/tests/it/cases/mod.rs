//! What the write path promises, case by case, on each PostgreSQL that is here. A case is named for its promise.

mod drift;
mod escalation;
mod failures;
mod inspection;
mod odd;
mod payloads;
mod rows;
mod sessions;
mod statements;
mod tables;
mod types;
mod warnings;
