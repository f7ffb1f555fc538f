//! Redis and HAProxy of one's own.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rowcast_sandbox::{
    Backend, Folder, Haproxy, HaproxyOptions, Persistence, Redis, RedisKind, RedisOptions, Signal, free_port,
    http_get, says_address_in_use, wait_for,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(10);

async fn set(redis: &Redis, value: &str) -> Result<()> {
    let mut connection = redis.connection().await?;
    Ok(redis::cmd("SET").arg("key").arg(value).query_async(&mut connection).await?)
}

async fn get(redis: &Redis) -> Result<Option<String>> {
    let mut connection = redis.connection().await?;
    Ok(redis::cmd("GET").arg("key").query_async(&mut connection).await?)
}

#[tokio::test]
async fn redis_starts_flushes_and_stops() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    set(&redis, "value").await?;
    assert_eq!(get(&redis).await?.as_deref(), Some("value"));
    redis.flush().await?;
    assert_eq!(get(&redis).await?, None);
    redis.stop().await?;
    assert!(redis.connection().await.is_err());
    Ok(())
}

#[tokio::test]
async fn what_is_started_is_the_server_that_was_asked_for() -> Result<()> {
    for kind in RedisKind::ALL {
        if !kind.is_here()? {
            continue;
        }
        let redis = Redis::start(RedisOptions { kind, ..Default::default() }).await?;
        let mut connection = redis.connection().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        let told = field("valkey_version:").or(field("redis_version:")).context("a version")?;
        assert!(told.starts_with(kind.version().unwrap_or("")), "{kind} says {told}");
    }
    Ok(())
}

