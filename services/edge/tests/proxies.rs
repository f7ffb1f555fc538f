//! Whose address a client has: what a proxy says counts where it is trusted, and nobody else's word does. An edge that takes
//! one client an address shows which one it counts.

mod support;

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use rowcast_sandbox::{Backend, Haproxy, HaproxyOptions};
use serde_json::json;
use support::{Edge, LIMIT, Stage, token};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

const ONE_EACH: (&str, &str) = ("EDGE__MAX_PER_ADDRESS", "1");

/// A stream of events that stays open as long as it lives, and the status that it was answered with.
struct Asked {
    status: u16,
    _connection: BufReader<TcpStream>,
}

/// Connects from an address of this machine, says what is given first, and asks for a stream of events.
async fn ask(to: &str, from: &str, first: &[u8], forwarded: &[&str]) -> Result<Asked> {
    let mut connection = connect(to, from).await?;
    let mut request = format!(
        "GET /v1/events HTTP/1.1\r\nhost: edge\r\naccept: text/event-stream\r\nauthorization: Bearer {}\r\n",
        token(json!("m1"))
    );
    for value in forwarded {
        request.push_str(&format!("X-Forwarded-For: {value}\r\n"));
    }
    let all = [first, request.as_bytes(), b"\r\n"].concat();
    connection.write_all(&all).await?;
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    tokio::time::timeout(LIMIT, connection.read_line(&mut line)).await.context("no answer came")??;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Asked { status: status.with_context(|| format!("the answer is {line:?}"))?, _connection: connection })
}

async fn connect(to: &str, from: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse()?, 0))?;
    Ok(socket.connect(to.parse()?).await?)
}

/// Whether the connection is ended from the other side without an answer.
async fn ends_unanswered(connection: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    let read =
        tokio::time::timeout(LIMIT, connection.read_to_end(&mut rest)).await.context("it stays open")?;
    ensure!(read.is_err() || rest.is_empty(), "it answers {:?}", String::from_utf8_lossy(&rest));
    Ok(())
}

/// Asks one after the other, all at the same time open; the statuses.
async fn statuses(edge: &Edge, asks: &[(&str, &[&str])]) -> Result<Vec<u16>> {
    let mut open = Vec::new();
    for (from, forwarded) in asks {
        open.push(ask(&edge.listen, from, b"", forwarded).await?);
    }
    Ok(open.iter().map(|asked| asked.status).collect())
}

#[tokio::test]
async fn a_strangers_word_on_its_address_does_not_count() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    for trusted in ["", "10.0.0.0/8,127.0.0.9"] {
        let edge = stage.edge(&[ONE_EACH, ("EDGE__TRUSTED_PROXIES", trusted)]).await?;
        let asks: [(&str, &[&str]); 3] = [
            ("127.0.0.1", &["203.0.113.1"]),
            ("127.0.0.1", &["203.0.113.2"]),
            ("127.0.0.2", &["203.0.113.1, 10.0.0.1"]),
        ];
        ensure!(statuses(&edge, &asks).await? == [200, 429, 200], "trusting {trusted:?}");
        let header = b"PROXY TCP4 203.0.113.3 127.0.0.1 1 2\r\n";
        ensure!(ask(&edge.listen, "127.0.0.3", header, &[]).await?.status == 400);
    }
    Ok(())
}

#[tokio::test]
async fn a_trusted_proxys_word_counts_and_what_its_client_wrote_does_not() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[ONE_EACH, ("EDGE__TRUSTED_PROXIES", "127.0.0.0/30,10.0.0.0/8")]).await?;
    let asks: [(&str, &[&str]); 9] = [
        ("127.0.0.1", &["203.0.113.1"]),
        ("127.0.0.2", &["203.0.113.1"]),
        ("127.0.0.1", &["203.0.113.2"]),
        ("127.0.0.1", &["6.6.6.6, 203.0.113.1, 10.1.1.1"]),
        ("127.0.0.1", &["6.6.6.6", "203.0.113.2:4711"]),
        ("127.0.0.1", &["2001:db8:0:1::5"]),
        ("127.0.0.1", &["[2001:db8:0:1:ffff::6]:443"]),
        ("127.0.0.1", &["2001:db8:0:2::5"]),
        ("127.0.0.5", &["203.0.113.77"]),
    ];
    ensure!(statuses(&edge, &asks).await? == [200, 429, 200, 429, 429, 200, 429, 200, 200]);
    // Where a proxy names nobody, anybody may be behind it.
    let nameless: [(&str, &[&str]); 3] =
        [("127.0.0.1", &[]), ("127.0.0.1", &["unknown"]), ("127.0.0.1", &[""])];
    ensure!(statuses(&edge, &nameless).await? == [200, 200, 200]);
    let off = [ONE_EACH, ("EDGE__TRUSTED_PROXIES", "127.0.0.1"), ("EDGE__FORWARDED_HEADER", "off")];
    let edge = stage.edge(&off).await?;
    let asks: [(&str, &[&str]); 3] =
        [("127.0.0.1", &["203.0.113.1"]), ("127.0.0.1", &["203.0.113.1"]), ("127.0.0.2", &["203.0.113.1"])];
    ensure!(statuses(&edge, &asks).await? == [200, 200, 200]);
    Ok(())
}

