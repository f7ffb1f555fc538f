//! A PostgreSQL server of one's own. Its data folder is made in `cluster`, others of it in `standby` and `backup`.

mod backup;
mod cluster;
mod connection;
mod standby;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::sync::OnceCell;
use tokio_postgres::Config;

use crate::ports::on_a_port;
use crate::user::User;
use crate::{Folder, Launch, Process, ServerTls, find_postgres};

pub use backup::Backup;
pub use connection::Connection;

/// Crash recovery of a large cluster included.
const READY: Duration = Duration::from_secs(60);
/// The superuser of every cluster.
const SUPERUSER: &str = "postgres";

/// How PostgreSQL is to be started.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// The major version; the newest on this machine unless given.
    pub version: Option<u32>,
    /// Where its files live (`data/`, made when it is not there, and `postgres.log`); a temporary folder unless given.
    pub folder: Option<PathBuf>,
    /// Its port; a free one unless given.
    pub port: Option<u16>,
    /// Whether it survives a crash of the machine: fsync and full-page writes. Off, because tests need not.
    /// `synchronous_commit` is on in any case.
    pub durable: bool,
    /// The superuser's password. Without one, everybody on this machine is trusted.
    pub password: Option<String>,
    /// Whether it speaks TLS, and with what.
    pub tls: Option<ServerTls>,
    /// Lines of `pg_hba.conf` before those made here; the first that fits counts.
    pub access: Vec<String>,
    /// Further settings, like `("max_prepared_transactions", "10")`. They win over those made here.
    pub settings: Vec<(String, String)>,
}

impl PostgresOptions {
    /// The defaults with a setting more.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// The same in a temporary folder, on a free port.
    fn anywhere(self) -> Self {
        Self { folder: None, port: None, ..self }
    }
}

/// A PostgreSQL server. Dropping it ends it (by an immediate shutdown).
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    place: Arc<Place>,
    /// Last: removed when the server has gone.
    _own: Option<Folder>,
}

/// What stays the same over restarts.
#[derive(Debug)]
struct Place {
    binaries: PathBuf,
    folder: PathBuf,
    user: Option<User>,
    options: PostgresOptions,
    /// Set when whoever asked for the server does not wait for it any more.
    given_up: Arc<AtomicBool>,
}

impl Place {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Postgres {
    /// Starts one and waits until it answers. The superuser is `postgres`.
    ///
    /// # Errors
    /// When there is none on this machine, or it does not start: with the last lines of its log.
    pub async fn start(options: PostgresOptions) -> Result<Self> {
        start_at(options, cluster::prepare).await
    }

    /// A server of this process that is shared by all who ask for it here; each takes a database of its own by
    /// [`Postgres::create_database`]. Never stop it. Roles and settings are common to all.
    ///
    /// # Errors
    /// As [`Postgres::start`]; the next one to ask tries again.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start(PostgresOptions::default())).await
    }

    /// The same of a given major version: one a version and process.
    ///
    /// # Errors
    /// As [`Postgres::start`]; the next one to ask tries again.
    pub async fn shared_of(version: u32) -> Result<&'static Self> {
        static SHARED: [OnceCell<Postgres>; 64] = [const { OnceCell::const_new() }; 64];
        let place = usize::try_from(version).ok().and_then(|index| SHARED.get(index));
        let place = place.with_context(|| format!("there is no PostgreSQL {version}"))?;
        let options = PostgresOptions { version: Some(version), ..PostgresOptions::default() };
        place.get_or_try_init(|| Self::start(options)).await
    }

    /// The superuser's address of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The superuser's address of a database.
    pub fn url_of(&self, database: &str) -> String {
        self.url_with(SUPERUSER, self.place.options.password.as_deref(), database)
    }

    /// A role's address of a database, without a password.
    pub fn url_for(&self, role: &str, database: &str) -> String {
        self.url_with(role, None, database)
    }

    /// A role's address of a database. Nothing is escaped.
    pub fn url_with(&self, role: &str, password: Option<&str>, database: &str) -> String {
        let colon = if password.is_some() { ":" } else { "" };
        format!("postgres://{role}{colon}{}@127.0.0.1:{}/{database}", password.unwrap_or_default(), self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its major version.
    ///
    /// # Panics
    /// When its data folder is gone.
    pub fn version(&self) -> u32 {
        let text = std::fs::read_to_string(self.place.data().join("PG_VERSION"));
        text.ok().and_then(|text| text.trim().parse().ok()).expect("a data folder says its version")
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The postmaster.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Where its files and its log live.
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    /// The superuser's connection to a database.
    ///
    /// # Errors
    /// When it can not be reached, or there is no such database.
    pub async fn connect(&self, database: &str) -> Result<Connection> {
        Connection::open(&self.url_of(database)).await
    }

    /// Makes a database and returns the superuser's address of it.
    ///
    /// # Errors
    /// When it can not be reached, or the database is there.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let quoted = name.replace('"', "\"\"");
        let connection = self.connect("postgres").await?;
        let made = connection.batch_execute(&format!("CREATE DATABASE \"{quoted}\"")).await;
        made.with_context(|| format!("creating the database {name}"))?;
        Ok(self.url_of(name))
    }

    /// Stops it in order (a "fast" shutdown: sessions are cut off, everything is written).
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Signal::INT, Duration::from_secs(30)).await.map(drop)
    }

    /// Sends the postmaster a signal, and waits for its end if it is SIGKILL or SIGQUIT (an "immediate" shutdown).
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)?;
        if matches!(signal, Signal::KILL | Signal::QUIT) {
            self.process.wait_exit(Duration::from_secs(10)).await?;
        }
        Ok(())
    }

    /// Starts it again, on the same port and data; stops it first if it runs.
    ///
    /// # Errors
    /// When it does not start, or the port was taken in the meantime.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let place = self.place.clone();
        let (_, process) = on_a_port(Some(self.port), |port| launch(&place, port)).await?;
        self.process = process;
        Ok(())
    }
}

