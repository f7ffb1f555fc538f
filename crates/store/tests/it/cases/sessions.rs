//! Who writes, and in what kind of transaction.

use anyhow::Result;
use rowcast_sandbox::{Connection, Postgres};
use rowcast_store::{Election, SessionOptions, Standby};
use serde_json::json;

use crate::database::{Database, event, on_each_version, read_all};

on_each_version!(
    a_role_with_no_rights_but_on_the_table_writes_and_is_heard,
    row_level_security_does_not_hide_changes_from_rowcast,
    a_nested_write_where_security_hides_rows_from_the_owner_is_a_loss_and_not_a_lie,
    session_replication_role_silences_triggers_and_fails_nothing,
    a_prepared_transaction_is_sent_when_it_is_committed,
    repeatable_read_and_serializable_writers_are_heard_and_do_not_collide,
    what_a_savepoint_takes_back_is_not_sent,
    a_thousand_statements_of_a_transaction_are_all_sent_in_order,
);

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, m text, v int); SELECT rowcast.watch('t', 'm')";

async fn a_role_with_no_rights_but_on_the_table_writes_and_is_heard(db: Database) -> Result<()> {
    db.run(T).await?;
    let (role, client) = db.role("writer", "").await?;
    db.run(&format!("GRANT INSERT, UPDATE, DELETE, SELECT ON t TO {role}; REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {role}"))
        .await?;
    client
        .batch_execute("SET search_path = ''; INSERT INTO public.t VALUES (1, 'a', 1); UPDATE public.t SET v = 2; DELETE FROM public.t")
        .await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 3);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn row_level_security_does_not_hide_changes_from_rowcast(db: Database) -> Result<()> {
    db.run(T).await?;
    let (role, client) = db.role("tenant", "").await?;
    db.run(&format!(
        "GRANT ALL ON t TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON t USING (m = current_setting('app.tenant', true));
         INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 1)"
    ))
    .await?;
    db.run("DELETE FROM rowcast.outbox").await?;
    client.batch_execute("SET app.tenant = 'a'; UPDATE t SET v = v + 1; DELETE FROM t").await?;
    let rooms = db.client.query("SELECT room || ' ' || type FROM rowcast.outbox ORDER BY id", &[]).await?;
    let rooms: Vec<String> = rooms.iter().map(|row| row.get(0)).collect();
    assert_eq!(rooms, ["a t.updated", "a t.deleted"], "its own rows, and all of them");
    Ok(())
}

async fn a_nested_write_where_security_hides_rows_from_the_owner_is_a_loss_and_not_a_lie(
    db: Database,
) -> Result<()> {
    let (role, client) = db.role("owner", "rowcast_watcher").await?;
    db.run(&format!("GRANT ALL ON SCHEMA public TO {role}")).await?;
    client
        .batch_execute(
            "CREATE TABLE n (id int PRIMARY KEY, m text, v int);
             CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                UPDATE n SET v = v + 1 WHERE id = new.id AND v = 1; RETURN NULL; END $$;
             CREATE TRIGGER bump AFTER INSERT ON n FOR EACH ROW EXECUTE FUNCTION bump();
             ALTER TABLE n ENABLE ROW LEVEL SECURITY; ALTER TABLE n FORCE ROW LEVEL SECURITY;
             CREATE POLICY all_of_a ON n USING (m = 'a'); SELECT rowcast.watch('n', 'm'); INSERT INTO n VALUES (1, 'a', 1)",
        )
        .await?;
    let failures = db.failures().await?;
    assert_eq!(failures.len(), 1);
    assert!(failures[0].0.contains("row-level security") && failures[0].1, "{failures:?}");
    Ok(())
}

