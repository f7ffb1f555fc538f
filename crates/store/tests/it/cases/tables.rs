//! Tables made of tables: partitions and inheritance.

use anyhow::Result;
use serde_json::json;

use crate::database::{Database, event, on_each_version, updated};

on_each_version!(
    partitions_written_to_by_their_own_name_speak_for_their_table,
    a_row_that_moves_between_partitions_is_told_once,
    a_row_that_gets_lost_on_its_way_between_partitions_is_told_as_deleted,
    partitions_of_partitions_and_the_default_one_are_watched,
    a_partition_with_columns_in_another_order_sends_the_same_event,
    a_detached_partition_is_silent_and_its_leaving_is_found,
    foreign_partitions_are_refused,
    a_foreign_partition_attached_later_is_reported_and_unwatching_is_the_way_out,
    a_table_below_a_watched_one_is_not_watched_beside_it,
    children_that_inherit_speak_for_their_parent,
);

const PARTS: &str = "
    CREATE TABLE part (id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
    SELECT rowcast.watch('part', 'm', type => 'p')";

fn row(id: i32, d: i32) -> serde_json::Value {
    json!({"id": id, "m": "a", "d": d})
}

async fn partitions_written_to_by_their_own_name_speak_for_their_table(db: Database) -> Result<()> {
    db.run(PARTS).await?;
    assert_eq!(
        db.events_of(
            "INSERT INTO part VALUES (1, 'a', 1), (2, 'a', 11); INSERT INTO part_1 VALUES (3, 'a', 3)"
        )
        .await?,
        [
            event("a", "p.created", row(1, 1)),
            event("a", "p.created", row(2, 11)),
            event("a", "p.created", row(3, 3))
        ]
    );
    assert_eq!(
        db.events_of("UPDATE part_1 SET d = 4 WHERE id = 3").await?,
        [event("a", "p.deleted", row(3, 3)), event("a", "p.created", row(3, 4))]
    );
    assert_eq!(db.events_of("DELETE FROM part_2").await?, [event("a", "p.deleted", row(2, 11))]);
    db.events_of("TRUNCATE part_1").await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.raise_request").await?, 1);
    Ok(())
}

async fn a_row_that_moves_between_partitions_is_told_once(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE part (id int, m text, d int, v int, PRIMARY KEY (id, d)) PARTITION BY LIST (d);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1); CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2);
         SELECT rowcast.watch('part', 'm'); INSERT INTO part VALUES (1, 'a', 1, 1), (2, 'a', 1, 1), (3, 'a', 2, 1)",
    )
    .await?;
    let row = |id: i32, d: i32, v: i32| json!({"id": id, "m": "a", "d": d, "v": v});
    // A moved row is a deletion here and an insertion there inside one statement, whose counts still agree.
    let events = db.events_of("UPDATE part SET v = 2, d = CASE id WHEN 1 THEN 2 ELSE d END").await?;
    let mut wanted = vec![
        event("a", "part.deleted", row(1, 1, 1)),
        event("a", "part.created", row(1, 2, 2)),
        updated("a", "part.updated", &["v"], row(2, 1, 2)),
        updated("a", "part.updated", &["v"], row(3, 2, 2)),
    ];
    assert_eq!(events[0], wanted[0], "removals come first");
    for event in &events {
        let place = wanted.iter().position(|wanted| wanted == event);
        wanted.remove(place.unwrap_or_else(|| panic!("{event:?} in {events:?}")));
    }
    assert!(wanted.is_empty(), "{wanted:?}");
    Ok(())
}

