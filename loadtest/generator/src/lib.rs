//! Load, and the ledger that says whether it arrived: sockets over edges, events through PostgreSQL, every delivery
//! accounted for.
//!
//! It shares no code with the edge or with the client of `rowcast tail`: what checks a promise should not be built
//! from what makes it.

pub mod compare;
pub mod endpoint;
pub mod event;
pub mod floor;
pub mod hostile;
pub mod ledger;
pub mod plan;
pub mod process;
pub mod report;
pub mod run;
pub mod socketio;

mod latency;
mod publish;
mod shared;
mod socket;
mod token;

pub use plan::{Plan, Speaks, Via};
pub use report::Report;
pub use run::{run, run_beside, run_until};
