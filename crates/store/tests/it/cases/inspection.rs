//! What is told about tables without changing them: a watch that is only tried, what its events look like, and triggers
//! that notify by themselves.

use anyhow::Result;
use rowcast_store::{JsonType, WatchOptions, Watches};

use crate::database::{Database, on_each_version};

on_each_version!(
    a_watch_that_is_tried_leaves_nothing_and_tells_what_a_watch_does,
    a_watch_that_is_tried_and_refused_leaves_the_connection_usable,
    columns_are_told_as_row_to_json_writes_them,
    triggers_that_notify_are_found_on_every_kind_of_table,
);

/// What a watch leaves in the catalogue. Rowcast's own tables have triggers of their own.
const TRACES: &str = "SELECT (SELECT count(*) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE NOT tgisinternal AND relnamespace <> 'rowcast'::regnamespace)
    + (SELECT count(*) FROM rowcast.watches)
    + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'rowcast_triggers'::regnamespace)";

fn watch(table: &str) -> WatchOptions {
    WatchOptions { table: table.to_owned(), merchant_column: "m".to_owned(), ..WatchOptions::default() }
}

async fn a_watch_that_is_tried_leaves_nothing_and_tells_what_a_watch_does(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int, m text, PRIMARY KEY (id, m)) PARTITION BY LIST (m);
         CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a')",
    )
    .await?;
    let watches = Watches::connect(&db.url).await?;
    let trial = watches.try_watch(&watch("t")).await?;
    assert_eq!(db.number(TRACES).await?, 0);
    assert_eq!(trial.watched.columns, ["id", "m"]);
    assert_eq!(trial.triggers.len(), 8, "insert, update, delete and truncate, on table and partition");
    assert!(trial.removed.is_empty(), "{:?}", trial.removed);

    watches.watch(&watch("t")).await?;
    let again = watches.try_watch(&watch("t")).await?;
    assert_eq!(again.triggers, trial.triggers.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(again.removed.len(), 8 + 4, "{:?}", again.removed);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.watches").await?, 1);
    watches.close().await;
    Ok(())
}

async fn a_watch_that_is_tried_and_refused_leaves_the_connection_usable(db: Database) -> Result<()> {
    db.run("CREATE TABLE keyless (m text); CREATE TABLE t (id int PRIMARY KEY, m text)").await?;
    let watches = Watches::connect(&db.url).await?;
    let refused = watches.try_watch(&watch("keyless")).await.unwrap_err().to_string();
    assert!(refused.contains("no primary key"), "{refused}");
    watches.watch(&watch("t")).await?;
    watches.close().await;
    assert_eq!(
        db.events_of("INSERT INTO t VALUES (1, 'a')").await?.len(),
        1,
        "it was no transaction that ended"
    );
    Ok(())
}

async fn columns_are_told_as_row_to_json_writes_them(db: Database) -> Result<()> {
    db.run(
        "CREATE TYPE mood AS ENUM ('sad', 'fine');
         CREATE TYPE tree AS (label text, moods mood[]);
         CREATE DOMAIN certain AS int NOT NULL;
         CREATE TABLE t (id int PRIMARY KEY, m text, oid_ oid, sure certain, grid bool[][], tree tree, doc jsonb);
         SELECT rowcast.watch('t', 'm')",
    )
    .await?;
    let watches = Watches::connect(&db.url).await?;
    let watched = watches.list().await?.remove(0);
    let columns = watches.columns(&watched).await?;
    let list = |of: JsonType| JsonType::List(Box::new(of));
    let moods = list(JsonType::OneOf(vec!["sad".to_owned(), "fine".to_owned()]));
    let expected = [
        ("id", JsonType::Number, false),
        ("m", JsonType::Text, false),
        ("oid_", JsonType::Text, true),
        ("sure", JsonType::Number, false),
        ("grid", list(list(JsonType::Boolean)), true),
        (
            "tree",
            JsonType::Object(vec![("label".to_owned(), JsonType::Text), ("moods".to_owned(), moods)]),
            true,
        ),
        ("doc", JsonType::Any, true),
    ];
    let told: Vec<_> =
        columns.into_iter().map(|column| (column.name, column.json, column.nullable)).collect();
    assert_eq!(told, expected.map(|(name, json, nullable)| (name.to_owned(), json, nullable)));
    watches.close().await;
    Ok(())
}

async fn triggers_that_notify_are_found_on_every_kind_of_table(db: Database) -> Result<()> {
    db.run(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('c', ''); RETURN NEW; END $$;
         CREATE TABLE parent (id int PRIMARY KEY, m text) PARTITION BY RANGE (id);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (1) TO (9);
         CREATE TRIGGER told AFTER INSERT OR TRUNCATE ON parent EXECUTE FUNCTION tell();
         CREATE TRIGGER each_told AFTER UPDATE OF m ON parent FOR EACH ROW EXECUTE FUNCTION tell('x', 'y');
         CREATE VIEW seen AS SELECT * FROM parent;
         CREATE TRIGGER view_told INSTEAD OF DELETE ON seen FOR EACH ROW EXECUTE FUNCTION tell();
         SELECT rowcast.watch('parent', 'm')",
    )
    .await?;
    let watches = Watches::connect(&db.url).await?;
    let found = watches.notifying_triggers().await?;
    watches.close().await;
    let told: Vec<_> =
        found.iter().map(|one| (one.table.as_str(), one.name.as_str(), one.operations.join(","))).collect();
    let expected = [
        ("public.parent", "each_told", "update"),
        ("public.parent", "told", "insert,truncate"),
        ("public.seen", "view_told", "delete"),
    ];
    assert_eq!(told, expected.map(|(table, name, operations)| (table, name, operations.to_owned())));
    assert_eq!(
        (found[0].arguments.as_slice(), found[0].conditional),
        (&["x".to_owned(), "y".to_owned()][..], true)
    );
    assert!(found[0].watched && found[1].arguments.is_empty() && !found[1].conditional);
    assert_eq!(found[2].obstacle.as_deref(), Some("it is a view"));
    Ok(())
}
