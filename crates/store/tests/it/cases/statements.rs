//! Statements that do more than one thing: upserts, merges, cascades, and what the application's own triggers add.

use anyhow::Result;
use serde_json::{Value, json};

use crate::database::{Database, Event, event, on_each_version, updated};

on_each_version!(
    on_conflict_tells_inserts_from_updates,
    merge_tells_its_three_actions_apart,
    a_cascade_tells_of_each_row_it_takes_once,
    a_table_that_refers_to_itself_tells_of_each_row_once,
    set_null_and_key_cascades_are_changes_of_the_child,
    deferred_constraints_and_triggers_write_at_commit_and_are_told,
    an_update_nested_in_an_insert_ends_at_the_present_image,
    a_delete_nested_in_an_insert_leaves_nothing_behind,
    a_nested_write_to_a_table_with_a_key_of_a_foreign_type_is_found,
    a_before_trigger_that_changes_or_suppresses_rows_is_followed,
    writable_ctes_tell_of_each_of_their_writes,
    nested_writes_of_another_table_change_nothing_for_this_one,
    an_update_through_a_view_is_one_of_its_table,
);

fn of(events: &[Event], id: i32) -> Vec<&Event> {
    events.iter().filter(|event| event.data["id"] == id).collect()
}

fn types(events: &[Event]) -> Vec<(String, Value)> {
    let mut all: Vec<_> =
        events.iter().map(|event| (event.type_.clone(), event.data["id"].clone())).collect();
    all.sort_by_key(|(kind, id)| (kind.clone(), id.as_i64()));
    all
}

fn expected(list: &[(&str, i32)]) -> Vec<(String, Value)> {
    list.iter().map(|(kind, id)| ((*kind).to_owned(), json!(id))).collect()
}

async fn on_conflict_tells_inserts_from_updates(db: Database) -> Result<()> {
    db.run("CREATE TABLE t (id int PRIMARY KEY, m text, v text); SELECT rowcast.watch('t', 'm'); INSERT INTO t VALUES (1, 'a', 'old'), (3, 'a', 'same')")
        .await?;
    let row = |id: i32, v: &str| json!({"id": id, "m": "a", "v": v});
    assert_eq!(
        db.events_of(
            "INSERT INTO t VALUES (1, 'a', 'new'), (2, 'a', 'new'), (3, 'a', 'same')
             ON CONFLICT (id) DO UPDATE SET v = excluded.v"
        )
        .await?,
        [updated("a", "t.updated", &["v"], row(1, "new")), event("a", "t.created", row(2, "new"))]
    );
    assert_eq!(
        db.events_of("INSERT INTO t VALUES (1, 'a', 'x'), (4, 'a', 'x') ON CONFLICT DO NOTHING").await?,
        [event("a", "t.created", row(4, "x"))]
    );
    Ok(())
}

async fn merge_tells_its_three_actions_apart(db: Database) -> Result<()> {
    if db.number("SELECT current_setting('server_version_num')::bigint").await? < 150_000 {
        return Ok(());
    }
    db.run("CREATE TABLE t (id int PRIMARY KEY, m text, v text); SELECT rowcast.watch('t', 'm'); INSERT INTO t VALUES (1, 'a', '1'), (2, 'a', '2'), (3, 'a', '3')")
        .await?;
    let events = db
        .events_of(
            "MERGE INTO t USING (VALUES (1), (2), (3), (4)) AS s (id) ON t.id = s.id
             WHEN MATCHED AND s.id = 1 THEN DELETE
             WHEN MATCHED AND s.id = 3 THEN UPDATE SET m = 'b'
             WHEN MATCHED THEN UPDATE SET v = 'merged'
             WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'a', 'merged')",
        )
        .await?;
    assert_eq!(
        types(&events),
        expected(&[("t.created", 3), ("t.created", 4), ("t.deleted", 1), ("t.deleted", 3), ("t.updated", 2)])
    );
    Ok(())
}

