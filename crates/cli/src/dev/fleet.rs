//! All servers of a `dev` together: kept running, given orders, and in the end stopped, within 10 s.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use futures_util::future::join_all;
use rowcast_process::shutdown::Signal;
use tokio::task::JoinSet;

use super::RestartAfter;
use super::board::{Board, Place};
use super::folder::DevFolder;
use super::keeper::{Keeper, Order, Orders, Server};
use super::rowcast::Rowcast;
use super::say::Say;
use super::start::Started;
use crate::devfile;
use crate::devfile::DevFile;

/// Everything that runs, and the tasks that keep it so.
pub struct Fleet {
    controls: Controls,
    stop: Signal,
    keepers: JoinSet<Server>,
}

/// What others see of the servers, and what they may have done to them.
#[derive(Clone)]
pub struct Controls {
    board: Arc<Board>,
    orders: Arc<BTreeMap<Place, Orders>>,
}

impl Controls {
    /// Which servers run.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Has an order carried out.
    ///
    /// # Errors
    /// When it is not, with the reason.
    pub async fn order(&self, place: Place, order: Order) -> anyhow::Result<()> {
        let orders = self.orders.get(&place).with_context(|| format!("there is no {place}"))?;
        orders.give(order).await.with_context(|| place.to_string())
    }
}

impl Fleet {
    /// Writes `dev.json` and begins to look after what was started.
    pub fn keep(
        started: Started,
        policy: RestartAfter,
        folder: &DevFolder,
        say: Say,
    ) -> anyhow::Result<Self> {
        let board = Arc::new(Board::new(folder.dev_file(), described(&started, folder)));
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
        let (stop, mut keepers, mut orders) = (Signal::manual(), JoinSet::new(), BTreeMap::new());
        for (place, server) in servers {
            let (keeper, way) = Keeper::new(place, policy, board.clone(), stop.clone(), say);
            keepers.spawn(keeper.keep(server));
            orders.insert(place, way);
        }
        board.write()?;
        Ok(Self { controls: Controls { board, orders: Arc::new(orders) }, stop, keepers })
    }

    /// What `dev.json` says now.
    pub fn dev_file(&self) -> DevFile {
        self.controls.board.dev()
    }

    /// For whoever watches the servers, and breaks them.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
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
