//! Attempts to get more rights out of Rowcast than one has.

use anyhow::Result;
use rowcast_sandbox::Connection;

use crate::database::{Database, on_each_version, refusal};

on_each_version!(
    a_cast_runs_as_the_tables_owner_and_neither_as_the_writer_nor_as_rowcast,
    a_payload_function_runs_as_the_tables_owner_and_must_be_the_owners,
    a_function_put_in_a_dropped_payloads_place_is_never_called,
    a_forged_trigger_can_not_call_a_generated_function,
    another_ones_table_can_neither_be_watched_nor_unwatched_nor_its_watch_changed,
    names_put_in_the_way_of_the_search_path_are_not_taken,
    functions_put_where_generated_ones_will_be_are_never_run,
    a_publisher_publishes_and_does_nothing_else,
    an_owner_of_a_watched_table_can_not_forge_rowcasts_own_events,
    the_listeners_role_runs_nothing_of_a_table_owners,
);

/// A table owner who may watch, and a schema of its own that others may use.
async fn owner(db: &Database) -> Result<(String, Connection)> {
    let (role, client) = db.role("owner", "rowcast_watcher").await?;
    db.run(&format!("CREATE SCHEMA app AUTHORIZATION {role}; GRANT USAGE ON SCHEMA app TO PUBLIC")).await?;
    client.batch_execute("SET search_path = app").await?;
    Ok((role, client))
}

async fn text(db: &Database, sql: &str) -> Result<Vec<String>> {
    let rows = db.client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn a_cast_runs_as_the_tables_owner_and_neither_as_the_writer_nor_as_rowcast(
    db: Database,
) -> Result<()> {
    let (role, client) = owner(&db).await?;
    client
        .batch_execute(
            "CREATE TABLE ran_as (who text);
             CREATE TYPE tenant AS (name text);
             CREATE FUNCTION name_of(t tenant) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO app.ran_as VALUES (current_user); RETURN t.name; END $$;
             CREATE CAST (tenant AS text) WITH FUNCTION name_of(tenant);
             CREATE TABLE t (id int PRIMARY KEY, m tenant); SELECT rowcast.watch('t', 'm')",
        )
        .await?;
    // A superuser writes.
    db.run("INSERT INTO app.t VALUES (1, ROW('a')); UPDATE app.t SET m = ROW('b'); DELETE FROM app.t")
        .await?;
    assert_eq!(db.failures().await?, []);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 4);
    assert_eq!(text(&db, "SELECT DISTINCT who FROM app.ran_as").await?, [role]);
    Ok(())
}