async fn a_cascade_tells_of_each_row_it_takes_once(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE parent (id int PRIMARY KEY, m text);
         CREATE TABLE child (id int PRIMARY KEY, m text, parent int REFERENCES parent ON DELETE CASCADE);
         SELECT rowcast.watch('parent', 'm'); SELECT rowcast.watch('child', 'm');
         INSERT INTO parent VALUES (1, 'a'), (2, 'a'), (3, 'a');
         INSERT INTO child SELECT n, 'a', n % 3 + 1 FROM generate_series(11, 16) AS n",
    )
    .await?;
    let events = db.events_of("DELETE FROM parent WHERE id < 3").await?;
    let mut gone: Vec<_> = events.iter().map(|event| event.data["id"].as_i64().unwrap()).collect();
    gone.sort_unstable();
    assert_eq!(gone, [1, 2, 12, 13, 15, 16]);
    assert!(events.iter().all(|event| event.type_.ends_with(".deleted")));
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn a_table_that_refers_to_itself_tells_of_each_row_once(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE tree (id int PRIMARY KEY, m text, parent int REFERENCES tree ON DELETE CASCADE ON UPDATE CASCADE);
         SELECT rowcast.watch('tree', 'm');
         INSERT INTO tree SELECT n, 'a', nullif(n / 2, 0) FROM generate_series(1, 15) AS n",
    )
    .await?;
    let events = db.events_of("UPDATE tree SET id = 100 WHERE id = 2").await?;
    // The row itself by its new key, its children by their new parent.
    assert_eq!(of(&events, 2).len(), 1);
    assert_eq!(of(&events, 2)[0].type_, "tree.deleted");
    assert_eq!(of(&events, 100).last().map(|event| event.type_.as_str()), Some("tree.created"));
    for child in [4, 5] {
        assert_eq!(of(&events, child).last().map(|event| &event.data["parent"]), Some(&json!(100)));
    }
    let events = db.events_of("DELETE FROM tree WHERE id = 1").await?;
    let ids = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 100].map(|id| ("tree.deleted", id));
    assert_eq!(types(&events), expected(&ids));
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn set_null_and_key_cascades_are_changes_of_the_child(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY, m text, parent int REFERENCES parent ON DELETE SET NULL ON UPDATE CASCADE);
         SELECT rowcast.watch('child', 'm'); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (11, 'a', 1)",
    )
    .await?;
    let change = |parent: Value| {
        updated("a", "child.updated", &["parent"], json!({"id": 11, "m": "a", "parent": parent}))
    };
    assert_eq!(db.events_of("UPDATE parent SET id = 2").await?, [change(json!(2))]);
    assert_eq!(db.events_of("DELETE FROM parent").await?, [change(Value::Null)]);
    Ok(())
}

async fn deferred_constraints_and_triggers_write_at_commit_and_are_told(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE parent (id int PRIMARY KEY, m text);
         CREATE TABLE child (id int PRIMARY KEY, m text, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         SELECT rowcast.watch('parent', 'm'); SELECT rowcast.watch('child', 'm');
         CREATE FUNCTION adopt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE child SET m = 'late' WHERE id = new.id; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER adopt AFTER INSERT ON child DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION adopt()",
    )
    .await?;
    let child = |m: &str| json!({"id": 11, "m": m, "parent": 1});
    assert_eq!(
        db.events_of(
            "BEGIN; INSERT INTO child VALUES (11, 'a', 1); INSERT INTO parent VALUES (1, 'a'); COMMIT"
        )
        .await?,
        [
            event("a", "child.created", child("a")),
            event("a", "parent.created", json!({"id": 1, "m": "a"})),
            event("a", "child.deleted", child("a")),
            event("late", "child.created", child("late")),
        ]
    );
    // A constraint that fails at commit takes the events with it.
    db.run("DELETE FROM rowcast.outbox").await?;
    assert!(db.run("BEGIN; INSERT INTO child VALUES (12, 'a', 99); COMMIT").await.is_err());
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 0);
    Ok(())
}

const NESTED: &str = "
    CREATE TABLE n (id int PRIMARY KEY, m text, v int, act text);
    CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF new.act = 'bump' THEN UPDATE n SET v = v + 100, act = NULL WHERE id = new.id;
        ELSIF new.act = 'kill' THEN DELETE FROM n WHERE id = new.id; END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER act AFTER INSERT OR UPDATE ON n FOR EACH ROW EXECUTE FUNCTION act();
    SELECT rowcast.watch('n', 'm')";

async fn an_update_nested_in_an_insert_ends_at_the_present_image(db: Database) -> Result<()> {
    db.run(NESTED).await?;
    let events = db.events_of("INSERT INTO n VALUES (1, 'a', 1, 'bump'), (2, 'a', 1, NULL)").await?;
    let row = |id: i32, v: i32| event("a", "n.created", json!({"id": id, "m": "a", "v": v, "act": null}));
    assert_eq!(of(&events, 1).last(), Some(&&row(1, 101)));
    assert_eq!(of(&events, 2), [&row(2, 1)]);
    Ok(())
}

