//! Which of an address's servers is spoken to: they are tried in their order, each with a time limit of its own, until one is
//! what is needed. How an address is read is in `address`, what is said to a server in `session`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use crate::StoreError;
use crate::address::{Address, Wanted};
use crate::session::{Lineage, Needs, Reached, Session, SessionOptions};

/// A server, as an address names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    host: Option<Host>,
    address: Option<IpAddr>,
    port: u16,
}

impl Server {
    /// The servers of an address, in their order.
    pub fn all(config: &Config) -> Result<Vec<Self>, StoreError> {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let count = hosts.len().max(addresses.len());
        let fits = |length: usize, fewest: usize| length <= fewest || length == count;
        if count == 0 {
            return Err(StoreError::Parameter("it names no host".to_owned()));
        }
        if !fits(hosts.len(), 0) || !fits(addresses.len(), 0) || !fits(ports.len(), 1) {
            let numbers =
                format!("{} hosts, {} hostaddrs, {} ports", hosts.len(), addresses.len(), ports.len());
            return Err(StoreError::Parameter(format!(
                "the numbers of its hosts and ports differ: {numbers}"
            )));
        }
        let server = |index| Self {
            host: hosts.get(index).cloned(),
            address: addresses.get(index).copied(),
            port: ports.get(index).or(ports.first()).copied().unwrap_or(5432),
        };
        Ok((0..count).map(server).collect())
    }

    /// The places where it may answer: a name can stand for several.
    async fn places(&self) -> std::io::Result<Vec<Place>> {
        match (&self.host, self.address) {
            (_, Some(address)) => Ok(vec![Place::Tcp(address)]),
            (Some(Host::Unix(path)), None) => Ok(vec![Place::Unix(path.clone())]),
            (Some(Host::Tcp(name)), None) => {
                let found = tokio::net::lookup_host((name.as_str(), self.port)).await?;
                Ok(found.map(|address: SocketAddr| Place::Tcp(address.ip())).collect())
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    /// How to come to one of its places: the address with this one host in it.
    fn config(&self, of: &Config, place: &Place) -> Config {
        let mut config = Config::new();
        config.ssl_mode(of.get_ssl_mode()).ssl_negotiation(of.get_ssl_negotiation()).port(self.port);
        config.channel_binding(of.get_channel_binding());
        of.get_user().map(|user| config.user(user));
        of.get_password().map(|password| config.password(password));
        of.get_dbname().map(|name| config.dbname(name));
        of.get_options().map(|options| config.options(options));
        if let Some(Host::Tcp(name)) = &self.host {
            config.host(name);
        }
        match place {
            Place::Tcp(address) => config.hostaddr(*address),
            Place::Unix(path) => config.host_path(path),
        };
        config
    }
}

/// For messages.
impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.host, self.address) {
            (Some(Host::Tcp(name)), _) => write!(f, "{name}:{}", self.port),
            (Some(Host::Unix(path)), _) => write!(f, "{}/.s.PGSQL.{}", path.display(), self.port),
            (None, Some(address)) => write!(f, "{}", SocketAddr::new(address, self.port)),
            (None, None) => f.write_str("nowhere"),
        }
    }
}

#[derive(Debug)]
enum Place {
    Tcp(IpAddr),
    Unix(PathBuf),
}

/// What a server takes, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Role {
    pub recovers: bool,
    pub read_only: bool,
}

impl Role {
    /// Asked in words, of whatever does not say so by itself when it is connected to: a pooler. Without a prepared statement,
    /// which would be of one server process.
    pub async fn ask(client: &Client) -> Result<Self, StoreError> {
        let query = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')";
        let answer = client.simple_query(query).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.ok_or_else(|| StoreError::Unexpected("no word on recovery".to_owned()))?;
        Ok(Self { recovers: row.get(0) == Some("t"), read_only: row.get(1) == Some("on") })
    }

    /// Why it is not what is needed.
    fn fault(self, needs: Needs, wanted: Wanted) -> Option<StoreError> {
        let writes = needs == Needs::Primary || wanted == Wanted::ReadWrite;
        match self {
            Self { recovers: true, .. } => Some(StoreError::NotPrimary),
            Self { read_only: true, .. } if writes => Some(StoreError::ReadOnly(
                "default_transaction_read_only is on for this server, database or role".to_owned(),
            )),
            _ => None,
        }
    }
}

