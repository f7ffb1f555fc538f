//! The processes under torture, started as `rowcast dev` starts them, with a proxy in each of their links.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use rowcast_cli::dev::database::Database;
use rowcast_cli::dev::folder::DevFolder;
use rowcast_cli::dev::rowcast::{EdgeSetting, ListenerSetting, Rowcast};
use rowcast_cli::dev::say::Say;
use rowcast_cli::token::Claims;
use rowcast_sandbox::{Connection, Folder, Link, Postgres, Proxy, Signal, metric};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::plan::{self, Class, Plan};
use crate::release::Programs;
use crate::standby::Standby;
use crate::stores::Stores;
use crate::writer::SCHEMA;

/// For a process to be ready, on a machine that has much else to do.
const READY: Duration = Duration::from_secs(60);
/// After a kill, until it is started again.
const AWAY: Duration = Duration::from_secs(1);
/// For a process that is asked to end: longer than all that it may take for itself.
const GOODBYE: Duration = Duration::from_secs(30);
/// How edges drain here. The shortest that lets clients go in peace: a rolling restart takes six times both.
const DRAIN: [(&str, &str); 2] =
    [("ROWCAST_EDGE__DRAIN_DELAY", "500ms"), ("ROWCAST_EDGE__DRAIN_WINDOW", "2s")];

/// A listener or an edge, and its links.
pub(crate) struct Node {
    /// `listener 1`
    pub(crate) name: String,
    /// Locked by whoever stops or ends it.
    pub(crate) process: Mutex<Rowcast>,
    pub(crate) admin: String,
    /// Where an edge serves.
    pub(crate) listen: String,
    /// Where Redis is one server.
    pub(crate) to_redis: Option<Proxy>,
    /// A listener's alone.
    pub(crate) to_postgres: Option<Proxy>,
    /// The same, where PostgreSQL has a standby: the two change their places with each fail-over.
    pub(crate) to_standby: Option<Proxy>,
}

pub(crate) struct System {
    pub(crate) listeners: Vec<Node>,
    pub(crate) edges: Vec<Node>,
    pub(crate) postgres: Mutex<Postgres>,
    /// Commits wait for it. None where PostgreSQL never fails over.
    pub(crate) standby: Mutex<Option<Standby>>,
    pub(crate) redis: Mutex<Stores>,
    rooms: u16,
    /// For the application, without a proxy.
    pub(crate) database_url: String,
    pub(crate) plan: Plan,
    pub(crate) programs: Programs,
    pub(crate) rolled: AtomicUsize,
    folder: DevFolder,
    /// Last: removed when all have gone.
    own: Option<Folder>,
}

