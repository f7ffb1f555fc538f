//! An HAProxy in front of edges: least connections, checked by `/ready` of their admin ports.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::ports::on_a_port;
use crate::{Folder, Launch, Process, find_haproxy, http_get};

const READY: Duration = Duration::from_secs(20);

/// A server behind the balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Where it serves, like `127.0.0.1:8080`.
    pub address: String,
    /// Where it answers `/ready`; unchecked (always up) unless given.
    pub admin: Option<String>,
}

/// How HAProxy is to be started.
#[derive(Debug, Clone, Default)]
pub struct HaproxyOptions {
    /// Where its files live; a temporary folder of its own unless given.
    pub folder: Option<PathBuf>,
    /// Its port; a free one unless given.
    pub port: Option<u16>,
    /// What stands behind it.
    pub backends: Vec<Backend>,
}

/// A balancer. Dropping it ends it.
#[derive(Debug)]
pub struct Haproxy {
    process: Process,
    port: u16,
    folder: PathBuf,
    backends: Vec<Backend>,
    /// Last: removed when the server has gone.
    _own: Option<Folder>,
}

impl Haproxy {
    /// Starts one and waits until it answers; whether a backend is up is another question.
    ///
    /// # Errors
    /// When there is none on this machine, or it does not start: with the last lines of its log.
    pub async fn start(options: HaproxyOptions) -> Result<Self> {
        let own = options.folder.is_none().then(|| Folder::new("haproxy")).transpose()?;
        let folder = match (options.folder, &own) {
            (Some(folder), _) => folder,
            (None, Some(own)) => own.path().to_owned(),
            (None, None) => unreachable!("one is made where none is given"),
        };
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let backends = options.backends;
        let (port, process) = on_a_port(options.port, |port| launch(&folder, port, &backends)).await?;
        Ok(Self { process, port, folder, backends, _own: own })
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of its master, which starts the workers.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its master's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Puts others behind it. Connections through the old ones go on.
    ///
    /// # Errors
    /// When it does not take them over.
    pub async fn set_backends(&mut self, backends: Vec<Backend>) -> Result<()> {
        let mark = configure(&self.folder, self.port, &backends)?;
        self.backends = backends;
        self.process.signal(Signal::USR2)?;
        self.process.wait_ready(READY, || probe(self.port, &mark)).await
    }

    /// Stops it, its connections with it.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Signal::TERM, Duration::from_secs(5)).await.map(drop)
    }

    /// Sends its master a signal, and waits for the end if it is SIGKILL. Its workers end with it.
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

    /// Starts it again, on the same port; stops it first if it runs.
    ///
    /// # Errors
    /// When it does not start, or the port was taken in the meantime.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let (folder, backends) = (&self.folder, &self.backends);
        let (_, process) = on_a_port(Some(self.port), |port| launch(folder, port, backends)).await?;
        self.process = process;
        Ok(())
    }
}

async fn launch(folder: &Path, port: u16, backends: &[Backend]) -> Result<Process> {
    let mark = configure(folder, port, backends)?;
    let process = Launch::new("HAProxy", find_haproxy()?, folder.join("haproxy.log"))
        .args(["-W", "-f"])
        .arg(folder.join("haproxy.cfg"))
        .spawn()?;
    process.wait_ready(READY, || probe(port, &mark)).await?;
    Ok(process)
}

/// Writes the configuration and returns its mark, a path that only this version of it answers.
fn configure(folder: &Path, port: u16, backends: &[Backend]) -> Result<String> {
    static VERSION: AtomicU64 = AtomicU64::new(0);
    let mark = format!("/.balancer-{}-{}", std::process::id(), VERSION.fetch_add(1, Ordering::Relaxed));
    // noreuseport: two that were given the same port must not share it, the second must fail.
    let mut text = format!(
        "global\n    noreuseport\n    log stdout format raw daemon notice\n\
         defaults\n    mode http\n    log global\n    option forwardfor\n    option redispatch\n    retries 3\n\
         \x20   timeout connect 1s\n    timeout http-request 10s\n    timeout client 120s\n    timeout server 120s\n\
         \x20   # A WebSocket that says nothing: the edges ping more often.\n    timeout tunnel 1h\n\
         frontend clients\n    bind 127.0.0.1:{port}\n    monitor-uri {mark}\n    default_backend edges\n\
         backend edges\n    balance leastconn\n    option httpchk\n    http-check send meth GET uri /ready\n\
         \x20   http-check expect status 200\n"
    );
    for (number, Backend { address, admin }) in backends.iter().enumerate() {
        let check = match admin {
            Some(admin) => {
                format!(" check addr {} port {} inter 500ms fall 1 rise 1", host(admin)?.0, host(admin)?.1)
            }
            None => String::new(),
        };
        writeln!(text, "    server edge{number} {address}{check}").expect("a String takes all");
    }
    let path = folder.join("haproxy.cfg");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(mark)
}

fn host(address: &str) -> Result<(&str, &str)> {
    address.rsplit_once(':').with_context(|| format!("{address} is not host:port"))
}

/// Whether it is this very server, with this very configuration, that answers.
async fn probe(port: u16, mark: &str) -> Result<()> {
    match http_get(&format!("127.0.0.1:{port}"), mark).await? {
        (200, _) => Ok(()),
        (status, _) => bail!("port {port} answers {mark} with {status}"),
    }
}
