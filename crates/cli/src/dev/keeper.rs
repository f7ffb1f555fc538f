//! Keeps what was started running: what ends by itself is started again, on the same port and data; and in the end
//! stops all of it, within 10 s.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use futures_util::future::join_all;
use rowcast_process::shutdown::Signal;
use rowcast_sandbox::{Haproxy, Postgres, Process, Redis};
use tokio::task::JoinSet;

use super::RestartAfter;
use super::folder::{DevFolder, write_dev_file};
use super::rowcast::Rowcast;
use super::say::Say;
use super::start::Started;
use crate::devfile;
use crate::devfile::DevFile;

/// Between attempts to start what did not come up.
const NEXT_ATTEMPT: Duration = Duration::from_millis(500);
/// What a listener or an edge has to hand over and say goodbye; a second signal then ends it at once. Nobody is left to
/// send elsewhere: all edges go.
const GOODBYE: Duration = Duration::from_secs(1);
const AT_ONCE: Duration = Duration::from_secs(1);
/// What PostgreSQL and Redis have to write everything. What is killed then loses nothing either, but starts slower.
const WRITING: Duration = Duration::from_secs(4);

/// A place in `dev.json`.
#[derive(Debug, Clone, Copy)]
enum Place {
    Postgres,
    Redis,
    Balancer,
    Listener(usize),
    Edge(usize),
}

enum Server {
    Postgres(Postgres),
    Redis(Redis),
    Balancer(Haproxy),
    Rowcast(Rowcast),
}

impl Server {
    fn process(&self) -> &Process {
        match self {
            Self::Postgres(server) => server.process(),
            Self::Redis(server) => server.process(),
            Self::Balancer(server) => server.process(),
            Self::Rowcast(server) => server.process(),
        }
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Postgres(server) => server.restart().await,
            Self::Redis(server) => server.restart().await,
            Self::Balancer(server) => server.restart().await,
            Self::Rowcast(server) => server.restart(),
        }
    }

    /// Stops it in order, if it goes quickly; what is left ends with the value.
    async fn stop(self) {
        let stopped = match &self {
            Self::Postgres(server) => tokio::time::timeout(WRITING, server.stop()).await,
            Self::Redis(server) => tokio::time::timeout(WRITING, server.stop()).await,
            Self::Balancer(server) => Ok(server.stop().await),
            Self::Rowcast(server) => {
                let process = server.process();
                let terminate = rowcast_sandbox::Signal::TERM;
                // An error says that it has ended already.
                let _ =
                    process.signal(terminate).and_then(|()| process.signal(rowcast_sandbox::Signal::CONT));
                match process.wait_exit(GOODBYE).await {
                    Ok(_) => Ok(Ok(())),
                    Err(_) => Ok(process.stop(terminate, AT_ONCE).await.map(drop)),
                }
            }
        };
        match stopped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("{error:#}"),
            Err(_) => tracing::debug!("{} did not stop in time", self.process().name()),
        }
        // Dropping kills, and waits for the end, which blocks.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// Everything that runs, and the tasks that keep it so.
pub struct Fleet {
    board: Arc<Board>,
    stop: Signal,
    keepers: JoinSet<Server>,
}

impl Fleet {
    /// Writes `dev.json` and begins to look after what was started.
    pub fn keep(
        started: Started,
        policy: RestartAfter,
        folder: &DevFolder,
        say: Say,
    ) -> anyhow::Result<Self> {
        let board = Arc::new(Board { path: folder.dev_file(), dev: Mutex::new(described(&started, folder)) });
        let numbered = |servers: Vec<Rowcast>, place: fn(usize) -> Place| {
            servers.into_iter().enumerate().map(move |(number, one)| (place(number), Server::Rowcast(one)))
        };
        let servers = [
            (Place::Postgres, Server::Postgres(started.database.postgres)),
            (Place::Redis, Server::Redis(started.redis)),
            (Place::Balancer, Server::Balancer(started.balancer)),
        ];
        let servers = servers
            .into_iter()
            .chain(numbered(started.listeners, Place::Listener))
            .chain(numbered(started.edges, Place::Edge));
        let mut fleet = Self { board, stop: Signal::manual(), keepers: JoinSet::new() };
        for (place, server) in servers {
            let keeper = Keeper { place, policy, board: fleet.board.clone(), stop: fleet.stop.clone(), say };
            fleet.keepers.spawn(keeper.keep(server));
        }
        fleet.board.write()?;
        Ok(fleet)
    }

