//! A PgBouncer in front of a PostgreSQL: a connection pooler as applications have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio_postgres::SimpleQueryMessage;

use crate::ports::on_a_port;
use crate::user::User;
use crate::{Connection, Folder, Launch, Process, find_pgbouncer};

const READY: Duration = Duration::from_secs(20);

/// How PgBouncer is to be started.
#[derive(Debug, Clone)]
pub struct PgbouncerOptions {
    /// The port of the PostgreSQL behind it, on 127.0.0.1.
    pub postgres: u16,
    /// `session`, `transaction` or `statement`.
    pub pool_mode: String,
    /// Further settings, like `("default_pool_size", "1")`. They win over those made here.
    pub settings: Vec<(String, String)>,
}

impl PgbouncerOptions {
    /// A pooler of a mode, otherwise as it comes.
    pub fn new(postgres: u16, pool_mode: &str) -> Self {
        Self { postgres, pool_mode: pool_mode.to_owned(), settings: Vec::new() }
    }

    /// With a setting more.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }
}

/// A PgBouncer. Dropping it ends it.
#[derive(Debug)]
pub struct Pgbouncer {
    process: Process,
    port: u16,
    options: PgbouncerOptions,
    /// Last: removed when the server has gone.
    folder: Folder,
}

impl Pgbouncer {
    /// Starts one and waits until it answers. Whoever connects is the superuser `postgres`.
    ///
    /// # Errors
    /// When there is none on this machine, or it does not start: with the last lines of its log.
    pub async fn start(options: PgbouncerOptions) -> Result<Self> {
        let folder = Folder::new("pgbouncer")?;
        // It refuses to run as root, as PostgreSQL does.
        let user = User::for_postgres(&[folder.path()])?;
        let (port, process) = on_a_port(None, |port| launch(folder.path(), user, port, &options)).await?;
        Ok(Self { process, port, options, folder })
    }

    /// The address of a database through it.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Changes how sessions are shared, as an operator does: by editing its file and telling it to read that again.
    ///
    /// # Errors
    /// When the file can not be written, or it has ended.
    pub fn set_pool_mode(&mut self, pool_mode: &str) -> Result<()> {
        pool_mode.clone_into(&mut self.options.pool_mode);
        configure(self.folder.path(), self.port, &self.options)?;
        self.process.signal(Signal::HUP)
    }
}

async fn launch(folder: &Path, user: Option<User>, port: u16, options: &PgbouncerOptions) -> Result<Process> {
    let file = configure(folder, port, options)?;
    let process = Launch::new("PgBouncer", find_pgbouncer()?, folder.join("pgbouncer.log"))
        .arg(&file)
        .folder("/")
        .user(user)
        .spawn()?;
    process.wait_ready(READY, || probe(port, &file)).await?;
    Ok(process)
}

fn configure(folder: &Path, port: u16, options: &PgbouncerOptions) -> Result<PathBuf> {
    let mut text = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\nadmin_users = postgres\npool_mode = {}\n",
        options.postgres, options.pool_mode
    );
    for (name, value) in &options.settings {
        text.push_str(&format!("{name} = {value}\n"));
    }
    let path = folder.join("pgbouncer.ini");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Whether it is this very server that answers: another may have been faster to take the port.
async fn probe(port: u16, file: &Path) -> Result<()> {
    let console = Connection::open(&format!("postgres://postgres@127.0.0.1:{port}/pgbouncer")).await?;
    let wanted = file.to_str();
    for row in console.simple_query("SHOW CONFIG").await? {
        if let SimpleQueryMessage::Row(row) = row
            && row.get("key") == Some("conffile")
            && row.get("value") == wanted
        {
            return Ok(());
        }
    }
    bail!("another server answers on port {port}")
}