/// The clients of a real HAProxy, which come from different addresses of this machine and claim to come from others.
#[tokio::test]
async fn haproxy_names_its_clients_by_header_and_by_both_versions_of_the_protocol() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    for proxy_protocol in [None, Some(1), Some(2)] {
        let on = proxy_protocol.is_some().to_string();
        let settings =
            [ONE_EACH, ("EDGE__TRUSTED_PROXIES", "127.0.0.1"), ("EDGE__PROXY_PROTOCOL", on.as_str())];
        let edge = stage.edge(&settings).await?;
        let backends = vec![Backend { address: edge.listen.clone(), admin: Some(edge.admin.clone()) }];
        let haproxy =
            Haproxy::start(HaproxyOptions { backends, proxy_protocol, ..Default::default() }).await?;
        let at = format!("127.0.0.1:{}", haproxy.port());
        let mut open = Vec::new();
        for (from, claim) in [("127.0.0.2", "9.9.9.1"), ("127.0.0.2", "9.9.9.2"), ("127.0.0.3", "9.9.9.1")] {
            open.push(ask(&at, from, b"", &[claim]).await?);
        }
        let statuses: Vec<_> = open.iter().map(|asked| asked.status).collect();
        ensure!(statuses == [200, 429, 200], "{proxy_protocol:?}: {statuses:?}");
        let headers = edge.metric("rowcast_edge_proxy_headers_total", "client").await.unwrap_or(0.0);
        ensure!((headers >= 3.0) == proxy_protocol.is_some(), "{headers} headers, {proxy_protocol:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_trusted_proxy_has_to_begin_with_a_header_and_from_others_none_is_read() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let settings = [ONE_EACH, ("EDGE__TRUSTED_PROXIES", "127.0.0.1"), ("EDGE__PROXY_PROTOCOL", "true")];
    let edge = stage.edge(&settings).await?;
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x01\x7f\0\0\x01\0\x01\0\x02";
    let text = b"PROXY TCP4 203.0.113.2 127.0.0.1 1 2\r\n";
    let mut open = Vec::new();
    for (from, first, expected) in [
        ("127.0.0.1", binary.as_slice(), 200),
        ("127.0.0.1", b"PROXY TCP4 203.0.113.1 127.0.0.1 1 2\r\n", 429),
        ("127.0.0.1", text, 200),
        ("127.0.0.1", b"PROXY UNKNOWN\r\n", 200),
        // Others speak for themselves, and a header of theirs is no request.
        ("127.0.0.2", b"", 200),
        ("127.0.0.3", text, 400),
        ("127.0.0.3", binary, 400),
    ] {
        let asked = ask(&edge.listen, from, first, &["203.0.113.1"]).await?;
        ensure!(asked.status == expected, "{from} {:?}: {}", String::from_utf8_lossy(first), asked.status);
        open.push(asked);
    }
    let long = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[0; 5_000]].concat();
    let faults: [&[u8]; 4] =
        [b"GET /v1/events HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4 nobody 1 2\r\n", &[b'P'; 300], &long];
    for first in faults {
        let mut connection = connect(&edge.listen, "127.0.0.1").await?;
        connection.write_all(first).await?;
        ends_unanswered(&mut connection).await?;
    }
    // One that drips is not waited for.
    let mut slow = connect(&edge.listen, "127.0.0.1").await?;
    slow.write_all(b"PROXY TCP4 1.2.").await?;
    ends_unanswered(&mut slow).await?;
    let result = |label: &'static str| edge.metric("rowcast_edge_proxy_headers_total", label);
    assert_eq!((result("missing").await?, result("malformed").await?), (2.0, 1.0));
    assert_eq!((result("too_long").await?, result("timeout").await?), (1.0, 1.0));
    Ok(())
}