impl Postgres {
    fn source(&self) -> cluster::Source {
        let Place { binaries, options, .. } = &*self.place;
        cluster::Source { binaries: binaries.clone(), port: self.port, password: options.password.clone() }
    }

    /// Has it show another certificate from now on, from the files that it was started with. Sessions go on.
    ///
    /// # Errors
    /// When the files are gone, or the server is.
    pub async fn renew_certificate(&self) -> Result<()> {
        cluster::configure(&self.place, self.port)?;
        self.connect("postgres").await?.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }
}

/// Starts a server on the data folder that `make` makes.
async fn start_at(
    options: PostgresOptions,
    make: impl FnOnce(&Place) -> Result<()> + Send + 'static,
) -> Result<Postgres> {
    let own = options.folder.is_none().then(|| Folder::new("postgres")).transpose()?;
    let folder = match (&options.folder, &own) {
        (Some(folder), _) => std::path::absolute(folder).context("an absolute path")?,
        (None, Some(own)) => own.path().to_owned(),
        (None, None) => unreachable!("one is made where none is given"),
    };
    // Copying files and waiting for initdb block. Dropped in the middle of it, this call gives it up.
    let given_up = Arc::new(AtomicBool::new(false));
    let patience = GiveUpOnDrop(given_up.clone());
    let making = tokio::task::spawn_blocking(move || {
        let place = find_place(folder, options, given_up)?;
        make(&place)?;
        anyhow::Ok(place)
    });
    let place = Arc::new(making.await.context("making the data folder")??);
    drop(patience);
    let (port, process) = on_a_port(place.options.port, |port| launch(&place, port)).await?;
    Ok(Postgres { process, port, place, _own: own })
}

struct GiveUpOnDrop(Arc<AtomicBool>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn find_place(folder: PathBuf, options: PostgresOptions, given_up: Arc<AtomicBool>) -> Result<Place> {
    let binaries = find_postgres(options.version)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let user = User::for_postgres(&[&folder, &binaries])?;
    Ok(Place { binaries, folder, user, options, given_up })
}

async fn launch(place: &Place, port: u16) -> Result<Process> {
    let data = place.data();
    cluster::configure(place, port)?;
    let process =
        Launch::new("PostgreSQL", place.binaries.join("postgres"), place.folder.join("postgres.log"))
            .arg("-D")
            .arg(&data)
            // The user may not be allowed to look at the folder this process is in.
            .folder("/")
            .user(place.user)
            // A postmaster that is killed leaves a segment of shared memory and its backends behind.
            .farewell(Signal::QUIT)
            .spawn()?;
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(SUPERUSER).dbname("postgres").application_name("sandbox");
    if let Some(password) = &place.options.password {
        config.password(password);
    }
    process.wait_ready(READY, || probe(&config, &data)).await?;
    Ok(process)
}

/// Whether it is this very server that answers: another may have been faster to take the port.
async fn probe(config: &Config, data: &Path) -> Result<()> {
    let connection = Connection::with(config).await?;
    let row = connection.query_one("SELECT current_setting('data_directory')", &[]).await?;
    let answering: &str = row.get(0);
    if Path::new(answering) != data {
        bail!("another server answers on this port ({answering})");
    }
    Ok(())
}