#[tokio::test]
async fn what_outlives_a_restart_is_what_was_asked_for() -> Result<()> {
    for (persistence, kept) in [
        (Persistence::None, None),
        (Persistence::AppendOnly, Some("value")),
        (Persistence::Snapshot, Some("value")),
    ] {
        let mut redis = Redis::start(RedisOptions { persistence, ..Default::default() }).await?;
        let (port, pid) = (redis.port(), redis.pid());
        set(&redis, "value").await?;
        redis.restart().await?;
        assert_eq!(get(&redis).await?.as_deref(), kept, "{persistence:?}");
        assert_eq!(redis.port(), port);
        assert_ne!(redis.pid(), pid);
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_redis_starts_again() -> Result<()> {
    let mut redis = Redis::start(RedisOptions::default()).await?;
    redis.kill(Signal::KILL).await?;
    redis.restart().await?;
    set(&redis, "again").await
}

#[tokio::test]
async fn a_stopped_redis_ends_too() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    redis.kill(Signal::STOP).await?;
    redis.stop().await
}

#[tokio::test]
async fn two_redis_servers_do_not_meet() -> Result<()> {
    let start = || Redis::start(RedisOptions::default());
    let (one, two) = tokio::try_join!(start(), start())?;
    set(&one, "one").await?;
    assert_eq!(get(&two).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_failed_start_of_redis_says_why() -> Result<()> {
    let extra_args = vec!["--maxmemory-policy".to_owned(), "nonsense".to_owned()];
    let error =
        Redis::start(RedisOptions { extra_args, ..Default::default() }).await.expect_err("no such policy");
    assert!(format!("{error:#}").contains("maxmemory-policy"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn a_port_that_redis_holds_is_refused_to_both() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let port = Some(redis.port());
    let (second, balancer) = tokio::join!(
        Redis::start(RedisOptions { port, ..Default::default() }),
        Haproxy::start(HaproxyOptions { port, ..Default::default() })
    );
    for error in [second.expect_err("taken"), balancer.expect_err("taken")] {
        assert!(says_address_in_use(&error), "{error:#}");
    }
    Ok(())
}

/// A server that answers every request with its name, or 503 on `/ready` where it is not ready. What asks for a WebSocket
/// gets one that says nothing.
async fn stub(name: &'static str, ready: bool, tasks: &mut JoinSet<()>) -> Result<Backend> {
    let listener = TcpListener::bind(("127.0.0.1", free_port()?)).await?;
    let address = listener.local_addr()?.to_string();
    tasks.spawn(async move {
        let mut held = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]);
            if request.to_lowercase().contains("upgrade: websocket") {
                held.spawn(hold(stream));
                continue;
            }
            let asks_ready = request.starts_with("GET /ready");
            let status = if asks_ready && !ready { 503 } else { 200 };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}",
                name.len()
            );
            // A health check that hangs up early is no fault.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Ok(Backend { admin: Some(address.clone()), address })
}

async fn hold(mut stream: TcpStream) {
    // HAProxy compares key and answer: these are the example of RFC 6455.
    let answer = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    // Whoever asked may have gone; what matters is the other end.
    if stream.write_all(answer).await.is_ok() {
        let _ = stream.read(&mut [0]).await;
    }
}

/// Asks the balancer for a WebSocket: the status, and the connection.
async fn upgrade(port: u16) -> Result<(u16, TcpStream)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    Ok((head.split(' ').nth(1).context("a status")?.parse()?, stream))
}

async fn ask(port: u16) -> Result<String> {
    ask_for(port, "/").await
}

async fn ask_for(port: u16, path: &str) -> Result<String> {
    let (status, body) = http_get(&format!("127.0.0.1:{port}"), path).await?;
    ensure!(status == 200, "{status}");
    Ok(body)
}

#[tokio::test]
async fn the_balancer_asks_ready_ones_only_and_takes_over_others() -> Result<()> {
    let mut tasks = JoinSet::new();
    let ready = stub("ready", true, &mut tasks).await?;
    let unready = stub("unready", false, &mut tasks).await?;
    let other = stub("other", true, &mut tasks).await?;
    let options = HaproxyOptions { backends: vec![ready, unready.clone()], ..Default::default() };
    let mut balancer = Haproxy::start(options).await?;
    let port = balancer.port();
    // One that is not ready may be asked before it was checked; from then on it is not.
    wait_for("the first check", SOON, || async {
        for _ in 0..10 {
            ensure!(ask(port).await? == "ready");
        }
        Ok(())
    })
    .await?;
    balancer.set_backends(vec![unready, other]).await?;
    wait_for("the other backend", SOON, || async {
        ensure!(ask(port).await? == "other");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_balancer_starts_again_on_its_port() -> Result<()> {
    let mut tasks = JoinSet::new();
    let backend = Backend { admin: None, ..stub("one", true, &mut tasks).await? };
    let mut balancer =
        Haproxy::start(HaproxyOptions { backends: vec![backend], ..Default::default() }).await?;
    balancer.kill(Signal::KILL).await?;
    balancer.restart().await?;
    assert_eq!(ask(balancer.port()).await?, "one");
    balancer.stop().await?;
    assert!(ask(balancer.port()).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_page_stands_beside_the_backends_on_one_origin() -> Result<()> {
    let mut tasks = JoinSet::new();
    let edge = Backend { admin: None, ..stub("edge", true, &mut tasks).await? };
    let page = stub("page", true, &mut tasks).await?.address;
    let options = HaproxyOptions { backends: vec![edge], page: Some(page), ..Default::default() };
    let balancer = Haproxy::start(options).await?;
    for path in ["/ws", "/ws?a=b", "/v1/events?wait=1", "/socket.io/?EIO=4"] {
        assert_eq!(ask_for(balancer.port(), path).await?, "edge", "{path}");
    }
    for path in ["/", "/index.html", "/assets/a.js", "/demo/state", "/ws/x", "/wss", "/v1", "/v1.js"] {
        assert_eq!(ask_for(balancer.port(), path).await?, "page", "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn refused_websockets_are_cut_while_http_goes_on_also_over_a_restart() -> Result<()> {
    let mut tasks = JoinSet::new();
    let edges = vec![stub("edge", true, &mut tasks).await?, stub("edge", true, &mut tasks).await?];
    let options = HaproxyOptions { backends: edges.clone(), ..Default::default() };
    let mut balancer = Haproxy::start(options).await?;
    let port = balancer.port();
    let (status, mut one) = upgrade(port).await?;
    let (_, mut other) = upgrade(port).await?;
    assert_eq!(status, 101);

    balancer.set_websockets(false).await?;
    for socket in [&mut one, &mut other] {
        let end = tokio::time::timeout(SOON, socket.read(&mut [0])).await?;
        assert!(end.is_err() || end.is_ok_and(|length| length == 0), "it says something");
    }
    assert_eq!(upgrade(port).await?.0, 503);
    assert_eq!(ask(port).await?, "edge");

    balancer.restart().await?;
    assert_eq!(upgrade(port).await?.0, 503);
    balancer.set_backends(edges).await?;
    assert_eq!(upgrade(port).await?.0, 503);
    balancer.set_websockets(true).await?;
    wait_for("WebSockets again", SOON, || async {
        ensure!(upgrade(port).await?.0 == 101);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_folder_goes_with_its_owner() -> Result<()> {
    let folder = Folder::new("test")?;
    let path = folder.path().to_owned();
    assert!(path.is_dir());
    drop(folder);
    assert!(!path.exists());
    Ok(())
}
