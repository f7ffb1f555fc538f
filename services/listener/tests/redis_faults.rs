//! Redis forgets, goes back in time, fills up, answers late or not at all. What is gone for good raises the generation
//! before anything else is published; everything else costs time only. Faults of leaders are in `takeover.rs`.

mod common;

use std::time::{Duration, Instant};

use anyhow::Result;
use common::{Listener, PATIENCE, System, Writers};
use rowcast_sandbox::{Link, Persistence, Proxy, Signal, wait_until};

/// A heartbeat a second, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(8);

/// Raw commands to Redis, for what only an operator does.
async fn redis(system: &System, command: &[&str]) -> Result<redis::Value> {
    let mut connection = system.redis.connection().await?;
    Ok(redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await?)
}

async fn generation(system: &System) -> Result<i64> {
    Ok(system.database.query_one("SELECT generation FROM rowcast.state", &[]).await?.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_raises_the_generation_within_seconds_though_nothing_is_published() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    system.publish("m", 0..3).await?;
    system.expect("m", 3).await?;
    system.expect_heartbeat("a heartbeat", |beat| beat.generation == 1).await?;
    system.redis.flush().await?;
    tokio::time::timeout(SOON, system.expect_heartbeat("a new generation", |beat| beat.generation == 2))
        .await??;
    system.publish("m", 0..2).await?;
    system.expect("m", 2).await?;
    assert_eq!(generation(&system).await?, 2, "once for one flush");
    assert!(listener.leads().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_under_load_loses_only_what_was_published_and_raises_the_generation_first() -> Result<()> {
    let system = System::start().await?;
    let _listener = system.listener("only").await?;
    let writers = Writers::begin(&system).await?;
    system.expect_heartbeat("a heartbeat", |_| true).await?;
    writers.half_published(&system).await?;
    // The generation can not be raised for now: so nothing may be published.
    let holder = system.postgres.connect("app").await?;
    holder.batch_execute("BEGIN; SELECT FROM rowcast.state FOR UPDATE").await?;
    system.redis.flush().await?;
    let blocked = "SELECT count(*) > 0 FROM pg_stat_activity
                    WHERE wait_event_type = 'Lock' AND query LIKE '%generation = generation + 1%'";
    wait_until("it wants to raise the generation", PATIENCE, || async {
        matches!(system.database.query_one(blocked, &[]).await, Ok(row) if row.get(0))
    })
    .await?;
    for room in writers.rooms() {
        assert!(system.numbers(&room).await?.is_empty(), "nothing of {room} before the generation is raised");
    }
    holder.batch_execute("COMMIT").await?;
    let rooms: Vec<_> = writers.rooms().collect();
    let events = writers.all_written().await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    for room in rooms {
        let numbers = system.numbers(&room).await?;
        let first = *numbers.first().expect("some are published after the flush");
        assert_eq!(numbers, (first..events).collect::<Vec<_>>(), "{room} goes on without a gap to the end");
    }
    assert!(generation(&system).await? >= 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_while_nobody_leads_is_found_by_the_next_leader() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("first").await?;
    system.publish("m", 0..3).await?;
    system.expect("m", 3).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    drop(listener);
    let listener = system.listener("second").await?;
    system.publish("m", 3..4).await?;
    system.expect("m", 4).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    assert_eq!(generation(&system).await?, 1, "a leader's death explains no resync");
    drop(listener);
    system.redis.flush().await?;
    let _listener = system.listener("third").await?;
    system.publish("m", 0..1).await?;
    system.expect("m", 1).await?;
    assert_eq!(generation(&system).await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_went_back_to_an_old_snapshot_gets_nothing_before_the_generation_is_raised() -> Result<()>
{
    let mut system = System::start_with(Persistence::Snapshot).await?;
    let _listener = system.listener("only").await?;
    system.publish("m", 0..10).await?;
    system.expect("m", 10).await?;
    redis(&system, &["SAVE"]).await?;
    system.publish("m", 10..20).await?;
    system.expect("m", 20).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    let holder = system.postgres.connect("app").await?;
    holder.batch_execute("BEGIN; SELECT FROM rowcast.state FOR UPDATE").await?;
    system.redis.kill(Signal::KILL).await?;
    system.redis.restart().await?;
    assert_eq!(system.numbers("m").await?, (0..10).collect::<Vec<_>>(), "as the snapshot has it");
    system.publish("m", 20..25).await?;
    let blocked = "SELECT count(*) > 0 FROM pg_stat_activity
                    WHERE wait_event_type = 'Lock' AND query LIKE '%generation = generation + 1%'";
    wait_until("it wants to raise the generation", PATIENCE, || async {
        matches!(system.database.query_one(blocked, &[]).await, Ok(row) if row.get(0))
    })
    .await?;
    assert_eq!(system.numbers("m").await?.len(), 10, "nothing before");
    holder.batch_execute("COMMIT").await?;
    system.expect_heartbeat("a new generation", |beat| beat.generation >= 2).await?;
    wait_until("what was committed meanwhile is published", PATIENCE, || async {
        let expected: Vec<_> = (0..10).chain(20..25).collect();
        matches!(system.numbers("m").await, Ok(numbers) if numbers == expected)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_is_warned_of() -> Result<()> {
    let system = System::start().await?;
    let good = system.listener("good").await?;
    good.expect_leading().await?;
    good.expect_metric("rowcast_listener_redis_evicts", 0.0).await?;
    for policy in ["allkeys-lru", "volatile-ttl"] {
        redis(&system, &["CONFIG", "SET", "maxmemory-policy", policy]).await?;
        redis(&system, &["CLIENT", "KILL", "TYPE", "normal"]).await?;
        wait_until("the log names the policy", PATIENCE, || async {
            let log = good.process.log_tail(200);
            log.contains(policy) && log.contains("maxmemory-policy noeviction")
        })
        .await?;
        good.expect_metric("rowcast_listener_redis_evicts", 1.0).await?;
    }
    redis(&system, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await?;
    redis(&system, &["CLIENT", "KILL", "TYPE", "normal"]).await?;
    good.expect_metric("rowcast_listener_redis_evicts", 0.0).await
}

/// A listener whose way to Redis can be disturbed.
async fn behind_a_proxy(system: &System) -> Result<(Proxy, Listener)> {
    let proxy = Proxy::start(format!("127.0.0.1:{}", system.redis.port()))?;
    let url = format!("redis://{}", proxy.address());
    let listener = system.listener_with("only", &[("ROWCAST_REDIS__URL", &url)]).await?;
    Ok((proxy, listener))
}

/// Waits until a metric has risen by so much.
async fn risen(listener: &Listener, metric: &str, by: f64) -> Result<()> {
    let before = listener.metric(metric).await.unwrap_or(0.0);
    wait_until(format!("{metric} rises"), PATIENCE, || async {
        matches!(listener.metric(metric).await, Ok(now) if now >= before + by)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_and_a_half_open_link_to_redis_lose_and_double_nothing_and_renew_no_stream() -> Result<()> {
    let system = System::start().await?;
    let (proxy, listener) = behind_a_proxy(&system).await?;
    let writers = Writers::midway(&system).await?;
    let stream = system.load("room-0").await?.head.map(|head| head.stream);
    proxy.set(Link::Slow(Duration::from_millis(150)));
    risen(&listener, "rowcast_listener_events_published_total", 50.0).await?;
    for _ in 0..2 {
        // What was under way on the old link arrives late, behind what the new one has repeated.
        proxy.set(Link::Held);
        risen(&listener, "rowcast_listener_redis_lost_total", 1.0).await?;
        proxy.set(Link::Through);
        risen(&listener, "rowcast_listener_heartbeats_total", 1.0).await?;
    }
    writers.expect_all(&system).await?;
    assert_eq!(system.load("room-0").await?.head.map(|head| head.stream), stream);
    assert_eq!(system.heartbeat().await?.generation, 1, "a link alone explains no resync");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_does_not_answer_for_seconds_is_waited_out() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    let writers = Writers::midway(&system).await?;
    // Connections are kept, and commands wait: longer than an answer may take.
    redis(&system, &["CLIENT", "PAUSE", "3500", "ALL"]).await?;
    risen(&listener, "rowcast_listener_redis_lost_total", 1.0).await?;
    writers.expect_all(&system).await?;
    assert!(listener.leads().await);
    assert_eq!(system.heartbeat().await?.generation, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_are_flushed_in_the_midst_of_pipelines_lose_and_double_nothing() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    let writers = Writers::midway(&system).await?;
    let mut connection = system.redis.connection().await?;
    let missed = "rowcast_listener_redis_refusals_total{code=\"NOSCRIPT\"}";
    let end = Instant::now() + PATIENCE;
    while listener.metric(missed).await.unwrap_or(0.0) < 5.0 {
        assert!(Instant::now() < end, "scripts are missed");
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await?;
    }
    writers.expect_all(&system).await?;
    assert_eq!(system.heartbeat().await?.generation, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_silences_the_heartbeat_and_loses_and_doubles_nothing() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    let writers = Writers::midway(&system).await?;
    for _ in 0..2 {
        redis(&system, &["CONFIG", "SET", "maxmemory", "1"]).await?;
        risen(&listener, "rowcast_listener_redis_refusals_total{code=\"OOM\"}", 1.0).await?;
        let before = system.heartbeat().await?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1_500) {
            risen(&listener, "rowcast_listener_redis_refusals_total{code=\"OOM\"}", 1.0).await?;
        }
        assert_eq!(system.heartbeat().await?, before, "what Redis does not take is no sign of life");
        redis(&system, &["CONFIG", "SET", "maxmemory", "0"]).await?;
        risen(&listener, "rowcast_listener_heartbeats_total", 1.0).await?;
    }
    writers.expect_all(&system).await?;
    assert_eq!(system.heartbeat().await?.generation, 1);
    Ok(())
}