/// One statement, one row, and yet nothing to pair it with.
async fn a_row_that_gets_lost_on_its_way_between_partitions_is_told_as_deleted(db: Database) -> Result<()> {
    db.run(PARTS).await?;
    db.run(
        "INSERT INTO part VALUES (1, 'a', 1);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER refuse BEFORE INSERT ON part_2 FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await?;
    let events = db.events_of("UPDATE part SET d = 11").await?;
    assert_eq!(events, [event("a", "p.deleted", row(1, 1))]);
    Ok(())
}

async fn partitions_of_partitions_and_the_default_one_are_watched(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE part (id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
         CREATE TABLE rest PARTITION OF part DEFAULT;
         CREATE TABLE low PARTITION OF part FOR VALUES FROM (0) TO (10) PARTITION BY HASH (id, d);
         CREATE TABLE low_0 PARTITION OF low FOR VALUES WITH (MODULUS 1, REMAINDER 0);
         SELECT rowcast.watch('part', 'm', type => 'p')",
    )
    .await?;
    for (table, d) in [("part", 1), ("low", 2), ("low_0", 3), ("part", 99), ("rest", 98)] {
        assert_eq!(
            db.events_of(&format!("INSERT INTO {table} VALUES (1, 'a', {d})")).await?,
            [event("a", "p.created", row(1, d))],
            "{table}"
        );
    }
    Ok(())
}

async fn a_partition_with_columns_in_another_order_sends_the_same_event(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE part (gone int, id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
         ALTER TABLE part DROP COLUMN gone;
         CREATE TABLE other (d int NOT NULL, filler int, m text, id int NOT NULL); ALTER TABLE other DROP COLUMN filler;
         ALTER TABLE part ATTACH PARTITION other FOR VALUES FROM (0) TO (10);
         SELECT rowcast.watch('part', 'm', type => 'p')",
    )
    .await?;
    assert_eq!(
        db.events_of("INSERT INTO part VALUES (1, 'a', 1)").await?,
        [event("a", "p.created", row(1, 1))]
    );
    let direct = db.events_of("INSERT INTO other (id, m, d) VALUES (2, 'a', 2)").await?;
    assert_eq!(direct, [event("a", "p.created", row(2, 2))]);
    let both = db.events_of("DELETE FROM part").await?;
    assert_eq!(both, [event("a", "p.deleted", row(1, 1)), event("a", "p.deleted", row(2, 2))]);
    assert_eq!(db.failures().await?, []);
    Ok(())
}

async fn a_detached_partition_is_silent_and_its_leaving_is_found(db: Database) -> Result<()> {
    db.run(PARTS).await?;
    db.run("INSERT INTO part VALUES (2, 'a', 11); ALTER TABLE part DETACH PARTITION part_2").await?;
    assert_eq!(
        db.events_of("DELETE FROM part_2 WHERE id = 1; UPDATE part_2 SET m = 'b'; TRUNCATE part_2").await?,
        []
    );
    assert_eq!(db.number("SELECT count(*) FROM rowcast.raise_request").await?, 0);
    assert_eq!(db.failures().await?, []);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.drift() WHERE kind = 'detached'").await?, 1);
    // Back again it speaks as before.
    db.run("ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20)").await?;
    assert_eq!(
        db.events_of("INSERT INTO part_2 VALUES (4, 'a', 12)").await?,
        [event("a", "p.created", row(4, 12))]
    );
    Ok(())
}

async fn foreign_partitions_are_refused(db: Database) -> Result<()> {
    db.run(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE TABLE part (id int, m text, d int) PARTITION BY RANGE (d);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
         CREATE FOREIGN TABLE far PARTITION OF part FOR VALUES FROM (10) TO (20) SERVER files OPTIONS (filename '/dev/null')",
    )
    .await?;
    let words = db.refusal("SELECT rowcast.watch('part', 'm')").await;
    assert!(words.contains("its partition public.far is a foreign table"), "{words}");
    let words = db.refusal("SELECT rowcast.watch('far', 'm')").await;
    assert!(words.contains("a foreign table"), "{words}");
    Ok(())
}

/// PostgreSQL does not collect the rows of foreign tables for triggers ("cannot collect transition tuples from child foreign
/// tables"), and refuses the statement. Nothing in a trigger can catch that.
async fn a_foreign_partition_attached_later_is_reported_and_unwatching_is_the_way_out(
    db: Database,
) -> Result<()> {
    db.run(&format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname '{}');
         CREATE USER MAPPING FOR postgres SERVER itself OPTIONS (user 'postgres', password_required 'false');
         CREATE TABLE elsewhere (id int, m text, d int); {PARTS}; ALTER TABLE part DROP CONSTRAINT part_pkey;
         CREATE FOREIGN TABLE far PARTITION OF part FOR VALUES FROM (20) TO (30)
            SERVER itself OPTIONS (table_name 'elsewhere')",
        db.server.port(),
        db.name
    ))
    .await?;
    let found = "SELECT detail FROM rowcast.drift() WHERE kind = 'foreign' AND relation = 'public.far'";
    let detail: String = db.client.query_one(found, &[]).await?.get(0);
    assert!(detail.contains("below public.part") && detail.contains("PostgreSQL refuses"), "{detail}");

    // What stays in the table's own partitions, and what does not go through the table, is as before.
    assert_eq!(
        db.events_of("INSERT INTO part VALUES (1, 'a', 1)").await?,
        [event("a", "p.created", row(1, 1))]
    );
    let own = db.events_of("UPDATE part SET m = 'b' WHERE d = 1; DELETE FROM part WHERE d = 1").await?;
    assert_eq!(own.len(), 3);
    assert_eq!(db.events_of("INSERT INTO far VALUES (2, 'a', 21)").await?, []);
    let refused = ["INSERT INTO part VALUES (3, 'a', 22)", "UPDATE part SET m = 'c'", "DELETE FROM part"];
    for statement in refused {
        let words = db.refusal(statement).await;
        assert!(words.contains("foreign table"), "{statement}: {words}");
    }

    // Mending does not touch it; without the watch every statement works.
    db.run("SELECT rowcast.repair()").await?;
    assert_eq!(db.number(&format!("SELECT count(*) FROM ({found}) AS f")).await?, 1);
    db.run("SELECT rowcast.unwatch('part')").await?;
    for statement in refused {
        db.run(statement).await?;
    }
    Ok(())
}

