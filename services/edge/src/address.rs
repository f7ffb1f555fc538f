//! Whose address a request is from. What a connection or a header says of another one counts only where a proxy that is
//! trusted says it. Pure; where connections come from is [`crate::accept`]'s.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_http::header::HeaderMap;
use ipnet::{IpNet, Ipv6Net};

/// Where a forwarded address stands.
const FORWARDED: &str = "x-forwarded-for";

/// How a request's address is found.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// Whose word counts.
    pub trusted: Trusted,
    /// Whether `X-Forwarded-For` is read where it comes from a trusted proxy.
    pub forwarded: bool,
    /// How long the prefix of an IPv6 network is that counts as one address.
    pub ipv6_prefix: u8,
}

impl Addresses {
    /// What counts as the address of a request; none where only that of a trusted proxy is known, behind which anybody may
    /// be.
    pub fn of(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer?.ip();
        // What is no text is no address either.
        let values = headers.get_all(FORWARDED).map(|value| value.to_str().unwrap_or("?"));
        let client = if self.forwarded { self.trusted.client(peer, values) } else { peer };
        (!self.trusted.contains(client)).then(|| counted(client, self.ipv6_prefix))
    }
}

/// The proxies whose word counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// Reads a list of networks and addresses.
    ///
    /// # Errors
    /// What is wrong with an entry, and what to write.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let one = |text: &String| {
            let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let net = net.map_err(|_| {
                format!("{text:?} is no network; write one such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")
            })?;
            match net {
                net if net.prefix_len() == 0 => {
                    Err(format!("{text:?} would take everybody's word; name your proxies"))
                }
                IpNet::V6(v6) if v6.network().to_ipv4_mapped().is_some() => {
                    Err(format!("{text:?} is an IPv4 network; write it as one, such as 10.0.0.0/8"))
                }
                net => Ok(net),
            }
        };
        entries.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nobody's word counts.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a proxy's word counts.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The client of a request that came from `peer`, with the values of its `X-Forwarded-For` in their order. Each
    /// proxy appends whom it was asked by, so the list is read from its end, as far as trusted proxies go: what stands
    /// before the first address that is none, its own client wrote. Where an entry is no address, who passed it on
    /// stands for it.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl IntoIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return client;
        }
        let forwarded: Vec<&str> = forwarded.into_iter().collect();
        for entry in forwarded.iter().rev().flat_map(|value| value.rsplit(',')) {
            let Some(address) = entry_address(entry) else { break };
            client = address;
            if !self.contains(client) {
                break;
            }
        }
        client
    }
}

/// An address as proxies write it: alone, with a port, in brackets.
fn entry_address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => {
            entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|with_port| with_port.ip())).ok()?
        }
    };
    Some(address.to_canonical())
}

/// What counts as one address: of IPv6, a network of which anybody gets at least one to themselves.
pub fn counted(address: IpAddr, ipv6_prefix: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Net::new(v6, ipv6_prefix).map_or(v6, |net: Ipv6Net| net.network()).into(),
        v4 => v4,
    }
}

