//! Rowcast's own processes: listeners and edges, each with its ports, its log and its environment.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rowcast_sandbox::{Launch, Process, free_port, http_get, on_a_port};

use super::folder::DevFolder;

/// For a process to have bound its ports.
const BOUND: Duration = Duration::from_secs(30);

/// A listener or an edge, on ports that stay the same over restarts.
#[derive(Debug)]
pub struct Rowcast {
    launch: Launch,
    process: Process,
    listen: Option<String>,
    admin: String,
}

/// What a listener is told beside the common things.
#[derive(Debug)]
pub struct ListenerSetting<'a> {
    /// PostgreSQL, as the listener's role.
    pub database_url: &'a str,
    /// Redis.
    pub redis_url: &'a str,
}

/// What an edge is told beside the common things.
#[derive(Debug)]
pub struct EdgeSetting<'a> {
    /// Redis.
    pub redis_url: &'a str,
    /// Further variables of its environment.
    pub more: &'a [(&'a str, &'a str)],
}

impl Rowcast {
    /// Starts a listener and waits until it has bound its admin port.
    ///
    /// # Errors
    /// When it does not, with the last lines of its log.
    pub async fn listener(
        folder: &DevFolder,
        program: &Path,
        number: u8,
        setting: &ListenerSetting<'_>,
    ) -> anyhow::Result<Self> {
        let name = format!("listener {number}");
        let launch = common(folder, program, &name)
            .env("ROWCAST_DATABASE__URL", setting.database_url)
            .env("ROWCAST_REDIS__URL", setting.redis_url);
        Self::on_free_ports(folder, launch, &name, None).await
    }

    /// Starts an edge and waits until it has bound its ports. It is given no database.
    ///
    /// # Errors
    /// When it does not, with the last lines of its log.
    pub async fn edge(
        folder: &DevFolder,
        program: &Path,
        number: u8,
        setting: &EdgeSetting<'_>,
    ) -> anyhow::Result<Self> {
        let name = format!("edge {number}");
        let launch = common(folder, program, &name)
            .env("ROWCAST_REDIS__URL", setting.redis_url)
            .env("ROWCAST_AUTH__HS256_SECRET", &folder.secrets().jwt_secret)
            // The balancer, which names its clients.
            .env("ROWCAST_EDGE__TRUSTED_PROXIES", "127.0.0.1");
        let launch = setting.more.iter().fold(launch, |launch, (key, value)| launch.env(key, value));
        Self::on_free_ports(folder, launch, &name, Some("ROWCAST_EDGE__LISTEN")).await
    }

    async fn on_free_ports(
        folder: &DevFolder,
        launch: Launch,
        name: &str,
        listen_key: Option<&str>,
    ) -> anyhow::Result<Self> {
        let ports_file = folder.path().join(format!("{}.ports.json", name.replace(' ', "-")));
        let (_, started) = on_a_port(None, |port| {
            let (launch, ports_file) = (launch.clone(), ports_file.clone());
            async move {
                let admin = format!("127.0.0.1:{}", free_port()?);
                let listen = listen_key.map(|_| format!("127.0.0.1:{port}"));
                let mut launch = launch.env("ROWCAST_ADMIN__LISTEN", &admin);
                if let (Some(key), Some(listen)) = (listen_key, &listen) {
                    launch = launch.env(key, listen);
                }
                let launch = launch.arg("--ports-file").arg(&ports_file);
                // One of an earlier run says nothing about this one.
                if ports_file.exists() {
                    std::fs::remove_file(&ports_file).context("removing an old file of ports")?;
                }
                let process = launch.spawn()?;
                process
                    .wait_ready(BOUND, async || ports_file.exists().then_some(()).context("no ports yet"))
                    .await?;
                Ok(Self { launch, process, listen, admin })
            }
        })
        .await?;
        Ok(started)
    }

    /// Starts it again, on the same ports. Whether it comes up is seen by whoever waits for its end.
    ///
    /// # Errors
    /// When the program can not be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = self.launch.spawn()?;
        Ok(())
    }

    /// From the next start on, this program is started, of another release: with the same settings, on the same ports.
    pub fn replace(&mut self, program: &Path) {
        self.launch = self.launch.clone().program(program);
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where an edge serves, as `127.0.0.1:port`.
    pub fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or_default()
    }

    /// Where it answers `/ready`, as `127.0.0.1:port`.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// After the timeout, or when it ends, with the last lines of its log.
    pub async fn wait_ready(&self, timeout: Duration) -> anyhow::Result<()> {
        let probe = async || match http_get(&self.admin, "/ready").await? {
            (200, _) => Ok(()),
            (status, body) => Err(anyhow::anyhow!("/ready answers {status}: {}", body.trim())),
        };
        self.process.wait_ready(timeout, probe).await
    }
}

/// What both are told. The developer's own settings of Rowcast are for other runs, those of the logs excepted.
fn common(folder: &DevFolder, program: &Path, name: &str) -> Launch {
    let log = folder.logs().join(format!("{}.log", name.replace(' ', "-")));
    let inherited = std::env::vars_os().map(|(key, _)| key).filter(|key| {
        let key = key.to_string_lossy();
        key.starts_with("ROWCAST_") && !key.starts_with("ROWCAST_LOG__")
    });
    let launch = inherited.fold(Launch::new(name, program, log), Launch::env_remove);
    launch.env("ROWCAST_LOG__FORMAT", "text")
}