async fn a_table_below_a_watched_one_is_not_watched_beside_it(db: Database) -> Result<()> {
    db.run(PARTS).await?;
    let words = db.refusal("SELECT rowcast.watch('part_1', 'm')").await;
    assert!(
        words.contains("one is a part of the other") && words.contains("rowcast.unwatch('public.part')"),
        "{words}"
    );
    db.run("SELECT rowcast.unwatch('part'); SELECT rowcast.watch('part_1', 'm')").await?;
    let words = db.refusal("SELECT rowcast.watch('part', 'm')").await;
    assert!(words.contains("one is a part of the other"), "{words}");
    Ok(())
}

async fn children_that_inherit_speak_for_their_parent(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE base (id int PRIMARY KEY, m text); CREATE TABLE more (extra text, PRIMARY KEY (id)) INHERITS (base);
         SELECT rowcast.watch('base', 'm')",
    )
    .await?;
    let row = |id: i32, m: &str| json!({"id": id, "m": m});
    assert_eq!(
        db.events_of("INSERT INTO base VALUES (1, 'a'); INSERT INTO more VALUES (2, 'a', 'hidden')").await?,
        [event("a", "base.created", row(1, "a")), event("a", "base.created", row(2, "a"))]
    );
    assert_eq!(db.events_of("UPDATE more SET extra = 'x'").await?, []);
    assert_eq!(
        db.events_of("UPDATE base SET m = 'b' WHERE id = 2; DELETE FROM base").await?,
        [
            event("a", "base.deleted", row(2, "a")),
            event("b", "base.created", row(2, "b")),
            event("a", "base.deleted", row(1, "a")),
            event("b", "base.deleted", row(2, "b")),
        ]
    );
    Ok(())
}
