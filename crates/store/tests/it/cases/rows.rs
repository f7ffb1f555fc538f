//! One row: its names, its key, its merchant, its values.

use anyhow::Result;
use serde_json::json;

use crate::database::{Database, event, on_each_version, updated};

on_each_version!(
    quoted_mixed_case_names_in_any_schema_arrive_as_they_are_written,
    a_composite_key_tells_rows_apart_and_counts_as_a_whole,
    a_table_without_a_primary_key_is_refused_with_the_reason,
    null_empty_and_overlong_merchants_give_no_event_and_are_counted,
    odd_merchants_are_rooms_of_their_own,
    merchants_of_any_type_name_the_room_by_their_text,
    null_in_every_column_arrives_as_null,
    an_update_of_no_watched_column_is_silent,
    a_row_that_moves_is_removed_here_and_arrives_there,
    moving_every_key_by_one_pairs_the_right_rows,
    changes_of_one_row_in_a_transaction_keep_their_order,
    a_row_that_returns_to_what_it_was_is_told_each_time,
    delete_sends_the_old_columns,
    truncate_asks_for_a_new_generation_and_sends_nothing,
    copy_is_an_insert_like_any_other,
    a_row_above_the_limit_is_sent_as_a_reference_by_its_key,
    generated_columns_arrive_with_their_values,
    json_columns_are_compared_by_what_they_hold,
    a_change_that_a_collation_calls_equal_is_sent,
);

async fn quoted_mixed_case_names_in_any_schema_arrive_as_they_are_written(db: Database) -> Result<()> {
    db.run(
        r#"CREATE SCHEMA "My Shop";
           CREATE TABLE "My Shop"."Booking" ("Id" int PRIMARY KEY, "merchantId" text, "a ""quoted"" 100% 'name'" text);
           CREATE TABLE "Booking" ("Id" int PRIMARY KEY, "merchantId" text);
           SELECT rowcast.watch('"My Shop"."Booking"', 'merchantId');
           SELECT rowcast.watch('"Booking"', '"merchantId"', type => 'other')"#,
    )
    .await?;
    let row = |value: &str| json!({"Id": 1, "merchantId": "a", "a \"quoted\" 100% 'name'": value});
    assert_eq!(
        db.events_of(r#"INSERT INTO "My Shop"."Booking" VALUES (1, 'a', 'x')"#).await?,
        [event("a", "Booking.created", row("x"))]
    );
    assert_eq!(
        db.events_of(r#"UPDATE "My Shop"."Booking" SET "a ""quoted"" 100% 'name'" = 'y'"#).await?,
        [updated("a", "Booking.updated", &["a \"quoted\" 100% 'name'"], row("y"))]
    );
    assert_eq!(
        db.events_of(r#"INSERT INTO "Booking" VALUES (1, 'a')"#).await?,
        [event("a", "other.created", json!({"Id": 1, "merchantId": "a"}))]
    );
    Ok(())
}

async fn a_composite_key_tells_rows_apart_and_counts_as_a_whole(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE line (no int, m text, tenant uuid, v int, PRIMARY KEY (tenant, no));
         SELECT rowcast.watch('line', 'm', columns => '{v}')",
    )
    .await?;
    let (one, two) = ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222");
    let row = |tenant: &str, no: i32, v: i32| json!({"no": no, "m": "a", "tenant": tenant, "v": v});
    db.run(&format!("INSERT INTO line VALUES (1, 'a', '{one}', 1), (1, 'a', '{two}', 1)")).await?;
    assert_eq!(
        db.events_of(&format!("UPDATE line SET v = 2 WHERE tenant = '{two}'")).await?,
        [updated("a", "line.updated", &["v"], row(two, 1, 2))]
    );
    assert_eq!(
        db.events_of(&format!("UPDATE line SET no = 2 WHERE tenant = '{one}'")).await?,
        [event("a", "line.deleted", row(one, 1, 1)), event("a", "line.created", row(one, 2, 1))]
    );
    Ok(())
}

async fn a_table_without_a_primary_key_is_refused_with_the_reason(db: Database) -> Result<()> {
    db.run("CREATE TABLE nokey (id int UNIQUE NOT NULL, m text)").await?;
    let words = db.refusal("SELECT rowcast.watch('nokey', 'm')").await;
    assert!(words.contains("no primary key: its rows can not be told apart"), "{words}");
    db.run("INSERT INTO nokey VALUES (1, 'a')").await?;
    Ok(())
}

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, m text, v text); SELECT rowcast.watch('t', 'm')";

fn t(id: i32, m: &str, v: &str) -> serde_json::Value {
    json!({"id": id, "m": m, "v": v})
}

async fn null_empty_and_overlong_merchants_give_no_event_and_are_counted(db: Database) -> Result<()> {
    db.run(T).await?;
    let events = db
        .events_of(
            "INSERT INTO t VALUES (1, NULL), (2, ''), (3, repeat('m', 201)), (4, repeat('é', 101)), (5, repeat('é', 100));
             UPDATE t SET v = 'x' WHERE id < 5; DELETE FROM t WHERE id < 5",
        )
        .await?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].room, "é".repeat(100));
    assert_eq!(db.number("SELECT last_value FROM rowcast.unusable_merchants").await?, 12);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn odd_merchants_are_rooms_of_their_own(db: Database) -> Result<()> {
    db.run(T).await?;
    for merchant in [" ", "a ", "A", "}x", "{x}:log", "*", "null", "'; DROP TABLE t; --", "\n", "日本", "🦀"]
    {
        let insert =
            format!("DELETE FROM t; INSERT INTO t VALUES (1, '{}', 'x')", merchant.replace('\'', "''"));
        let events = db.events_of(&insert).await?;
        assert_eq!(events.last(), Some(&event(merchant, "t.created", t(1, merchant, "x"))));
    }
    Ok(())
}

