//! Commits ring while the leader sleeps, and only then; what found it silent is not left lying.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::{Listener, PATIENCE, System, publish_one};
use rowcast_sandbox::{
    Connection, Persistence, PostgresOptions, Signal, find_postgres, postgres_unavailable, wait_until,
};

async fn rings(listener: &Listener) -> bool {
    matches!(listener.metric("rowcast_listener_doorbell").await, Ok(1.0))
}

async fn until_it_sleeps(listener: &Listener) -> Result<()> {
    wait_until("the leader sleeps", PATIENCE, || rings(listener)).await
}

async fn number(database: &Connection, query: &str) -> Result<i64> {
    Ok(database.query_one(query, &[]).await?.try_get(0)?)
}

/// For how long commits will ring, in ms.
async fn left(database: &Connection) -> Result<i64> {
    let query =
        "SELECT last_value - (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM rowcast.doorbell";
    number(database, query).await
}

/// How long the log of a room takes to hold so many events.
async fn arrival(system: &System, room: &str, count: u64) -> Result<Duration> {
    let began = Instant::now();
    system.expect(room, count).await?;
    Ok(began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_found_it_silent_is_delivered_at_once_though_nobody_rings() -> Result<()> {
    let system = System::start().await?;
    let late = system.postgres.connect("app").await?;
    late.batch_execute("BEGIN").await?;
    // Before there is a leader: silent.
    publish_one(&late, "late", 0).await?;
    let listener = system.listener("only").await?;
    wait_until("the bell is set", PATIENCE, || async {
        matches!(left(&system.database).await, Ok(left) if left > 0)
    })
    .await?;
    assert!(!rings(&listener).await, "it reads on while that one writes");
    late.batch_execute("COMMIT").await?;
    let took = arrival(&system, "late", 1).await?;
    assert_eq!(listener.metric("rowcast_listener_rings_total").await?, 0.0);
    // A leader that slept would have looked after 700 ms.
    assert!(took < Duration::from_millis(400), "{took:?}");
    until_it_sleeps(&listener).await?;
    system.publish("late", 1..4).await?;
    system.expect("late", 4).await?;
    listener.expect_metric("rowcast_listener_rings_total", 3.0).await.context("now each rings")
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_rings_while_redis_is_away_nor_without_a_leader() -> Result<()> {
    let mut system = System::start().await?;
    let listener = system.listener("only").await?;
    until_it_sleeps(&listener).await?;
    let heard = system.postgres.connect("app").await?;
    heard.batch_execute("LISTEN rowcast").await?;
    system.redis.kill(Signal::KILL).await?;
    wait_until("it is silenced", PATIENCE, || async {
        matches!(left(&system.database).await, Ok(left) if left <= 0)
    })
    .await?;
    let before = listener.metric("rowcast_listener_rings_total").await?;
    system.publish("m", 0..20).await?;
    system.redis.restart().await?;
    system.expect("m", 20).await?;
    assert_eq!(listener.metric("rowcast_listener_rings_total").await?, before);
    until_it_sleeps(&listener).await?;
    listener.process.signal(Signal::TERM)?;
    listener.process.wait_exit(PATIENCE).await?;
    assert!(left(&system.database).await? <= 0, "a leaver silences it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_leader_asks_at_most_three_times_a_second() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    until_it_sleeps(&listener).await?;
    let rate = system.queries_a_second().await?;
    assert!(rate > 0.0 && rate <= 3.0, "{rate} transactions a second: {}", listener.process.log_tail(5));
    assert!(rings(&listener).await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_the_leader_silences_it_and_sets_it_again_afterwards() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    until_it_sleeps(&listener).await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let database = system.postgres.connect("app").await?;
        writers.spawn(async move {
            for n in 0..250 {
                publish_one(&database, &format!("load-{writer}"), n).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    for writer in 0..8 {
        system.expect(&format!("load-{writer}"), 250).await?;
    }
    let rang = listener.metric("rowcast_listener_rings_total").await?;
    assert!(rang < 1_500.0, "{rang} of 2,000 commits rang");
    until_it_sleeps(&listener).await?;
    system.publish("after", 0..1).await?;
    system.expect("after", 1).await?;
    wait_until("it rings", PATIENCE, || async {
        matches!(listener.metric("rowcast_listener_rings_total").await, Ok(now) if now > rang)
    })
    .await
}

const FILL: &str = "SELECT pg_notify('elsewhere', repeat('x', 7000) || clock_timestamp())";

/// PostgreSQL 17 and later can be given a small queue of notifications; in 18's it is 512 kB here.
async fn with_a_small_queue() -> Result<Option<System>> {
    if let (Err(_), Some(reason)) = (find_postgres(Some(18)), postgres_unavailable(18)) {
        eprintln!("SKIPPED: there is no PostgreSQL 18 here ({reason})");
        return Ok(None);
    }
    let options = PostgresOptions { version: Some(18), ..PostgresOptions::default() };
    let options = options.with("max_notify_queue_pages", "64");
    Ok(Some(System::start_on(options, Persistence::None).await?))
}

/// Whoever listens and stays in a transaction keeps everything in the queue.
async fn block(system: &System) -> Result<Connection> {
    let blocker = system.postgres.connect("app").await?;
    blocker.batch_execute("LISTEN elsewhere").await?;
    blocker.batch_execute("BEGIN; SELECT 1").await?;
    Ok(blocker)
}

async fn queue_usage(database: &Connection) -> Result<f64> {
    Ok(database.query_one("SELECT pg_notification_queue_usage()", &[]).await?.try_get(0)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_notifications_silences_it_and_fails_no_commit() -> Result<()> {
    let Some(system) = with_a_small_queue().await? else { return Ok(()) };
    let listener = system.listener("only").await?;
    until_it_sleeps(&listener).await?;
    let blocker = block(&system).await?;
    let filler = system.postgres.connect("app").await?;
    while queue_usage(&filler).await? < 0.3 {
        filler.batch_execute(FILL).await?;
    }
    wait_until("it is silenced", PATIENCE, || async {
        matches!(left(&system.database).await, Ok(left) if left <= 0)
    })
    .await?;
    while filler.batch_execute(FILL).await.is_ok() {}
    assert!(filler.batch_execute("NOTIFY elsewhere").await.is_err(), "whoever notifies fails now");

    let before = listener.metric("rowcast_listener_rings_total").await?;
    system.publish("m", 0..50).await.context("a commit of the application's")?;
    system.expect("m", 50).await?;
    assert_eq!(listener.metric("rowcast_listener_rings_total").await?, before);
    blocker.batch_execute("COMMIT").await?;
    blocker.batch_execute("UNLISTEN *").await?;
    wait_until("there is room again", PATIENCE, || async {
        filler.batch_execute("NOTIFY elsewhere").await.is_ok()
    })
    .await?;
    until_it_sleeps(&listener).await?;
    system.publish("m", 50..60).await?;
    system.expect("m", 60).await?;
    listener.expect_metric("rowcast_listener_rings_total", before + 10.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_hands_over_although_the_queue_of_notifications_is_full() -> Result<()> {
    let Some(system) = with_a_small_queue().await? else { return Ok(()) };
    let first = system.listener("first").await?;
    let second = system.listener("second").await?;
    let _blocker = block(&system).await?;
    while system.database.batch_execute(FILL).await.is_ok() {}
    first.process.signal(Signal::TERM)?;
    let status = first.process.wait_exit(PATIENCE).await?;
    assert_eq!(status.code(), Some(0), "{}", first.process.log_tail(20));
    second.expect_leading().await?;
    system.publish("m", 0..10).await?;
    system.expect("m", 10).await
}
