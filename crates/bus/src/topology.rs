//! Which servers hold the rooms, and which room each of them. No IO.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use crc::{CRC_16_XMODEM, Crc};
use rowcast_protocol::RoomName;

/// Redis Cluster's number of slots.
const SLOTS: u16 = 16_384;

/// The name of the one server where there is one: in the recorded state, and on metrics.
const MAIN: &str = "main";

/// For each slot the shortest decimal number whose hash slot it is: what is kept in a node beside rooms is named by one.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut tags = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    for number in 0u32.. {
        let tag = &mut tags[usize::from(slot(number.to_string().as_bytes()))];
        if tag.is_none() {
            *tag = Some(number);
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().map(|tag| tag.expect("each was found")).collect()
});

fn slot(tag: &[u8]) -> u16 {
    const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
    CRC.checksum(tag) % SLOTS
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Reads `host`, `host:port` or `[address]:port`.
    pub(crate) fn parse(text: &str, port: u16) -> Option<Self> {
        let (host, given) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']')?;
                (host, behind.strip_prefix(':'))
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = given.map_or(Ok(port), str::parse).ok()?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A server that holds rooms: the only one, the one that Sentinels name, or a master of a Cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `main` where there is one, the node's id in a Cluster.
    pub name: Arc<str>,
    /// Where it is; nothing where the URL says it.
    pub address: Option<Address>,
    /// In a Cluster, the hash tag of what is kept there beside rooms: of one of its slots.
    pub tag: Option<u32>,
}

impl Server {
    pub(crate) fn only(address: Option<Address>) -> Self {
        Self { name: MAIN.into(), address, tag: None }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "{address}"),
            None => f.write_str(&self.name),
        }
    }
}

/// All servers that hold rooms, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    servers: Vec<Server>,
    /// Of a Cluster.
    cluster: Option<Cluster>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cluster {
    /// For each slot its place in `servers`.
    owners: Vec<Option<u16>>,
    /// All masters that are not known to have failed, those without slots too.
    masters: BTreeSet<Arc<str>>,
}

impl Topology {
    /// The one server that the URL names.
    pub fn single() -> Self {
        Self::one(Server::only(None))
    }

    /// One server for everything.
    pub(crate) fn one(server: Server) -> Self {
        Self { servers: vec![server], cluster: None }
    }

    /// The servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| &*server.name == name)
    }

    /// The server that holds a room; none where nobody has its slot.
    pub fn holder(&self, room: &RoomName) -> Option<&Server> {
        match &self.cluster {
            None => self.servers.first(),
            Some(cluster) => {
                let owner = cluster.owners[usize::from(slot(room.encoded().as_bytes()))]?;
                self.servers.get(usize::from(owner))
            }
        }
    }

    /// Whether rooms are shared out among servers.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// Whether every room has a server.
    pub fn is_whole(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.owners.iter().all(Option::is_some))
    }

    /// Whether the named server has whatever it holds from masters that are there still: slots were moved to it, with all
    /// that was in them. A replica that took the place of its master has not.
    pub fn inherits(&self, before: &Self, name: &str) -> bool {
        let (Some(now), Some(then)) = (&self.cluster, &before.cluster) else { return false };
        let Some(place) = self.servers.iter().position(|server| &*server.name == name) else { return false };
        now.owners.iter().zip(&then.owners).all(|(now, then)| {
            let is_its = now.is_some_and(|now| usize::from(now) == place);
            let giver = then.and_then(|then| before.servers.get(usize::from(then)));
            !is_its || giver.is_some_and(|giver| self.is_master(&giver.name))
        })
    }

    fn is_master(&self, name: &str) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.masters.contains(name))
    }

    /// A Cluster as `CLUSTER NODES` tells of it.
    pub fn parse_cluster(nodes: &str) -> Option<Self> {
        Self::parse_nodes(nodes, &Address { host: String::new(), port: 0 })
    }

    /// Takes the answer to `CLUSTER NODES`. `asked` is where it was asked: a node that has not met others knows no
    /// address of its own.
    pub(crate) fn parse_nodes(text: &str, asked: &Address) -> Option<Self> {
        let mut servers = Vec::new();
        let mut owners = vec![None; usize::from(SLOTS)];
        let mut masters = BTreeSet::new();
        for line in text.lines() {
            let mut fields = line.split(' ');
            let (name, place, flags) = (fields.next()?, fields.next()?, fields.next()?);
            let flags: Vec<&str> = flags.split(',').collect();
            if !flags.contains(&"master") {
                continue;
            }
            let name: Arc<str> = name.into();
            if !flags.contains(&"fail") {
                masters.insert(name.clone());
            }
            // Behind replicated master, ping sent, pong received, epoch and link state.
            let ranges: Vec<(u16, u16)> = fields.skip(5).filter_map(range).collect();
            let Some(chosen) = chosen(&name, &ranges) else { continue };
            let index = u16::try_from(servers.len()).ok()?;
            for (from, to) in ranges {
                owners.get_mut(usize::from(from)..=usize::from(to))?.fill(Some(index));
            }
            let tag = Some(TAGS[usize::from(chosen)]);
            servers.push(Server { name, address: Some(address(place, asked)?), tag });
        }
        Some(Self { servers, cluster: Some(Cluster { owners, masters }) })
    }
}