async fn a_delete_nested_in_an_insert_leaves_nothing_behind(db: Database) -> Result<()> {
    db.run(NESTED).await?;
    let events = db.events_of("INSERT INTO n VALUES (1, 'a', 1, 'kill'), (2, 'a', 1, NULL)").await?;
    assert_eq!(of(&events, 1).last().map(|event| event.type_.as_str()), Some("n.deleted"));
    assert_eq!(of(&events, 2).last().map(|event| event.type_.as_str()), Some("n.created"));
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn a_nested_write_to_a_table_with_a_key_of_a_foreign_type_is_found(db: Database) -> Result<()> {
    // Its operators live where the trigger's search_path does not look.
    db.run(
        "CREATE SCHEMA types; CREATE EXTENSION citext SCHEMA types; CREATE EXTENSION hstore SCHEMA types;
         SET search_path = public, types; CREATE TYPE kind AS (a int, b text);
         CREATE TABLE n (id citext, k kind, h hstore, m text, v int, PRIMARY KEY (id, k, h));
         CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE n SET v = v + 1 WHERE id = new.id AND v = 1; RETURN NULL; END $$;
         CREATE TRIGGER bump AFTER INSERT ON n FOR EACH ROW EXECUTE FUNCTION bump(); SELECT rowcast.watch('n', 'm')",
    )
    .await?;
    let events = db.events_of("INSERT INTO n VALUES ('K', '(1,x)', 'a=>1', 'a', 1)").await?;
    assert_eq!(db.failures().await?, []);
    let last = events.last().expect("an event");
    assert_eq!((last.type_.as_str(), &last.data["v"]), ("n.created", &json!(2)));
    Ok(())
}

async fn a_before_trigger_that_changes_or_suppresses_rows_is_followed(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text, v int);
         CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.v < 0 THEN RETURN NULL; END IF; new.v := new.v * 10; RETURN new; END $$;
         CREATE TRIGGER before BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION before();
         SELECT rowcast.watch('t', 'm')",
    )
    .await?;
    let row = |v: i32| json!({"id": 1, "m": "a", "v": v});
    assert_eq!(
        db.events_of("INSERT INTO t VALUES (1, 'a', 1), (2, 'a', -1)").await?,
        [event("a", "t.created", row(10))]
    );
    assert_eq!(db.events_of("UPDATE t SET v = 2").await?, [updated("a", "t.updated", &["v"], row(20))]);
    assert_eq!(db.events_of("UPDATE t SET v = -2").await?, []);
    Ok(())
}

async fn writable_ctes_tell_of_each_of_their_writes(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE a (id int PRIMARY KEY, m text); CREATE TABLE b (id int PRIMARY KEY, m text);
         SELECT rowcast.watch('a', 'm'); SELECT rowcast.watch('b', 'm'); INSERT INTO a VALUES (1, 'x'), (2, 'x')",
    )
    .await?;
    let events = db
        .events_of("WITH gone AS (DELETE FROM a RETURNING *), more AS (INSERT INTO a VALUES (3, 'x')) INSERT INTO b SELECT * FROM gone")
        .await?;
    assert_eq!(
        types(&events),
        expected(&[("a.created", 3), ("a.deleted", 1), ("a.deleted", 2), ("b.created", 1), ("b.created", 2)])
    );
    Ok(())
}

async fn nested_writes_of_another_table_change_nothing_for_this_one(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text); CREATE TABLE log (id int PRIMARY KEY, m text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO log VALUES (new.id, new.m); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
         SELECT rowcast.watch('t', 'm'); SELECT rowcast.watch('log', 'm')",
    )
    .await?;
    let events = db.events_of("INSERT INTO t VALUES (1, 'a'), (2, 'a')").await?;
    assert_eq!(
        types(&events),
        expected(&[("log.created", 1), ("log.created", 2), ("t.created", 1), ("t.created", 2)])
    );
    Ok(())
}

async fn an_update_through_a_view_is_one_of_its_table(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text, v int); SELECT rowcast.watch('t', 'm');
         CREATE VIEW seen AS SELECT id, m, v FROM t WHERE v > 0",
    )
    .await?;
    let row = |v: i32| json!({"id": 1, "m": "a", "v": v});
    assert_eq!(db.events_of("INSERT INTO seen VALUES (1, 'a', 1)").await?, [event("a", "t.created", row(1))]);
    assert_eq!(db.events_of("UPDATE seen SET v = 2").await?, [updated("a", "t.updated", &["v"], row(2))]);
    assert_eq!(db.events_of("DELETE FROM seen").await?, [event("a", "t.deleted", row(2))]);
    Ok(())
}
