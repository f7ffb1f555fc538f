//! A connection to PostgreSQL for tests and tools, with the task that drives it.

use std::ops::{Deref, DerefMut};

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

/// A client whose connection ends with it.
pub struct Connection {
    client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects to an address.
    ///
    /// # Errors
    /// When it can not be reached, or refuses.
    pub async fn open(url: &str) -> Result<Self> {
        Self::with(&url.parse().context("an address of PostgreSQL")?).await
    }

    pub(crate) async fn with(config: &Config) -> Result<Self> {
        let (client, connection) = config.connect(NoTls).await.context("connecting to PostgreSQL")?;
        // Its error is told by the client's calls too.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { client, driver })
    }
}

impl Deref for Connection {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
