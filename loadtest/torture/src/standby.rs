//! PostgreSQL's standby: made, promoted, and made anew on the port of the one that died, so that two addresses are enough for
//! any number of fail-overs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rowcast_sandbox::{Postgres, PostgresOptions};

/// A standby that commits wait for.
pub(crate) struct Standby {
    pub(crate) server: Postgres,
    number: u32,
    folder: PathBuf,
}

impl Standby {
    /// Makes the standby of this number in a folder below the one given, and has commits wait for it.
    pub(crate) async fn start(
        primary: &Postgres,
        number: u32,
        folder: &Path,
        port: Option<u16>,
    ) -> Result<Self> {
        let name = format!("standby_{number}");
        let options = PostgresOptions {
            folder: Some(folder.join(&name)),
            port,
            durable: true,
            ..PostgresOptions::default()
        };
        let server = primary.standby_with(&name, options).await.context("making a standby")?;
        primary.wait_for_standby(Some(&name)).await?;
        Ok(Self { server, number, folder: folder.to_owned() })
    }
}

/// Promotes the standby of a primary that is gone, and gives it a standby of its own.
pub(crate) async fn take_place(primary: &mut Postgres, standby: &mut Option<Standby>) -> Result<()> {
    let Standby { server, number, folder } = standby.take().context("there is no standby")?;
    server.promote().await?;
    let gone = std::mem::replace(primary, server);
    let (port, data) = (gone.port(), gone.folder().join("data"));
    drop(gone);
    // Its log stays.
    tokio::fs::remove_dir_all(&data).await.with_context(|| format!("removing {}", data.display()))?;
    *standby = Some(Standby::start(primary, number + 1, &folder, Some(port)).await?);
    Ok(())
}
