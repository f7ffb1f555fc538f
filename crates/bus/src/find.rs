//! Finding the servers that hold the rooms: asking Sentinels, or nodes of a Cluster. It keeps its connections, and is asked
//! again by its owner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;

use crate::connect::BusConfig;
use crate::error::BusError;
use crate::info::info_field;
use crate::place::{Kind, Place};
use crate::topology::{Address, Server, Topology};

/// How many nodes of a Cluster are asked at once.
const ASKED: usize = 16;

/// What one of them said, and how new that is: the epoch of its configuration.
type Said = (u64, Topology);

/// Knows where to ask for the servers.
pub struct Finder {
    config: BusConfig,
    place: Place,
    /// Nodes of the Cluster that were seen last.
    seen: BTreeSet<Address>,
    links: BTreeMap<Address, MultiplexedConnection>,
}

impl Finder {
    /// For an address.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn new(config: &BusConfig) -> Result<Self, BusError> {
        let place = config.place()?;
        Ok(Self { config: config.clone(), place, seen: BTreeSet::new(), links: BTreeMap::new() })
    }

    /// How often it is to be asked again; never where the URL names the server.
    pub fn interval(&self) -> Option<Duration> {
        (!matches!(self.place.kind, Kind::One)).then_some(Duration::from_secs(1))
    }

    /// The servers as they are now. All that can be asked are asked at once, and the newest answer counts: one that is cut off from
    /// the others goes on telling of what was.
    ///
    /// # Errors
    /// Nobody could tell; why, in the words of the last one asked.
    pub async fn find(&mut self) -> Result<Topology, BusError> {
        let asked: BTreeSet<Address> = match &self.place.kind {
            Kind::One => return Ok(Topology::single()),
            Kind::Sentinel { seeds, .. } => seeds.iter().cloned().collect(),
            Kind::Cluster { seeds } => self.seen.iter().chain(seeds).take(ASKED).cloned().collect(),
        };
        let asking = asked.into_iter().map(|address| {
            let link = self.links.remove(&address);
            let (config, place) = (&self.config, &self.place);
            async move {
                let limit = config.response_timeout;
                let said = tokio::time::timeout(limit, ask(config, place, &address, link)).await;
                (address, said.unwrap_or_else(|_| Err(BusError::timed_out())))
            }
        });
        let mut newest: Option<Said> = None;
        let mut failed = BusError::Nowhere("nobody was asked".to_owned());
        for (address, answer) in join_all(asking).await {
            match answer {
                Ok((link, said)) => {
                    self.links.insert(address, link);
                    if newest.as_ref().is_none_or(|newest| said.0 > newest.0) {
                        newest = Some(said);
                    }
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "can not tell where Redis is");
                    failed = BusError::Nowhere(match error {
                        BusError::Nowhere(reason) => format!("{address}: {reason}"),
                        error => format!("{address}: {error}"),
                    });
                }
            }
        }
        let (_, topology) = newest.ok_or(failed)?;
        if matches!(self.place.kind, Kind::Cluster { .. }) {
            self.seen = topology.servers().iter().filter_map(|server| server.address.clone()).collect();
            if topology.servers().is_empty() {
                return Err(BusError::Nowhere("no node of the Cluster has slots".to_owned()));
            }
        }
        Ok(topology)
    }
}

async fn ask(
    config: &BusConfig,
    place: &Place,
    address: &Address,
    link: Option<MultiplexedConnection>,
) -> Result<(MultiplexedConnection, Said), BusError> {
    let info = match &place.kind {
        Kind::Sentinel { user, password, .. } => {
            place.to_sentinel(address, user.as_deref(), password.as_deref())
        }
        Kind::One | Kind::Cluster { .. } => place.to(Some(address)),
    };
    let mut link = match link {
        Some(link) => link,
        None => config.open(info, place.tls).await?,
    };
    let said = match &place.kind {
        Kind::Sentinel { master, .. } => ask_sentinel(&mut link, master).await?,
        Kind::One | Kind::Cluster { .. } => ask_node(&mut link, address).await?,
    };
    Ok((link, said))
}

/// Where the master is. Sentinels number their decisions, so the highest one counts.
async fn ask_sentinel(link: &mut MultiplexedConnection, master: &str) -> Result<Said, BusError> {
    let mut asking = redis::cmd("SENTINEL");
    let fields: BTreeMap<String, String> = match asking.arg("MASTER").arg(master).query_async(link).await {
        Ok(fields) => fields,
        Err(error) if error.code() == Some("ERR") => {
            return Err(BusError::Nowhere(format!("the Sentinel knows no master {master:?}")));
        }
        Err(error) => return Err(error.into()),
    };
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let parsed = field("port").parse().ok().zip(field("config-epoch").parse().ok());
    let (port, epoch) = parsed.ok_or_else(|| BusError::Unexpected {
        command: "SENTINEL MASTER",
        detail: "there is no port or config-epoch in it".to_owned(),
    })?;
    let address = Address { host: field("ip").to_owned(), port };
    Ok((epoch, Topology::one(Server::only(Some(address)))))
}

/// Which nodes there are. A node raises its epoch with each change that it hears of.
async fn ask_node(link: &mut MultiplexedConnection, address: &Address) -> Result<Said, BusError> {
    let mut asking = redis::pipe();
    asking.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("NODES");
    let (info, nodes): (String, String) = match asking.query_async(link).await {
        Ok(answers) => answers,
        Err(error) => {
            let error = BusError::from(error);
            return Err(match &error {
                BusError::Refused(refusal) if refusal.detail.contains("cluster support disabled") => {
                    BusError::Nowhere(
                        "it is no node of a Cluster; begin the address with redis:// instead".to_owned(),
                    )
                }
                _ => error,
            });
        }
    };
    let epoch = info_field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let topology = Topology::parse_nodes(&nodes, address);
    let topology = topology.ok_or_else(|| BusError::Unexpected {
        command: "CLUSTER NODES",
        detail: "a line of it can not be read".to_owned(),
    })?;
    Ok((epoch, topology))
}
