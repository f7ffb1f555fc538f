//! When Rowcast's part fails: the application's statement goes on, and the hole is told.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use rowcast_sandbox::wait_until;
use rowcast_store::Ring;

use crate::database::{Database, on_each_version};

on_each_version!(
    wrong_names_are_refused_with_the_names_there_are,
    a_column_dropped_after_watching_costs_a_warning_and_a_record_and_not_the_statement,
    a_column_renamed_after_watching_costs_a_warning_and_a_record_and_not_the_statement,
    a_locked_outbox_holds_a_statement_up_for_a_moment_only,
    a_failure_that_can_not_be_recorded_is_counted,
    on_error_fail_fails_the_statement,
    watching_twice_sends_each_event_once,
    unwatching_leaves_the_application_as_it_was,
    dropping_the_whole_schema_under_load_fails_no_statement,
    a_trigger_that_fails_for_good_leaves_a_record_a_second_and_the_number_of_failures,
    a_loss_is_not_settled_before_its_transaction_has_ended,
);

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, m text, v int); SELECT rowcast.watch('t', 'm')";

async fn wrong_names_are_refused_with_the_names_there_are(db: Database) -> Result<()> {
    db.run(r#"CREATE TABLE "Booking" (id int PRIMARY KEY, "merchantId" text, status text)"#).await?;
    for call in [
        r#"'"Booking"', 'merchant_id'"#,
        r#"'"Booking"', 'merchantid'"#,
        r#"'"Booking"', NULL"#,
        r#"'"Booking"', 'merchantId', columns => '{status,nonsense}'"#,
    ] {
        let words = db.refusal(&format!("SELECT rowcast.watch({call})")).await;
        assert!(words.contains("its columns are: id, merchantId, status"), "{call}: {words}");
    }
    let words = db.refusal("SELECT rowcast.watch('booking', 'merchantId')").await;
    assert!(words.contains("\"booking\" does not exist"), "{words}");
    let words = db.refusal(r#"SELECT rowcast.watch('"Booking"', 'merchantId', payload => 'nothing')"#).await;
    assert!(words.contains("\"nothing\" does not exist"), "{words}");
    assert_eq!(db.number("SELECT count(*) FROM rowcast.watches").await?, 0);
    Ok(())
}

async fn goes_on_without(db: Database, change: &str) -> Result<()> {
    db.run(T).await?;
    db.run("INSERT INTO t VALUES (1, 'a', 1), (2, 'a', 1)").await?;
    db.run(change).await?;
    assert_eq!(db.events_of("UPDATE t SET id = 3 WHERE id = 1; DELETE FROM t WHERE id = 3").await?, []);
    assert_eq!(db.number("SELECT count(*) FROM t").await?, 1, "the statements took effect");
    let failures = db.failures().await?;
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(
        failures.iter().all(|(message, lost)| message.contains("does not exist") && *lost),
        "{failures:?}"
    );
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift() WHERE kind = 'column_missing'").await?, 1);
    // What the light and the new generation go by.
    let mut lead = db.lead().await?;
    assert!(lead.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await?.last_loss_micros.is_some());
    Ok(())
}

async fn a_column_dropped_after_watching_costs_a_warning_and_a_record_and_not_the_statement(
    db: Database,
) -> Result<()> {
    goes_on_without(db, "ALTER TABLE t DROP COLUMN v").await
}

async fn a_column_renamed_after_watching_costs_a_warning_and_a_record_and_not_the_statement(
    db: Database,
) -> Result<()> {
    goes_on_without(db, "ALTER TABLE t RENAME COLUMN m TO merchant").await
}

async fn a_locked_outbox_holds_a_statement_up_for_a_moment_only(db: Database) -> Result<()> {
    db.run(T).await?;
    let locker = db.another().await?;
    locker.batch_execute("BEGIN; LOCK rowcast.outbox IN ACCESS EXCLUSIVE MODE").await?;
    // Were it to wait, the statement would never end.
    tokio::time::timeout(Duration::from_secs(10), db.run("INSERT INTO t VALUES (1, 'a', 1)")).await??;
    locker.batch_execute("ROLLBACK").await?;
    assert_eq!(db.failures().await?, [("canceling statement due to lock timeout".to_owned(), true)]);
    assert_eq!(db.events_of("UPDATE t SET v = 2").await?.len(), 1);
    Ok(())
}

async fn a_failure_that_can_not_be_recorded_is_counted(db: Database) -> Result<()> {
    db.run(T).await?;
    let locker = db.another().await?;
    locker
        .batch_execute("BEGIN; LOCK rowcast.outbox, rowcast.trigger_error IN ACCESS EXCLUSIVE MODE")
        .await?;
    tokio::time::timeout(Duration::from_secs(10), db.run("INSERT INTO t VALUES (1, 'a', 1)")).await??;
    locker.batch_execute("ROLLBACK").await?;
    assert_eq!(db.failures().await?, []);
    assert_eq!(db.number("SELECT last_value FROM rowcast.unrecorded_failures").await?, 1);
    Ok(())
}

async fn on_error_fail_fails_the_statement(db: Database) -> Result<()> {
    db.run("CREATE TABLE t (id int PRIMARY KEY, m text, v int); SELECT rowcast.watch('t', 'm', on_error => 'fail')").await?;
    assert_eq!(db.events_of("INSERT INTO t VALUES (1, 'a', 1)").await?.len(), 1);
    db.run("ALTER TABLE t RENAME COLUMN v TO w").await?;
    for statement in ["INSERT INTO t VALUES (2, 'a', 1)", "UPDATE t SET w = 2", "DELETE FROM t"] {
        let words = db.refusal(statement).await;
        assert!(words.contains("v does not exist"), "{words}");
    }
    assert_eq!(db.number("SELECT count(*) FROM t WHERE id = 1 AND w = 1").await?, 1);
    Ok(())
}

async fn watching_twice_sends_each_event_once(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("SELECT rowcast.watch('t', 'm'); SELECT rowcast.watch('t', 'm')").await?;
    assert_eq!(db.events_of("INSERT INTO t VALUES (1, 'a', 1)").await?.len(), 1);
    assert_eq!(db.events_of("UPDATE t SET v = 2").await?.len(), 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.watches").await?, 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift()").await?, 0);
    Ok(())
}

async fn unwatching_leaves_the_application_as_it_was(db: Database) -> Result<()> {
    db.run(T).await?;
    let (one, two) = (db.another().await?, "BEGIN; INSERT INTO t VALUES (1, 'a', 1)");
    // A transaction that is under way is let end; nothing queues up behind the wait.
    one.batch_execute(two).await?;
    let unwatch = db.run("SELECT rowcast.unwatch('t')");
    let others = async {
        db.another().await?.batch_execute("INSERT INTO t VALUES (2, 'a', 1)").await?;
        one.batch_execute("COMMIT").await?;
        anyhow::Ok(())
    };
    tokio::try_join!(unwatch, others)?;
    assert_eq!(db.events_of("UPDATE t SET v = 2; DELETE FROM t; TRUNCATE t").await?, []);
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass)
              + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'rowcast_triggers'::regnamespace)
              + (SELECT count(*) FROM rowcast.watches)";
    assert_eq!(db.number(left).await?, 0);
    Ok(())
}

