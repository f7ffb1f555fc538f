//! Leaders die, stop and freeze; servers go away and come back. Nothing is lost, doubled or out of order.

mod common;

use std::time::{Duration, Instant};

use anyhow::Result;
use common::{Listener, PATIENCE, System, Writers};
use rowcast_sandbox::{Link, Persistence, Proxy, Signal, wait_until};

/// Of a process that died: PostgreSQL sees its connection end. The promise is 1 s; the rest is for a busy machine.
const KILLED: Duration = Duration::from_secs(4);
/// Of one that is silent: its session ends after 3 s. The promise is 4 s.
const SILENT: Duration = Duration::from_secs(9);

async fn pair(system: &System) -> Result<(Listener, Listener)> {
    pair_with(system, &[]).await
}

/// A leader with settings of its own, and a standby.
/// A leader whose way to PostgreSQL can be disturbed, and a standby.
async fn pair_behind_a_proxy(system: &System) -> Result<(Proxy, Listener, Listener)> {
    let port = system.postgres.port();
    let proxy = Proxy::start(format!("127.0.0.1:{port}"))?;
    let url = system.url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    assert_ne!(url, system.url);
    let (first, second) = pair_with(system, &[("ROWCAST_DATABASE__URL", &url)]).await?;
    Ok((proxy, first, second))
}

/// Waits until another leads, so long at most.
async fn takes_over(second: &Listener, within: Duration) -> Result<()> {
    let began = Instant::now();
    second.expect_leading().await?;
    let took = began.elapsed();
    assert!(took < within, "it took {took:?} to take over");
    Ok(())
}

/// Twenty megabytes for the room `large`, in one statement.
async fn write_large(system: &System) -> Result<()> {
    let write = "INSERT INTO rowcast.outbox (room, type, data)
        SELECT 'large', 'x', json_build_object('n', n, 'much', repeat(md5(n::text), 6000))
          FROM generate_series(0, 99) AS n";
    Ok(system.database.batch_execute(write).await?)
}

/// Waits until the number of sessions in some state is what is wanted.
async fn activity(system: &System, condition: &str) -> Result<()> {
    let query = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'rowcast-listener%' AND {condition}"
    );
    wait_until(condition, PATIENCE, || async {
        matches!(system.database.query_one(query.as_str(), &[]).await, Ok(row) if row.get(0))
    })
    .await
}

async fn pair_with(system: &System, settings: &[(&str, &str)]) -> Result<(Listener, Listener)> {
    let first = system.listener_with("first", settings).await?;
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
    let writers = Writers::midway(&system).await?;
    first.process.signal(Signal::KILL)?;
    takes_over(&second, KILLED).await?;
    writers.expect_all(&system).await?;
    let after = system.expect_heartbeat("the second's heartbeat", |beat| beat.epoch > before.epoch).await?;
    assert_eq!(after.generation, before.generation, "a death explains no resync");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_publishes_nothing_after_takeover() -> Result<()> {
    let system = System::start().await?;
    let (first, second) = pair(&system).await?;
    let writers = Writers::midway(&system).await?;
    first.process.signal(Signal::STOP)?;
    takes_over(&second, SILENT).await?;
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
async fn a_leader_that_is_paused_inside_a_transaction_is_followed_all_the_same() -> Result<()> {
    let system = System::start().await?;
    let (first, second) = pair(&system).await?;
    let writers = Writers::midway(&system).await?;
    // Its deletions go on; making the floor durable waits for this lock.
    let holder = system.postgres.connect("app").await?;
    holder.batch_execute("BEGIN; LOCK TABLE rowcast.floor IN EXCLUSIVE MODE").await?;
    activity(&system, "wait_event_type = 'Lock'").await?;
    first.process.signal(Signal::STOP)?;
    takes_over(&second, SILENT).await?;
    holder.batch_execute("COMMIT").await?;
    first.process.signal(Signal::CONT)?;
    writers.expect_all(&system).await?;
    assert_eq!(system.heartbeat().await?.generation, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_paused_while_a_large_result_is_on_its_way_is_followed_all_the_same() -> Result<()> {
    let system = System::start().await?;
    let (proxy, first, second) = pair_behind_a_proxy(&system).await?;
    // About 5 MB a second, so that the server is soon found waiting for its client.
    proxy.set(Link::Slow(Duration::from_millis(200)));
    write_large(&system).await?;
    activity(&system, "wait_event = 'ClientWrite'").await?;
    first.process.signal(Signal::STOP)?;
    takes_over(&second, SILENT).await?;
    system.expect("large", 100).await?;
    proxy.set(Link::Through);
    first.process.signal(Signal::CONT)?;
    system.publish("m", 0..5).await?;
    system.expect("m", 5).await?;
    system.expect("large", 100).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a hundred megabytes over a slow link: make test-long"]
async fn a_result_too_large_for_its_link_is_read_in_smaller_pages() -> Result<()> {
    let system = System::start().await?;
    let (proxy, first, second) = pair_behind_a_proxy(&system).await?;
    second.process.stop(Signal::TERM, PATIENCE).await?;
    // About 25 MB a second, and four seconds' worth.
    proxy.set(Link::Slow(Duration::from_millis(40)));
    for _ in 0..5 {
        write_large(&system).await?;
    }
    wait_until("all of it is published and deleted", 4 * PATIENCE, || async {
        let left = system.database.query_one("SELECT count(*) FROM rowcast.outbox", &[]).await;
        matches!(left, Ok(row) if row.get::<_, i64>(0) == 0)
    })
    .await?;
    assert!(system.load("large").await?.records.len() >= 200);
    assert!(first.leads().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_postgresql_stops_by_its_own_clock_and_publishes_nothing_when_the_link_heals()
-> Result<()> {
    let system = System::start().await?;
    let (proxy, first, second) = pair_behind_a_proxy(&system).await?;
    let writers = Writers::midway(&system).await?;
    proxy.set(Link::Held);
    takes_over(&second, SILENT).await?;
    wait_until("the first has stopped by itself", PATIENCE, || async { !first.leads().await }).await?;
    let published = first.metric("rowcast_listener_events_published_total").await?;
    proxy.set(Link::Through);
    writers.expect_all(&system).await?;
    assert_eq!(first.metric("rowcast_listener_events_published_total").await?, published);
    assert!(second.leads().await);
    // It is a standby again.
    second.process.signal(Signal::KILL)?;
    first.expect_leading().await?;
    system.publish("again", 0..5).await?;
    system.expect("again", 5).await?;
    assert_eq!(system.heartbeat().await?.generation, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_hands_over_at_once() -> Result<()> {
    let system = System::start().await?;
    let (first, second) = pair(&system).await?;
    let writers = Writers::midway(&system).await?;
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
    let writers = Writers::midway(&system).await?;
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
    assert!(beat.generation > 1_700_000_000, "above all that were ever told: {}", beat.generation);
    Ok(())
}