async fn session_replication_role_silences_triggers_and_fails_nothing(db: Database) -> Result<()> {
    db.run(T).await?;
    assert_eq!(
        db.events_of("SET session_replication_role = replica; INSERT INTO t VALUES (1, 'a', 1); SET session_replication_role = origin")
            .await?,
        []
    );
    // Whoever wants a subscriber's changes sent says so, and that counts as being in order.
    db.run("ALTER TABLE t ENABLE ALWAYS TRIGGER rowcast_update").await?;
    let events = db
        .events_of("SET session_replication_role = replica; UPDATE t SET v = 2; SET session_replication_role = origin")
        .await?;
    assert_eq!(events.len(), 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift()").await?, 0);
    Ok(())
}

async fn a_prepared_transaction_is_sent_when_it_is_committed(db: Database) -> Result<()> {
    let server = Postgres::start(db.options().with("max_prepared_transactions", "5")).await?;
    let url = server.create_database("prepared").await?;
    rowcast_store::migrate(&url).await?;
    let client = Connection::open(&url).await?;
    client.batch_execute(T).await?;
    let Election::Elected(mut lead) =
        Standby::connect(&url, &SessionOptions::new("test")).await?.try_lead().await?
    else {
        anyhow::bail!("nobody else leads here");
    };
    // By default nobody rings where transactions can be prepared: after a NOTIFY this would fail.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1, 'a', 1); PREPARE TRANSACTION 'one'").await?;
    client.batch_execute("BEGIN; INSERT INTO t VALUES (2, 'a', 1); PREPARE TRANSACTION 'two'").await?;
    client.batch_execute("INSERT INTO t VALUES (3, 'a', 1)").await?;
    let ids = |rows: &[rowcast_store::Row]| rows.iter().map(|row| row.data.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&read_all(&mut lead, 10).await?), [r#"{"id":3,"m":"a","v":1}"#]);
    client.batch_execute("ROLLBACK PREPARED 'two'").await?;
    client.batch_execute("COMMIT PREPARED 'one'").await?;
    assert_eq!(ids(&read_all(&mut lead, 10).await?), [r#"{"id":1,"m":"a","v":1}"#]);
    Ok(())
}

async fn repeatable_read_and_serializable_writers_are_heard_and_do_not_collide(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("INSERT INTO t SELECT n, 'a', 0 FROM generate_series(1, 4) AS n; DELETE FROM rowcast.outbox")
        .await?;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let (one, two) = (db.another().await?, db.another().await?);
        for client in [&one, &two] {
            client
                .batch_execute(&format!("SET enable_seqscan = off; BEGIN ISOLATION LEVEL {level}; SELECT 1"))
                .await?;
        }
        one.batch_execute("UPDATE t SET v = v + 1 WHERE id = 1; UPDATE t SET v = v + 1 WHERE id = 1").await?;
        two.batch_execute("UPDATE t SET v = v + 1 WHERE id = 2").await?;
        one.batch_execute("COMMIT").await?;
        two.batch_execute("UPDATE t SET v = v + 1 WHERE id = 2; COMMIT").await?;
        assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 4, "{level}");
        db.run("DELETE FROM rowcast.outbox").await?;
    }
    // Failing triggers bring nobody else's transaction down either.
    db.run("ALTER TABLE t RENAME m TO merchant").await?;
    let (one, two) = (db.another().await?, db.another().await?);
    for client in [&one, &two] {
        client
            .batch_execute("SET enable_seqscan = off; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1")
            .await?;
    }
    one.batch_execute("UPDATE t SET v = v + 1 WHERE id = 1").await?;
    two.batch_execute("UPDATE t SET v = v + 1 WHERE id = 2").await?;
    one.batch_execute("UPDATE t SET v = v + 1 WHERE id = 1; COMMIT").await?;
    two.batch_execute("UPDATE t SET v = v + 1 WHERE id = 2; COMMIT").await?;
    assert_eq!(db.failures().await?.len(), 2, "one a transaction");
    Ok(())
}

async fn what_a_savepoint_takes_back_is_not_sent(db: Database) -> Result<()> {
    db.run(T).await?;
    let events = db
        .events_of(
            "BEGIN; INSERT INTO t VALUES (1, 'a', 1); SAVEPOINT one; INSERT INTO t VALUES (2, 'a', 2); SAVEPOINT two;
             INSERT INTO t VALUES (3, 'a', 3); ROLLBACK TO two; INSERT INTO t VALUES (4, 'a', 4); RELEASE two; ROLLBACK TO one;
             INSERT INTO t VALUES (5, 'a', 5); RELEASE one; COMMIT;
             DO $$ BEGIN INSERT INTO t VALUES (6, 'a', 6); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
        )
        .await?;
    let row = |id: i32| event("a", "t.created", json!({"id": id, "m": "a", "v": id}));
    assert_eq!(events, [row(1), row(5)]);
    Ok(())
}

async fn a_thousand_statements_of_a_transaction_are_all_sent_in_order(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("DO $$ BEGIN FOR n IN 1 .. 1000 LOOP INSERT INTO t VALUES (n, 'a', n); END LOOP; END $$").await?;
    let in_order =
        "SELECT count(*) FROM (SELECT (data->>'id')::int AS n, row_number() OVER (ORDER BY id) AS place
                      FROM rowcast.outbox) AS o WHERE n = place";
    assert_eq!(db.number(in_order).await?, 1000);
    assert_eq!(db.number("SELECT count(DISTINCT tx) FROM rowcast.outbox").await?, 1);
    Ok(())
}
