//! Standbys of a PostgreSQL server: how they are made, cut off, promoted, and how a server becomes one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{Place, Postgres, PostgresOptions, SUPERUSER, cluster, start_at};
use crate::wait_until;

/// How long copying, catching up and promoting may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

impl Postgres {
    /// Starts a streaming standby of this server, under a name that is its replication slot's too, and waits until it
    /// streams. It has this server's settings; folder and port are its own.
    ///
    /// # Errors
    /// When this server can not be copied, or the copy does not start.
    pub async fn standby(&self, name: &str) -> Result<Self> {
        self.standby_with(name, self.place.options.clone().anywhere()).await
    }

    /// The same with options of its own; the version is this server's.
    ///
    /// # Errors
    /// As [`Postgres::standby`].
    pub async fn standby_with(&self, name: &str, options: PostgresOptions) -> Result<Self> {
        self.make_slot(name).await?;
        let (from, conninfo) = (self.source(), self.conninfo(name));
        let slot = name.to_owned();
        let version = Some(self.version());
        let standby = start_at(PostgresOptions { version, ..options }, move |place| {
            cluster::copy_from(place, &from)?;
            follow(place, &conninfo, &slot)
        })
        .await?;
        self.wait_streaming(name).await?;
        Ok(standby)
    }

    /// Has commits wait for the standbys of this name, or for nobody; returns when one of them is waited for.
    ///
    /// # Errors
    /// When the server is gone, or no such standby comes.
    pub async fn wait_for_standby(&self, name: Option<&str>) -> Result<()> {
        let connection = self.connect("postgres").await?;
        let names = name.map_or(String::new(), |name| format!("\"{name}\""));
        // Neither statement may wait for a standby that is not there.
        connection.batch_execute("SET synchronous_commit = local").await?;
        connection.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await?;
        connection.batch_execute("SELECT pg_reload_conf()").await?;
        let Some(name) = name else { return Ok(()) };
        let query = "SELECT count(*) > 0 FROM pg_stat_replication WHERE application_name = $1 AND sync_state = 'sync'";
        wait_until(format!("commits wait for {name}"), PATIENCE, || async {
            matches!(connection.query_one(query, &[&name]).await, Ok(row) if row.get(0))
        })
        .await
    }

    /// Makes a standby the primary, and returns when it takes writes.
    ///
    /// # Errors
    /// When it is none, or is gone.
    pub async fn promote(&self) -> Result<()> {
        let connection = self.connect("postgres").await?;
        connection.batch_execute("SELECT pg_promote(true, 60)").await.context("promoting")?;
        wait_until("the standby is the primary", PATIENCE, || async {
            matches!(connection.query_one("SELECT pg_is_in_recovery()", &[]).await, Ok(row) if !row.get::<_, bool>(0))
        })
        .await
    }

    /// Has a standby hear of its primary no more, as if nothing led there. What it had received stays.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn cut_off(&self) -> Result<()> {
        let connection = self.connect("postgres").await?;
        connection.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await?;
        connection.batch_execute("SELECT pg_reload_conf()").await?;
        wait_until("the standby receives nothing", PATIENCE, || async {
            let query = "SELECT count(*) FROM pg_stat_wal_receiver";
            matches!(connection.query_one(query, &[]).await, Ok(row) if row.get::<_, i64>(0) == 0)
        })
        .await
    }

    /// Waits until a standby has replayed all that this server has written by now.
    ///
    /// # Errors
    /// When it does not come so far.
    pub async fn caught_up(&self, standby: &Self) -> Result<()> {
        let connection = self.connect("postgres").await?;
        // What is written and not flushed yet is not sent.
        connection.batch_execute("SELECT pg_logical_emit_message(true, 'sandbox', '')").await?;
        let row = connection.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?;
        let (end, there): (String, _) = (row.get(0), standby.connect("postgres").await?);
        let query = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";
        wait_until("the standby has caught up", PATIENCE, || async {
            matches!(there.query_one(query, &[&end]).await, Ok(row) if row.get(0))
        })
        .await
    }

    /// Starts this server anew as a standby of another, on its own port and data: as an old primary is taken back after an
    /// orderly switch-over. What it has and the other has not is in the way.
    ///
    /// # Errors
    /// When it does not start, or does not come to stream.
    pub async fn follow(&mut self, primary: &Self, name: &str) -> Result<()> {
        primary.make_slot(name).await?;
        self.process.stop(Signal::INT, Duration::from_secs(30)).await?;
        follow(&self.place, &primary.conninfo(name), name)?;
        self.restart().await?;
        primary.wait_streaming(name).await
    }

    fn conninfo(&self, name: &str) -> String {
        let password = self.place.options.password.as_ref().map(|password| format!(" password={password}"));
        format!(
            "host=127.0.0.1 port={} user={SUPERUSER}{} application_name={name}",
            self.port,
            password.unwrap_or_default()
        )
    }

    async fn make_slot(&self, name: &str) -> Result<()> {
        let connection = self.connect("postgres").await?;
        let old = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active";
        connection.execute(old, &[&name]).await.context("dropping a replication slot")?;
        let made = connection.execute("SELECT pg_create_physical_replication_slot($1, true)", &[&name]).await;
        made.map(drop).with_context(|| format!("making the replication slot {name}"))
    }

    async fn wait_streaming(&self, name: &str) -> Result<()> {
        let connection = self.connect("postgres").await?;
        let query = "SELECT count(*) > 0 FROM pg_stat_replication WHERE application_name = $1 AND state = 'streaming'";
        wait_until(format!("{name} streams"), PATIENCE, || async {
            matches!(connection.query_one(query, &[&name]).await, Ok(row) if row.get(0))
        })
        .await
    }
}

/// Has a data folder come up as a standby. What `ALTER SYSTEM` has set is forgotten: it was the primary's.
fn follow(place: &Place, conninfo: &str, slot: &str) -> Result<()> {
    let settings =
        format!("primary_conninfo = '{}'\nprimary_slot_name = '{slot}'\n", conninfo.replace('\'', "''"));
    cluster::write(place, "postgresql.auto.conf", &settings)?;
    cluster::write(place, "standby.signal", "")
}

/// Has a data folder come up from another's WAL, up to a target, as the primary of a new timeline.
pub(super) fn recover(place: &Place, wal: &Path, target: (&str, &str)) -> Result<()> {
    fs::metadata(wal).with_context(|| format!("looking at {}", wal.display()))?;
    let settings = format!(
        "restore_command = 'cp \"{}/%f\" \"%p\"'\n{} = '{}'\nrecovery_target_action = 'promote'\n",
        wal.display(),
        target.0,
        target.1.replace('\'', "''")
    );
    cluster::write(place, "postgresql.auto.conf", &settings)?;
    cluster::write(place, "recovery.signal", "")
}