impl System {
    /// Starts everything, until a client of each edge is told that the whole way works.
    pub(crate) async fn start(plan: &Plan, say: Say) -> Result<Self> {
        let own = plan.dir.is_none().then(|| Folder::new("torture")).transpose()?;
        let path: PathBuf =
            plan.dir.clone().or(own.as_ref().map(|own| own.path().to_owned())).context("one of both")?;
        let folder = DevFolder::open(Some(&path), say)?;
        let programs = Programs::new(plan.previous.clone());
        let Database { postgres, url: database_url, listener_url } =
            programs.database(plan.schema_of, &folder, say).await?;
        let redis = Stores::start(plan.redis, folder.path()).await?;
        Connection::open(&database_url).await?.batch_execute(SCHEMA).await.context("making the tables")?;
        let standby = match plan.wants(Class::Failover) {
            true => Some(Standby::start(&postgres, 1, folder.path(), None, plan.asynchronous).await?),
            false => None,
        };
        let standby_port = standby.as_ref().map(|standby| standby.server.port());
        let database_url = with_standby(&database_url, postgres.port(), standby_port);
        let listeners = (1..=plan.listeners).map(async |number| {
            let to_postgres = Proxy::start(format!("127.0.0.1:{}", postgres.port()))?;
            let to_redis = to_redis(&redis)?;
            let to_standby =
                standby_port.map(|port| Proxy::start(format!("127.0.0.1:{port}"))).transpose()?;
            let through = format!("@{}/", to_postgres.address());
            let database_url = &listener_url.replace(&format!("@127.0.0.1:{}/", postgres.port()), &through);
            let standby_port = to_standby.as_ref().map(Proxy::port);
            let database_url = &with_standby(database_url, to_postgres.port(), standby_port);
            let redis_url = &url(&redis, to_redis.as_ref());
            let setting = ListenerSetting { database_url, redis_url };
            let program = programs.find("rowcast-listener", plan.listeners_of.of(number))?;
            let process = Rowcast::listener(&folder, &program, number, &setting).await?;
            let node = Node::new(format!("listener {number}"), process, to_redis, Some(to_postgres))?;
            anyhow::Ok(Node { to_standby, ..node })
        });
        let edges = (1..=plan.edges).map(async |number| {
            let to_redis = to_redis(&redis)?;
            let setting = EdgeSetting { redis_url: &url(&redis, to_redis.as_ref()), more: &DRAIN };
            let program = programs.find("rowcast-edge", plan.edges_of.of(number))?;
            let process = Rowcast::edge(&folder, &program, number, &setting).await?;
            Node::new(format!("edge {number}"), process, to_redis, None)
        });
        let (listeners, edges) = tokio::try_join!(try_join_all(listeners), try_join_all(edges))?;
        let system = Self {
            listeners,
            edges,
            postgres: Mutex::new(postgres),
            standby: Mutex::new(standby),
            redis: Mutex::new(redis),
            rooms: plan.rooms,
            database_url,
            plan: plan.clone(),
            programs,
            rolled: AtomicUsize::new(0),
            folder,
            own,
        };
        system.all_green().await?;
        Ok(system)
    }

    /// Waits until every edge tells a client that the whole way works.
    pub(crate) async fn all_green(&self) -> Result<()> {
        let secret = &self.folder.secrets().jwt_secret;
        let lights =
            self.edges.iter().map(|edge| rowcast_cli::dev::green(format!("http://{}", edge.listen), secret));
        try_join_all(lights).await.map(drop)
    }

    /// A token for these rooms.
    pub(crate) fn token(&self, client: u16, rooms: Vec<String>) -> Result<String> {
        let claims = Claims {
            merchants: rooms,
            subject: format!("client-{client}"),
            expires_in: Duration::from_secs(7 * 24 * 3600),
            ..Claims::default()
        };
        claims.sign(&self.folder.secrets().jwt_secret, SystemTime::now())
    }

    /// The name of a room, by any number.
    pub(crate) fn room(&self, number: u16) -> String {
        plan::room(number % self.rooms)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.listeners.iter().chain(&self.edges)
    }

    /// Which listener says that it leads, if one does.
    pub(crate) async fn leader(&self) -> Option<usize> {
        self.leader_but(None).await
    }

    /// The same, among all but one.
    pub(crate) async fn leader_but(&self, without: Option<&str>) -> Option<usize> {
        let ask = async |node: &Node| Some(&*node.name) != without && node.leads().await;
        let answers = futures_util::future::join_all(self.listeners.iter().map(ask)).await;
        answers.into_iter().position(|leads| leads)
    }

    /// The highest epoch under which a listener says that it leads; 0 where none does.
    pub(crate) async fn epoch(&self) -> u64 {
        let ask = async |node: &Node| {
            let epoch = metric(&node.admin, "rowcast_listener_epoch", "");
            match timeout(Duration::from_millis(200), epoch).await {
                Ok(Ok(epoch)) if node.leads().await => epoch as u64,
                _ => 0,
            }
        };
        let answers = futures_util::future::join_all(self.listeners.iter().map(ask)).await;
        answers.into_iter().max().unwrap_or_default()
    }

