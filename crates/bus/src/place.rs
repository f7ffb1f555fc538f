//! Where Redis is, as `redis.url` says it: one server, servers that Sentinels look after, or a Cluster. No IO.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};

use crate::error::BusError;
use crate::topology::Address;

/// The schemes, and whether they ask for TLS.
const SCHEMES: [(&str, bool); 4] = [("redis", false), ("rediss", true), ("valkey", false), ("valkeys", true)];

const REDIS_PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;

/// An address, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Of the connections to servers that hold rooms: who signs in, which database. Its address is that of a single server.
    pub info: ConnectionInfo,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// What kind of installation it is.
    pub kind: Kind,
}

/// What is at an address.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// One server.
    One,
    /// A master that Sentinels know.
    Sentinel {
        /// The Sentinels.
        seeds: Vec<Address>,
        /// What they call the master.
        master: String,
        /// Who signs in there, and with what.
        user: Option<String>,
        password: Option<String>,
    },
    /// A Cluster.
    Cluster {
        /// Nodes that may know the others.
        seeds: Vec<Address>,
    },
}

impl Place {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it. No password is in the text.
    pub fn parse(url: &str) -> Result<Self, BusError> {
        if url.contains("#insecure") {
            return Err(unusable(
                "#insecure would take anybody for the server; name its CA in redis.tls.ca instead",
            ));
        }
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = SCHEMES.iter().find(|(name, _)| *name == base).map(|(_, tls)| *tls);
        match (kind, tls) {
            // The library was built without TLS, and refuses such an address. Unix sockets have schemes of their own.
            ("" | "unix", None | Some(false)) => Ok(Self { info: info(url)?, tls: false, kind: Kind::One }),
            ("", Some(true)) => {
                Ok(Self { info: info(&format!("redis://{rest}"))?, tls: true, kind: Kind::One })
            }
            ("sentinel", Some(tls)) => sentinel(rest, tls),
            ("cluster", Some(tls)) => cluster(rest, tls),
            _ => Err(unusable(&format!("{scheme}:// is not known"))),
        }
    }

    /// The library's description of a connection to one of the servers.
    pub fn to(&self, address: Option<&Address>) -> ConnectionInfo {
        match address {
            Some(Address { host, port }) => {
                self.info.clone().set_addr(ConnectionAddr::Tcp(host.clone(), *port))
            }
            None => self.info.clone(),
        }
    }

    /// That of a connection to a Sentinel, which has users of its own and no databases.
    pub fn to_sentinel(
        &self,
        address: &Address,
        user: Option<&str>,
        password: Option<&str>,
    ) -> ConnectionInfo {
        let mut settings = redis::RedisConnectionInfo::default();
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        self.to(Some(address)).set_redis_settings(settings)
    }
}

fn sentinel(rest: &str, tls: bool) -> Result<Place, BusError> {
    const FORM: &str =
        "expected redis+sentinel://[user:password@]host:26379,host:26379/<name of the master>[/db]";
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').ok_or_else(|| unusable(FORM))?;
    let (master, database) = path.split_once('/').unwrap_or((path, "0"));
    if master.is_empty() {
        return Err(unusable(FORM));
    }
    let (signing_in, seeds) = seeds(authority, SENTINEL_PORT)?;
    let (mut user, mut password) = (None, None);
    for (key, value) in form(query) {
        match key.as_str() {
            "sentinel_user" => user = Some(value),
            "sentinel_password" => password = Some(value),
            other => return Err(unusable(&format!("{other} is not known behind redis+sentinel://"))),
        }
    }
    if user.is_some() && password.is_none() {
        return Err(unusable("sentinel_user needs sentinel_password"));
    }
    let master = decoded(master)?;
    let info = template(&signing_in, database)?;
    Ok(Place { info, tls, kind: Kind::Sentinel { seeds, master, user, password } })
}

fn cluster(rest: &str, tls: bool) -> Result<Place, BusError> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!(path, "" | "0") {
        return Err(unusable(
            "a Cluster has no databases; expected redis+cluster://[user:password@]host:6379,host:6379",
        ));
    }
    let (signing_in, seeds) = seeds(authority, REDIS_PORT)?;
    Ok(Place { info: template(&signing_in, "0")?, tls, kind: Kind::Cluster { seeds } })
}

/// What stands before the hosts, with its `@`; and the hosts.
fn seeds(authority: &str, port: u16) -> Result<(String, Vec<Address>), BusError> {
    let (signing_in, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let seeds = hosts.split(',').map(|host| Address::parse(host, port)).collect::<Option<Vec<_>>>();
    let seeds = seeds
        .ok_or_else(|| unusable(&format!("{hosts:?} is not a list of host:port, separated by commas")))?;
    Ok((signing_in, seeds))
}

fn template(signing_in: &str, database: &str) -> Result<ConnectionInfo, BusError> {
    info(&format!("redis://{signing_in}127.0.0.1/{database}"))
}

fn info(url: &str) -> Result<ConnectionInfo, BusError> {
    url.into_connection_info().map_err(|error: RedisError| BusError::Url(error.to_string()))
}

fn form(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn decoded(text: &str) -> Result<String, BusError> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| unusable("the master's name is not UTF-8"))
}

fn unusable(reason: &str) -> BusError {
    BusError::Url(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        Place::parse(url).expect_err(url).to_string()
    }

    #[test]
    fn the_three_kinds_of_addresses_are_told_apart() {
        let place = Place::parse("rediss://app:p%40ss@cache:6380/3").unwrap();
        assert!(place.tls && matches!(place.kind, Kind::One));
        assert_eq!(
            (place.info.redis_settings().db(), place.info.redis_settings().password()),
            (3, Some("p@ss"))
        );

        let url = "redis+sentinel://app:secret@s1,[::1]:5,s3:6/my%20master/2?sentinel_user=u&sentinel_password=a%26b";
        let place = Place::parse(url).unwrap();
        let Kind::Sentinel { seeds, master, user, password } = &place.kind else { panic!("{place:?}") };
        let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
        assert_eq!(seeds, ["s1:26379", "[::1]:5", "s3:6"]);
        assert_eq!(
            (master.as_str(), user.as_deref(), password.as_deref()),
            ("my master", Some("u"), Some("a&b"))
        );
        assert_eq!((place.info.redis_settings().db(), place.tls), (2, false));
        let sentinel = place.to_sentinel(&Address { host: "s1".to_owned(), port: 1 }, None, Some("x"));
        assert_eq!((sentinel.redis_settings().username(), sentinel.redis_settings().db()), (None, 0));

        let place = Place::parse("valkeys+cluster://:secret@n1:7000,n2").unwrap();
        let Kind::Cluster { seeds } = &place.kind else { panic!("{place:?}") };
        assert_eq!(seeds[1].to_string(), "n2:6379");
        assert!(place.tls && place.info.redis_settings().password() == Some("secret"));
    }

    #[test]
    fn an_address_that_can_not_be_used_says_what_is_expected() {
        assert!(error("redis+sentinel://s1:26379").contains("name of the master"));
        assert!(error("redis+sentinel://s1/m?sentinel_usr=x").contains("sentinel_usr"));
        assert!(error("redis+sentinel://s1/m?sentinel_user=x").contains("sentinel_password"));
        assert!(error("redis+cluster://n1/3").contains("no databases"));
        assert!(error("redis+cluster://n1:x").contains("list of host:port"));
        assert!(error("redis+cluster://").contains("list of host:port"));
        assert!(error("http://x").contains("redis://"));
        assert!(!error("redis+cluster://u:hush@n1:x").contains("hush"));
    }
}
