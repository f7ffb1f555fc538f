//! Redis and HAProxy of one's own.

use std::time::Duration;

use anyhow::{Result, ensure};
use rowcast_sandbox::{
    Backend, Folder, Haproxy, HaproxyOptions, Persistence, Redis, RedisOptions, Signal, free_port, http_get,
    says_address_in_use, wait_for,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
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

/// A server that answers every request with its name, or 503 on `/ready` where it is not ready.
async fn stub(name: &'static str, ready: bool, tasks: &mut JoinSet<()>) -> Result<Backend> {
    let listener = TcpListener::bind(("127.0.0.1", free_port()?)).await?;
    let address = listener.local_addr()?.to_string();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let asks_ready = request[..length].starts_with(b"GET /ready");
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

async fn ask(port: u16) -> Result<String> {
    let (status, body) = http_get(&format!("127.0.0.1:{port}"), "/").await?;
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
async fn a_folder_goes_with_its_owner() -> Result<()> {
    let folder = Folder::new("test")?;
    let path = folder.path().to_owned();
    assert!(path.is_dir());
    drop(folder);
    assert!(!path.exists());
    Ok(())
}