async fn a_payload_function_runs_as_the_tables_owner_and_must_be_the_owners(db: Database) -> Result<()> {
    let (role, client) = owner(&db).await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, m text);
             CREATE FUNCTION who(r t) RETURNS json LANGUAGE sql SET search_path = app AS 'SELECT to_json(current_user::text)';
             SELECT rowcast.watch('t', 'm', payload => 'who')",
        )
        .await?;
    let (_, writer) = db.role("writer", "").await?;
    db.run("GRANT INSERT ON app.t TO PUBLIC").await?;
    writer.batch_execute("INSERT INTO app.t VALUES (1, 'a')").await?;
    db.run("INSERT INTO app.t VALUES (2, 'a')").await?;
    let quoted = format!("\"{role}\"");
    assert_eq!(text(&db, "SELECT data::text FROM rowcast.outbox").await?, [quoted.clone(), quoted]);
    // Somebody else's function would run with the owner's rights.
    let (other, stranger) = db.role("stranger", "rowcast_watcher").await?;
    db.run(&format!("CREATE SCHEMA theirs AUTHORIZATION {other}; GRANT USAGE ON SCHEMA theirs TO PUBLIC"))
        .await?;
    stranger
        .batch_execute("CREATE FUNCTION theirs.trap(r app.t) RETURNS json LANGUAGE sql SET search_path = theirs AS 'SELECT ''1''::json'")
        .await?;
    for client in [&client, &db.client] {
        let words = refusal(client, "SELECT rowcast.watch('app.t', 'm', payload => 'theirs.trap')").await;
        assert!(words.contains("must belong to"), "{words}");
    }
    // Given away after watching, it is not called any more.
    db.run(&format!("GRANT CREATE ON SCHEMA app TO {other}; ALTER FUNCTION app.who(app.t) OWNER TO {other}; DELETE FROM rowcast.outbox"))
        .await?;
    db.run("INSERT INTO app.t VALUES (3, 'a')").await?;
    assert_eq!(text(&db, "SELECT data::text FROM rowcast.outbox").await?, [r#"{"id":3,"m":"a"}"#]);
    Ok(())
}

async fn a_function_put_in_a_dropped_payloads_place_is_never_called(db: Database) -> Result<()> {
    let (_, client) = owner(&db).await?;
    let (other, stranger) = db.role("stranger", "").await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, m text); GRANT CREATE ON SCHEMA app TO {other};
             CREATE FUNCTION extra(r t) RETURNS json LANGUAGE sql SET search_path = app AS 'SELECT ''1''::json';
             SELECT rowcast.watch('t', 'm', payload => 'extra'); DROP FUNCTION extra"
        ))
        .await?;
    let plain = [r#"{"id":1,"m":"a"}"#];
    for trap in ["app.extra(r app.t)", "app.extra(r record)", "app.extra(r anyelement)"] {
        let made = stranger
            .batch_execute(&format!(
                "CREATE FUNCTION {trap} RETURNS json LANGUAGE plpgsql AS $$ BEGIN
                    RAISE WARNING 'got in'; RETURN to_json(current_user::text); END $$"
            ))
            .await;
        if trap.contains("record") && made.is_err() {
            continue;
        }
        made?;
        db.run("DELETE FROM rowcast.outbox; TRUNCATE app.t; INSERT INTO app.t VALUES (1, 'a')").await?;
        assert_eq!(text(&db, "SELECT data::text FROM rowcast.outbox").await?, plain, "{trap}");
        stranger.batch_execute(&format!("DROP FUNCTION {trap}")).await?;
    }
    Ok(())
}

