//! Copies of a PostgreSQL server: base backups that are restored to a point in time, and dumps of a database.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::standby::recover;
use super::{Postgres, PostgresOptions, SUPERUSER, cluster, start_at};
use crate::{Folder, Launch, find_postgres, wait_until};

/// A base backup, from which and the WAL of the server that it was taken of another one is made. That server's folder must
/// still be there then.
#[derive(Debug)]
pub struct Backup {
    folder: Folder,
    wal: PathBuf,
    options: PostgresOptions,
}

impl Postgres {
    /// Takes a base backup. From then on the server keeps all WAL.
    ///
    /// # Errors
    /// When it can not be reached or copied.
    pub async fn back_up(&self) -> Result<Backup> {
        let connection = self.connect("postgres").await?;
        let slot = "SELECT pg_create_physical_replication_slot('backup', true)
                     WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'backup')";
        connection.batch_execute(slot).await.context("making a replication slot")?;
        let folder = Folder::new("backup")?;
        let (from, path, user) = (self.source(), folder.path().to_owned(), self.place.user);
        let copying =
            tokio::task::spawn_blocking(move || cluster::base_backup(&from, &path.join("data"), user));
        copying.await.context("taking a base backup")??;
        let options =
            PostgresOptions { version: Some(self.version()), ..self.place.options.clone().anywhere() };
        Ok(Backup { folder, wal: self.place.data().join("pg_wal"), options })
    }

    /// Writes a database's dump into a file.
    ///
    /// # Errors
    /// What `pg_dump` says.
    pub async fn dump(&self, database: &str, file: &Path) -> Result<()> {
        self.client("pg_dump", database, &[], file).await
    }

    /// Loads a dump into a database of this server; the first error ends it. Roles are not in a dump.
    ///
    /// # Errors
    /// What `psql` says.
    pub async fn load(&self, database: &str, file: &Path) -> Result<()> {
        self.client("psql", database, &["-X", "-q", "-v", "ON_ERROR_STOP=1"], file).await
    }

    async fn client(&self, program: &str, database: &str, args: &[&str], file: &Path) -> Result<()> {
        let mut binary = self.place.binaries.join(program);
        if !binary.is_file() {
            // What `make setup` brings has servers alone.
            binary = find_postgres(None)?.join(program);
        }
        let mut launch = Launch::new(program, binary, self.place.folder.join(format!("{program}.log")))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", SUPERUSER, "-d", database, "-f"])
            .arg(file)
            .args(args);
        if let Some(password) = &self.place.options.password {
            launch = launch.env("PGPASSWORD", password);
        }
        let process = launch.spawn()?;
        let status = process.ended().await;
        if status.success() { Ok(()) } else { Err(process.failure(format!("{program} failed ({status})"))) }
    }
}

impl Backup {
    /// A server as that one was at a point: `("recovery_target_name", "before")`, as made by
    /// `pg_create_restore_point('before')`, or another of PostgreSQL's targets. It is the primary of a new timeline.
    ///
    /// # Errors
    /// When it does not come up, or WAL ends before the target.
    pub async fn restore(&self, target: (&str, &str)) -> Result<Postgres> {
        let (from, wal) = (self.folder.path().join("data"), self.wal.clone());
        let (name, value) = (target.0.to_owned(), target.1.to_owned());
        let restored = start_at(self.options.clone(), move |place| {
            cluster::copy_folder(&from, &place.data())?;
            recover(place, &wal, (&name, &value))
        })
        .await?;
        let connection = restored.connect("postgres").await?;
        wait_until("the restored server takes writes", super::READY, || async {
            matches!(connection.query_one("SELECT pg_is_in_recovery()", &[]).await, Ok(row) if !row.get::<_, bool>(0))
        })
        .await?;
        Ok(restored)
    }
}