async fn merchants_of_any_type_name_the_room_by_their_text(db: Database) -> Result<()> {
    for (n, (kind, value, room)) in [
        ("bigint", "9007199254740993", "9007199254740993"),
        ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("varchar(20)", "'v'", "v"),
        ("char(3)", "'c'", "c"),
        ("name", "'n'", "n"),
        ("mood", "'good'", "good"),
        ("short", "'d'", "d"),
        ("boolean", "true", "true"),
    ]
    .into_iter()
    .enumerate()
    {
        if n == 0 {
            db.run(
                "CREATE TYPE mood AS ENUM ('good'); CREATE DOMAIN short AS text CHECK (length(value) < 9)",
            )
            .await?;
        }
        db.run(&format!(
            "CREATE TABLE t{n} (id int PRIMARY KEY, m {kind}); SELECT rowcast.watch('t{n}', 'm')"
        ))
        .await?;
        let events = db.events_of(&format!("INSERT INTO t{n} VALUES (1, {value})")).await?;
        assert_eq!(events.iter().map(|event| event.room.as_str()).collect::<Vec<_>>(), [room], "{kind}");
    }
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn null_in_every_column_arrives_as_null(db: Database) -> Result<()> {
    db.run(
        "CREATE TYPE pair AS (a int, b text);
         CREATE TABLE t (id int PRIMARY KEY, m text, n numeric, j json, jb jsonb, a int[], p pair, b bytea, ts timestamptz,
                         u uuid, r int4range, bits bit(3));
         SELECT rowcast.watch('t', 'm')",
    )
    .await?;
    let empty = json!({"id": 1, "m": "a", "n": null, "j": null, "jb": null, "a": null, "p": null, "b": null, "ts": null,
                       "u": null, "r": null, "bits": null});
    assert_eq!(
        db.events_of("INSERT INTO t VALUES (1, 'a')").await?,
        [event("a", "t.created", empty.clone())]
    );
    // From null and back again, in each of them.
    let filled = db
        .events_of(
            r#"UPDATE t SET n = 1.50, j = '{"a" : 1}', jb = '{"a" : 1}', a = '{1,null}', p = '(1,)', b = '\x01', ts = '2026-01-02 03:04:05.678901+00',
                            u = '11111111-1111-1111-1111-111111111111', r = '[1,3)', bits = '101'"#,
        )
        .await?;
    assert_eq!(filled.len(), 1);
    let all = ["n", "j", "jb", "a", "p", "b", "ts", "u", "r", "bits"].map(str::to_owned);
    assert_eq!(filled[0].changed.as_deref(), Some(&all[..]));
    assert_eq!(filled[0].data["p"], json!({"a": 1, "b": null}));
    assert_eq!(filled[0].data["a"], json!([1, null]));
    let emptied = db
        .events_of(
            "UPDATE t SET n = NULL, j = NULL, jb = NULL, a = NULL, p = NULL, b = NULL, ts = NULL, u = NULL, r = NULL, bits = NULL",
        )
        .await?;
    assert_eq!(emptied.len(), 1);
    assert_eq!((emptied[0].changed.as_deref(), &emptied[0].data), (Some(&all[..]), &empty));
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn an_update_of_no_watched_column_is_silent(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text, v text, hidden text);
         SELECT rowcast.watch('t', 'm', columns => '{v}'); INSERT INTO t VALUES (1, 'a', 'x', 'y')",
    )
    .await?;
    assert_eq!(
        db.events_of("UPDATE t SET hidden = 'z'; UPDATE t SET v = v; UPDATE t SET v = 'no' WHERE false")
            .await?,
        []
    );
    let events = db.events_of("UPDATE t SET v = 'w', hidden = 'secret'").await?;
    assert_eq!(events, [updated("a", "t.updated", &["v"], t(1, "a", "w"))]);
    Ok(())
}