async fn dropping_the_whole_schema_under_load_fails_no_statement(db: Database) -> Result<()> {
    for schemas in ["rowcast", "rowcast_triggers"] {
        db.run("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, m text, v int)").await?;
        if schemas == "rowcast" {
            db.run("SELECT rowcast.watch('t', 'm')").await?;
        } else {
            db.run("DROP SCHEMA IF EXISTS rowcast_triggers CASCADE").await?;
            rowcast_store::migrate(&db.url).await?;
            db.run("SELECT rowcast.watch('t', 'm')").await?;
        }
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (url, stopped) = (db.url.clone(), stopped.clone());
                tokio::spawn(async move {
                    let client = rowcast_sandbox::Connection::open(&url).await?;
                    let mut written = 0_i64;
                    while !*stopped.borrow() {
                        let id = written * 10 + writer;
                        client
                            .batch_execute(&format!(
                                "INSERT INTO t VALUES ({id}, 'a', 1); UPDATE t SET v = 2 WHERE id = {id}"
                            ))
                            .await?;
                        written += 1;
                    }
                    anyhow::Ok(written)
                })
            })
            .collect();
        wait_until("every writer to be under way", Duration::from_secs(20), || async {
            db.number("SELECT count(DISTINCT id % 10) FROM t").await.is_ok_and(|writers| writers == 4)
        })
        .await?;
        db.run(&format!("DROP SCHEMA {schemas} CASCADE")).await?;
        let before = db.number("SELECT count(*) FROM t").await?;
        wait_until("writing to go on", Duration::from_secs(20), || async {
            db.number("SELECT count(*) FROM t").await.is_ok_and(|now| now > before + 40)
        })
        .await?;
        stop.send_replace(true);
        let mut written = 0;
        for writer in writers {
            written += writer.await??;
        }
        assert_eq!(db.number("SELECT count(*) FROM t WHERE v = 2").await?, written);
    }
    Ok(())
}

