//! The switch between WebSockets and polling, as `rowcast switch` turns it: set in PostgreSQL, acted on by the edges.

use anyhow::anyhow;
use rowcast_store::Watches;
use tokio::sync::Mutex;
use tokio::time::{Duration, timeout};

/// The one there is.
const WEBSOCKET: &str = "websocket";
/// For a connection and a statement. PostgreSQL may be away, or not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the same, where it is only to be shown.
const GLANCE: Duration = Duration::from_secs(2);

/// Reads and turns it, on one connection that is made anew when it fails.
pub struct Switch {
    url: String,
    known: Mutex<Known>,
}

struct Known {
    connection: Option<Watches>,
    is_on: bool,
}

impl Switch {
    /// With the address of the schema's owner.
    pub fn new(url: String) -> Self {
        Self { url, known: Mutex::new(Known { connection: None, is_on: true }) }
    }

    /// Whether sockets are allowed; what was known last while PostgreSQL is away.
    pub async fn is_on(&self) -> bool {
        let mut known = self.known.lock().await;
        let read = timeout(GLANCE, async { read(known.connected(&self.url).await?).await }).await;
        match read {
            Ok(Ok(is_on)) => known.is_on = is_on,
            Ok(Err(error)) => known.lost(&error),
            Err(_) => known.lost(&anyhow!("no answer within {GLANCE:?}")),
        }
        known.is_on
    }

    /// Turns it.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn turn(&self, is_on: bool) -> anyhow::Result<()> {
        let mut known = self.known.lock().await;
        let turned = async {
            known.connected(&self.url).await?.set_switch(WEBSOCKET, is_on).await?;
            anyhow::Ok(())
        };
        let outcome = match timeout(PATIENCE, turned).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow!("PostgreSQL did not answer within {PATIENCE:?}")),
        };
        match &outcome {
            Ok(()) => known.is_on = is_on,
            Err(error) => known.lost(error),
        }
        outcome
    }
}

impl Known {
    async fn connected(&mut self, url: &str) -> anyhow::Result<&Watches> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(Watches::connect(url).await?)),
        }
    }

    /// The next one tries anew.
    fn lost(&mut self, error: &anyhow::Error) {
        tracing::debug!("the switch: {error:#}");
        self.connection = None;
    }
}

async fn read(connection: &Watches) -> anyhow::Result<bool> {
    let list = connection.switches().await?;
    let found = list.switches.iter().find(|switch| switch.name == WEBSOCKET);
    Ok(found.ok_or_else(|| anyhow!("there is no switch {WEBSOCKET}"))?.is_on)
}
