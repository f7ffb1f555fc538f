//! An HAProxy in front of edges: least connections, checked by `/ready` of their admin ports. A page may stand beside them
//! on the same origin, and WebSockets can be refused while it runs, as many a company's proxy does.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::ports::on_a_port;
use crate::{Folder, Launch, Process, find_haproxy, http_get, wait_for};

const READY: Duration = Duration::from_secs(20);
/// For open sockets to be cut.
const CUT: Duration = Duration::from_secs(5);

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
    /// A server, like `127.0.0.1:8080`, that answers all but `/ws`, `/v1/…` and `/socket.io/…`; without one the backends
    /// answer everything.
    pub page: Option<String>,
    /// The version of the PROXY protocol in which it names its clients to the backends, 1 or 2; without one it does not. By
    /// `X-Forwarded-For` it does anyway.
    pub proxy_protocol: Option<u8>,
}

/// A balancer. Dropping it ends it.
#[derive(Debug)]
pub struct Haproxy {
    process: Process,
    port: u16,
    folder: PathBuf,
    rules: Rules,
    /// Last: removed when the server has gone.
    _own: Option<Folder>,
    _control: Folder,
}

/// What a configuration is written from.
#[derive(Debug)]
struct Rules {
    backends: Vec<Backend>,
    page: Option<String>,
    proxy_protocol: Option<u8>,
    websockets: bool,
    /// Where it takes orders. In a folder of its own: the path of such a socket has 108 bytes at most.
    control: PathBuf,
}

impl Haproxy {
    /// Starts one and waits until it answers; whether a backend is up is another question.
    ///
    /// # Errors
    /// When there is none on this machine, or it does not start: with the last lines of its log.
    pub async fn start(options: HaproxyOptions) -> Result<Self> {
        let HaproxyOptions { folder, port, backends, page, proxy_protocol } = options;
        let own = folder.is_none().then(|| Folder::new("haproxy")).transpose()?;
        let folder = match (folder, &own) {
            (Some(folder), _) => folder,
            (None, Some(own)) => own.path().to_owned(),
            (None, None) => unreachable!("one is made where none is given"),
        };
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let control_folder = Folder::new("haproxy-control")?;
        let control = control_folder.path().join("socket");
        let rules = Rules { backends, page, proxy_protocol, websockets: true, control };
        let (port, process) = on_a_port(port, |port| launch(&folder, port, &rules)).await?;
        Ok(Self { process, port, folder, rules, _own: own, _control: control_folder })
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
        self.rules.backends = backends;
        let mark = configure(&self.folder, self.port, &self.rules)?;
        self.process.signal(Signal::USR2)?;
        self.process.wait_ready(READY, || probe(self.port, &mark)).await
    }

    /// Lets WebSockets through, or not: then requests for one are answered 503 and open ones are cut, while plain HTTP
    /// goes on. It stays so over a restart.
    ///
    /// # Errors
    /// When it does not take the order, or open sockets stay open.
    pub async fn set_websockets(&mut self, allowed: bool) -> Result<()> {
        self.rules.websockets = allowed;
        configure(&self.folder, self.port, &self.rules)?;
        let state = if allowed { "ready" } else { "maint" };
        self.for_each_socket_server(&format!("set server {{}} state {state}")).await?;
        if allowed {
            return Ok(());
        }
        // One that was just being connected may appear after the others were cut.
        wait_for("the end of open WebSockets", CUT, async || {
            self.for_each_socket_server("shutdown sessions server {}").await?;
            match self.open_sockets().await? {
                0 => Ok(()),
                open => bail!("{open} are open"),
            }
        })
        .await
    }

    /// Whether WebSockets are let through.
    pub fn websockets(&self) -> bool {
        self.rules.websockets
    }

    async fn for_each_socket_server(&self, order: &str) -> Result<()> {
        for number in 0..self.rules.backends.len() {
            let order = order.replace("{}", &format!("sockets/edge{number}"));
            let answer = self.ask(&order).await?;
            if !answer.trim().is_empty() {
                bail!("HAProxy answers {order:?} with {:?}", answer.trim());
            }
        }
        Ok(())
    }

