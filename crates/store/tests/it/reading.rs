//! Reading by snapshot difference, on a real outbox.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use rowcast_store::{Cleaner, Ring, Row, SessionOptions};

use crate::database::{Database, read_all, read_on_to_mark};

const PUBLISH: &str = "SELECT rowcast.publish('a', 'a.b', to_json($1::text))";

fn data(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.data.trim_matches('"')).collect()
}

#[tokio::test]
async fn late_commits_are_delivered_exactly_once() -> Result<()> {
    let db = Database::migrated("late").await?;
    let mut lead = db.lead().await?;
    let late = db.another().await?;
    late.batch_execute("BEGIN").await?;
    late.execute(PUBLISH, &[&"late"]).await?;
    db.client.execute(PUBLISH, &[&"early"]).await?;
    let first = read_all(&mut lead, 10).await?;
    assert_eq!(data(&first), ["early"]);
    assert!(read_all(&mut lead, 10).await?.is_empty());
    late.batch_execute("COMMIT").await?;
    let second = read_all(&mut lead, 10).await?;
    assert_eq!(data(&second), ["late"]);
    assert!(second[0].id < first[0].id, "its id was given out before");
    assert!(read_all(&mut lead, 10).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_backlog_is_read_in_pages_by_id_without_what_commits_meanwhile() -> Result<()> {
    let db = Database::migrated("paging").await?;
    let late = db.another().await?;
    late.batch_execute("BEGIN").await?;
    late.execute(PUBLISH, &[&"late"]).await?;
    db.run("SELECT rowcast.publish('a', 'a.b', to_json(n::text)) FROM generate_series(1, 1000) AS n").await?;
    let mut lead = db.lead().await?;
    let mut rows = lead.read(NonZeroUsize::new(100).unwrap(), true, Ring::Leave).await?.rows;
    rows.extend(lead.read(NonZeroUsize::new(100).unwrap(), true, Ring::Leave).await?.rows);
    // Both are before the page that comes next, or in it, by their ids; neither was there when reading began.
    late.batch_execute("COMMIT").await?;
    db.client.execute(PUBLISH, &[&"new"]).await?;
    loop {
        let page = lead.read(NonZeroUsize::new(100).unwrap(), true, Ring::Leave).await?;
        rows.extend(page.rows);
        if !page.more {
            break;
        }
    }
    assert_eq!(rows.len(), 1000);
    assert!(rows.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(data(&read_all(&mut lead, 100).await?), ["late", "new"]);
    Ok(())
}

/// An outbox that was emptied by hand gives out its ids once more.
#[tokio::test]
async fn a_new_leader_finds_rows_whose_ids_began_anew() -> Result<()> {
    let db = Database::migrated("anew").await?;
    let many = "SELECT rowcast.publish('a', 'a.b', to_json(n::text)) FROM generate_series(1, 300) AS n";
    db.run(many).await?;
    let mut lead = db.lead().await?;
    assert_eq!(read_all(&mut lead, 100).await?.len(), 300);
    read_on_to_mark(&mut lead, 300).await?;
    let floor = lead.complete().clone();
    lead.unlock_and_announce().await?;
    db.run("TRUNCATE rowcast.outbox RESTART IDENTITY").await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    cleaner.set_floor(&floor).await?;
    db.run(many).await?;
    db.run(many).await?;
    let mut lead = db.lead().await?;
    assert_eq!(read_all(&mut lead, 100).await?.len(), 600);
    Ok(())
}

/// A statement of many rows of one room ends while other rooms' transactions go on.
#[tokio::test]
async fn a_room_that_is_read_apart_holds_up_no_other_and_keeps_its_order() -> Result<()> {
    const LARGE: usize = 5_000;
    const LIMIT: usize = 50;
    let db = Database::migrated("apart").await?;
    let mut lead = db.lead().await?;
    read_all(&mut lead, LIMIT).await?;
    let large = db.another().await?;
    // The first half is written before a snapshot that finds it running, the other half after it; others in between.
    let write = |from: usize, to: usize| {
        format!("SELECT rowcast.publish('large', 'a.b', to_json(n)) FROM generate_series({from}, {to}) AS n")
    };
    large.batch_execute(&format!("BEGIN; {}", write(1, LARGE / 2))).await?;
    db.client.execute(PUBLISH, &[&"before"]).await?;
    assert_eq!(data(&read_all(&mut lead, LIMIT).await?), ["before"]);
    db.run("SELECT rowcast.publish('small', 'a.b', to_json(n)) FROM generate_series(1, 10) AS n").await?;
    large.batch_execute(&format!("{}; COMMIT", write(LARGE / 2 + 1, LARGE))).await?;

    let mut rows: HashMap<String, Vec<i64>> = HashMap::new();
    let (mut pages, mut later) = (0, None);
    loop {
        let page = lead.read(NonZeroUsize::new(LIMIT).unwrap(), true, Ring::Leave).await?;
        pages += 1;
        for row in &page.rows {
            rows.entry(row.room.clone()).or_default().push(row.data.parse()?);
        }
        if pages == 3 {
            assert!(page.more && rows["large"].len() < LARGE / 2, "a part has been read");
            lead.set_apart(["large".to_owned()]);
            // What commits from now on is not to wait for the rest.
            db.run(
                "SELECT rowcast.publish('later', 'a.b', '1'); SELECT rowcast.publish('large', 'a.b', '5001')",
            )
            .await?;
        }
        if rows.contains_key("later") && later.is_none() {
            later = Some((pages, rows["large"].len()));
        }
        if !page.more && page.rooms_apart == 0 {
            break;
        }
    }
    assert_eq!(rows["large"], (1..=LARGE as i64 + 1).collect::<Vec<_>>());
    assert_eq!(rows["small"], (1..=10).collect::<Vec<_>>());
    let (at, before) = later.expect("it was read");
    // Ten times as many rows are passed in a page as are returned, and every other page is the large room's.
    assert!(at <= 3 + 2 * (LARGE / (10 * LIMIT) + 3), "{at} pages");
    assert!(before < LARGE / 2, "{before} rows of the large room came before it");
    assert!(pages < 3 * LARGE / LIMIT, "{pages} pages");

    assert_eq!(lead.complete(), lead.seen());
    assert!(read_all(&mut lead, LIMIT).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_new_leader_reads_from_the_floor_what_was_not_deleted() -> Result<()> {
    let db = Database::migrated("floor").await?;
    let open = db.another().await?;
    open.batch_execute("BEGIN").await?;
    open.execute(PUBLISH, &[&"open"]).await?;
    let mut lead = db.lead().await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    db.client.execute(PUBLISH, &[&"1"]).await?;
    let mut rows = read_all(&mut lead, 10).await?;
    let floor = lead.seen().clone();
    for n in ["2", "3"] {
        db.client.execute(PUBLISH, &[&n]).await?;
    }
    rows.extend(read_all(&mut lead, 10).await?);
    assert_eq!(data(&rows), ["1", "2", "3"]);
    cleaner.delete(&[rows[0].key(), rows[2].key()]).await?;
    cleaner.set_floor(&floor).await?;
    open.batch_execute("COMMIT").await?;
    lead.unlock_and_announce().await?;

    let mut next = db.lead().await?;
    assert_eq!(next.seen().snapshot, floor.snapshot);
    let rows = read_all(&mut next, 10).await?;
    assert_eq!(data(&rows), ["open", "2"]);
    cleaner.delete(&rows.iter().map(Row::key).collect::<Vec<_>>()).await?;
    cleaner.set_floor(next.complete()).await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.floor").await?, 1);
    next.unlock_and_announce().await?;
    assert!(read_all(&mut db.lead().await?, 10).await?.is_empty());
    // The first one's, late: true as well.
    cleaner.set_floor(&floor).await?;
    assert!(read_all(&mut db.lead().await?, 10).await?.is_empty());
    Ok(())
}

/// `rowcast.publish` may be the first to write in its transaction. Defaults are evaluated in the order of columns.
#[tokio::test]
async fn a_transaction_has_its_number_before_it_draws_an_id() -> Result<()> {
    let db = Database::migrated("numbers").await?;
    let first = "SELECT (SELECT attnum FROM pg_attribute WHERE attrelid = 'rowcast.outbox'::regclass AND attname = 'id')
        - (SELECT attnum FROM pg_attribute WHERE attrelid = 'rowcast.outbox'::regclass AND attname = 'tx')";
    assert!(db.number(&format!("SELECT ({first})::bigint")).await? > 0);
    Ok(())
}

#[tokio::test]
async fn a_page_tells_the_servers_time_and_everything_about_a_row() -> Result<()> {
    let db = Database::migrated("page").await?;
    let mut lead = db.lead().await?;
    db.run(
        "CREATE TABLE t (id int PRIMARY KEY, m text, v text); SELECT rowcast.watch('t', 'm', type => 'thing');
         INSERT INTO t VALUES (1, 'ü', 'x'); DELETE FROM rowcast.outbox;
         SET rowcast.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'; UPDATE t SET v = 'y'",
    )
    .await?;
    let page = lead.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await?;
    let row = &page.rows[0];
    assert_eq!((row.room.as_str(), row.type_.as_str()), ("ü", "thing.updated"));
    assert_eq!(row.data, r#"{"id":1,"m":"ü","v":"y"}"#);
    assert_eq!(row.changed.as_deref(), Some(&["v".to_owned()][..]));
    assert!(row.traceparent.as_deref().is_some_and(|parent| parent.starts_with("00-0af7")));
    let lag = page.server_now_micros - row.occurred_at_micros;
    assert!((0..60_000_000).contains(&lag), "{lag} µs");
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    assert!((i64::try_from(here.as_micros())? - page.server_now_micros).abs() < 60_000_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_are_read_once_each_and_changes_of_a_row_in_their_order() -> Result<()> {
    let db = Database::migrated("writers").await?;
    db.run(
        "CREATE TABLE counter (id int PRIMARY KEY, m text, n bigint NOT NULL DEFAULT 0);
         SELECT rowcast.watch('counter', 'm');
         INSERT INTO counter SELECT n, 'm' || n FROM generate_series(1, 8) AS n; DELETE FROM rowcast.outbox",
    )
    .await?;
    let mut lead = db.lead().await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6_i32 {
        let client = db.another().await?;
        writers.spawn(async move {
            for round in 0..60_i32 {
                // Ascending ids, so that nothing deadlocks; every fifth transaction changes its mind.
                let (a, b) = ((writer + round) % 4 + 1, (writer * 3 + round) % 4 + 5);
                let end = if round % 5 == 4 { "ROLLBACK" } else { "COMMIT" };
                client
                    .batch_execute(&format!(
                        "BEGIN; UPDATE counter SET n = n + 1 WHERE id = {a};
                         UPDATE counter SET n = n + 1 WHERE id = {b}; {end}"
                    ))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    let mut seen: HashMap<i64, ()> = HashMap::new();
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    let mut finished = false;
    loop {
        let done = writers.is_empty();
        for row in read_all(&mut lead, 7).await? {
            assert!(seen.insert(row.id, ()).is_none(), "row {} came twice", row.id);
            let value: serde_json::Value = serde_json::from_str(&row.data)?;
            let (id, n) = (value["id"].as_i64().unwrap(), value["n"].as_i64().unwrap());
            let before = last.insert(id, n).unwrap_or(0);
            assert_eq!(n, before + 1, "counter {id} went from {before} to {n}");
        }
        if finished {
            break;
        }
        finished = done;
        while let Some(writer) = writers.try_join_next() {
            writer??;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(seen.len(), 6 * 48 * 2);
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_not_utf8_do_not_hold_up_what_follows() -> Result<()> {
    let db = Database::migrated("utf8_beside").await?;
    db.run("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").await?;
    let url = db.server.url_of("ascii");
    rowcast_store::migrate(&url).await?;
    let client = db.server.connect("ascii").await?;
    client
        .batch_execute(
            "SELECT rowcast.publish('a', 'a.b', ('\"' || chr(255) || '\"')::json);
             SELECT rowcast.publish('a', 'a.b', '\"next\"')",
        )
        .await?;
    let standby = rowcast_store::Standby::connect(&url, &SessionOptions::new("test")).await?;
    let rowcast_store::Election::Elected(mut lead) = standby.try_lead().await? else {
        anyhow::bail!("somebody else leads");
    };
    assert_eq!(data(&read_all(&mut lead, 10).await?), ["\u{fffd}", "next"]);
    Ok(())
}