/// Connects to the first server that is what is needed. Where any will do, and none of them takes writes, to the first that
/// answers.
pub(crate) async fn connect(url: &str, options: &SessionOptions) -> Result<Session, StoreError> {
    let address = Address::parse(url)?;
    let limit = address.config.get_connect_timeout().copied().unwrap_or(options.connect_timeout);
    let servers = Server::all(&address.config)?;
    let any = options.needs == Needs::Address && address.wanted == Wanted::Any;
    let (mut faults, mut spare) = (Vec::new(), None);
    for server in &servers {
        match reach(&address, server, options, limit).await {
            Ok((session, None)) => return Ok(session),
            Ok((session, Some(fault))) => {
                if any {
                    spare.get_or_insert(session);
                }
                faults.push((server.to_string(), fault));
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => faults.push((server.to_string(), error)),
        }
    }
    match (spare, faults.pop()) {
        (Some(session), _) => Ok(session),
        (None, Some((_, only))) if faults.is_empty() => Err(only),
        (None, Some(last)) => {
            faults.push(last);
            Err(StoreError::NoPrimary(faults))
        }
        (None, None) => Err(StoreError::Parameter("it names no host".to_owned())),
    }
}

/// What no other server would change.
fn is_final(error: &StoreError) -> bool {
    matches!(error, StoreError::Address(_) | StoreError::Parameter(_) | StoreError::Tls(_))
}

/// A session with the first place of a server that answers, and why it is not what is needed.
async fn reach(
    address: &Address,
    server: &Server,
    options: &SessionOptions,
    limit: Duration,
) -> Result<(Session, Option<StoreError>), StoreError> {
    let places = timeout(limit, server.places()).await.map_err(|_| StoreError::ConnectTimeout(limit))?;
    let places = places.map_err(|error| StoreError::Unresolved(server.to_string(), error))?;
    let (mut unfit, mut failed) = (None, None);
    for place in places {
        let reached = Reached {
            config: server.config(&address.config, &place),
            trust: address.trust,
            files: address.files.clone(),
        };
        let opening = async {
            let session = Session::at(&reached, options, limit).await?;
            let fault = match session.role().await?.fault(options.needs, address.wanted) {
                None => replaced(&session, options).await?,
                fault => fault,
            };
            Ok((session, fault))
        };
        match timeout(limit, opening).await.unwrap_or(Err(StoreError::ConnectTimeout(limit))) {
            Ok((session, fault)) => match fault {
                None => return Ok((session, None)),
                Some(fault) => {
                    unfit.get_or_insert((session, Some(fault)));
                }
            },
            Err(error) => failed = Some(error),
        }
    }
    let nowhere = || {
        let none = std::io::Error::new(std::io::ErrorKind::NotFound, "the name leads nowhere");
        StoreError::Unresolved(server.to_string(), none)
    };
    unfit.ok_or_else(|| failed.unwrap_or_else(nowhere))
}

async fn replaced(session: &Session, options: &SessionOptions) -> Result<Option<StoreError>, StoreError> {
    let Some(newest) = &options.not_before else { return Ok(None) };
    let own = session.lineage().await?;
    let error = StoreError::Replaced { own: own.timeline, newer: newest.timeline };
    Ok(own.is_before(newest).then_some(error))
}

/// Looks at all of an address's servers, where there are several: whether one of them is a primary that has replaced this one.
/// libpq takes the first that takes writes; where an old primary was not stopped, that is the wrong one.
pub async fn newer_primary(url: &str, options: &SessionOptions, own: &Lineage) -> Option<Lineage> {
    let address = Address::parse(url).ok()?;
    let servers = Server::all(&address.config).ok().filter(|servers| servers.len() > 1)?;
    let limit = address.config.get_connect_timeout().copied().unwrap_or(options.connect_timeout);
    let look = async |server: &Server| {
        let Ok((session, None)) = reach(&address, server, options, limit).await else { return None };
        let lineage = session.lineage().await.ok();
        session.close().await;
        lineage.filter(|lineage| own.is_before(lineage))
    };
    let found = futures_util::future::join_all(servers.iter().map(look)).await;
    found.into_iter().flatten().max_by_key(|lineage| lineage.timeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(address: &str) -> Result<Vec<String>, String> {
        let address = Address::parse(address).map_err(|error| error.to_string())?;
        let servers = Server::all(&address.config).map_err(|error| error.to_string())?;
        Ok(servers.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn hosts_and_ports_are_read_in_their_order_from_both_forms() {
        for (address, expected) in [
            ("postgres://app:p@a:1,b:2,[::1]:3/shop", vec!["a:1", "b:2", "::1:3"]),
            ("postgres://a,b/shop", vec!["a:5432", "b:5432"]),
            ("host=a,b port=7 dbname=shop", vec!["a:7", "b:7"]),
            ("host=a,b port=7,8 dbname=shop", vec!["a:7", "b:8"]),
            ("hostaddr=127.0.0.1,::1 port=7,8", vec!["127.0.0.1:7", "[::1]:8"]),
            ("host=/run/postgresql", vec!["/run/postgresql/.s.PGSQL.5432"]),
        ] {
            assert_eq!(servers(address).unwrap(), expected, "{address}");
        }
        for (address, said) in [
            ("host=a,b port=7,8,9", "2 hosts, 0 hostaddrs, 3 ports"),
            ("host=a,b hostaddr=127.0.0.1", "2 hosts, 1 hostaddrs"),
            ("user=app", "names no host"),
        ] {
            assert!(servers(address).unwrap_err().contains(said), "{address}: {:?}", servers(address));
        }
    }

    #[test]
    fn a_standby_is_never_a_primary_and_one_that_is_read_only_is_none_for_who_writes() {
        let role = |recovers, read_only| Role { recovers, read_only };
        for wanted in [Wanted::Any, Wanted::Primary, Wanted::ReadWrite] {
            assert!(role(false, false).fault(Needs::Primary, wanted).is_none());
            assert!(matches!(role(true, true).fault(Needs::Address, wanted), Some(StoreError::NotPrimary)));
            assert!(matches!(role(false, true).fault(Needs::Primary, wanted), Some(StoreError::ReadOnly(_))));
        }
        assert!(role(false, true).fault(Needs::Address, Wanted::Primary).is_none());
        assert!(role(false, true).fault(Needs::Address, Wanted::ReadWrite).is_some());
    }
}
