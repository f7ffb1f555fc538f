//! The durable state, and what a leader's second connection does.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use anyhow::Result;
use rowcast_protocol::{Epoch, Generation};
use rowcast_store::{Cleaner, Election, Identity, Ring, SessionOptions, Standby, StoreError};

use crate::database::{Database, read_all};

/// A leader's life with one row waiting.
pub async fn everything_a_leader_does(url: &str) -> Result<()> {
    let options = SessionOptions::new("test");
    let cleaner = Cleaner::connect(url, &options).await?;
    let identity = cleaner.identity().await?;
    assert!(identity.timeline >= 1 && identity.system_identifier.parse::<u64>()? > 0);
    let before = cleaner.load_state().await?;
    let run_ids = BTreeMap::from([("127.0.0.1:6379".to_owned(), "abc".to_owned())]);
    let generation = cleaner.raise_generation("a test").await?;
    cleaner.record_identity("default", &identity, &run_ids).await?;
    let state = cleaner.load_state().await?;
    assert_eq!(generation.0, before.generation.0 + 1);
    assert_eq!((state.generation, state.last_cause.as_str()), (generation, "a test"));
    assert_eq!((state.installation.as_deref(), state.identity), (Some("default"), Some(identity)));
    assert_eq!(state.redis_run_ids, run_ids);

    let Election::Elected(mut lead) = Standby::connect(url, &options).await?.try_lead().await? else {
        anyhow::bail!("somebody else leads");
    };
    let rows = read_all(&mut lead, 10).await?;
    assert_eq!(rows.len(), 1);
    let backlog = cleaner.backlog().await?;
    assert_eq!(backlog.rows, 1);
    assert!(backlog.oldest_age_micros.is_some_and(|age| age >= 0));
    cleaner.dead_letter(rows[0].key(), "a test").await?;
    cleaner.dead_letter(rows[0].key(), "twice").await?;
    assert_eq!(cleaner.delete(&[rows[0].key()]).await?, 1);
    cleaner.set_floor(lead.complete()).await?;
    assert_eq!(cleaner.settle_raise_requests().await?, None);
    assert_eq!(cleaner.settle_losses().await?, None);
    let epoch = lead.epoch();
    let raised = lead.raise_epoch_above(Epoch(epoch.0 + 100)).await?;
    assert!(raised.0 > epoch.0 + 100);
    assert_eq!(lead.raise_epoch_above(Epoch(1)).await?.0, raised.0 + 1);
    lead.unlock_and_announce().await?;
    cleaner.close().await;
    Ok(())
}

