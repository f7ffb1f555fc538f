//! What the application's client is told when a trigger fails: a warning that names the table, the cause and the remedy,
//! beside a statement that succeeds.

use anyhow::Result;

use crate::database::{Database, Hearing, on_each_version};

on_each_version!(
    a_dropped_column_is_warned_of_at_each_statement_with_the_table_and_the_remedy,
    a_renamed_column_is_warned_of_until_the_table_is_watched_anew,
    a_failing_payload_function_is_warned_of_by_name,
    a_dropped_payload_function_is_warned_of_by_name,
    a_locked_outbox_is_warned_of,
    a_failure_that_can_not_be_recorded_is_warned_of_too,
    a_warning_that_the_client_does_not_want_to_hear_is_recorded_all_the_same,
    a_statement_that_works_is_warned_of_nothing,
);

const BOOKING: &str = r#"
    CREATE SCHEMA shop; CREATE TABLE shop."Booking" (id int PRIMARY KEY, "merchantId" text, status text);
    INSERT INTO shop."Booking" VALUES (1, 'a', 'new'), (2, 'a', 'new');
    SELECT rowcast.watch('shop."Booking"', 'merchantId')"#;

/// The one warning of a statement that loses events, checked for what whoever reads it needs.
async fn lost(client: &mut Hearing, statement: &str, cause: &str) -> Result<()> {
    let operation = statement.split(' ').next().unwrap();
    let warnings = client.warnings_of(statement).await?;
    let [(message, hint)] = &warnings[..] else {
        panic!("{statement}: {warnings:?}");
    };
    assert!(message.starts_with("rowcast: events were lost: "), "{message}");
    for part in [operation, r#"shop."Booking""#, cause] {
        assert!(message.contains(part), "{part} in {message}");
    }
    for part in [
        "The statement itself went through",
        "rowcast.drift()",
        r#"rowcast.watch('shop."Booking"'"#,
        "rowcast.unwatch(",
    ] {
        assert!(hint.contains(part), "{part} in {hint}");
    }
    Ok(())
}

