//! Columns and keys of every kind of type: a change is seen in each, and nothing else.

use anyhow::Result;
use serde_json::json;

use crate::database::{Database, event, on_each_version, updated};

on_each_version!(
    a_change_is_seen_in_a_column_of_each_type,
    a_key_of_each_type_tells_rows_apart,
    numbers_and_times_without_end_arrive_as_text,
    a_domain_that_allows_no_null_may_be_watched,
    a_table_that_is_renamed_or_moved_goes_on,
);

/// Type, one value, another.
const TYPES: [(&str, &str, &str); 44] = [
    ("smallint", "1", "2"),
    ("bigint", "9007199254740993", "9007199254740992"),
    ("numeric", "1.0", "1.00"),
    ("real", "'0'", "'-0'"),
    ("double precision", "'NaN'", "'Infinity'"),
    ("money", "1", "2"),
    ("boolean", "true", "false"),
    ("\"char\"", "'a'", "'b'"),
    ("char(5)", "'a'", "'b'"),
    ("varchar(5)", "'a'", "'a '"),
    ("name", "'a'", "'b'"),
    ("text COLLATE \"C\"", "'a'", "'A'"),
    ("bytea", "'\\x00'", "'\\x0000'"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"),
    ("date", "'infinity'", "'-infinity'"),
    ("time", "'00:00'", "'24:00'"),
    ("timetz", "'00:00+01'", "'00:00+02'"),
    ("timestamp", "'2026-01-01'", "'2026-01-01 00:00:00.000001'"),
    ("timestamptz", "'2026-01-01 00:00+00'", "'2026-01-01 00:00:00.000001+00'"),
    ("interval", "'30 days'", "'1 month'"),
    ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ("jsonb", "'{\"a\":1}'", "'{\"a\":2}'"),
    ("jsonpath", "'$.a'", "'$.b'"),
    ("xml", "'<a/>'", "'<b/>'"),
    ("point", "'(1,1)'", "'(1,2)'"),
    ("box", "'(0,0),(1,1)'", "'(5,5),(6,6)'"),
    ("circle", "'<(0,0),1>'", "'<(5,5),1>'"),
    ("polygon", "'((0,0),(1,1),(1,0))'", "'((5,5),(6,6),(6,5))'"),
    ("path", "'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
    ("line", "'{1,2,3}'", "'{1,2,4}'"),
    ("inet", "'10.0.0.1'", "'10.0.0.1/24'"),
    ("cidr", "'10.0.0.0/24'", "'10.0.0.0/25'"),
    ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    ("bit(3)", "'101'", "'100'"),
    ("varbit", "'1'", "'10'"),
    ("tsvector", "'a'", "'b'"),
    ("tsquery", "'a'", "'b'"),
    ("int4range", "'[1,2)'", "'[1,3)'"),
    ("tstzmultirange", "'{}'", "'{[2026-01-01 00:00+00,)}'"),
    ("int[]", "'{1,NULL}'", "'{1}'"),
    ("text[]", "'{{a},{b}}'", "'{a,b}'"),
    ("mood", "'good'", "'bad'"),
    ("pair", "'(1,a)'", "'(1,)'"),
    ("regclass", "'pg_class'", "'pg_type'"),
];

const MADE: &str = "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE pair AS (n int, j text)";

async fn a_change_is_seen_in_a_column_of_each_type(db: Database) -> Result<()> {
    let columns: Vec<String> =
        TYPES.iter().enumerate().map(|(n, (type_, one, _))| format!("c{n} {type_} DEFAULT {one}")).collect();
    db.run(&format!(
        "{MADE}; CREATE TABLE t (id int PRIMARY KEY, m text, {}); SELECT rowcast.watch('t', 'm')",
        columns.join(", ")
    ))
    .await?;
    db.run("INSERT INTO t (id, m) VALUES (1, 'a'), (2, 'a')").await?;
    for (n, (type_, _, two)) in TYPES.iter().enumerate() {
        for (rows, condition) in [(1, "WHERE id = 1"), (2, "")] {
            let set = |value: &str| format!("UPDATE t SET c{n} = {value} {condition}");
            db.run(&set("DEFAULT")).await?;
            assert_eq!(db.events_of(&set("DEFAULT")).await?, [], "{type_}: as it was");
            let events = db.events_of(&set(two)).await?;
            assert_eq!(events.len(), rows, "{type_}");
            for event in events {
                assert_eq!(event.changed, Some(vec![format!("c{n}")]), "{type_}");
            }
            let events = db.events_of(&set("NULL")).await?;
            assert!(events.len() == rows && events[0].data[format!("c{n}")].is_null(), "{type_}");
        }
    }
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn a_key_of_each_type_tells_rows_apart(db: Database) -> Result<()> {
    db.run(&format!(
        "{MADE}; CREATE COLLATION anyhow (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    ))
    .await?;
    for (n, (type_, one, two)) in [
        ("numeric", "1.5", "2"),
        ("double precision", "'NaN'", "0"),
        ("bytea", "'\\x00'", "'\\x01'"),
        ("timestamptz", "'infinity'", "'2026-01-01 00:00+00'"),
        ("text COLLATE anyhow", "'a'", "'b'"),
        ("jsonb", "'{}'", "'[]'"),
        ("int[]", "'{1}'", "'{}'"),
        ("int4range", "'[1,2)'", "'empty'"),
        ("mood", "'good'", "'bad'"),
        ("pair", "'(1,a)'", "'(1,b)'"),
        ("inet", "'10.0.0.1'", "'10.0.0.1/24'"),
        ("interval", "'1 day'", "'1 hour'"),
        ("boolean", "true", "false"),
    ]
    .into_iter()
    .enumerate()
    {
        db.run(&format!(
            "CREATE TABLE k{n} (k {type_} PRIMARY KEY, m text, v int); SELECT rowcast.watch('k{n}', 'm', type => 'k');
             CREATE FUNCTION bump{n}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                UPDATE k{n} SET v = 9 WHERE k = new.k AND v = 0; RETURN NULL; END $$;
             CREATE TRIGGER bump AFTER INSERT ON k{n} FOR EACH ROW EXECUTE FUNCTION bump{n}()"
        ))
        .await?;
        let kinds = async |sql: &str| {
            let events = db.events_of(sql).await?;
            anyhow::Ok(events.iter().map(|event| event.type_.clone()).collect::<Vec<_>>())
        };
        let insert = format!("INSERT INTO k{n} VALUES ({one}, 'a', 1)");
        assert_eq!(kinds(&insert).await?, ["k.created"], "{type_}");
        assert_eq!(kinds(&format!("UPDATE k{n} SET v = 2")).await?, ["k.updated"], "{type_}");
        let moves = kinds(&format!("UPDATE k{n} SET k = {two}")).await?;
        assert_eq!(moves, ["k.deleted", "k.created"], "{type_}");
        // Read again by its key, because a write was nested.
        let events =
            db.events_of(&format!("DELETE FROM k{n}; INSERT INTO k{n} VALUES ({one}, 'a', 0)")).await?;
        assert_eq!(events.last().map(|event| &event.data["v"]), Some(&json!(9)), "{type_}");
    }
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn numbers_and_times_without_end_arrive_as_text(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text, a float8, b numeric, c timestamptz, d date, e timestamptz);
         SELECT rowcast.watch('t', 'm')",
    )
    .await?;
    let insert = "SET timezone = 'UTC'; INSERT INTO t VALUES
        (1, 'a', '-Infinity', 'NaN', 'infinity', '-infinity', '0044-03-15 12:00+00 BC')";
    let row = json!({
        "id": 1, "m": "a", "a": "-Infinity", "b": "NaN", "c": "infinity", "d": "-infinity",
        "e": "0044-03-15T12:00:00+00:00 BC"
    });
    assert_eq!(db.events_of(insert).await?, [event("a", "t.created", row)]);
    Ok(())
}

async fn a_domain_that_allows_no_null_may_be_watched(db: Database) -> Result<()> {
    db.run(
        "CREATE DOMAIN never AS int NOT NULL CHECK (value > 0); CREATE DOMAIN code AS text CHECK (value <> '');
         CREATE TABLE t (id never PRIMARY KEY, m code, v never);
         CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            DELETE FROM t WHERE id = new.id AND v = 13; RETURN NULL; END $$;
         CREATE TRIGGER gone AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION gone();
         SELECT rowcast.watch('t', 'm')",
    )
    .await?;
    let row = |v: i32| json!({"id": 1, "m": "a", "v": v});
    assert_eq!(db.events_of("INSERT INTO t VALUES (1, 'a', 1)").await?, [event("a", "t.created", row(1))]);
    assert_eq!(db.events_of("UPDATE t SET v = 2").await?, [updated("a", "t.updated", &["v"], row(2))]);
    // A row that is read again and gone is all NULL.
    db.run("INSERT INTO t VALUES (2, 'a', 13)").await?;
    assert_eq!(db.events_of("DELETE FROM t").await?, [event("a", "t.deleted", row(2))]);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn a_table_that_is_renamed_or_moved_goes_on(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text, v int); SELECT rowcast.watch('t', 'm', type => 'x');
         INSERT INTO t VALUES (1, 'a', 1); CREATE SCHEMA other",
    )
    .await?;
    let moves = [
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE u SET SCHEMA other",
        "ALTER SCHEMA other RENAME TO another",
    ];
    for (n, (change, table)) in moves.into_iter().zip(["u", "other.u", "another.u"]).enumerate() {
        db.run(change).await?;
        let row = json!({"id": 1, "m": "a", "v": n + 2});
        assert_eq!(
            db.events_of(&format!("UPDATE {table} SET v = v + 1")).await?,
            [updated("a", "x.updated", &["v"], row)],
            "{change}"
        );
    }
    db.run("SELECT rowcast.watch('another.u', 'm', type => 'x')").await?;
    assert_eq!(db.events_of("DELETE FROM another.u").await?.len(), 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift()").await?, 0);
    assert_eq!(db.failures().await?, []);
    Ok(())
}