async fn a_forged_trigger_can_not_call_a_generated_function(db: Database) -> Result<()> {
    let (_, client) = owner(&db).await?;
    client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, m text); SELECT rowcast.watch('t', 'm')")
        .await?;
    let (other, stranger) = db.role("stranger", "rowcast_watcher").await?;
    db.run(&format!("CREATE SCHEMA theirs AUTHORIZATION {other}")).await?;
    let called =
        &text(&db, "SELECT tgfoid::regprocedure::text FROM pg_trigger WHERE tgname = 'rowcast_insert'")
            .await?[0];
    stranger
        .batch_execute(
            "CREATE TABLE theirs.t (id int PRIMARY KEY, m text); SELECT rowcast.watch('theirs.t', 'm')",
        )
        .await?;
    let forged = |table: &str| {
        format!(
            "CREATE TRIGGER forged AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows
                 FOR EACH STATEMENT EXECUTE FUNCTION {called}"
        )
    };
    let words = refusal(&stranger, &forged("theirs.t")).await;
    assert!(words.contains("permission denied for function"), "{words}");
    // Even hung there by mistake it does nothing.
    db.run("SELECT rowcast.unwatch('theirs.t')").await?;
    db.run(&forged("theirs.t")).await?;
    stranger.batch_execute("INSERT INTO theirs.t VALUES (1, 'forged')").await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 0);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn another_ones_table_can_neither_be_watched_nor_unwatched_nor_its_watch_changed(
    db: Database,
) -> Result<()> {
    let (_, client) = owner(&db).await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, m text, other text); GRANT ALL ON t TO PUBLIC; SELECT rowcast.watch('t', 'm')",
        )
        .await?;
    let (_, stranger) = db.role("stranger", "rowcast_watcher").await?;
    for call in ["rowcast.watch('app.t', 'm')", "rowcast.unwatch('app.t')"] {
        let words = refusal(&stranger, &format!("SELECT {call}")).await;
        assert!(words.contains("must be owner of"), "{words}");
    }
    let words = refusal(&stranger, "UPDATE rowcast.watches SET merchant_column = 'other'").await;
    assert!(words.contains("permission denied"), "{words}");
    assert_eq!(stranger.execute("DELETE FROM rowcast.watches", &[]).await?, 0);
    client.batch_execute("CREATE TABLE unwatched (id int PRIMARY KEY)").await?;
    let forged = "INSERT INTO rowcast.watches (relation, merchant_column, type, key_columns, columns, operations, on_error, all_columns)
                  VALUES ('app.unwatched', 'm', 't', '{id}', '{id,m}', '{insert}', 'warn', true)";
    assert!(refusal(&stranger, forged).await.contains("row-level security"));
    assert_eq!(db.number("SELECT count(*) FROM rowcast.watches WHERE merchant_column = 'm'").await?, 1);
    // Nor does a part of somebody else's table come along with one's own.
    db.run("SELECT rowcast.watch('app.t', 'm')").await?;
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn names_put_in_the_way_of_the_search_path_are_not_taken(db: Database) -> Result<()> {
    let (role, client) = owner(&db).await?;
    let (other, stranger) = db.role("stranger", "").await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, m text, v text); SELECT rowcast.watch('t', 'm'); GRANT ALL ON t TO PUBLIC",
        )
        .await?;
    db.run(&format!("CREATE SCHEMA evil AUTHORIZATION {other}; GRANT ALL ON SCHEMA evil TO PUBLIC")).await?;
    // Functions, operators, tables and types under the names that the trigger uses, first in the path of who writes.
    stranger
        .batch_execute(
            "CREATE FUNCTION evil.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped %', current_user; END $$;
             CREATE FUNCTION evil.row_to_json(anyelement) RETURNS json LANGUAGE sql AS 'SELECT evil.trap()::text::json';
             CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT evil.trap()::int';
             CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT evil.trap()::text';
             CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT evil.trap()::text';
             CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT evil.trap()';
             CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.trap()';
             CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
             CREATE TABLE evil.new_rows (id int, m text, v text); CREATE TABLE evil.pg_inherits (inhrelid oid, inhparent oid);
             SET search_path = evil, pg_catalog, pg_temp;
             CREATE TEMP TABLE new_rows (id int, m text, v text); CREATE TEMP TABLE old_rows (id int, m text, v text);
             CREATE TEMP TABLE pg_trigger (x int); CREATE TEMP TABLE pairs (x int);
             INSERT INTO app.t VALUES (1, 'a', 'x'); UPDATE app.t SET v = v || 'y'; UPDATE app.t SET m = 'b' ; DELETE FROM app.t;
             SET rowcast.nested = '<0>'; SET rowcast.failed = '<0>'; INSERT INTO app.t VALUES (2, 'a', 'x')",
        )
        .await?;
    assert_eq!(db.failures().await?, []);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 6);
    // Neither does watching look there, whoever calls it.
    db.run("SET search_path = evil, pg_catalog; SELECT rowcast.watch('app.t', 'm'); SELECT rowcast.unwatch('app.t');
                     SELECT rowcast.watch('app.t', 'm'); SELECT rowcast.drift(); SELECT rowcast.repair(); RESET search_path")
        .await?;
    let owners = text(&db, "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'rowcast_triggers'::regnamespace").await?;
    assert_eq!(owners, [role]);
    Ok(())
}

async fn functions_put_where_generated_ones_will_be_are_never_run(db: Database) -> Result<()> {
    let (_, stranger) = db.role("stranger", "rowcast_watcher").await?;
    db.run("CREATE TABLE t (id int PRIMARY KEY, m text); CREATE TABLE ran_as (who text); GRANT ALL ON ran_as TO PUBLIC").await?;
    for operation in ["insert", "update", "delete", "truncate"] {
        let oid = db.number("SELECT 't'::regclass::oid::bigint").await?;
        stranger
            .batch_execute(&format!(
                "CREATE FUNCTION rowcast_triggers.t{oid}_{operation}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    INSERT INTO public.ran_as VALUES (current_user); RETURN NULL; END $$"
            ))
            .await?;
    }
    // A superuser watches a table of its own, and writes to it.
    db.run(
        "SELECT rowcast.watch('t', 'm'); INSERT INTO t VALUES (1, 'a'); UPDATE t SET m = 'b'; DELETE FROM t",
    )
    .await?;
    assert_eq!(db.number("SELECT count(*) FROM ran_as").await?, 0);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 4);
    let strangers = "SELECT count(*) FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_class AS c ON c.oid = t.tgrelid
                      WHERE t.tgname LIKE 'rowcast%' AND p.proowner <> c.relowner";
    assert_eq!(db.number(strangers).await?, 0);
    Ok(())
}

