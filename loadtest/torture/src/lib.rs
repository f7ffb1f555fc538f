//! All of Rowcast under faults, and the ledger that says whether each promise was kept: every committed event seen once
//! and in order by every entitled client, or excused by a `resync` that its cause explains; nothing that was rolled
//! back, nothing foreign.
//!
//! Real servers and the real processes, started as `rowcast dev` starts them. Clients speak the documented protocol with
//! code of the load generator: what checks a promise is not built from what makes it.

mod client;
mod clock;
mod inject;
mod journal;
mod plan;
mod release;
mod report;
mod run;
mod schedule;
mod standby;
mod stores;
mod system;
mod verdict;
mod writer;

pub use plan::{Class, Plan};
pub use release::Release;
pub use report::Report;
pub use run::run;
pub use schedule::{Action, Fault, schedule};
pub use stores::Topology;
