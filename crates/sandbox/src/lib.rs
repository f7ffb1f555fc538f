//! Real PostgreSQL, Redis, HAProxy and PgBouncer servers on free ports, and links between them that can be disturbed, for
//! tests, the demo and benchmarks.
//!
//! Everything started here is reachable on 127.0.0.1 alone, lives in a folder of its own, and ends with whoever started
//! it: when its value is dropped (a panic included), and, where the system can do that, when the process is killed.
//! Nothing here is bound to a tokio runtime, so a server may be shared by tests that each have their own.
//!
//! What is *not* here: anything about Rowcast. Its own binaries are started through [`Launch`] like any other.

mod binaries;
mod certificates;
mod cluster;
mod folder;
mod haproxy;
mod http;
mod keeper;
mod pgbouncer;
mod ports;
mod postgres;
mod process;
mod proxy;
mod redis;
mod redis_kind;
mod sentinel;
mod user;
mod wait;

pub use binaries::{
    Missing, bin, find_haproxy, find_pgbouncer, find_postgres, find_redis, find_redis_kind, find_typescript,
    pgbouncer_unavailable, postgres_unavailable, redis_kind_unavailable, typescript_unavailable,
};
pub use certificates::{Authority, Identity, Issued, Leaf, ServerTls};
pub use cluster::{ClusterNode, ClusterOptions, RedisCluster};
pub use folder::Folder;
pub use haproxy::{Backend, Haproxy, HaproxyOptions};
pub use http::{http_get, metric};
pub use pgbouncer::{Pgbouncer, PgbouncerOptions};
pub use ports::{free_port, on_a_port};
pub use postgres::{Backup, Connection, Postgres, PostgresOptions};
pub use process::{Launch, Process, says_address_in_use};
pub use proxy::{Link, Proxy};
pub use redis::{Persistence, Redis, RedisOptions};
pub use redis_kind::RedisKind;
pub use rustix::process::Signal;
pub use sentinel::{RedisSentinels, Sentinel, SentinelOptions};
pub use wait::{wait_for, wait_until};