async fn a_publisher_publishes_and_does_nothing_else(db: Database) -> Result<()> {
    db.run("CREATE TABLE t (id int PRIMARY KEY, m text); SELECT rowcast.watch('t', 'm')").await?;
    let (_, publisher) = db.role("publisher", "rowcast_publisher").await?;
    publisher
        .batch_execute(
            "SET search_path = pg_temp, public; SELECT rowcast.publish('a', 'booking.paid', '{\"id\":1}')",
        )
        .await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox WHERE type = 'booking.paid'").await?, 1);
    for sql in [
        "TABLE rowcast.outbox",
        "DELETE FROM rowcast.outbox",
        "INSERT INTO rowcast.outbox (room, type, data) VALUES ('a', 'a.b', '1')",
        "INSERT INTO rowcast.append (room, type, data, truncated) VALUES ('a', 'a.b', '1', false)",
        "SELECT rowcast.request_raise('no')",
        "SELECT rowcast.trigger_failed(1::oid, 't', 'INSERT', '00000', 'no', true)",
        "SELECT rowcast.watch('t', 'm')",
        "SELECT rowcast.drift()",
        "UPDATE rowcast.floor SET id = 1",
        "SELECT nextval('rowcast.leader_epoch')",
        "UPDATE rowcast.state SET generation = 99",
        "TABLE rowcast.watches",
        "CREATE FUNCTION rowcast.publish(text, text, jsonb) RETURNS void LANGUAGE sql AS 'SELECT'",
    ] {
        let words = refusal(&publisher, sql).await;
        assert!(words.contains("permission denied"), "{sql}: {words}");
    }
    Ok(())
}

async fn an_owner_of_a_watched_table_can_not_forge_rowcasts_own_events(db: Database) -> Result<()> {
    let (_, client) = owner(&db).await?;
    client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, m text); SELECT rowcast.watch('t', 'm')")
        .await?;
    for (room, kind) in [("a", "rowcast.resync"), ("", "a.b"), ("a", "")] {
        let insert = format!(
            "INSERT INTO rowcast.append (room, type, data, truncated) VALUES ('{room}', '{kind}', '1', false)"
        );
        assert!(refusal(&client, &insert).await.contains("violates check option"), "{room} {kind}");
    }
    let insert = "INSERT INTO rowcast.append (room, type, data, truncated) VALUES ('a', 'a.b', '1', false) RETURNING *";
    assert!(refusal(&client, insert).await.contains("permission denied"));
    Ok(())
}

async fn the_listeners_role_runs_nothing_of_a_table_owners(db: Database) -> Result<()> {
    let (role, client) = owner(&db).await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d); SELECT rowcast.watch('t', 'm');
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
             CREATE FUNCTION looked() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
             ALTER TABLE t_1 ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t_1 USING (looked()); GRANT ALL ON t_1 TO PUBLIC",
        )
        .await?;
    let (_, listener) = db.role("listener", "rowcast_listener").await?;
    let kinds = listener.query("SELECT kind FROM rowcast.drift()", &[]).await?;
    assert_eq!(kinds.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["partition"]);
    // It has no rights to mend it: it reports.
    let mended: i32 = listener.query_one("SELECT rowcast.repair()", &[]).await?.get(0);
    assert_eq!(mended, 0);
    // With the owner's rights it mends, without looking into the rows past a policy.
    let (trusted, mender) = db.role("mender", "rowcast_listener").await?;
    db.run(&format!("GRANT {role} TO {trusted}")).await?;
    assert_eq!(mender.query_one("SELECT rowcast.repair()", &[]).await?.get::<_, i32>(0), 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift()").await?, 0);
    Ok(())
}