async fn a_dropped_column_is_warned_of_at_each_statement_with_the_table_and_the_remedy(
    db: Database,
) -> Result<()> {
    db.run(BOOKING).await?;
    db.run(r#"ALTER TABLE shop."Booking" DROP COLUMN status"#).await?;
    let mut client = db.hearing().await?;
    let cause = "status does not exist (42703)";
    lost(&mut client, r#"INSERT INTO shop."Booking" VALUES (3, 'a')"#, cause).await?;
    lost(&mut client, r#"UPDATE shop."Booking" SET "merchantId" = 'b' WHERE id = 3"#, cause).await?;
    lost(&mut client, r#"DELETE FROM shop."Booking" WHERE id = 3"#, cause).await?;
    assert_eq!(db.number(r#"SELECT count(*) FROM shop."Booking" WHERE id < 3"#).await?, 2);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.trigger_error WHERE lost").await?, 3);
    Ok(())
}

async fn a_renamed_column_is_warned_of_until_the_table_is_watched_anew(db: Database) -> Result<()> {
    db.run(BOOKING).await?;
    db.run(r#"ALTER TABLE shop."Booking" RENAME COLUMN "merchantId" TO merchant_id"#).await?;
    let mut client = db.hearing().await?;
    lost(&mut client, r#"UPDATE shop."Booking" SET status = 'paid'"#, "merchantId does not exist (42703)")
        .await?;
    assert_eq!(db.number(r#"SELECT count(*) FROM shop."Booking" WHERE status = 'paid'"#).await?, 2);
    // The remedy that the hint names.
    db.run(r#"SELECT rowcast.watch('shop."Booking"', 'merchant_id')"#).await?;
    assert_eq!(client.warnings_of(r#"UPDATE shop."Booking" SET status = 'done'"#).await?, []);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 2);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift()").await?, 0);
    Ok(())
}

const VISIT: &str = "
    CREATE TABLE visit (id int PRIMARY KEY, m text);
    CREATE FUNCTION describe(v visit) RETURNS json LANGUAGE plpgsql STABLE SET search_path = public AS $$
    BEGIN RAISE EXCEPTION 'no such service'; END $$;
    SELECT rowcast.watch('visit', 'm', payload => 'describe')";

/// The one warning of a statement whose event goes out in plain columns.
async fn plain(db: &Database, cause: &str) -> Result<()> {
    let warnings = db.hearing().await?.warnings_of("INSERT INTO visit VALUES (1, 'a')").await?;
    let [(message, hint)] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    for part in ["the payload function failed, plain columns are sent", "INSERT of public.visit", cause] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(
        hint.contains("Mend public.describe(public.visit)") && hint.contains("rowcast.watch('public.visit'"),
        "{hint}"
    );
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.trigger_error WHERE NOT lost").await?, 1);
    Ok(())
}

async fn a_failing_payload_function_is_warned_of_by_name(db: Database) -> Result<()> {
    db.run(VISIT).await?;
    plain(&db, "no such service (P0001)").await
}

async fn a_dropped_payload_function_is_warned_of_by_name(db: Database) -> Result<()> {
    db.run(VISIT).await?;
    db.run("DROP FUNCTION describe").await?;
    plain(&db, "the payload function public.describe(public.visit) is gone, or has another owner (42883)")
        .await
}

async fn a_locked_outbox_is_warned_of(db: Database) -> Result<()> {
    db.run(BOOKING).await?;
    let locker = db.another().await?;
    locker.batch_execute("BEGIN; LOCK rowcast.outbox IN ACCESS EXCLUSIVE MODE").await?;
    let mut client = db.hearing().await?;
    lost(&mut client, r#"INSERT INTO shop."Booking" VALUES (3, 'a', 'new')"#, "lock timeout (55P03)").await?;
    locker.batch_execute("ROLLBACK").await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.trigger_error WHERE lost").await?, 1);
    Ok(())
}

async fn a_failure_that_can_not_be_recorded_is_warned_of_too(db: Database) -> Result<()> {
    db.run(BOOKING).await?;
    let locker = db.another().await?;
    locker
        .batch_execute("BEGIN; LOCK rowcast.outbox, rowcast.trigger_error IN ACCESS EXCLUSIVE MODE")
        .await?;
    let mut client = db.hearing().await?;
    let warnings = client.warnings_of(r#"INSERT INTO shop."Booking" VALUES (3, 'a', 'new')"#).await?;
    locker.batch_execute("ROLLBACK").await?;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].0.contains("events were lost"), "{warnings:?}");
    assert!(
        warnings[1].0.contains(r#"a failed trigger of shop."Booking" could not be recorded"#),
        "{warnings:?}"
    );
    assert_eq!(db.number(r#"SELECT count(*) FROM shop."Booking""#).await?, 3);
    Ok(())
}

async fn a_warning_that_the_client_does_not_want_to_hear_is_recorded_all_the_same(
    db: Database,
) -> Result<()> {
    db.run(BOOKING).await?;
    db.run(r#"ALTER TABLE shop."Booking" DROP COLUMN status"#).await?;
    let mut client = db.hearing().await?;
    client.client.batch_execute("SET client_min_messages = error").await?;
    assert_eq!(client.warnings_of(r#"DELETE FROM shop."Booking" WHERE id = 1"#).await?, []);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.trigger_error WHERE lost").await?, 1);
    Ok(())
}

async fn a_statement_that_works_is_warned_of_nothing(db: Database) -> Result<()> {
    db.run(BOOKING).await?;
    let statements = r#"INSERT INTO shop."Booking" VALUES (3, NULL, NULL), (4, 'a', NULL); UPDATE shop."Booking" SET status = 'x';
        DELETE FROM shop."Booking"; TRUNCATE shop."Booking""#;
    assert_eq!(db.hearing().await?.warnings_of(statements).await?, []);
    assert_eq!(db.failures().await?, []);
    Ok(())
}
