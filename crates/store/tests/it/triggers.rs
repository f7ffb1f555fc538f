//! Which events a statement leaves in the outbox.

use anyhow::Result;
use serde_json::json;

use crate::database::{Database, event, updated};

const BOOKING: &str = r#"
    CREATE TABLE "Booking" (id int PRIMARY KEY, "merchantId" text, status text, doc json, price numeric);
    SELECT rowcast.watch('"Booking"', 'merchantId', type => 'booking')"#;

async fn bookings(name: &str) -> Result<Database> {
    let database = Database::migrated(name).await?;
    database.run(BOOKING).await?;
    Ok(database)
}

fn booking(id: i32, merchant: &str, status: &str) -> serde_json::Value {
    json!({"id": id, "merchantId": merchant, "status": status, "doc": null, "price": null})
}

#[tokio::test]
async fn each_row_of_a_statement_becomes_one_event_in_its_merchants_room() -> Result<()> {
    let db = bookings("each_row").await?;
    let created = db.events_of(r#"INSERT INTO "Booking" VALUES (1, 'a', 'new'), (2, 'b', 'new')"#).await?;
    assert_eq!(
        created,
        [
            event("a", "booking.created", booking(1, "a", "new")),
            event("b", "booking.created", booking(2, "b", "new"))
        ]
    );
    let changed = db.events_of(r#"UPDATE "Booking" SET status = 'paid'"#).await?;
    assert_eq!(
        changed,
        [
            updated("a", "booking.updated", &["status"], booking(1, "a", "paid")),
            updated("b", "booking.updated", &["status"], booking(2, "b", "paid"))
        ]
    );
    let deleted = db.events_of(r#"DELETE FROM "Booking" WHERE id = 1"#).await?;
    assert_eq!(deleted, [event("a", "booking.deleted", booking(1, "a", "paid"))]);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_row_that_moves_leaves_the_old_room_with_its_old_columns_and_arrives_in_the_new_one() -> Result<()>
{
    let db = bookings("moves").await?;
    db.run(r#"INSERT INTO "Booking" VALUES (1, 'a', 'secret of a')"#).await?;
    let events = db.events_of(r#"UPDATE "Booking" SET "merchantId" = 'b', status = 'of b'"#).await?;
    assert_eq!(
        events,
        [
            event("a", "booking.deleted", booking(1, "a", "secret of a")),
            event("b", "booking.created", booking(1, "b", "of b"))
        ]
    );
    Ok(())
}

#[tokio::test]
async fn changed_keys_pair_by_position_and_all_removals_come_first() -> Result<()> {
    let db = bookings("keys").await?;
    // Written in descending order, so that each id is free when it is taken.
    db.run(r#"INSERT INTO "Booking" VALUES (3, 'c', 'third'), (2, 'b', 'second'), (1, 'a', 'first')"#)
        .await?;
    let events = db.events_of(r#"UPDATE "Booking" SET id = id + 1"#).await?;
    assert_eq!(
        events,
        [
            event("c", "booking.deleted", booking(3, "c", "third")),
            event("b", "booking.deleted", booking(2, "b", "second")),
            event("a", "booking.deleted", booking(1, "a", "first")),
            event("c", "booking.created", booking(4, "c", "third")),
            event("b", "booking.created", booking(3, "b", "second")),
            event("a", "booking.created", booking(2, "a", "first")),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_silent_and_one_of_the_image_alone_is_not() -> Result<()> {
    let db = bookings("unchanged").await?;
    db.run(r#"INSERT INTO "Booking" VALUES (1, 'a', 'new', '{"x": 1}', 1.0)"#).await?;
    assert_eq!(db.events_of(r#"UPDATE "Booking" SET status = status, doc = doc"#).await?, []);
    // Equal as numbers, not as images; and json has no equality at all.
    let events = db.events_of(r#"UPDATE "Booking" SET price = 1.00, doc = '{"x":1}'"#).await?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].changed.as_deref(), Some(&["doc".to_owned(), "price".to_owned()][..]));
    Ok(())
}

#[tokio::test]
async fn rows_without_a_usable_merchant_are_counted_and_never_fail_the_statement() -> Result<()> {
    let db = bookings("unusable").await?;
    let events = db
        .events_of(
            r#"INSERT INTO "Booking" VALUES (1, NULL, 'x'), (2, '', 'x'), (3, repeat('m', 201), 'x'), (4, repeat('m', 200), 'x')"#,
        )
        .await?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].room.len(), 200);
    assert_eq!(db.number("SELECT last_value FROM rowcast.unusable_merchants").await?, 3);
    let arrives = db.events_of(r#"UPDATE "Booking" SET "merchantId" = 'a' WHERE id = 1"#).await?;
    assert_eq!(arrives, [event("a", "booking.created", booking(1, "a", "x"))]);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

#[tokio::test]
async fn what_is_rolled_back_is_not_sent() -> Result<()> {
    let db = bookings("rollback").await?;
    let events = db
        .events_of(
            r#"BEGIN; INSERT INTO "Booking" VALUES (1, 'a', 'no'); ROLLBACK;
               BEGIN; INSERT INTO "Booking" VALUES (2, 'a', 'yes'); SAVEPOINT s;
               INSERT INTO "Booking" VALUES (3, 'a', 'no'); ROLLBACK TO s; COMMIT"#,
        )
        .await?;
    assert_eq!(events, [event("a", "booking.created", booking(2, "a", "yes"))]);
    Ok(())
}

#[tokio::test]
async fn upserts_and_merges_are_told_apart() -> Result<()> {
    let db = bookings("upserts").await?;
    db.run(r#"INSERT INTO "Booking" VALUES (1, 'a', 'old')"#).await?;
    let events = db
        .events_of(
            r#"INSERT INTO "Booking" VALUES (1, 'a', 'new'), (2, 'a', 'new')
               ON CONFLICT (id) DO UPDATE SET status = excluded.status"#,
        )
        .await?;
    assert_eq!(
        events,
        [
            updated("a", "booking.updated", &["status"], booking(1, "a", "new")),
            event("a", "booking.created", booking(2, "a", "new"))
        ]
    );
    if db.number("SELECT current_setting('server_version_num')::bigint").await? >= 150_000 {
        let events = db
            .events_of(
                r#"MERGE INTO "Booking" AS b USING (VALUES (1), (2), (3)) AS s (id) ON b.id = s.id
                   WHEN MATCHED AND s.id = 1 THEN DELETE
                   WHEN MATCHED THEN UPDATE SET status = 'merged'
                   WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'a', 'merged')"#,
            )
            .await?;
        let mut types: Vec<_> = events.iter().map(|event| event.type_.as_str()).collect();
        types.sort_unstable();
        assert_eq!(types, ["booking.created", "booking.deleted", "booking.updated"]);
    }
    Ok(())
}

#[tokio::test]
async fn only_watched_columns_are_sent_and_compared_but_key_and_merchant_always() -> Result<()> {
    let db = Database::migrated("columns").await?;
    db.run(
        r#"CREATE SCHEMA shop;
           CREATE TABLE shop."Order Line" (tenant text, no int, "merchantId" uuid, "a%b'c" text, hidden text,
                                           PRIMARY KEY (tenant, no));
           SELECT rowcast.watch('shop."Order Line"', '"merchantId"', type => 'line', columns => ARRAY['a%b''c'])"#,
    )
    .await?;
    let merchant = "11111111-1111-1111-1111-111111111111";
    let created = db
        .events_of(&format!(r#"INSERT INTO shop."Order Line" VALUES ('t', 1, '{merchant}', 'x', 'secret')"#))
        .await?;
    let line =
        |no: i32, value: &str| json!({"tenant": "t", "no": no, "merchantId": merchant, "a%b'c": value});
    assert_eq!(created, [event(merchant, "line.created", line(1, "x"))]);
    assert_eq!(db.events_of(r#"UPDATE shop."Order Line" SET hidden = 'y'"#).await?, []);
    let changed = db.events_of(r#"UPDATE shop."Order Line" SET "a%b'c" = 'z'"#).await?;
    assert_eq!(changed, [updated(merchant, "line.updated", &["a%b'c"], line(1, "z"))]);
    let moved = db.events_of(r#"UPDATE shop."Order Line" SET no = 2"#).await?;
    assert_eq!(
        moved,
        [event(merchant, "line.deleted", line(1, "z")), event(merchant, "line.created", line(2, "z"))]
    );
    Ok(())
}

#[tokio::test]
async fn a_row_above_the_limit_is_sent_as_a_reference() -> Result<()> {
    let db = bookings("large").await?;
    let mut events = db.events_of(r#"INSERT INTO "Booking" VALUES (7, 'a', repeat('x', 300000))"#).await?;
    let only = events.pop().unwrap();
    assert!(events.is_empty());
    assert_eq!((only.data, only.truncated), (json!({"id": 7}), true));
    Ok(())
}

#[tokio::test]
async fn a_payload_function_adds_to_the_row_and_its_failure_costs_only_that() -> Result<()> {
    let db = Database::migrated("payload").await?;
    db.run(
        "CREATE TABLE service (id int PRIMARY KEY, name text);
         INSERT INTO service VALUES (1, 'cut');
         CREATE TABLE visit (id int PRIMARY KEY, dropped int, m text, service int);
         ALTER TABLE visit DROP COLUMN dropped;
         CREATE FUNCTION with_service(v visit) RETURNS json LANGUAGE plpgsql STABLE SET search_path = public AS $$
         BEGIN
            IF v.service = 666 THEN RAISE EXCEPTION 'no such service'; END IF;
            RETURN json_build_object('id', v.id, 'service', (SELECT name FROM service WHERE id = v.service));
         END $$;
         SELECT rowcast.watch('visit', 'm', payload => 'with_service')",
    )
    .await?;
    assert_eq!(
        db.events_of("INSERT INTO visit VALUES (1, 'a', 1)").await?,
        [event("a", "visit.created", json!({"id": 1, "service": "cut"}))]
    );
    let failed = db.events_of("UPDATE visit SET service = 666").await?;
    assert_eq!(
        failed,
        [updated("a", "visit.updated", &["service"], json!({"id": 1, "m": "a", "service": 666}))]
    );
    assert_eq!(db.failures().await?, [("no such service".to_owned(), false)]);
    // What is removed is told in plain columns, never through the function.
    assert_eq!(
        db.events_of("DELETE FROM visit").await?,
        [event("a", "visit.deleted", json!({"id": 1, "m": "a", "service": 666}))]
    );
    Ok(())
}

#[tokio::test]
async fn a_failing_trigger_never_fails_the_statement_unless_asked_to() -> Result<()> {
    let db = bookings("failing").await?;
    db.run(r#"ALTER TABLE "Booking" RENAME COLUMN "merchantId" TO merchant"#).await?;
    assert_eq!(db.events_of(r#"INSERT INTO "Booking" VALUES (1, 'a')"#).await?, []);
    let failures = db.failures().await?;
    assert_eq!(failures.len(), 1);
    assert!(failures[0].0.contains("merchantId") && failures[0].1, "{failures:?}");
    // Not even when nothing of Rowcast is left but the triggers.
    db.run("DROP SCHEMA rowcast CASCADE").await?;
    db.run(r#"INSERT INTO "Booking" VALUES (2, 'a'); UPDATE "Booking" SET status = 'x'; TRUNCATE "Booking""#)
        .await?;

    let db = bookings("failing_loudly").await?;
    db.run(
        r#"SELECT rowcast.watch('"Booking"', 'merchantId', on_error => 'fail');
           ALTER TABLE "Booking" RENAME COLUMN "merchantId" TO merchant"#,
    )
    .await?;
    assert!(db.run(r#"INSERT INTO "Booking" VALUES (1, 'a')"#).await.is_err());
    assert_eq!(db.number(r#"SELECT count(*) FROM "Booking""#).await?, 0);
    Ok(())
}

#[tokio::test]
async fn partitions_speak_for_their_table_however_they_are_written_to() -> Result<()> {
    let db = Database::migrated("partitions").await?;
    db.run(
        "CREATE TABLE part (id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
         CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
         SELECT rowcast.watch('part', 'm', type => 'p')",
    )
    .await?;
    let row = |id: i32, d: i32| json!({"id": id, "m": "a", "d": d});
    assert_eq!(
        db.events_of("INSERT INTO part VALUES (1, 'a', 1), (2, 'a', 11)").await?,
        [event("a", "p.created", row(1, 1)), event("a", "p.created", row(2, 11))]
    );
    assert_eq!(db.events_of("DELETE FROM part_2").await?, [event("a", "p.deleted", row(2, 11))]);
    assert_eq!(
        db.events_of("UPDATE part SET d = 12").await?,
        [event("a", "p.deleted", row(1, 1)), event("a", "p.created", row(1, 12))]
    );
    db.run("ALTER TABLE part DETACH PARTITION part_2").await?;
    assert_eq!(db.events_of("DELETE FROM part_2").await?, []);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_long_statement_keeps_its_order_over_all_batches() -> Result<()> {
    let db = bookings("long").await?;
    // The plan is made, and kept, for one row.
    db.run(r#"INSERT INTO "Booking" VALUES (0, 'a'); UPDATE "Booking" SET status = '0'"#).await?;
    db.run(r#"INSERT INTO "Booking" SELECT n, 'a' FROM generate_series(1, 12345) AS n"#).await?;
    db.run(r#"DELETE FROM rowcast.outbox; UPDATE "Booking" SET status = 'x' WHERE id > 0"#).await?;
    let out_of_order = db
        .number(
            "SELECT count(*) FROM (SELECT (data->>'id')::int AS now, lag((data->>'id')::int) OVER (ORDER BY id) AS before
               FROM rowcast.outbox) AS o WHERE now <> before + 1",
        )
        .await?;
    assert_eq!((db.number("SELECT count(*) FROM rowcast.outbox").await?, out_of_order), (12345, 0));
    Ok(())
}

#[tokio::test]
async fn a_session_can_silence_the_doorbell_and_still_writes() -> Result<()> {
    let db = bookings("silence").await?;
    let lead = db.lead().await?;
    lead.prove(rowcast_store::Ring::For(3_000)).await?;
    db.run(r#"SET rowcast.doorbell = off; INSERT INTO "Booking" VALUES (1, 'a')"#).await?;
    db.run("SELECT pg_notify('rowcast', 'fence')").await?;
    lead.session().doorbell().notified().await;
    // Only the fence has rung: a second ring would have left a permit.
    let again =
        tokio::time::timeout(std::time::Duration::from_millis(50), lead.session().doorbell().notified());
    assert!(again.await.is_err());
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 1);
    db.run(r#"SET rowcast.doorbell = 'on'; INSERT INTO "Booking" VALUES (2, 'a')"#).await?;
    tokio::time::timeout(std::time::Duration::from_secs(5), lead.session().doorbell().notified()).await?;
    Ok(())
}

#[tokio::test]
async fn after_nested_writes_the_last_event_of_a_row_is_its_present_image() -> Result<()> {
    let db = Database::migrated("nested").await?;
    db.run(
        "CREATE TABLE n (id int PRIMARY KEY, m text, v int, act text);
         CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.act = 'bump' THEN UPDATE n SET v = v + 100, act = NULL WHERE id = new.id;
            ELSIF new.act = 'move' THEN UPDATE n SET m = 'z', act = NULL WHERE id = new.id;
            ELSIF new.act = 'kill' THEN DELETE FROM n WHERE id = new.id; END IF;
            RETURN NULL;
         END $$;
         CREATE TRIGGER act AFTER INSERT OR UPDATE ON n FOR EACH ROW EXECUTE FUNCTION act();
         SELECT rowcast.watch('n', 'm')",
    )
    .await?;
    let row = |id: i32, m: &str, v: i32| json!({"id": id, "m": m, "v": v, "act": null});
    let dying = |m: &str, v: i32| json!({"id": 2, "m": m, "v": v, "act": "kill"});
    let events = db
        .events_of("INSERT INTO n VALUES (1, 'a', 1, 'bump'), (2, 'a', 1, 'kill'), (3, 'a', 1, 'move')")
        .await?;
    let last = |events: &[crate::database::Event], id: i32| {
        events.iter().rfind(|event| event.data["id"] == id).cloned().unwrap()
    };
    assert_eq!(last(&events, 1), event("a", "n.created", row(1, "a", 101)));
    assert_eq!(last(&events, 2), event("a", "n.deleted", dying("a", 1)));
    assert_eq!(last(&events, 3), event("z", "n.created", row(3, "z", 1)));
    let of_a_in_z = |event: &&crate::database::Event| event.room == "z" && event.data["m"] != "z";
    assert_eq!(events.iter().find(of_a_in_z), None);

    db.run("INSERT INTO n VALUES (2, 'a', 1, NULL)").await?;
    // Moved by the statement, and deleted from its new room by what was nested in it: both rooms hear of it.
    let events = db.events_of("UPDATE n SET m = 'b', act = 'kill' WHERE id = 2").await?;
    assert_eq!(events, [event("b", "n.deleted", dying("b", 1)), event("a", "n.deleted", row(2, "a", 1))]);
    let events = db.events_of("UPDATE n SET v = 5, act = 'bump' WHERE id = 1").await?;
    assert_eq!(last(&events, 1).data, row(1, "a", 105));
    assert_eq!(db.failures().await?, []);
    Ok(())
}
