//! What changes about a table after it was watched.

use anyhow::Result;
use serde_json::json;

use crate::database::{Database, event, on_each_version};

on_each_version!(
    each_change_of_a_watched_table_is_found_by_its_kind,
    a_partition_attached_later_is_found_and_mended,
    a_new_partition_without_rows_costs_no_resync,
    a_table_with_another_owner_goes_on_and_is_found,
    what_was_restored_from_a_dump_is_found_and_watched_anew,
);

async fn found(db: &Database) -> Result<Vec<String>> {
    let rows = db.client.query("SELECT relation || ' ' || kind FROM rowcast.drift()", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn each_change_of_a_watched_table_is_found_by_its_kind(db: Database) -> Result<()> {
    for (change, kind) in [
        ("SELECT 1", ""),
        ("ALTER TABLE t DISABLE TRIGGER rowcast_update", "trigger_disabled"),
        ("ALTER TABLE t DISABLE TRIGGER ALL", "trigger_disabled"),
        ("ALTER TABLE t ENABLE REPLICA TRIGGER rowcast_update", "trigger_disabled"),
        ("ALTER TABLE t ENABLE ALWAYS TRIGGER rowcast_update", ""),
        ("DROP TRIGGER rowcast_delete ON t", "trigger_missing"),
        ("ALTER TABLE t RENAME COLUMN v TO w", "column_missing column_new"),
        ("ALTER TABLE t DROP COLUMN v", "column_missing"),
        ("ALTER TABLE t ADD COLUMN extra int", "column_new"),
        ("ALTER TABLE t ALTER COLUMN v TYPE numeric", "outdated"),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, v)", "key"),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "key outdated"),
        ("ALTER TABLE t RENAME TO u", "outdated"),
        ("CREATE TABLE below () INHERITS (t)", "partition"),
        ("DROP TABLE t", "dropped"),
    ] {
        db.run("DROP TABLE IF EXISTS t, u CASCADE; DELETE FROM rowcast.watches; CREATE TABLE t (id int PRIMARY KEY, m text, v int); SELECT rowcast.watch('t', 'm')")
            .await?;
        db.run(change).await?;
        let kinds = found(&db).await?;
        let kinds: Vec<_> = kinds.iter().map(|found| found.split(' ').nth(1).unwrap()).collect();
        assert_eq!(kinds.join(" "), kind, "{change}");
    }
    Ok(())
}

async fn a_partition_attached_later_is_found_and_mended(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE part (id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
         SELECT rowcast.watch('part', 'm', type => 'p', operations => '{insert,update}');
         CREATE TABLE later (id int NOT NULL, m text, d int NOT NULL); INSERT INTO later VALUES (1, 'a', 1);
         ALTER TABLE part ATTACH PARTITION later FOR VALUES FROM (0) TO (10)",
    )
    .await?;
    assert_eq!(found(&db).await?, ["public.later partition"]);
    let row = |id: i32| event("a", "p.created", json!({"id": id, "m": "a", "d": id}));
    assert_eq!(
        db.events_of("INSERT INTO part VALUES (2, 'a', 2)").await?,
        [row(2)],
        "through the table as ever"
    );
    assert_eq!(db.number("SELECT rowcast.repair()::bigint").await?, 1);
    assert_eq!(found(&db).await?, Vec::<String>::new());
    assert_eq!(db.events_of("INSERT INTO later VALUES (3, 'a', 3)").await?, [row(3)]);
    assert_eq!(db.events_of("DELETE FROM later").await?, [], "not among the watched operations");
    // What it brought along was never sent.
    let asked = "SELECT count(*) FROM rowcast.raise_request WHERE cause = 'public.later was attached'";
    assert_eq!(db.number(asked).await?, 1);
    db.run("ALTER TABLE part DETACH PARTITION later").await?;
    assert_eq!(found(&db).await?, ["public.later detached"]);
    assert_eq!(db.number("SELECT rowcast.repair()::bigint").await?, 1);
    assert_eq!(found(&db).await?, Vec::<String>::new());
    Ok(())
}

async fn a_new_partition_without_rows_costs_no_resync(db: Database) -> Result<()> {
    db.run(
        "CREATE TABLE part (id int, m text, d int, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
         SELECT rowcast.watch('part', 'm'); CREATE TABLE tomorrow PARTITION OF part FOR VALUES FROM (0) TO (10)",
    )
    .await?;
    assert_eq!(db.number("SELECT rowcast.repair()::bigint").await?, 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.raise_request").await?, 0);
    // One that somebody is writing to waits for the next call, and holds nobody up.
    db.run("CREATE TABLE busy PARTITION OF part FOR VALUES FROM (10) TO (20)").await?;
    let writer = db.another().await?;
    writer.batch_execute("BEGIN; INSERT INTO busy VALUES (1, 'a', 11)").await?;
    assert_eq!(db.number("SELECT rowcast.repair()::bigint").await?, 0);
    writer.batch_execute("COMMIT").await?;
    assert_eq!(db.number("SELECT rowcast.repair()::bigint").await?, 1);
    assert_eq!(db.number("SELECT count(*) FROM rowcast.raise_request").await?, 1);
    Ok(())
}

async fn a_table_with_another_owner_goes_on_and_is_found(db: Database) -> Result<()> {
    let (one, first) = db.role("first", "rowcast_watcher").await?;
    let (two, second) = db.role("second", "rowcast_watcher").await?;
    db.run(&format!("GRANT ALL ON SCHEMA public TO {one}, {two}")).await?;
    first
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, m text); SELECT rowcast.watch('t', 'm')")
        .await?;
    db.run(&format!("ALTER TABLE t OWNER TO {two}")).await?;
    second.batch_execute("INSERT INTO t VALUES (1, 'a')").await?;
    assert_eq!(found(&db).await?, ["public.t owner"]);
    // The new owner watches anew, with functions of its own.
    second.batch_execute("SELECT rowcast.watch('t', 'm'); INSERT INTO t VALUES (2, 'a')").await?;
    assert_eq!(found(&db).await?, Vec::<String>::new());
    assert_eq!(db.number("SELECT count(*) FROM rowcast.outbox").await?, 2);
    // Without the right to append, nothing is sent any more, and the statement goes on.
    db.run(&format!("REVOKE INSERT ON rowcast.append FROM {two}; REVOKE rowcast_watcher FROM {two}")).await?;
    second.batch_execute("INSERT INTO t VALUES (3, 'a')").await?;
    assert_eq!(found(&db).await?, ["public.t rights"]);
    Ok(())
}

async fn what_was_restored_from_a_dump_is_found_and_watched_anew(db: Database) -> Result<()> {
    // What a dump does to oids: the table is another one, the functions' text and names speak of the first.
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text); SELECT rowcast.watch('t', 'm'); ALTER TABLE t RENAME TO old;
         CREATE TABLE t (id int PRIMARY KEY, m text);
         DO $$ DECLARE f record; BEGIN
            FOR f IN SELECT tgname, pg_get_triggerdef(oid) AS def FROM pg_trigger WHERE tgrelid = 'old'::regclass AND tgname LIKE 'rowcast%' LOOP
                EXECUTE replace(f.def, 'public.old', 'public.t'); END LOOP; END $$;
         UPDATE rowcast.watches SET relation = 't'::regclass; DROP TABLE old",
    )
    .await?;
    assert_eq!(
        db.events_of("INSERT INTO t VALUES (1, 'a')").await?,
        [event("a", "t.created", json!({"id": 1, "m": "a"}))]
    );
    assert_eq!(found(&db).await?, ["public.t outdated"]);
    db.run("SELECT rowcast.watch('t', 'm')").await?;
    assert_eq!(found(&db).await?, Vec::<String>::new());
    assert_eq!(db.events_of("INSERT INTO t VALUES (2, 'a')").await?.len(), 1);
    Ok(())
}
