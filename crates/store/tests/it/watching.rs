//! What rowcast.watch accepts, and how it explains what it does not.

use anyhow::Result;
use rowcast_store::{WatchOptions, Watches};

use crate::database::{Database, on_each_version, words};

async fn refused(db: &Database, call: &str) -> String {
    let error = db.client.batch_execute(call).await.expect_err(call);
    words(&error)
}

#[tokio::test]
async fn errors_list_the_columns_there_are() -> Result<()> {
    let db = Database::migrated("listing").await?;
    db.run(r#"CREATE TABLE "Booking" (id int PRIMARY KEY, "merchantId" text, status text)"#).await?;
    for call in [
        r#"SELECT rowcast.watch('"Booking"', 'merchantid')"#,
        r#"SELECT rowcast.watch('"Booking"', 'merchantId', columns => '{status,nonsense}')"#,
    ] {
        let words = refused(&db, call).await;
        assert!(words.contains("id, merchantId, status"), "{words}");
    }
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_watched_is_refused_with_the_reason() -> Result<()> {
    let db = Database::migrated("refusing").await?;
    db.run(
        "CREATE TABLE nokey (m text); CREATE TABLE t (id int PRIMARY KEY, m text); CREATE VIEW v AS SELECT 1 AS m;
         CREATE TEMPORARY TABLE temporary (id int PRIMARY KEY, m text);
         CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, m text);
         CREATE TABLE above (id int, m text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE UNLOGGED TABLE below PARTITION OF above DEFAULT;
         CREATE FUNCTION pathless(t) RETURNS json LANGUAGE sql AS 'SELECT ''1''::json';
         CREATE FUNCTION wrong(int) RETURNS json LANGUAGE sql AS 'SELECT ''1''::json'",
    )
    .await?;
    for (call, reason) in [
        ("'nokey', 'm'", "no primary key"),
        ("'v', 'm'", "a view"),
        ("'temporary', 'm'", "a temporary table"),
        ("'unlogged', 'm'", "a crash empties it"),
        ("'above', 'm'", "its partition public.below is not logged"),
        ("'rowcast.outbox', 'room'", "a table of the system's"),
        ("'t', 'm', type => 'rowcast.x'", "Rowcast's own"),
        ("'t', 'm', type => 'rowcast'", "Rowcast's own"),
        ("'t', 'm', type => 'connect'", "Socket.IO"),
        ("'t', 'm', type => 'disconnecting'", "Socket.IO"),
        ("'t', 'm', type => 'newListener'", "Socket.IO"),
        ("'t', 'm', type => 'removeListener'", "Socket.IO"),
        ("'t', 'm', type => 'resync'", "Socket.IO"),
        ("'t', 'm', type => ''", "1 to 150 bytes"),
        ("'t', 'm', operations => '{select}'", "insert, update and delete"),
        ("'t', 'm', on_error => 'ignore'", "warn or fail"),
        ("'t', 'm', payload => 'wrong'", "one argument of type"),
        ("'t', 'm', payload => 'pathless'", "ALTER FUNCTION public.pathless(public.t) SET search_path"),
    ] {
        let words = refused(&db, &format!("SELECT rowcast.watch({call})")).await;
        assert!(words.contains(reason), "{call}: {words}");
    }
    assert_eq!(db.number("SELECT count(*) FROM rowcast.watches").await?, 0);
    Ok(())
}

#[tokio::test]
async fn watching_again_changes_the_watch_and_unwatching_leaves_nothing_behind() -> Result<()> {
    let db = Database::migrated("again").await?;
    db.run(r#"CREATE TABLE "Booking" (id int PRIMARY KEY, "merchantId" text)"#).await?;
    let watches = Watches::connect(&db.url).await?;
    let mut options = WatchOptions {
        table: r#""Booking""#.to_owned(),
        merchant_column: "merchantId".to_owned(),
        ..WatchOptions::default()
    };
    watches.watch(&options).await?;
    let insert = r#"INSERT INTO "Booking" VALUES (floor(random() * 1e9), 'a')"#;
    assert_eq!(db.events_of(insert).await?[0].type_, "Booking.created");
    options.type_ = Some("booking".to_owned());
    options.operations = Some(vec!["insert".to_owned()]);
    watches.watch(&options).await?;
    watches.watch(&options).await?;
    let list = watches.list().await?;
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].type_.as_str(), list[0].columns.len()), ("booking", 2));
    assert_eq!(db.events_of(insert).await?.len(), 1);
    assert_eq!(db.events_of(r#"DELETE FROM "Booking""#).await?, []);
    assert!(watches.unwatch(r#""Booking""#).await?);
    assert!(!watches.unwatch(r#""Booking""#).await?);
    assert_eq!(db.events_of(insert).await?, []);
    let left = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'rowcast%')
              + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'rowcast_triggers'::regnamespace)";
    assert_eq!(db.number(left).await?, 0);
    Ok(())
}

#[tokio::test]
async fn publishing_checks_its_arguments_and_is_transactional() -> Result<()> {
    let db = Database::migrated("publishing").await?;
    for (call, reason) in [
        ("'', 'a.b', '{}'", "1 to 200 bytes"),
        ("repeat('x', 201), 'a.b', '{}'", "1 to 200 bytes"),
        ("'m', 'connect_error', '{}'", "Socket.IO"),
        ("'m', 'disconnecting', '{}'", "Socket.IO"),
        ("'m', 'newListener', '{}'", "Socket.IO"),
        ("'m', 'removeListener', '{}'", "Socket.IO"),
        ("'m', 'resync', '{}'", "Socket.IO"),
        ("'m', 'rowcast.x', '{}'", "Rowcast's own"),
        ("'m', NULL, '{}'", "can not be an event's type"),
        ("'m', 'a.b', NULL", "needs data"),
        ("'m', 'a.b', to_json(repeat('x', 300000))", "262144"),
    ] {
        let words = refused(&db, &format!("SELECT rowcast.publish({call})")).await;
        assert!(words.contains(reason), "{call}: {words}");
    }
    let events = db
        .events_of("BEGIN; SELECT rowcast.publish('m', 'a.b', '1'); ROLLBACK; SELECT rowcast.publish('m', 'a.b', '2')")
        .await?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].data, 2);
    Ok(())
}

#[tokio::test]
async fn a_table_that_was_dropped_and_made_anew_can_be_watched_anew() -> Result<()> {
    let db = Database::migrated("dropped").await?;
    let make = "CREATE TABLE t (id int PRIMARY KEY, m text); SELECT rowcast.watch('t', 'm')";
    db.run(make).await?;
    db.run("DROP TABLE t").await?;
    let watches = Watches::connect(&db.url).await?;
    assert!(watches.list().await?.is_empty());
    db.run(make).await?;
    assert_eq!(db.events_of("INSERT INTO t VALUES (1, 'a')").await?.len(), 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.watches").await?, 1);
    Ok(())
}

on_each_version!(a_watch_of_a_type_that_was_refused_later_goes_on);

async fn a_watch_of_a_type_that_was_refused_later_goes_on(db: Database) -> Result<()> {
    // As it was before the migration that refuses the type.
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text); BEGIN;
         CREATE OR REPLACE FUNCTION rowcast.type_fault(type text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT NULL';
         SELECT rowcast.watch('t', 'm', type => 'resync'); COMMIT",
    )
    .await?;
    db.run(include_str!("../../../../migrations/V7__reserved_types.sql")).await?;
    let events = db.events_of("INSERT INTO t VALUES (1, 'a')").await?;
    assert_eq!(events.len(), 1);
    // No client takes this for a word of its own, so there is nothing to mend either.
    assert_eq!(events[0].type_, "resync.created");
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift()").await?, 0);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.trigger_error").await?, 0);
    let refusal = db.refusal("SELECT rowcast.watch('t', 'm', type => 'resync')").await;
    assert!(refusal.contains("Socket.IO"), "{refusal}");
    assert_eq!(db.number("SELECT count(*) FROM rowcast.watches WHERE type = 'resync'").await?, 1);
    Ok(())
}