async fn a_trigger_that_fails_for_good_leaves_a_record_a_second_and_the_number_of_failures(
    db: Database,
) -> Result<()> {
    db.run(T).await?;
    db.run("ALTER TABLE t RENAME COLUMN m TO merchant").await?;
    // A transaction has one record however often it fails, and whatever it takes back.
    db.run("DO $$ BEGIN FOR n IN 1 .. 300 LOOP INSERT INTO t VALUES (n, 'a', 1); END LOOP; END $$").await?;
    assert_eq!(db.failures().await?.len(), 1);
    let began = db.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await?;
    for _ in 0..300 {
        db.run("UPDATE t SET v = v + 1 WHERE id = 1").await?;
    }
    let ended = db.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await?;
    let updates = db.number("SELECT count(*) FROM rowcast.trigger_error WHERE operation = 'UPDATE'").await?;
    assert!(
        updates >= 1 && updates <= 1 + (ended - began) / 1000,
        "{updates} records in {} ms",
        ended - began
    );
    assert_eq!(db.number("SELECT last_value FROM rowcast.trigger_failures").await?, 600);
    // What is taken back leaves the next failure to be recorded.
    db.run(
        "BEGIN; SAVEPOINT s; DELETE FROM t WHERE id = 1; ROLLBACK TO s; DELETE FROM t WHERE id = 2; COMMIT",
    )
    .await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.trigger_error WHERE operation = 'DELETE'").await?, 1);
    Ok(())
}

async fn a_loss_is_not_settled_before_its_transaction_has_ended(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("ALTER TABLE t RENAME COLUMN m TO merchant").await?;
    let long = db.another().await?;
    // The long one's failure adds no record: another's of the same second is held open instead.
    let recorded = wait_until("two failures within a second", Duration::from_secs(20), || async {
        let both = async {
            db.run("DELETE FROM rowcast.trigger_error; INSERT INTO t SELECT coalesce(max(id), 0) + 1, 'a', 1 FROM t").await?;
            long.batch_execute("BEGIN; INSERT INTO t SELECT coalesce(max(id), 0) + 1, 'a', 1 FROM t").await?;
            let records =
                long.query_one("SELECT count(*) FROM rowcast.trigger_error", &[]).await?.get::<_, i64>(0);
            if records == 1 {
                return anyhow::Ok(true);
            }
            long.batch_execute("ROLLBACK").await?;
            anyhow::Ok(false)
        };
        both.await.unwrap_or(false)
    });
    recorded.await?;
    let cleaner =
        rowcast_store::Cleaner::connect(&db.url, &rowcast_store::SessionOptions::new("test")).await?;
    assert_eq!(cleaner.settle_losses().await?, None, "its hole is not whole yet");
    long.batch_execute("COMMIT").await?;
    assert!(cleaner.settle_losses().await?.is_some());
    assert_eq!(cleaner.settle_losses().await?, None);
    Ok(())
}