async fn a_row_that_moves_is_removed_here_and_arrives_there(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("INSERT INTO t VALUES (1, 'a', 'secret of a'), (2, 'a', 'stays')").await?;
    assert_eq!(
        db.events_of("UPDATE t SET m = CASE id WHEN 1 THEN 'b' ELSE m END, v = 'new'").await?,
        [
            event("a", "t.deleted", t(1, "a", "secret of a")),
            event("b", "t.created", t(1, "b", "new")),
            updated("a", "t.updated", &["v"], t(2, "a", "new")),
        ]
    );
    // Into nobody's hands and back.
    assert_eq!(
        db.events_of("UPDATE t SET m = NULL WHERE id = 1").await?,
        [event("b", "t.deleted", t(1, "b", "new"))]
    );
    assert_eq!(
        db.events_of("UPDATE t SET m = 'c' WHERE id = 1").await?,
        [event("c", "t.created", t(1, "c", "new"))]
    );
    Ok(())
}

async fn moving_every_key_by_one_pairs_the_right_rows(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("INSERT INTO t SELECT n, 'a', 'v' || n FROM generate_series(300, 1, -1) AS n").await?;
    let events = db.events_of("UPDATE t SET id = id + 1").await?;
    let (removed, arrived) = events.split_at(300);
    assert!(removed.iter().all(|event| event.type_ == "t.deleted"), "all removals come first");
    for (old, new) in removed.iter().zip(arrived) {
        assert_eq!(new.type_, "t.created");
        assert_eq!(old.data["v"], new.data["v"]);
        assert_eq!(old.data["id"].as_i64().map(|id| id + 1), new.data["id"].as_i64());
    }
    Ok(())
}

