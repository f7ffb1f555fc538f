//! Leaders die, stop and freeze; servers go away and come back. Nothing is lost, doubled or out of order.

mod common;

use std::time::{Duration, Instant};

use anyhow::Result;
use common::{Listener, PATIENCE, System, Writers};
use rowcast_sandbox::{Persistence, Signal, wait_until};

async fn pair(system: &System) -> Result<(Listener, Listener)> {
    let first = system.listener("first").await?;
    first.expect_leading().await?;
    let second = system.listener("second").await?;
    assert!(!second.leads().await, "one leads");
    Ok((first, second))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_and_nothing_is_lost_or_doubled() -> Result<()> {
    let system = System::start().await?;
    let (first, second) = pair(&system).await?;
    let before = system.expect_heartbeat("a heartbeat", |_| true).await?;
    let writers = Writers::begin(&system).await?;
    writers.half_published(&system).await?;
    first.process.signal(Signal::KILL)?;
    second.expect_leading().await?;
    writers.expect_all(&system).await?;
    let after = system.expect_heartbeat("the second's heartbeat", |beat| beat.epoch > before.epoch).await?;
    assert_eq!(after.generation, before.generation, "a death explains no resync");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_publishes_nothing_after_takeover() -> Result<()> {
    let system = System::start().await?;
    let (first, second) = pair(&system).await?;
    let writers = Writers::begin(&system).await?;
    writers.half_published(&system).await?;
    first.process.signal(Signal::STOP)?;
    second.expect_leading().await?;
    first.process.signal(Signal::CONT)?;
    writers.expect_all(&system).await?;
    wait_until("the first has noticed", PATIENCE, || async { !first.leads().await }).await?;
    // It waits in line again, and can follow in its turn.
    second.process.signal(Signal::KILL)?;
    first.expect_leading().await?;
    system.publish("again", 0..5).await?;
    system.expect("again", 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_hands_over_at_once() -> Result<()> {
    let system = System::start().await?;
    let (first, second) = pair(&system).await?;
    let writers = Writers::begin(&system).await?;
    writers.half_published(&system).await?;
    let began = Instant::now();
    first.process.signal(Signal::TERM)?;
    second.expect_leading().await?;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "the lock is given back, not timed out: {took:?}");
    let status = first.process.wait_exit(PATIENCE).await?;
    assert_eq!(status.code(), Some(0), "{}", first.process.log_tail(20));
    writers.expect_all(&system).await
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_links_to_redis_lose_and_double_nothing_and_renew_no_stream() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    let writers = Writers::begin(&system).await?;
    writers.half_published(&system).await?;
    let stream = system.load("room-0").await?.head.map(|head| head.stream);
    let mut cutter = system.redis.connection().await?;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let _: i64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query_async(&mut cutter)
            .await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    writers.expect_all(&system).await?;
    assert_eq!(system.load("room-0").await?.head.map(|head| head.stream), stream);
    assert!(listener.metric("rowcast_listener_redis_lost_total").await? > 3.0);
    assert_eq!(system.heartbeat().await?.generation, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_redis_raises_the_generation_and_publishing_goes_on() -> Result<()> {
    let mut system = System::start_with(Persistence::AppendOnly).await?;
    let listener = system.listener("only").await?;
    system.publish("m", 0..10).await?;
    system.expect("m", 10).await?;
    let before = system.expect_heartbeat("a heartbeat", |_| true).await?;
    system.redis.stop().await?;
    wait_until("it is not ready", PATIENCE, || async {
        matches!(rowcast_sandbox::http_get(&listener.admin, "/ready").await, Ok((503, _)))
    })
    .await?;
    // Committed while Redis is away.
    system.publish("m", 10..20).await?;
    system.redis.restart().await?;
    system.expect("m", 20).await?;
    system.expect_heartbeat("a higher generation", |beat| beat.generation == before.generation + 1).await?;
    assert!(listener.leads().await, "Redis's outage costs nobody the lead");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_and_keys_are_met_by_loading_and_by_a_new_stream() -> Result<()> {
    let system = System::start().await?;
    let _listener = system.listener("only").await?;
    system.publish("m", 0..3).await?;
    system.expect("m", 3).await?;
    let mut redis = system.redis.connection().await?;
    let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut redis).await?;
    system.publish("m", 3..6).await?;
    system.expect("m", 6).await?;
    let stream = system.load("m").await?.head.map(|head| head.stream);

    system.redis.flush().await?;
    system.publish("m", 0..4).await?;
    system.expect("m", 4).await?;
    assert_ne!(system.load("m").await?.head.map(|head| head.stream), stream);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_postgresql_is_waited_for_and_nothing_is_lost() -> Result<()> {
    let mut system = System::start().await?;
    let listener = system.listener("only").await?;
    system.publish("m", 0..10).await?;
    system.postgres.restart().await?;
    system.database = system.postgres.connect("app").await?;
    system.publish("m", 10..20).await?;
    system.expect("m", 20).await?;
    assert!(listener.process.exited().is_none());
    assert_eq!(system.heartbeat().await?.generation, 1, "PostgreSQL's process alone explains no resync");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_epoch_from_a_restored_database_is_raised_and_so_is_the_generation() -> Result<()> {
    let system = System::start().await?;
    let first = system.listener("first").await?;
    system.publish("m", 0..5).await?;
    system.expect("m", 5).await?;
    system.expect_heartbeat("a heartbeat", |_| true).await?;
    first.process.stop(Signal::TERM, PATIENCE).await?;
    // What a leader of a lost timeline did in Redis.
    let mut redis = system.redis.connection().await?;
    for key in ["rowcast:default:state", "rowcast:default:{m}:head"] {
        let _: i64 = redis::cmd("HSET").arg(key).arg(&["e", "40"]).query_async(&mut redis).await?;
    }
    let _second = system.listener("second").await?;
    system.publish("m", 5..9).await?;
    system.expect("m", 9).await?;
    let beat = system.expect_heartbeat("a heartbeat of its own", |beat| beat.epoch > 40).await?;
    assert_eq!(beat.generation, 2);
    Ok(())
}
