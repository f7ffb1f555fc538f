//! A payload function: what it may do, and what happens when it does not do it.

use anyhow::Result;
use serde_json::json;

use crate::database::{Database, event, on_each_version, updated};

on_each_version!(
    a_payload_function_joins_other_tables,
    a_failing_payload_function_costs_its_extras_and_is_recorded,
    a_slow_payload_function_delays_its_statement_and_loses_nothing,
    a_dropped_payload_function_is_replaced_by_plain_columns,
    a_payload_function_that_returns_null_sends_plain_columns,
    a_payload_function_may_write_to_other_tables_but_not_grow_without_bound,
);

const VISITS: &str = "
    CREATE TABLE service (id int PRIMARY KEY, name text); INSERT INTO service VALUES (1, 'cut'), (2, 'wash');
    CREATE TABLE visit (id int PRIMARY KEY, m text, service int);
    CREATE FUNCTION with_service(v visit) RETURNS json LANGUAGE plpgsql STABLE SET search_path = public AS $$
    BEGIN
        IF v.service = 666 THEN RAISE EXCEPTION 'no such service'; END IF;
        IF v.service = 0 THEN RETURN NULL; END IF;
        IF v.service < 0 THEN PERFORM pg_sleep(-v.service / 1000.0); END IF;
        RETURN json_build_object('id', v.id, 'service', (SELECT name FROM service WHERE id = v.service));
    END $$;
    SELECT rowcast.watch('visit', 'm', payload => 'with_service')";

fn plain(id: i32, service: i32) -> serde_json::Value {
    json!({"id": id, "m": "a", "service": service})
}

async fn a_payload_function_joins_other_tables(db: Database) -> Result<()> {
    db.run(VISITS).await?;
    let row = |id: i32, service: &str| json!({"id": id, "service": service});
    assert_eq!(
        db.events_of("INSERT INTO visit VALUES (1, 'a', 1), (2, 'a', 2)").await?,
        [event("a", "visit.created", row(1, "cut")), event("a", "visit.created", row(2, "wash"))]
    );
    assert_eq!(
        db.events_of("UPDATE visit SET service = 2 WHERE id = 1").await?,
        [updated("a", "visit.updated", &["service"], row(1, "wash"))]
    );
    // What is removed, and what leaves a room, is told in plain columns: the function might tell more than was there.
    assert_eq!(
        db.events_of("UPDATE visit SET m = 'b' WHERE id = 1; DELETE FROM visit WHERE id = 2").await?,
        [
            event("a", "visit.deleted", plain(1, 2)),
            event("b", "visit.created", row(1, "wash")),
            event("a", "visit.deleted", plain(2, 2)),
        ]
    );
    Ok(())
}

async fn a_failing_payload_function_costs_its_extras_and_is_recorded(db: Database) -> Result<()> {
    db.run(VISITS).await?;
    assert_eq!(
        db.events_of("INSERT INTO visit VALUES (1, 'a', 666)").await?,
        [event("a", "visit.created", plain(1, 666))]
    );
    assert_eq!(db.failures().await?, [("no such service".to_owned(), false)], "nothing was lost");
    Ok(())
}

async fn a_slow_payload_function_delays_its_statement_and_loses_nothing(db: Database) -> Result<()> {
    db.run(VISITS).await?;
    assert_eq!(
        db.events_of("INSERT INTO visit VALUES (1, 'a', -300)").await?,
        [event("a", "visit.created", json!({"id": 1, "service": null}))]
    );
    // A statement's own time limit counts for what it causes, and takes the event with it.
    let words = db.refusal("SET statement_timeout = '100ms'; INSERT INTO visit VALUES (2, 'a', -5000)").await;
    assert!(words.contains("statement timeout"), "{words}");
    db.run("SET statement_timeout = 0").await?;
    assert_eq!(db.number("SELECT count(*) FROM visit").await?, 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 1);
    Ok(())
}

async fn a_dropped_payload_function_is_replaced_by_plain_columns(db: Database) -> Result<()> {
    db.run(VISITS).await?;
    db.run("DROP FUNCTION with_service").await?;
    assert_eq!(
        db.events_of("INSERT INTO visit VALUES (1, 'a', 1)").await?,
        [event("a", "visit.created", plain(1, 1))]
    );
    let failures = db.failures().await?;
    assert_eq!(failures.len(), 1);
    assert!(failures[0].0.contains("with_service(public.visit) is gone") && !failures[0].1, "{failures:?}");
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift() WHERE kind = 'payload'").await?, 1);
    Ok(())
}

async fn a_payload_function_that_returns_null_sends_plain_columns(db: Database) -> Result<()> {
    db.run(VISITS).await?;
    assert_eq!(
        db.events_of("INSERT INTO visit VALUES (1, 'a', 0)").await?,
        [event("a", "visit.created", plain(1, 0))]
    );
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn a_payload_function_may_write_to_other_tables_but_not_grow_without_bound(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text); CREATE TABLE seen (id int);
         CREATE FUNCTION noting(r t) RETURNS jsonb LANGUAGE plpgsql SET search_path = public AS $$ BEGIN
            INSERT INTO seen VALUES (r.id); RETURN to_jsonb(repeat('x', CASE r.id WHEN 2 THEN 300000 ELSE 1 END)); END $$;
         SELECT rowcast.watch('t', 'm', payload => 'noting')",
    )
    .await?;
    let events = db.events_of("INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, NULL)").await?;
    assert_eq!(events[0], event("a", "t.created", json!("x")));
    assert_eq!((events[1].truncated, &events[1].data), (true, &json!({"id": 2})));
    assert_eq!(db.number("SELECT count(*) FROM seen").await?, 2, "not called for a row that nobody hears of");
    Ok(())
}