async fn changes_of_one_row_in_a_transaction_keep_their_order(db: Database) -> Result<()> {
    db.run(T).await?;
    let events = db
        .events_of(
            "BEGIN; INSERT INTO t VALUES (1, 'a', '1'); UPDATE t SET v = '2'; UPDATE t SET m = 'b', v = '3'; DELETE FROM t;
             INSERT INTO t VALUES (1, 'b', '4'); COMMIT",
        )
        .await?;
    assert_eq!(
        events,
        [
            event("a", "t.created", t(1, "a", "1")),
            updated("a", "t.updated", &["v"], t(1, "a", "2")),
            event("a", "t.deleted", t(1, "a", "2")),
            event("b", "t.created", t(1, "b", "3")),
            event("b", "t.deleted", t(1, "b", "3")),
            event("b", "t.created", t(1, "b", "4")),
        ]
    );
    Ok(())
}

async fn a_row_that_returns_to_what_it_was_is_told_each_time(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("INSERT INTO t VALUES (1, 'a', 'x')").await?;
    let events = db.events_of("BEGIN; UPDATE t SET v = 'y'; UPDATE t SET v = 'x'; COMMIT").await?;
    let change = |v: &str| updated("a", "t.updated", &["v"], t(1, "a", v));
    assert_eq!(events, [change("y"), change("x")]);
    Ok(())
}

async fn delete_sends_the_old_columns(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, NULL, 'z')").await?;
    assert_eq!(
        db.events_of("DELETE FROM t").await?,
        [event("a", "t.deleted", t(1, "a", "x")), event("b", "t.deleted", t(2, "b", "y"))]
    );
    assert_eq!(db.events_of("DELETE FROM t").await?, []);
    Ok(())
}

async fn truncate_asks_for_a_new_generation_and_sends_nothing(db: Database) -> Result<()> {
    db.run(T).await?;
    db.run("INSERT INTO t VALUES (1, 'a', 'x')").await?;
    assert_eq!(db.events_of("BEGIN; TRUNCATE t; ROLLBACK").await?, []);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.raise_request").await?, 0);
    assert_eq!(db.events_of("TRUNCATE t").await?, []);
    assert_eq!(
        db.number("SELECT count(*) FROM rowcast.raise_request WHERE cause = 'TRUNCATE of public.t'").await?,
        1
    );
    // Of a table that refers to it, too.
    db.run(
        "CREATE TABLE child (id int PRIMARY KEY REFERENCES t); CREATE TABLE owner (id int PRIMARY KEY);
            ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES owner; TRUNCATE owner CASCADE",
    )
    .await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.raise_request").await?, 2);
    Ok(())
}

