//! Where commits do not ring: servers that can prepare transactions, and sessions that were told to be silent. Events
//! come by the timer, prepared transactions when they are committed.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use common::{Listener, PATIENCE, System, publish_one};
use rowcast_sandbox::{Connection, Persistence, PostgresOptions, Signal, wait_until};

async fn start() -> Result<System> {
    let options = PostgresOptions::default().with("max_prepared_transactions", "10");
    System::start_on(options, Persistence::None).await
}

async fn rings(listener: &Listener) -> Result<f64> {
    listener.metric("rowcast_listener_rings_total").await
}

async fn until_it_sleeps(listener: &Listener) -> Result<()> {
    wait_until("every commit rings", PATIENCE, || async {
        matches!(listener.metric("rowcast_listener_doorbell").await, Ok(1.0))
    })
    .await
}

async fn prepare(database: &Connection, name: &str, statements: &str) -> Result<()> {
    database.batch_execute(&format!("BEGIN; {statements}; PREPARE TRANSACTION '{name}'")).await?;
    Ok(())
}

/// A table whose column `n` is the number that [`System::expect`] looks at.
const WATCHED: &str = "CREATE TABLE t (id int PRIMARY KEY, m text, n int); SELECT rowcast.watch('t', 'm')";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_rings_and_events_come_by_the_timer() -> Result<()> {
    let system = start().await?;
    let listener = system.listener("only").await?;
    listener.expect_leading().await?;
    let reads = "rowcast_listener_read_seconds_count";
    let before = listener.metric(reads).await?;
    for number in 0..50 {
        publish_one(&system.database, "m", number).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    system.expect("m", 50).await?;
    let after = listener.metric(reads).await?;
    assert!(after - before > 40.0, "while there is traffic it reads often: {before} to {after}");
    assert_eq!(rings(&listener).await?, 0.0);
    assert_eq!(listener.metric("rowcast_listener_doorbell").await?, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_never_prepare_anything_can_ring_there_all_the_same() -> Result<()> {
    let system = start().await?;
    let listener = system.listener("only").await?;
    system.expect_heartbeat("a heartbeat", |_| true).await?;
    system.database.batch_execute("SET rowcast.doorbell = on").await?;
    wait_until("a commit rings", PATIENCE, || async {
        publish_one(&system.database, "first", 0).await.is_ok()
            && matches!(rings(&listener).await, Ok(rings) if rings > 0.0)
    })
    .await?;
    let before = rings(&listener).await?;
    system.publish("m", 0..5).await?;
    system.expect("m", 5).await?;
    wait_until("each rings", PATIENCE, || async {
        matches!(rings(&listener).await, Ok(rings) if rings >= before + 5.0)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_are_delivered_in_order_over_crashes_and_changes_of_the_leader() -> Result<()> {
    let mut system = start().await?;
    let first = system.listener("first").await?;
    system.database.batch_execute(WATCHED).await?;
    system.database.batch_execute("INSERT INTO t VALUES (1, 'a', 0)").await?;
    prepare(&system.database, "late", "UPDATE t SET n = 1 WHERE id = 1").await?;
    prepare(&system.database, "gone", "INSERT INTO t VALUES (2, 'never', 0)").await?;
    prepare(&system.database, "between", "INSERT INTO t VALUES (3, 'between', 0)").await?;
    system.publish("others", 0..50).await?;
    system.expect("others", 50).await?;
    system.expect("a", 1).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;

    // A new leader begins at the floor that the first one left.
    let second = system.listener("second").await?;
    first.process.signal(Signal::KILL)?;
    second.expect_leading().await?;
    system.publish("others", 50..100).await?;
    system.expect("others", 100).await?;
    system.postgres.kill(Signal::QUIT).await?;
    system.postgres.restart().await?;
    system.database = system.postgres.connect("app").await?;
    system.publish("others", 100..150).await?;
    system.expect("others", 150).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;

    // One is committed while nobody leads, the others while somebody does.
    second.process.signal(Signal::KILL)?;
    second.process.wait_exit(PATIENCE).await?;
    system.database.batch_execute("COMMIT PREPARED 'between'").await?;
    let third = system.listener("third").await?;
    system.expect("between", 1).await?;
    system.database.batch_execute("COMMIT PREPARED 'late'").await?;
    system.database.batch_execute("ROLLBACK PREPARED 'gone'").await?;
    system.database.batch_execute("UPDATE t SET n = 2 WHERE id = 1").await?;
    system.expect("a", 3).await?;
    assert_eq!(system.numbers("others").await?.len(), 150);
    assert_eq!(system.load("never").await?.records.len(), 0, "what was rolled back is nobody's");
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    assert_eq!(rings(&third).await?, 0.0);
    assert_eq!(system.heartbeat().await?.generation, 1, "and nothing of it explains a resync");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_prepared_while_the_bell_was_silent_is_waited_for_while_others_ring() -> Result<()> {
    waited_for(start().await?, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn and_so_is_one_that_was_prepared_before_a_crash() -> Result<()> {
    waited_for(start().await?, true).await
}

async fn waited_for(mut system: System, crash: bool) -> Result<()> {
    system.database.batch_execute("ALTER DATABASE app SET rowcast.doorbell = on").await?;
    system.database.batch_execute(WATCHED).await?;
    system.database.batch_execute("SET rowcast.doorbell = off").await?;
    prepare(&system.database, "late", "INSERT INTO t VALUES (1, 'a', 0)").await?;
    if crash {
        system.postgres.kill(Signal::QUIT).await?;
        system.postgres.restart().await?;
    }
    let other = system.postgres.connect("app").await?;
    let silent = system.postgres.connect("app").await?;
    silent.batch_execute("SET rowcast.doorbell = off").await?;
    let listener = system.listener("only").await?;
    let published = AtomicU32::new(0);
    wait_until("others ring", PATIENCE, || async {
        published.fetch_add(1, Ordering::Relaxed);
        publish_one(&other, "first", 0).await.is_ok()
            && matches!(rings(&listener).await, Ok(rings) if rings > 0.0)
    })
    .await?;
    assert_eq!(listener.metric("rowcast_listener_doorbell").await?, 0.0, "it reads on");
    silent.batch_execute("COMMIT PREPARED 'late'").await?;
    system.expect("a", 1).await?;
    assert!(rings(&listener).await? <= f64::from(published.into_inner()), "it did not ring itself");
    until_it_sleeps(&listener).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_told_to_be_silent_does_not_ring_and_is_delivered_within_a_second() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    until_it_sleeps(&listener).await?;
    system.database.batch_execute("SET rowcast.doorbell = off").await?;
    for number in 0..3 {
        let began = Instant::now();
        publish_one(&system.database, "m", number).await?;
        system.expect("m", number + 1).await?;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert_eq!(rings(&listener).await?, 0.0);
    system.database.batch_execute("SET rowcast.doorbell = on").await?;
    system.publish("m", 3..4).await?;
    system.expect("m", 4).await?;
    listener.expect_metric("rowcast_listener_rings_total", 1.0).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: make test-long"]
async fn an_idle_timer_asks_at_most_three_times_a_second() -> Result<()> {
    let system = start().await?;
    let listener = system.listener("only").await?;
    system.publish("m", 0..10).await?;
    system.expect("m", 10).await?;
    // It slows down over this time.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let rate = system.queries_a_second().await?;
    assert!(rate > 2.0 && rate <= 3.0, "{rate} transactions a second: {}", listener.process.log_tail(5));
    Ok(())
}