    async fn open_sockets(&self) -> Result<u64> {
        // Of the backend alone; its fifth column is the number of current sessions.
        let answer = self.ask("show stat sockets 2 -1").await?;
        let line = answer.lines().find(|line| line.starts_with("sockets,BACKEND,"));
        let sessions = line.and_then(|line| line.split(',').nth(4)?.parse().ok());
        sessions.with_context(|| format!("HAProxy's statistics are {answer:?}"))
    }

    /// What it answers to an order.
    async fn ask(&self, order: &str) -> Result<String> {
        let control = &self.rules.control;
        let mut stream = UnixStream::connect(control)
            .await
            .with_context(|| format!("connecting to {}", control.display()))?;
        stream.write_all(format!("{order}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
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
        let (folder, rules) = (&self.folder, &self.rules);
        let (_, process) = on_a_port(Some(self.port), |port| launch(folder, port, rules)).await?;
        self.process = process;
        Ok(())
    }
}

async fn launch(folder: &Path, port: u16, rules: &Rules) -> Result<Process> {
    let mark = configure(folder, port, rules)?;
    let process = Launch::new("HAProxy", find_haproxy()?, folder.join("haproxy.log"))
        .args(["-W", "-f"])
        .arg(folder.join("haproxy.cfg"))
        .spawn()?;
    process.wait_ready(READY, || probe(port, &mark)).await?;
    Ok(process)
}

/// Writes the configuration and returns its mark, a path that only this version of it answers.
fn configure(folder: &Path, port: u16, rules: &Rules) -> Result<String> {
    static VERSION: AtomicU64 = AtomicU64::new(0);
    let mark = format!("/.balancer-{}-{}", std::process::id(), VERSION.fetch_add(1, Ordering::Relaxed));
    let path = folder.join("haproxy.cfg");
    fs::write(&path, written(port, &mark, rules)?).with_context(|| format!("writing {}", path.display()))?;
    Ok(mark)
}

fn written(port: u16, mark: &str, rules: &Rules) -> Result<String> {
    let others = match &rules.page {
        Some(_) => {
            "    use_backend edges if { path /ws } or { path_beg /v1/ /socket.io/ }\n    default_backend page\n"
        }
        None => "    default_backend edges\n",
    };
    // noreuseport: two that were given the same port must not share it, the second must fail.
    let mut text = format!(
        "global\n    noreuseport\n    log stdout format raw daemon notice\n\
         \x20   stats socket \"{control}\" mode 600 level admin\n\
         defaults\n    mode http\n    log global\n    option forwardfor\n    option redispatch\n    retries 3\n\
         \x20   timeout connect 1s\n    timeout http-request 10s\n    timeout client 120s\n    timeout server 120s\n\
         \x20   # A WebSocket that says nothing: the edges ping more often.\n    timeout tunnel 1h\n\
         frontend clients\n    bind 127.0.0.1:{port}\n    monitor-uri {mark}\n\
         \x20   use_backend sockets if {{ hdr(Upgrade) -i websocket }}\n{others}\
         backend edges\n    balance leastconn\n    option httpchk\n    http-check send meth GET uri /ready\n\
         \x20   http-check expect status 200\n",
        control = rules.control.display()
    );
    let named = match rules.proxy_protocol {
        None => "",
        Some(1) => " send-proxy",
        Some(_) => " send-proxy-v2",
    };
    for (number, Backend { address, admin }) in rules.backends.iter().enumerate() {
        let check = match admin {
            Some(admin) => {
                format!(" check addr {} port {} inter 500ms fall 1 rise 1", host(admin)?.0, host(admin)?.1)
            }
            None => String::new(),
        };
        writeln!(text, "    server edge{number} {address}{named}{check}").expect("a String takes all");
    }
    // The same servers, so that their WebSockets can be refused apart from the rest.
    text.push_str("backend sockets\n    balance leastconn\n");
    for (number, Backend { address, admin }) in rules.backends.iter().enumerate() {
        let track = admin.as_ref().map_or_else(String::new, |_| format!(" track edges/edge{number}"));
        let state = if rules.websockets { "" } else { " disabled" };
        writeln!(text, "    server edge{number} {address}{named}{track}{state}").expect("a String takes all");
    }
    if let Some(page) = &rules.page {
        writeln!(text, "backend page\n    server page {page}").expect("a String takes all");
    }
    Ok(text)
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