async fn copy_is_an_insert_like_any_other(db: Database) -> Result<()> {
    use futures_util::SinkExt;

    db.run(T).await?;
    let mut sink = std::pin::pin!(db.client.copy_in::<_, &'static [u8]>("COPY t FROM STDIN").await?);
    sink.send(b"1\ta\tx\n2\tb\ty\n").await?;
    assert_eq!(sink.finish().await?, 2);
    let rooms = db.number("SELECT count(DISTINCT room) FROM rowcast.outbox WHERE type = 't.created'").await?;
    assert_eq!((rooms, db.number("SELECT count(*) FROM rowcast.outbox").await?), (2, 2));
    Ok(())
}

async fn a_row_above_the_limit_is_sent_as_a_reference_by_its_key(db: Database) -> Result<()> {
    db.run("CREATE TABLE t (id int, m text, part text, v text, PRIMARY KEY (part, id)); SELECT rowcast.watch('t', 'm')").await?;
    let reference = json!({"part": "p", "id": 1});
    for v in ["repeat('x', 262144)", "repeat('x', 30000000)"] {
        let events = db.events_of(&format!("DELETE FROM t; INSERT INTO t VALUES (1, 'a', 'p', {v})")).await?;
        let created = events.last().expect("an event");
        assert_eq!(
            (created.type_.as_str(), &created.data, created.truncated),
            ("t.created", &reference, true)
        );
    }
    let mut events = db.events_of("UPDATE t SET v = v || 'y'").await?;
    assert_eq!((events[0].truncated, &events[0].data), (true, &reference));
    assert_eq!(events.remove(0).changed, Some(vec!["v".to_owned()]));
    let events = db.events_of("UPDATE t SET v = 'small'").await?;
    assert_eq!((events[0].truncated, &events[0].data["v"]), (false, &json!("small")));
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn generated_columns_arrive_with_their_values(db: Database) -> Result<()> {
    let virtual_ones = db.number("SELECT current_setting('server_version_num')::bigint").await? >= 180_000;
    let kinds: &[&str] = if virtual_ones { &["STORED", "VIRTUAL"] } else { &["STORED"] };
    for kind in kinds {
        db.run(&format!(
            "DROP TABLE IF EXISTS g; CREATE TABLE g (id int PRIMARY KEY, m text, v int, twice int GENERATED ALWAYS AS (v * 2) {kind});
             SELECT rowcast.watch('g', 'm')"
        ))
        .await?;
        let row = |v: i32| json!({"id": 1, "m": "a", "v": v, "twice": 2 * v});
        assert_eq!(
            db.events_of("INSERT INTO g VALUES (1, 'a', 1)").await?,
            [event("a", "g.created", row(1))],
            "{kind}"
        );
        assert_eq!(
            db.events_of("UPDATE g SET v = 2").await?,
            [updated("a", "g.updated", &["v", "twice"], row(2))],
            "{kind}"
        );
        assert_eq!(db.events_of("DELETE FROM g").await?, [event("a", "g.deleted", row(2))], "{kind}");
    }
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn json_columns_are_compared_by_what_they_hold(db: Database) -> Result<()> {
    db.run(
        r#"CREATE TABLE j (id int PRIMARY KEY, m text, a json, b jsonb, c json[]); SELECT rowcast.watch('j', 'm');
           INSERT INTO j VALUES (1, 'a', '{"x": 1}', '{"x": 1}', ARRAY['{"x": 1}'::json])"#,
    )
    .await?;
    assert_eq!(
        db.events_of(r#"UPDATE j SET a = '{"x": 1}', b = '{"x":1}', c = ARRAY['{"x": 1}'::json]"#).await?,
        [],
        "the same text, the same jsonb"
    );
    let row =
        |a: i32, b: i32, c: i32| json!({"id": 1, "m": "a", "a": {"x": a}, "b": {"x": b}, "c": [{"x": c}]});
    assert_eq!(
        db.events_of(r#"UPDATE j SET a = '{"x": 2}', b = '{"x": 3}', c = ARRAY['{"x": 4}'::json]"#).await?,
        [updated("a", "j.updated", &["a", "b", "c"], row(2, 3, 4))]
    );
    // A merchant inside json text is text, and an odd value does not fail the statement.
    let events = db.events_of(r#"UPDATE j SET a = '"\u0041\ud83e\udd80"'"#).await?;
    assert_eq!(events[0].data["a"], json!("A🦀"));
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn a_change_that_a_collation_calls_equal_is_sent(db: Database) -> Result<()> {
    db.run(
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE c (id text COLLATE nocase PRIMARY KEY, m text COLLATE nocase, v text COLLATE nocase);
         SELECT rowcast.watch('c', 'm'); INSERT INTO c VALUES ('k', 'a', 'x')",
    )
    .await?;
    let row = |id: &str, m: &str, v: &str| json!({"id": id, "m": m, "v": v});
    assert_eq!(
        db.events_of("UPDATE c SET v = 'X'").await?,
        [updated("a", "c.updated", &["v"], row("k", "a", "X"))]
    );
    // Other bytes are another room, and another key for who compares bytes.
    assert_eq!(
        db.events_of("UPDATE c SET m = 'A'").await?,
        [event("a", "c.deleted", row("k", "a", "X")), event("A", "c.created", row("k", "A", "X"))]
    );
    assert_eq!(
        db.events_of("UPDATE c SET id = 'K'").await?,
        [event("A", "c.deleted", row("k", "A", "X")), event("A", "c.created", row("K", "A", "X"))]
    );
    Ok(())
}