/// Of a master's slots the one in which it keeps what it has beside rooms. Listeners and edges come to the same by themselves,
/// and slots that come and go seldom change it: each slot has a weight of its own for each master, and the heaviest counts.
fn chosen(name: &str, ranges: &[(u16, u16)]) -> Option<u16> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // FNV-1a, and behind it the finaliser of SplitMix64.
    let weight = |slot: u16| {
        let mixed = seed ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    ranges.iter().flat_map(|(from, to)| *from..=*to).max_by_key(|slot| weight(*slot))
}

/// `ip:port@bus-port[,hostname[,…]]`. A name is preferred: certificates have names.
fn address(place: &str, asked: &Address) -> Option<Address> {
    let mut parts = place.split(',');
    let (at, _) = parts.next()?.split_once('@')?;
    let (ip, port) = at.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let hostname = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
    let host = match (hostname, ip) {
        (Some(name), _) => name,
        (None, "") => &asked.host,
        (None, ip) => ip.trim_start_matches('[').trim_end_matches(']'),
    };
    Some(Address { host: host.to_owned(), port })
}

/// `5` or `5-9`; slots on their way from or to somewhere stand in brackets, beside the ranges of whoever has them.
fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some((from.parse().ok()?, to.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Address {
        Address { host: "10.0.0.9".to_owned(), port: 7000 }
    }

    fn parse(text: &str) -> Topology {
        Topology::parse_nodes(text, &asked()).expect(text)
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    const THREE: &str = "\
a 127.0.0.1:7001@17001,,shard-id=x myself,master - 0 0 1 connected 0-5460 [5461->-b]
b 127.0.0.1:7002@17002,cache-b.example master - 0 0 2 connected 5461-10922
c :7003@17003 master,fail? - 0 0 3 connected 10923-16382 16383
d 127.0.0.1:7004@17004 slave a 0 0 1 connected
e 127.0.0.1:7005@17005 master - 0 0 0 connected
f 127.0.0.1:7006@17006 master,fail - 0 0 0 disconnected
";

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // From the specification, and CLUSTER KEYSLOT.
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot(b"foo"), 12182);
        for (at, tag) in TAGS.iter().enumerate() {
            assert_eq!(usize::from(slot(tag.to_string().as_bytes())), at);
        }
    }

    #[test]
    fn a_cluster_is_what_its_nodes_tell_of_it() {
        let topology = parse(THREE);
        assert!(topology.is_whole());
        let shown: Vec<String> =
            topology.servers().iter().map(|server| format!("{} {server}", server.name)).collect();
        assert_eq!(shown, ["a 127.0.0.1:7001", "b cache-b.example:7002", "c 10.0.0.9:7003"]);
        assert_eq!(topology.holder(&room("foo")).map(|server| &*server.name), Some("c"));
        let tags: Vec<u16> = topology
            .servers()
            .iter()
            .map(|server| slot(server.tag.unwrap().to_string().as_bytes()))
            .collect();
        assert_eq!(tags, [3_840, 9_230, 10_923], "another version comes to the same");
        let half = parse("a 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460\n");
        assert!(!half.is_whole() && half.holder(&room("foo")).is_none());
        assert_eq!(Topology::parse_nodes("a b", &asked()), None);
        assert_eq!(Topology::parse_nodes("a :1@2 master - 0 0 1 connected 7-20000", &asked()), None);
    }

    #[test]
    fn slots_that_moved_are_inherited_and_those_of_a_failed_master_are_not() {
        let before = parse(THREE);
        let moved = parse(&THREE.replace("5461-10922", "5462-10922").replace("0-5460 [5461->-b]", "0-5461"));
        assert!(moved.inherits(&before, "a") && moved.inherits(&before, "b"));
        let emptied = parse(&THREE.replace(" 5461-10922", "").replace("0-5460 [5461->-b]", "0-10922"));
        assert!(emptied.inherits(&before, "a"), "b is there, without slots");
        let removed = parse(
            "a 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-10922\nc h:1@2 master - 0 0 3 connected 10923-16383\n",
        );
        assert!(!removed.inherits(&before, "a") && removed.inherits(&before, "c"));
        let promoted = parse(
            &THREE
                .replace("master - 0 0 1 connected 0-5460 [5461->-b]", "slave d 0 0 4 connected")
                .replace("slave a 0 0 1 connected", "master - 0 0 4 connected 0-5460"),
        );
        assert!(!promoted.inherits(&before, "d") && promoted.inherits(&before, "b"));
        let one = Topology::single();
        assert!(!one.inherits(&one, "main") && one.is_whole() && one.holder(&room("x")).is_some());
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (text, shown) in [("h", "h:1"), ("h:2", "h:2"), ("[::1]", "[::1]:1"), ("[::1]:2", "[::1]:2")] {
            assert_eq!(Address::parse(text, 1).map(|address| address.to_string()).as_deref(), Some(shown));
        }
        for text in ["", ":2", "h:", "h:70000", "[::1"] {
            assert_eq!(Address::parse(text, 1), None, "{text}");
        }
    }
}
