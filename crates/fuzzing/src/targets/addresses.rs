//! What proxies say of their clients' addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use futures_util::FutureExt;
use rowcast_edge::accept::header;
use rowcast_edge::address::{Trusted, counted};

/// A header has at most its fixed part and so many bytes.
const LONGEST: usize = 16 + 4_096;

/// A PROXY protocol header says what stands in it, and not a byte behind it is taken.
pub fn proxy_header(data: &[u8]) {
    let (outcome, taken) = read(data);
    assert!(taken <= LONGEST, "{taken} bytes were taken");
    let Ok(address) = outcome else { return };
    let followed = [&data[..taken], b"GET / HTTP/1.1\r\n"].concat();
    let (again, taken_again) = read(&followed);
    assert_eq!((again.ok(), taken_again), (Some(address), taken), "what follows changes nothing");
    if let Some(address) = address {
        assert_eq!(Some(address), told(&data[..taken]));
    }
}

fn read(data: &[u8]) -> (Result<Option<SocketAddr>, header::HeaderFault>, usize) {
    let mut left = data;
    let outcome = header::read(&mut left).now_or_never().expect("bytes in memory are waited for by nobody");
    (outcome, data.len() - left.len())
}

/// What a header says, read without its checks.
fn told(header: &[u8]) -> Option<SocketAddr> {
    if header.starts_with(b"PROXY ") {
        let words: Vec<&str> = std::str::from_utf8(header).ok()?.trim_end().split(' ').collect();
        let [_, _, source, _, port, _] = *words else { return None };
        return Some((source.parse::<IpAddr>().ok()?, port.parse().ok()?).into());
    }
    let port = |at: usize| Some(u16::from_be_bytes(*header.get(at..)?.first_chunk()?));
    let rest = header.get(16..)?;
    match header.get(13)? >> 4 {
        1 => Some((IpAddr::from(*rest.first_chunk::<4>()?), port(24)?).into()),
        2 => Some((IpAddr::from(*rest.first_chunk::<16>()?), port(48)?).into()),
        _ => None,
    }
}

static PROXIES: LazyLock<Trusted> = LazyLock::new(|| {
    Trusted::parse(&["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"].map(str::to_owned)).expect("networks")
});

/// The first line is a peer's address, the others are `X-Forwarded-For`. A stranger's headers say nothing, and what a client
/// wrote itself does not either.
pub fn forwarded(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    _ = Trusted::parse(&[first.to_owned()]);
    let peer: IpAddr = first.parse().unwrap_or(IpAddr::from([10, 0, 0, 1]));
    let values: Vec<&str> = lines.collect();
    let client = PROXIES.client(peer, values.iter().copied());
    if !PROXIES.contains(peer) {
        assert_eq!(client, peer.to_canonical());
    }
    if !PROXIES.contains(client) {
        for forged in ["6.6.6.6", "10.6.6.6", "nonsense"] {
            let with = [&[forged][..], &values].concat();
            assert_eq!(PROXIES.client(peer, with), client, "{forged} was believed");
        }
    }
    for prefix in [0, 48, 64, 128, 255] {
        assert_eq!(counted(client, prefix), counted(counted(client, prefix), prefix));
    }
}