/// The prefixes that [`counted`] takes.
pub fn is_prefix(ipv6_prefix: u8) -> bool {
    ipv6_prefix > 0 && Ipv6Net::new(Ipv6Addr::UNSPECIFIED, ipv6_prefix).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted(entries: &[&str]) -> Trusted {
        Trusted::parse(&entries.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).expect("networks")
    }

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let trusted = trusted(&["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"]);
        trusted.client(peer.parse().expect("an address"), forwarded.iter().copied()).to_string()
    }

    #[test]
    fn a_strangers_headers_say_nothing() {
        assert_eq!(client("203.0.113.9", &["1.1.1.1"]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &["1.1.1.1, 10.0.0.1"]), "203.0.113.9");
        assert_eq!(client("192.0.2.8", &["1.1.1.1"]), "192.0.2.8");
    }

    #[test]
    fn the_list_is_read_from_its_end_as_far_as_trusted_proxies_go() {
        for (forwarded, expected) in [
            (vec![], "10.1.1.1"),
            (vec!["203.0.113.9"], "203.0.113.9"),
            (vec!["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (vec!["6.6.6.6, 203.0.113.9, 10.2.2.2"], "203.0.113.9"),
            (vec!["6.6.6.6", "203.0.113.9 ,\t192.0.2.7"], "203.0.113.9"),
            (vec!["203.0.113.9", ""], "10.1.1.1"),
            (vec!["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (vec!["203.0.113.9:4711, 10.2.2.2:80"], "203.0.113.9"),
            (vec!["[2001:db8::9]:443, 2001:db8:1::5"], "2001:db8::9"),
            (vec!["[2001:db8::9]"], "2001:db8::9"),
            (vec!["2001:db8::9"], "2001:db8::9"),
            (vec!["::ffff:203.0.113.9, ::ffff:10.0.0.1"], "203.0.113.9"),
            (vec!["6.6.6.6, unknown, 10.2.2.2"], "10.2.2.2"),
            (vec!["6.6.6.6, , 10.2.2.2"], "10.2.2.2"),
            (vec!["6.6.6.6, 203.0.113.9;"], "10.1.1.1"),
            (vec!["fe80::1%eth0"], "10.1.1.1"),
            (vec!["[203.0.113.9]"], "10.1.1.1"),
            (vec!["256.1.1.1"], "10.1.1.1"),
        ] {
            assert_eq!(client("10.1.1.1", &forwarded), expected, "{forwarded:?}");
        }
        assert_eq!(client("::ffff:10.1.1.1", &["203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn what_is_no_list_of_proxies_is_refused_with_what_to_write() {
        for text in
            ["", "proxy", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "10.0.0.0-10.0.0.9"]
        {
            let fault = Trusted::parse(&[text.to_owned()]).expect_err(text);
            assert!(fault.contains("10.0.0.0/8") || fault.contains("proxies"), "{fault}");
        }
    }

    #[test]
    fn of_ipv6_a_network_counts_as_one_address() {
        let of = |text: &str| counted(text.parse().expect("an address"), 64).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(
            (of("203.0.113.9"), of("::ffff:203.0.113.9")),
            ("203.0.113.9".into(), "203.0.113.9".into())
        );
    }

    /// The same, written down naively: all entries in one list, and the rightmost that is not trusted.
    fn reference(trusted: &Trusted, peer: IpAddr, values: &[String]) -> IpAddr {
        let all = values.join(",");
        let mut chain: Vec<Option<IpAddr>> =
            if values.is_empty() { vec![] } else { all.split(',').map(entry_address).collect() };
        chain.push(Some(peer));
        let mut passed_on = peer;
        while let Some(entry) = chain.pop() {
            match entry {
                None => return passed_on,
                Some(address) if !trusted.contains(address) => return address,
                Some(address) => passed_on = address,
            }
        }
        passed_on
    }

    proptest! {
        #[test]
        fn the_walk_is_the_naive_one(
            peer in prop::sample::select(vec!["10.0.0.1", "203.0.113.1", "2001:db8:1::1"]),
            values in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
                "10.0.0.2", "203.0.113.5", " 10.9.9.9 ", "junk", "", "[2001:db8:1::2]:80", "2001:db8::3", "192.0.2.7:1",
            ]), 1..5), 0..4),
        ) {
            let trusted = trusted(&["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"]);
            let values: Vec<String> = values.into_iter().map(|entries| entries.join(",")).collect();
            let peer: IpAddr = peer.parse().expect("an address");
            let found = trusted.client(peer, values.iter().map(String::as_str));
            prop_assert_eq!(found, reference(&trusted, peer, &values));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", bytes in "[0-9a-f:.\\[\\], ]{0,60}") {
            let trusted = trusted(&["10.0.0.0/8"]);
            for value in [&text, &bytes] {
                trusted.client(IpAddr::from([10, 0, 0, 1]), [value.as_str()]);
            }
        }
    }
}
