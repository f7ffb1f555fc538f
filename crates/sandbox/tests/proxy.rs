//! Links that are slow, held and cut.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rowcast_sandbox::{Link, Proxy, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
const DELAY: Duration = Duration::from_millis(100);

/// A server that says everything back, and a proxy before it.
async fn echo() -> Result<(JoinSet<()>, Proxy)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = Proxy::start(listener.local_addr()?.to_string())?;
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok((serving, proxy))
}

async fn connect(proxy: &Proxy) -> Result<TcpStream> {
    Ok(TcpStream::connect(proxy.address()).await?)
}

async fn hear(stream: &mut TcpStream) -> Result<u8> {
    Ok(timeout(SOON, stream.read_u8()).await??)
}

/// Whether the connection is closed, and not only silent.
async fn closed(stream: &mut TcpStream) -> Result<bool> {
    Ok(!matches!(timeout(SOON, stream.read(&mut [0; 1])).await?, Ok(1)))
}

#[tokio::test]
async fn everything_passes_and_an_end_is_passed_on() -> Result<()> {
    let (_server, proxy) = echo().await?;
    let mut stream = connect(&proxy).await?;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut from, mut to) = stream.split();
    let write = async {
        to.write_all(&sent).await?;
        to.shutdown().await
    };
    let mut heard = Vec::new();
    timeout(SOON, async { tokio::try_join!(write, from.read_to_end(&mut heard)) }).await??;
    assert!(heard == sent);
    Ok(())
}

#[tokio::test]
async fn a_slow_link_delays_and_keeps_the_order() -> Result<()> {
    let (_server, proxy) = echo().await?;
    let mut stream = connect(&proxy).await?;
    proxy.set(Link::Slow(DELAY));
    let began = Instant::now();
    for byte in 0..50 {
        stream.write_u8(byte).await?;
    }
    for byte in 0..50 {
        assert_eq!(hear(&mut stream).await?, byte);
    }
    assert!(began.elapsed() >= 2 * DELAY, "there and back");
    Ok(())
}

#[tokio::test]
async fn a_held_link_is_silent_and_gives_back_what_it_held() -> Result<()> {
    let (_server, proxy) = echo().await?;
    let mut old = connect(&proxy).await?;
    old.write_u8(1).await?;
    assert_eq!(hear(&mut old).await?, 1);
    proxy.set(Link::Held);
    let mut new = connect(&proxy).await?;
    for stream in [&mut old, &mut new] {
        stream.write_u8(2).await?;
        assert!(timeout(DELAY, stream.read_u8()).await.is_err(), "neither an answer nor an end");
    }
    proxy.set(Link::Through);
    for stream in [&mut old, &mut new] {
        assert_eq!(hear(stream).await?, 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_cut_link_closes_and_a_refused_one_stays_closed() -> Result<()> {
    let (_server, proxy) = echo().await?;
    let mut first = connect(&proxy).await?;
    first.write_u8(1).await?;
    hear(&mut first).await?;
    proxy.cut();
    assert!(closed(&mut first).await?);
    let mut second = connect(&proxy).await?;
    second.write_u8(1).await?;
    hear(&mut second).await?;
    proxy.set(Link::Refused);
    assert!(closed(&mut second).await?);
    if let Ok(mut third) = connect(&proxy).await {
        assert!(closed(&mut third).await?);
    }
    proxy.set(Link::Through);
    wait_for("a connection", SOON, || async {
        let mut stream = connect(&proxy).await?;
        stream.write_u8(3).await?;
        ensure!(hear(&mut stream).await? == 3);
        anyhow::Ok(())
    })
    .await
}

#[tokio::test]
async fn a_held_connection_can_be_cut_and_an_absent_target_closes() -> Result<()> {
    let (server, proxy) = echo().await?;
    proxy.set(Link::Held);
    let mut stream = connect(&proxy).await?;
    stream.write_u8(1).await?;
    assert!(timeout(DELAY, stream.read_u8()).await.is_err());
    proxy.set(Link::Refused);
    assert!(closed(&mut stream).await?);
    drop(server);
    proxy.set(Link::Through);
    wait_for("nobody behind it", SOON, || async {
        let mut stream = connect(&proxy).await?;
        ensure!(closed(&mut stream).await?);
        anyhow::Ok(())
    })
    .await
}
