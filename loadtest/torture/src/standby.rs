//! PostgreSQL's standby: made, promoted, and made anew on the port of the one that died, so that two addresses are enough for
//! any number of fail-overs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rowcast_sandbox::{Postgres, PostgresOptions};

/// For so long a standby that nobody waits for lags behind before it is promoted.
const LAG: Duration = Duration::from_millis(300);

/// A standby that commits wait for, or do not.
pub(crate) struct Standby {
    pub(crate) server: Postgres,
    number: u32,
    folder: PathBuf,
    asynchronous: bool,
}

impl Standby {
    /// Makes the standby of this number in a folder below the one given, and has commits wait for it unless it is an
    /// asynchronous one.
    pub(crate) async fn start(
        primary: &Postgres,
        number: u32,
        folder: &Path,
        port: Option<u16>,
        asynchronous: bool,
    ) -> Result<Self> {
        let name = format!("standby_{number}");
        let options = PostgresOptions {
            folder: Some(folder.join(&name)),
            port,
            durable: true,
            ..PostgresOptions::default()
        };
        let server = primary.standby_with(&name, options).await.context("making a standby")?;
        if !asynchronous {
            primary.wait_for_standby(Some(&name)).await?;
        }
        Ok(Self { server, number, folder: folder.to_owned(), asynchronous })
    }

    /// Has it miss the last of what is committed, if nobody waits for it.
    pub(crate) async fn lag(&self) -> Result<()> {
        if self.asynchronous {
            self.server.cut_off().await?;
            tokio::time::sleep(LAG).await;
        }
        Ok(())
    }
}

/// Promotes the standby of a primary that is gone, and gives it a standby of its own.
pub(crate) async fn take_place(primary: &mut Postgres, standby: &mut Option<Standby>) -> Result<()> {
    let Standby { server, number, folder, asynchronous } = standby.take().context("there is no standby")?;
    server.promote().await?;
    let gone = std::mem::replace(primary, server);
    let (port, data) = (gone.port(), gone.folder().join("data"));
    drop(gone);
    // Its log stays.
    tokio::fs::remove_dir_all(&data).await.with_context(|| format!("removing {}", data.display()))?;
    *standby = Some(Standby::start(primary, number + 1, &folder, Some(port), asynchronous).await?);
    Ok(())
}
