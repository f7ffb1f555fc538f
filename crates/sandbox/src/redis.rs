//! A Redis server of one's own. What is said to it is the caller's affair.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::ports::on_a_port;
use crate::{Folder, Launch, Process, RedisKind, ServerTls, find_redis_kind, free_port};

const READY: Duration = Duration::from_secs(20);

/// What outlives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Persistence {
    /// Nothing.
    #[default]
    None,
    /// All but the last second (`appendonly`).
    AppendOnly,
    /// What the last `SAVE` or orderly stop wrote.
    Snapshot,
}

/// How Redis is to be started.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Whose server; the system's unless given.
    pub kind: RedisKind,
    /// Where its files live; a temporary folder of its own unless given.
    pub folder: Option<PathBuf>,
    /// Its port; a free one unless given.
    pub port: Option<u16>,
    /// What outlives a restart.
    pub persistence: Persistence,
    /// Whether it speaks TLS too, on a port of its own, and with what.
    pub tls: Option<ServerTls>,
    /// The port on which nodes of a Cluster talk to each other, where it is one.
    pub bus_port: Option<u16>,
    /// Further arguments, like `["--maxmemory", "10mb"]`. Of two that set the same, the later counts.
    pub extra_args: Vec<String>,
}

/// A Redis server. Dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    tls_port: Option<u16>,
    folder: PathBuf,
    options: RedisOptions,
    /// Last: removed when the server has gone.
    _own: Option<Folder>,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When there is none on this machine, or it does not start: with the last lines of its log.
    pub async fn start(options: RedisOptions) -> Result<Self> {
        let own = options.folder.is_none().then(|| Folder::new("redis")).transpose()?;
        let folder = match (&options.folder, &own) {
            (Some(folder), _) => folder.clone(),
            (None, Some(own)) => own.path().to_owned(),
            (None, None) => unreachable!("one is made where none is given"),
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let tls_port = options.tls.as_ref().map(|_| free_port()).transpose()?;
        let (port, process) =
            on_a_port(options.port, |port| launch(&folder, port, tls_port, &options)).await?;
        Ok(Self { process, port, tls_port, folder, options, _own: own })
    }

    /// `redis://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on which it talks to other nodes of a Cluster.
    pub fn bus_port(&self) -> Option<u16> {
        self.options.bus_port
    }

    /// `rediss://<user>@<host>:<port>`, where it speaks TLS; `user` may hold a password, or be empty.
    ///
    /// # Panics
    /// Where it does not.
    pub fn tls_url(&self, user: &str, host: &str) -> String {
        let port = self.tls_port.expect("a Redis with TLS");
        let at = if user.is_empty() { "" } else { "@" };
        format!("rediss://{user}{at}{host}:{port}")
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The server's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where its files and its log live.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new connection.
    ///
    /// # Errors
    /// When it can not be reached.
    pub async fn connection(&self) -> Result<MultiplexedConnection> {
        connection(self.port).await.context("connecting to Redis")
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// When it can not be reached, or refuses.
    pub async fn flush(&self) -> Result<()> {
        let mut connection = self.connection().await?;
        ::redis::cmd("FLUSHALL").query_async(&mut connection).await.context("FLUSHALL")
    }

    /// Stops it in order: what is to be kept is written first.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Signal::TERM, Duration::from_secs(10)).await.map(drop)
    }

    /// Sends a signal, and waits for the end if it is SIGKILL.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)?;
        if signal == Signal::KILL {
            self.process.wait_exit(Duration::from_secs(5)).await?;
        }
        Ok(())
    }

    /// Starts it again, on the same port and files; stops it first if it runs.
    ///
    /// # Errors
    /// When it does not start, or the port was taken in the meantime.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let (folder, tls_port, options) = (&self.folder, self.tls_port, &self.options);
        let (_, process) = on_a_port(Some(self.port), |port| launch(folder, port, tls_port, options)).await?;
        self.process = process;
        Ok(())
    }
}

async fn launch(folder: &Path, port: u16, tls_port: Option<u16>, options: &RedisOptions) -> Result<Process> {
    let (append_only, save) = match options.persistence {
        Persistence::None => ("no", ""),
        Persistence::AppendOnly => ("yes", ""),
        Persistence::Snapshot => ("no", "3600 1"),
    };
    let process = Launch::new("Redis", find_redis_kind(options.kind)?, folder.join("redis.log"))
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"])
        .args(["--appendonly", append_only, "--save", save, "--dir"])
        .arg(folder)
        .args(tls_args(tls_port, options.tls.as_ref()))
        .args(&options.extra_args)
        .spawn()?;
    let pid = process.pid();
    process.wait_ready(READY, || probe(port, pid)).await?;
    Ok(process)
}

fn tls_args(port: Option<u16>, tls: Option<&ServerTls>) -> Vec<OsString> {
    let (Some(port), Some(tls)) = (port, tls) else { return Vec::new() };
    let mut args: Vec<OsString> = vec!["--tls-port".into(), port.to_string().into()];
    args.extend(["--tls-cert-file".into(), tls.identity.cert.clone().into_os_string()]);
    args.extend(["--tls-key-file".into(), tls.identity.key.clone().into_os_string()]);
    match &tls.client_ca {
        Some(ca) => args.extend(["--tls-ca-cert-file".into(), ca.clone().into_os_string()]),
        None => args.extend(["--tls-auth-clients".into(), "no".into()]),
    }
    args
}

/// Whether it is this very server that answers: another may have been faster to take the port.
pub(crate) async fn probe(port: u16, pid: u32) -> Result<()> {
    let mut connection = connection(port).await?;
    let () = ::redis::cmd("PING").query_async(&mut connection).await?;
    let info: String = ::redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    if !info.lines().any(|line| line.strip_prefix("process_id:") == Some(&pid.to_string())) {
        bail!("another server answers on port {port}");
    }
    Ok(())
}

pub(crate) async fn connection(port: u16) -> ::redis::RedisResult<MultiplexedConnection> {
    ::redis::Client::open(url(port))?.get_multiplexed_async_connection().await
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}
