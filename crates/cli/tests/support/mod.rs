//! The command as a process, on a database of a test's own.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod dev;
pub mod http;
pub mod service;

use std::process::{Output, Stdio};

use rowcast_sandbox::{Connection, Postgres};
use serde_json::Value;
use tokio::process::Command;

pub fn rowcast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROWCAST_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A database of the test's own, and the command on it.
pub struct Place {
    pub url: String,
}

impl Place {
    pub async fn new(name: &str) -> Self {
        let postgres = Postgres::shared().await.expect("PostgreSQL starts");
        Self { url: postgres.create_database(name).await.expect("a database is made") }
    }

    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = rowcast(args);
        command.env("ROWCAST_DATABASE__URL", &self.url).output().await.expect("the command runs")
    }

    /// Standard output of a command that must succeed.
    pub async fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Standard error of a command that must fail with status 1.
    pub async fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    pub async fn sql(&self) -> Connection {
        Connection::open(&self.url).await.expect("PostgreSQL answers")
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
