//! Commits ring while the leader sleeps, and only then; what found it silent is not left lying.

mod common;

use std::time::{Duration, Instant};

use anyhow::Result;
use common::{Listener, PATIENCE, System, publish_one};
use rowcast_sandbox::{Connection, Signal, wait_until};

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
    assert_eq!(listener.metric("rowcast_listener_rings_total").await?, 3.0, "now each rings");
    Ok(())
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
    assert!(listener.metric("rowcast_listener_rings_total").await? > rang);
    Ok(())
}
