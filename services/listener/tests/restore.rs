//! PostgreSQL's history is broken otherwise than by fail-over: a restore to a point in time, a dump in another place, an upgrade, a
//! crash. What is there is delivered, and the generation is above all that were told.

mod common;

use anyhow::{Context, Result};
use common::{PATIENCE, System};
use rowcast_sandbox::{
    Folder, Persistence, Postgres, PostgresOptions, Signal, find_postgres, postgres_unavailable, wait_for,
};
use rowcast_store::{Cleaner, SessionOptions};

/// Generations after a break are times.
const TIMES: u64 = 1_700_000_000;

async fn replace(system: &mut System, postgres: Postgres) -> Result<Postgres> {
    system.url = postgres.url_of("app");
    system.database = postgres.connect("app").await?;
    Ok(std::mem::replace(&mut system.postgres, postgres))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_to_a_point_in_time_tells_all_that_is_there_and_a_generation_above_all() -> Result<()> {
    let mut system = System::start().await?;
    let listener = system.listener("before").await?;
    system.publish("m", 0..5).await?;
    system.expect("m", 5).await?;
    listener.process.stop(Signal::TERM, PATIENCE).await?;
    let backup = system.postgres.back_up().await?;
    // These were not published yet at the point that is gone back to.
    system.publish("m", 5..10).await?;
    system.database.batch_execute("SELECT pg_create_restore_point('here')").await?;

    // What is undone. Generations are raised here as often as can be, all of them told.
    let listener = system.listener("undone").await?;
    for raised in 2..5 {
        system.database.batch_execute("SELECT rowcast.request_raise('a test')").await?;
        system.expect_heartbeat("a raised generation", |beat| beat.generation == raised).await?;
    }
    system.publish("m", 10..60).await?;
    system.expect("m", 60).await?;
    let told = system.heartbeat().await?;
    listener.process.stop(Signal::TERM, PATIENCE).await?;
    system.database.batch_execute("SELECT pg_switch_wal()").await?;

    let restored = backup.restore(("recovery_target_name", "here")).await?;
    let _gone = replace(&mut system, restored).await?;
    let _listener = system.listener("after").await?;
    system.publish("m", 60..100).await?;
    // What had been published before and came back is known by Redis's log.
    system.expect("m", 100).await?;
    let beat =
        system.expect_heartbeat("a heartbeat of its own", |beat| beat.generation > told.generation).await?;
    assert!(beat.generation > TIMES && beat.epoch > told.epoch, "{beat:?}");

    // The same once more, from the same backup: the same timeline's number, the same generation before it.
    let again = backup.restore(("recovery_target_name", "here")).await?;
    let _gone = replace(&mut system, again).await?;
    wait_for("the clock goes on", PATIENCE, || async {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        anyhow::ensure!(now > beat.generation, "{now}");
        anyhow::Ok(())
    })
    .await?;
    let _listener = system.listener("again").await?;
    let later = system.expect_heartbeat("another", |later| later.generation > beat.generation).await?;
    assert!(later.epoch > beat.epoch, "{later:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_told_from_its_original_in_another_cluster_and_in_the_same() -> Result<()> {
    let system = System::start().await?;
    system.publish("m", 0..5).await?;
    let listener = system.listener("original").await?;
    system.expect("m", 5).await?;
    listener.process.stop(Signal::TERM, PATIENCE).await?;
    system.publish("m", 5..8).await?;
    let folder = Folder::new("dump")?;
    let dump = folder.path().join("app.sql");
    system.postgres.dump("app", &dump).await?;

    let elsewhere = Postgres::start(PostgresOptions::default()).await?;
    // Roles belong to a cluster and are in no dump.
    rowcast_store::migrate(&elsewhere.create_database("roles").await?).await?;
    for (database, server) in [("app", elsewhere), ("copy", system.postgres)] {
        let url = server.create_database(database).await?;
        server.load(database, &dump).await?;
        // A Redis of its own, as a staging system has it.
        let mut staging = System::start().await?;
        staging.database = server.connect(database).await?;
        (staging.postgres, staging.url) = (server, url);
        let listener = staging.listener("copy").await?;
        listener.expect_leading().await?;
        let beat =
            staging.expect_heartbeat("a generation of its own", |beat| beat.generation > TIMES).await?;
        // What waited in the dump is read, though its transactions mean nothing here.
        let waited = wait_for("what waited", PATIENCE, || async {
            let numbers = staging.numbers("m").await?;
            anyhow::ensure!(numbers.len() == 3, "{numbers:?}");
            anyhow::Ok(numbers)
        })
        .await?;
        assert_eq!(waited, [5, 6, 7]);
        staging.publish("n", 0..5).await?;
        staging.expect("n", 5).await?;
        listener.process.stop(Signal::TERM, PATIENCE).await?;
        let _again = staging.listener("again").await?;
        let again = staging.expect_heartbeat("another leader", |again| again.epoch > beat.epoch).await?;
        assert_eq!(again.generation, beat.generation, "once known, it is itself");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two versions of PostgreSQL and a dump: make test-long"]
async fn an_upgrade_of_the_major_version_by_dump_goes_on_where_it_was() -> Result<()> {
    if let (Err(_), Some(reason)) = (find_postgres(Some(18)), postgres_unavailable(18)) {
        eprintln!("SKIPPED on PostgreSQL 18: {reason}");
        return Ok(());
    }
    let mut system = System::start().await?;
    system
        .database
        .batch_execute(
            "CREATE TABLE booking (id bigint PRIMARY KEY, merchant text); SELECT rowcast.watch('booking', 'merchant')",
        )
        .await?;
    system.publish("m", 0..5).await?;
    let listener = system.listener("old").await?;
    system.expect("m", 5).await?;
    let told = system.expect_heartbeat("a heartbeat", |_| true).await?;
    listener.process.stop(Signal::TERM, PATIENCE).await?;
    system.publish("m", 5..8).await?;
    let folder = Folder::new("upgrade")?;
    let dump = folder.path().join("app.sql");
    system.postgres.dump("app", &dump).await?;
    let new = Postgres::start(PostgresOptions { version: Some(18), ..PostgresOptions::default() }).await?;
    assert!(new.version() > system.postgres.version() || system.postgres.version() == 18);
    rowcast_store::migrate(&new.create_database("roles").await?).await?;
    new.create_database("app").await?;
    new.load("app", &dump).await?;

    let cleaner = Cleaner::connect(&system.url, &SessionOptions::new("test")).await?;
    let origin = cleaner.identity().await?.to_string();
    let _old = replace(&mut system, new).await?;
    // As any copy of a database it may not go on in its original's rooms before somebody says that it takes its place.
    let refused = system.live_listener("refused", &[]).await?;
    wait_for("it is refused", PATIENCE, || async {
        let log = std::fs::read_to_string(refused.process.log())?;
        anyhow::ensure!(log.contains(&format!("ROWCAST_LISTENER__REPLACES={origin}")), "{log}");
        anyhow::Ok(())
    })
    .await?;
    assert_eq!(system.numbers("m").await?, [0, 1, 2, 3, 4], "nothing is published");
    assert_eq!(system.heartbeat().await?.generation, told.generation);
    refused.process.stop(Signal::TERM, PATIENCE).await?;
    let listener = system.listener_with("new", &[("ROWCAST_LISTENER__REPLACES", &origin)]).await?;
    listener.expect_leading().await?;
    let beat = system.expect_heartbeat("a new history", |beat| beat.generation > TIMES).await?;
    assert!(beat.epoch > told.epoch, "sequences are in a dump");
    system.publish("m", 8..12).await?;
    system.expect("m", 12).await?;
    system.database.batch_execute("INSERT INTO booking VALUES (1, 'w')").await?;
    wait_for("a watched table's event", PATIENCE, || async {
        let loaded = system.load("w").await?;
        anyhow::ensure!(loaded.records.len() == 1, "{} records", loaded.records.len());
        anyhow::Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_postgresql_is_recovered_and_its_history_goes_on() -> Result<()> {
    let mut system = System::start_on(PostgresOptions::default(), Persistence::None).await?;
    let _listener = system.listener("only").await?;
    let mut next = 0;
    for signal in [Signal::QUIT, Signal::KILL] {
        system.publish("m", next..next + 10).await?;
        next += 10;
        system.postgres.kill(signal).await?;
        system.postgres.restart().await.context("restarting")?;
        system.database = system.postgres.connect("app").await?;
    }
    system.publish("m", next..next + 10).await?;
    system.expect("m", next + 10).await?;
    assert_eq!(system.heartbeat().await?.generation, 1, "what was committed is there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_asynchronous_commits_is_there_after_a_crash() -> Result<()> {
    // Nobody else makes anything durable.
    let options = PostgresOptions::default()
        .with("wal_writer_delay", "10s")
        .with("wal_writer_flush_after", "1GB")
        .with("synchronous_commit", "off");
    let mut system = System::start_on(options, Persistence::None).await?;
    system.database.batch_execute("CREATE TABLE sent (n bigint PRIMARY KEY)").await?;
    let _listener = system.listener("only").await?;
    for round in 0..4_u64 {
        // Whatever else was written is durable, so that a crash has only this to take back.
        system
            .database
            .batch_execute("SET synchronous_commit = on; CHECKPOINT; SET synchronous_commit = off")
            .await?;
        let text = format!(
            "BEGIN; INSERT INTO sent VALUES ({round});
             SELECT rowcast.publish('m', 'booking.created', '{{\"n\":{round}}}'); COMMIT"
        );
        system.database.batch_execute(&text).await?;
        // The row is deleted 100 ms later, which is durable and would make all else so.
        wait_for("it is told", PATIENCE, || async {
            let numbers = system.numbers("m").await?;
            anyhow::ensure!(numbers.len() as u64 > round, "{numbers:?}");
            anyhow::Ok(())
        })
        .await?;
        system.postgres.kill(Signal::QUIT).await?;
        system.postgres.restart().await?;
        system.database = system.postgres.connect("app").await?;
        let row = system.database.query_one("SELECT count(*) FROM sent", &[]).await?;
        assert_eq!(
            row.get::<_, i64>(0),
            i64::try_from(round)? + 1,
            "an event of a row that is gone was told"
        );
    }
    system.expect("m", 4).await
}