    /// Lets everything pass, and everyone run.
    pub(crate) fn heal(&self) {
        for node in self.nodes() {
            if let Some(proxy) = &node.to_redis {
                proxy.set(Link::Through);
            }
            node.to_postgres.iter().chain(&node.to_standby).for_each(|proxy| proxy.set(Link::Through));
        }
    }

    /// Where the logs are, which stay from now on.
    pub(crate) fn keep_folder(&mut self) -> PathBuf {
        // Its removal is its drop.
        std::mem::forget(self.own.take());
        self.folder.path().to_owned()
    }
}

/// An address with both hosts, of which the one that takes writes is meant.
fn with_standby(url: &str, port: u16, standby: Option<u16>) -> String {
    let Some(standby) = standby else { return url.to_owned() };
    let both = url.replace(&format!(":{port}/"), &format!(":{port},127.0.0.1:{standby}/"));
    format!("{both}?target_session_attrs=read-write")
}

fn to_redis(redis: &Stores) -> Result<Option<Proxy>> {
    Ok(redis.port().map(|port| Proxy::start(format!("127.0.0.1:{port}"))).transpose()?)
}

fn url(redis: &Stores, through: Option<&Proxy>) -> String {
    through.map_or_else(|| redis.url(), |proxy| format!("redis://{}", proxy.address()))
}

impl Node {
    fn new(
        name: String,
        process: Rowcast,
        to_redis: Option<Proxy>,
        to_postgres: Option<Proxy>,
    ) -> Result<Self> {
        let (admin, listen) = (process.admin().to_owned(), process.listen().to_owned());
        Ok(Self {
            name,
            process: Mutex::new(process),
            admin,
            listen,
            to_redis,
            to_postgres,
            to_standby: None,
        })
    }

    pub(crate) fn is_listener(&self) -> bool {
        self.to_postgres.is_some()
    }

    /// Whether this listener says that it leads. One that is stopped says nothing.
    pub(crate) async fn leads(&self) -> bool {
        let leads = metric(&self.admin, "rowcast_listener_leader", "");
        matches!(timeout(Duration::from_millis(200), leads).await, Ok(Ok(1.0)))
    }

    /// SIGKILL, and started again a second later. `killed` is called in between.
    pub(crate) async fn kill(&self, killed: impl FnOnce()) -> Result<()> {
        let mut process = self.process.lock().await;
        process.process().signal(Signal::KILL)?;
        killed();
        process.process().wait_exit(READY).await?;
        tokio::time::sleep(AWAY).await;
        process.restart()?;
        process.wait_ready(READY).await
    }

    /// SIGSTOP for so long. `stopped` is called once it is.
    pub(crate) async fn stop(&self, time: Duration, stopped: impl FnOnce()) -> Result<()> {
        let process = self.process.lock().await;
        process.process().signal(Signal::STOP)?;
        stopped();
        tokio::time::sleep(time).await;
        process.process().signal(Signal::CONT)
    }

    /// Asked to end, waited for, started again, with another program if one is given, waited for. How long the end took.
    pub(crate) async fn roll(&self, program: Option<&Path>) -> Result<Duration> {
        let mut process = self.process.lock().await;
        let asked = Instant::now();
        let status = process.process().stop(Signal::TERM, GOODBYE).await?;
        anyhow::ensure!(
            status.success(),
            process.process().failure(format!("{} ended with {status}", self.name))
        );
        let took = asked.elapsed();
        if let Some(program) = program {
            process.replace(program);
        }
        process.restart()?;
        process.wait_ready(READY).await?;
        Ok(took)
    }

    /// Starts it again if it has ended though nobody asked for it; says how it ended.
    pub(crate) async fn mend(&self) -> Result<Option<String>> {
        // Whoever holds the lock ends it, or waits for it.
        let Ok(mut process) = self.process.try_lock() else { return Ok(None) };
        let Some(status) = process.process().exited() else { return Ok(None) };
        let said = process.process().log_tail(5);
        process.restart()?;
        Ok(Some(format!("{} ended by itself ({status}): {said}", self.name)))
    }
}