#[tokio::test]
async fn a_leaders_whole_life() -> Result<()> {
    let db = Database::migrated("life").await?;
    assert_eq!(db.number("SELECT generation FROM rowcast.state").await?, 1);
    db.run("SELECT rowcast.publish('a', 'a.b', '1')").await?;
    everything_a_leader_does(&db.url).await?;
    assert_eq!(db.number("SELECT count(*) FROM rowcast.dead_letter").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_truncate_and_a_lost_event_are_told_and_raise_the_generation_once() -> Result<()> {
    let db = Database::migrated("holes").await?;
    db.run("CREATE TABLE t (id int PRIMARY KEY, m text); SELECT rowcast.watch('t', 'm')").await?;
    let mut lead = db.lead().await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    // While the application's transaction is open it holds up nobody.
    let other = db.another().await?;
    other.batch_execute("BEGIN; TRUNCATE t").await?;
    assert!(!lead.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await?.raise_requested);
    assert_eq!(cleaner.raise_generation("meanwhile").await?, Generation(2));
    other.batch_execute("COMMIT").await?;
    assert!(lead.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await?.raise_requested);
    assert_eq!(cleaner.settle_raise_requests().await?, Some(Generation(3)));
    assert_eq!(cleaner.load_state().await?.last_cause, "TRUNCATE of public.t");
    assert_eq!(cleaner.settle_raise_requests().await?, None);

    db.run("ALTER TABLE t RENAME m TO mm; INSERT INTO t VALUES (1, 'a')").await?;
    let page = lead.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await?;
    assert!(!page.raise_requested && page.last_loss_micros.is_some_and(|at| at <= page.server_now_micros));
    assert_eq!(cleaner.settle_losses().await?, Some(Generation(4)));
    assert_eq!(cleaner.settle_losses().await?, None);
    assert_eq!(lead.read(NonZeroUsize::new(10).unwrap(), true, Ring::Leave).await?.last_loss_micros, None);
    Ok(())
}

#[tokio::test]
async fn a_row_that_reuses_a_deleted_ones_id_is_not_deleted_for_it() -> Result<()> {
    let db = Database::migrated("reused_id").await?;
    db.run("SELECT rowcast.publish('a', 'a.b', '1')").await?;
    let mut lead = db.lead().await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    let lost = read_all(&mut lead, 10).await?;
    db.run(
        "DELETE FROM rowcast.outbox; SELECT setval('rowcast.outbox_id_seq', 1, false);
         SELECT rowcast.publish('a', 'a.b', '2')",
    )
    .await?;
    assert_eq!(cleaner.delete(&[lost[0].key()]).await?, 0);
    let next = read_all(&mut lead, 10).await?;
    assert_eq!((next[0].id, next[0].data.as_str()), (lost[0].id, "2"));
    assert_eq!(cleaner.delete(&[next[0].key()]).await?, 1);
    Ok(())
}

#[tokio::test]
async fn rows_of_another_database_are_read_once_after_they_are_adopted() -> Result<()> {
    let db = Database::migrated("adopted").await?;
    db.run(
        "SELECT rowcast.publish('a', 'a.b', '1');
         UPDATE rowcast.outbox SET tx = '9000000000'; UPDATE rowcast.floor SET snapshot = '9000000000:9000000000:', id = 1000",
    )
    .await?;
    let mut cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    assert_eq!(cleaner.adopt_foreign_rows().await?, 1);
    let mut lead = db.lead().await?;
    assert_eq!(read_all(&mut lead, 10).await?.len(), 1);
    db.run("SELECT rowcast.publish('a', 'a.b', '2')").await?;
    let rows = read_all(&mut lead, 10).await?;
    assert_eq!(rows.iter().map(|row| row.data.as_str()).collect::<Vec<_>>(), ["2"]);
    Ok(())
}

#[tokio::test]
async fn a_schema_of_before_the_databases_number_is_read_and_written() -> Result<()> {
    let db = Database::migrated("before_v8").await?;
    db.run("ALTER TABLE rowcast.state DROP COLUMN database_oid; SELECT rowcast.publish('a', 'a.b', '1')")
        .await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    let identity = cleaner.identity().await?;
    cleaner.record_identity("default", &identity, &BTreeMap::new()).await?;
    let recorded = cleaner.load_state().await?.identity;
    assert_eq!(recorded, Some(Identity { database: None, ..identity.clone() }));
    assert!(!identity.is_copy_of(&recorded.expect("some")));
    Ok(())
}

#[tokio::test]
async fn a_dump_beside_its_database_is_told_from_it() -> Result<()> {
    let db = Database::migrated("original").await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    let original = cleaner.identity().await?;
    cleaner.record_identity("default", &original, &BTreeMap::new()).await?;
    cleaner.close().await;
    let file = rowcast_sandbox::Folder::new("dump")?;
    db.server.dump(&db.name, &file.path().join("dump.sql")).await?;
    let url = db.server.create_database(&format!("{}_copy", db.name)).await?;
    db.server.load(&format!("{}_copy", db.name), &file.path().join("dump.sql")).await?;

    let cleaner = Cleaner::connect(&url, &SessionOptions::new("test")).await?;
    let (copy, state) = (cleaner.identity().await?, cleaner.load_state().await?);
    assert_eq!(state.identity.as_ref(), Some(&original), "the copy says that it is the original");
    assert!(copy.is_copy_of(&original) && copy.to_string() != original.to_string());
    assert_eq!((&copy.system_identifier, copy.timeline), (&original.system_identifier, original.timeline));
    Ok(())
}

#[tokio::test]
async fn a_generation_after_a_break_is_above_all_that_were_told() -> Result<()> {
    let db = Database::migrated("leap").await?;
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    let now = db.number("SELECT extract(epoch FROM clock_timestamp())::bigint").await?;
    let raised = cleaner.raise_generation_above_all("a test").await?;
    assert!(i64::try_from(raised.0)? >= now, "{raised}");
    assert_eq!(cleaner.raise_generation("another").await?.0, raised.0 + 1);
    db.run("UPDATE rowcast.state SET generation = generation + 1000000").await?;
    assert_eq!(cleaner.raise_generation_above_all("the clock is behind").await?.0, raised.0 + 1_000_002);
    Ok(())
}

#[tokio::test]
async fn without_the_schema_the_error_says_what_to_do() -> Result<()> {
    let db = Database::empty("unmigrated").await?;
    let standby = db.standby().await?;
    let error = standby.try_lead().await.err().expect("no schema");
    assert!(matches!(error, StoreError::NotMigrated), "{error}");
    let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
    assert!(matches!(cleaner.load_state().await, Err(StoreError::NotMigrated)));
    Ok(())
}