    /// What `dev.json` says now.
    pub fn dev_file(&self) -> DevFile {
        self.board.dev()
    }

    /// Resolves when something went wrong that is not the end of a server.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.keepers.join_next().await {
            Some(Err(error)) => anyhow!(error).context("what looks after a server failed"),
            _ => anyhow!("nobody looks after a server any more"),
        }
    }

    /// Stops everything: first what clients and the application use, then what that uses.
    pub async fn stop(mut self) {
        self.stop.trigger();
        let (mut front, mut back) = (Vec::new(), Vec::new());
        while let Some(kept) = self.keepers.join_next().await {
            match kept {
                Ok(server @ (Server::Rowcast(_) | Server::Balancer(_))) => front.push(server),
                Ok(server) => back.push(server),
                // Its server ended with it.
                Err(error) => tracing::error!(%error, "what looked after a server failed"),
            }
        }
        join_all(front.into_iter().map(Server::stop)).await;
        join_all(back.into_iter().map(Server::stop)).await;
    }
}

fn described(started: &Started, folder: &DevFolder) -> DevFile {
    let http = |address: &str| format!("http://{address}");
    DevFile {
        database_url: started.database.url.clone(),
        redis_url: started.redis.url(),
        url: started.balancer.url(),
        jwt_secret: folder.secrets().jwt_secret.clone(),
        edges: started
            .edges
            .iter()
            .map(|edge| devfile::Edge {
                url: http(edge.listen()),
                admin: http(edge.admin()),
                pid: edge.process().pid(),
            })
            .collect(),
        listeners: started
            .listeners
            .iter()
            .map(|one| devfile::Listener { admin: http(one.admin()), pid: one.process().pid() })
            .collect(),
        postgres: devfile::Server { pid: started.database.postgres.pid() },
        redis: devfile::Server { pid: started.redis.pid() },
    }
}

/// Looks after one server.
struct Keeper {
    place: Place,
    policy: RestartAfter,
    board: Arc<Board>,
    stop: Signal,
    say: Say,
}

impl Keeper {
    /// Until everything is to stop; then it gives the server back.
    async fn keep(self, mut server: Server) -> Server {
        loop {
            let status = tokio::select! {
                biased;
                () = self.stop.requested() => return server,
                status = server.process().ended() => status,
            };
            let name = server.process().name().to_owned();
            let RestartAfter::Pause(pause) = self.policy else {
                self.say.line(&format!("{name} has ended ({status}) and is left so"));
                self.stop.requested().await;
                return server;
            };
            self.say.line(&format!("{name} has ended ({status}), starting it again in {pause:?}"));
            let again = tokio::select! {
                () = self.stop.requested() => false,
                () = self.start_again(&mut server, pause) => true,
            };
            if !again {
                return server;
            }
        }
    }

    async fn start_again(&self, server: &mut Server, pause: Duration) {
        tokio::time::sleep(pause).await;
        while let Err(error) = server.restart().await {
            self.say.line(&format!("{error:#}"));
            tokio::time::sleep(NEXT_ATTEMPT.max(pause)).await;
        }
        let process = server.process();
        self.say.line(&format!("{} runs again, pid {}", process.name(), process.pid()));
        if let Err(error) = self.board.set_pid(self.place, process.pid()) {
            self.say.line(&format!("{error:#}"));
        }
    }
}

/// `dev.json` as it is now.
struct Board {
    path: PathBuf,
    dev: Mutex<DevFile>,
}

impl Board {
    fn dev(&self) -> DevFile {
        self.dev.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self) -> anyhow::Result<()> {
        write_dev_file(&self.path, &self.dev())
    }

    fn set_pid(&self, place: Place, pid: u32) -> anyhow::Result<()> {
        // Held while it is written: of two that change it at once, the later file has both.
        let mut dev = self.dev.lock().unwrap_or_else(PoisonError::into_inner);
        match place {
            Place::Postgres => dev.postgres.pid = pid,
            Place::Redis => dev.redis.pid = pid,
            Place::Balancer => return Ok(()),
            Place::Listener(number) => dev.listeners[number].pid = pid,
            Place::Edge(number) => dev.edges[number].pid = pid,
        }
        write_dev_file(&self.path, &dev)
    }
}
