//! The PROXY protocol's header, text and binary: what a proxy says of its client before the client says anything. Read
//! without taking a byte of what follows, in bounded space.

use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest text header, its end included.
const LONGEST_TEXT: usize = 107;

/// Bytes after a binary header's fixed part; balancers add a few hundred to the addresses.
const LONGEST_REST: usize = 4_096;

/// Both kinds of header are at least as long.
const START: usize = 12;

/// Why a connection has no header that could be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderFault {
    /// It begins with something else.
    #[error("the connection of a trusted proxy does not begin with a PROXY protocol header")]
    Missing,
    /// The header breaks the protocol.
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(String),
    /// It declares more than is read.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// The connection ended or failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl HeaderFault {
    /// A metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::TooLong => "too_long",
            Self::Io(_) => "broken_off",
        }
    }
}

/// Reads the header. None where the proxy speaks for itself, as in its health checks, or does not know.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderFault> {
    let mut header = vec![0; START];
    io.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        return read_binary(io, header).await;
    }
    if !header.starts_with(b"PROXY ") {
        return Err(HeaderFault::Missing);
    }
    // Byte by byte: what follows the line is the client's.
    while !header.ends_with(b"\r\n") {
        if header.len() >= LONGEST_TEXT {
            return Err(HeaderFault::TooLong);
        }
        header.push(io.read_u8().await?);
    }
    let parsed = v1::Header::try_from(header.as_slice());
    match parsed.map_err(|fault| HeaderFault::Malformed(fault.to_string()))?.addresses {
        v1::Addresses::Tcp4(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
        v1::Addresses::Tcp6(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
        v1::Addresses::Unknown => Ok(None),
    }
}

async fn read_binary(
    io: &mut (impl AsyncRead + Unpin),
    mut header: Vec<u8>,
) -> Result<Option<SocketAddr>, HeaderFault> {
    let mut fixed = [0; 4];
    io.read_exact(&mut fixed).await?;
    header.extend_from_slice(&fixed);
    let rest = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if rest > LONGEST_REST {
        return Err(HeaderFault::TooLong);
    }
    header.resize(header.len() + rest, 0);
    io.read_exact(&mut header[START + fixed.len()..]).await?;
    let parsed =
        v2::Header::try_from(header.as_slice()).map_err(|fault| HeaderFault::Malformed(fault.to_string()))?;
    Ok(match (parsed.command, parsed.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some((ip.source_address, ip.source_port).into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some((ip.source_address, ip.source_port).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V2: &[u8] = v2::PROTOCOL_PREFIX;
    const V4_BODY: &[u8] = &[0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187];

    /// What is read, and how much is left for the client's part.
    fn run(bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderFault>, usize) {
        let mut left = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let result = runtime.block_on(read(&mut left));
        (result, left.len())
    }

    fn v2(command: u8, body: &[u8], more: &[u8]) -> Vec<u8> {
        [V2, &[command], body, more].concat()
    }

    #[test]
    fn a_header_names_the_client_and_not_a_byte_more_is_taken() {
        let long = "ffff:f:ffff:ffff:ffff:ffff:ffff:ffff";
        let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 80 443\r\n".to_vec(), Some("1.2.3.4:80")),
            (b"PROXY TCP6 2001:db8::1 ::1 80 443\r\n".to_vec(), Some("[2001:db8::1]:80")),
            (
                format!("PROXY TCP6 {long} {long} 65535 65535\r\n").into_bytes(),
                Some("[ffff:f:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN anything at all\r\n".to_vec(), None),
            (v2(0x21, V4_BODY, b""), Some("1.2.3.4:80")),
            (v2(0x20, V4_BODY, b""), None),
            (v2(0x20, &[0, 0, 0], b""), None),
            (
                v2(0x21, &[0x11, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187], &[4, 0, 1, 9]),
                Some("1.2.3.4:80"),
            ),
        ];
        for (mut bytes, expected) in cases {
            bytes.extend_from_slice(b"GET");
            let (result, left) = run(&bytes);
            let expected = expected.map(|text| text.parse().expect("an address"));
            assert_eq!((result.expect("good"), left), (expected, 3), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_is_no_header_is_a_fault() {
        let cases: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 65536\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 80 443\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 443\n\n\n".to_vec(),
            b"PROXY UDP4 1.2.3.4 5.6.7.8 80 443\r\n".to_vec(),
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat(),
            b"PROXY TCP4 1.2.3.4".to_vec(),
            v2(0x31, V4_BODY, b""),
            v2(0x25, V4_BODY, b""),
            v2(0x21, &[0x51, 0, 12], &[0; 12]),
            v2(0x21, &[0x11, 0, 4, 1, 2, 3, 4], b""),
            v2(0x21, &[0x11, 0, 12, 1, 2], b""),
            v2(0x21, &[0x11, 0xff, 0xff], &[0; 70_000]),
        ];
        for bytes in cases {
            assert!(run(&bytes).0.is_err(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_declares_too_much_is_not_waited_for() {
        let (result, left) = run(&v2(0x21, &[0x11, 0xff, 0xff], &[0; 70_000]));
        assert!(matches!(result, Err(HeaderFault::TooLong)) && left == 70_000, "{result:?}, {left} left");
    }

    proptest! {
        #[test]
        fn anything_is_read_in_bounds_without_a_panic(prefix in 0usize..3, rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let start: &[u8] = [b"".as_slice(), b"PROXY ", V2][prefix];
            let bytes = [start, &rest].concat();
            let (_, left) = run(&bytes);
            prop_assert!(bytes.len() - left <= START + 4 + LONGEST_REST);
        }
    }
}
