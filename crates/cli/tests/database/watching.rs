//! What `watch --dry-run` and `watches` promise.

use serde_json::json;

use crate::support::{Place, json};

const BOOKING: &str = "CREATE TABLE \"Booking\" (id int PRIMARY KEY, \"merchantId\" text, status text)";

/// All that could have been left behind: triggers, functions, rights, records.
async fn traces(place: &Place) -> String {
    let query = "SELECT concat_ws(E'\\n',
        (SELECT string_agg(t::text, ',' ORDER BY t.oid) FROM pg_trigger AS t WHERE NOT tgisinternal),
        (SELECT string_agg(p.oid || p.proname || coalesce(p.proacl::text, ''), ',' ORDER BY p.oid) FROM pg_proc AS p
          WHERE p.pronamespace IN ('rowcast'::regnamespace, 'rowcast_triggers'::regnamespace)),
        (SELECT string_agg(n.nspname || coalesce(n.nspacl::text, ''), ',') FROM pg_namespace AS n),
        (SELECT string_agg(c.relname || coalesce(c.relacl::text, ''), ',' ORDER BY c.oid) FROM pg_class AS c
          WHERE c.relnamespace = 'rowcast'::regnamespace),
        (SELECT string_agg(w::text, ',') FROM rowcast.watches AS w))";
    place.sql().await.query_one(query, &[]).await.expect("a query").get(0)
}

#[tokio::test]
async fn a_dry_run_prints_what_it_would_do_and_leaves_nothing_behind() {
    let place = Place::new("dry_run").await;
    place.ok(&["migrate"]).await;
    let sql = place.sql().await;
    sql.batch_execute(&format!(
        "CREATE ROLE dry_owner; {BOOKING}; ALTER TABLE \"Booking\" OWNER TO dry_owner"
    ))
    .await
    .expect("a table");
    let before = traces(&place).await;
    let watch =
        ["watch", "\"Booking\"", "merchantId", "--type", "booking", "--columns", "status", "--dry-run"];
    let printed = place.ok(&watch).await;
    assert_eq!(traces(&place).await, before);
    for expected in [
        "-- Sent and compared: id, merchantId, status.",
        "CREATE OR REPLACE FUNCTION rowcast_triggers.",
        "SECURITY DEFINER",
        "'booking.created'",
        "CREATE TRIGGER rowcast_insert AFTER INSERT ON public.\"Booking\" REFERENCING NEW TABLE AS new_rows",
        "CREATE TRIGGER rowcast_truncate AFTER TRUNCATE",
        "FROM PUBLIC;",
        "OWNER TO dry_owner;",
        "GRANT INSERT ON rowcast.append TO dry_owner;",
        "GRANT EXECUTE ON FUNCTION rowcast.ring() TO dry_owner;",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }

    // What was printed is what a watch then does; and a script that can be run.
    place.ok(&watch[..watch.len() - 1]).await;
    let again = place.ok(&watch).await;
    assert!(again.contains("DROP TRIGGER rowcast_insert ON ") && again.contains("DROP FUNCTION "), "{again}");
    assert!(again.contains("No rights need to be given"), "{again}");
    sql.batch_execute(&again).await.expect("the script runs");
    sql.batch_execute("INSERT INTO \"Booking\" VALUES (1, 'm1', 'new')").await.expect("an insert");
    let row = sql.query_one("SELECT type FROM rowcast.outbox", &[]).await.expect("one event");
    assert_eq!(row.get::<_, String>(0), "booking.created");
}

#[tokio::test]
async fn a_dry_run_fails_with_the_errors_of_a_watch() {
    let place = Place::new("dry_run_errors").await;
    let watch = ["watch", "\"Booking\"", "merchant", "--dry-run"];
    assert!(place.fails(&watch).await.contains("rowcast migrate"));
    place.ok(&["migrate"]).await;
    let sql = place.sql().await;
    sql.batch_execute(BOOKING).await.expect("a table");
    let error = place.fails(&watch).await;
    assert!(error.contains("its columns are: id, merchantId, status"), "{error}");
    let error = place.fails(&["watch", "Booking", "merchantId", "--dry-run"]).await;
    assert!(error.contains("did you mean '\"Booking\"'"), "{error}");
    sql.batch_execute("CREATE TABLE log (merchant text)").await.expect("a table");
    let error = place.fails(&["watch", "log", "merchant", "--dry-run"]).await;
    assert!(error.contains("no primary key"), "{error}");
}

#[tokio::test]
async fn drift_is_shown_below_the_list_with_its_remedy() {
    let place = Place::new("cli_drift").await;
    place.ok(&["migrate"]).await;
    let sql = place.sql().await;
    sql.batch_execute(&format!("{BOOKING}; SELECT rowcast.watch('\"Booking\"', 'merchantId')"))
        .await
        .expect("a watched table");
    assert!(!place.ok(&["watches"]).await.contains("Not as"));
    assert_eq!(json(&place.ok(&["watches", "--json"]).await)["drift"], json!([]));

    sql.batch_execute("ALTER TABLE \"Booking\" RENAME status TO state").await.expect("a rename");
    let shown = place.ok(&["watches"]).await;
    assert!(
        shown.contains("column_missing") && shown.contains("there is no column status any more"),
        "{shown}"
    );
    assert!(shown.contains("watch it again, with names that are there"), "{shown}");
    let drift = &json(&place.ok(&["watches", "--json"]).await)["drift"];
    let found = drift.as_array().expect("a list").iter().find(|one| one["kind"] == "column_missing");
    assert_eq!(found.expect("the renamed column")["table"], "\"Booking\"", "{drift}");
}
