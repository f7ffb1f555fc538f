//! PostgreSQL with a standby, and what is made of its copies.

use anyhow::Result;
use rowcast_sandbox::{Folder, Postgres, PostgresOptions, Signal};

async fn number(postgres: &Postgres, sql: &str) -> Result<i64> {
    Ok(postgres.connect("postgres").await?.query_one(sql, &[]).await?.get(0))
}

async fn run(postgres: &Postgres, sql: &str) -> Result<()> {
    Ok(postgres.connect("postgres").await?.batch_execute(sql).await?)
}

const TIMELINE: &str = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint";

#[tokio::test]
async fn a_synchronous_standby_has_all_that_was_committed_and_goes_on_when_it_is_promoted() -> Result<()> {
    let options = PostgresOptions { password: Some("secret".to_owned()), ..Default::default() };
    let primary = Postgres::start(options).await?;
    run(&primary, "CREATE TABLE t (n bigint)").await?;
    let standby = primary.standby("second").await?;
    assert_ne!((standby.port(), standby.folder()), (primary.port(), primary.folder()));
    primary.wait_for_standby(Some("second")).await?;
    run(&primary, "INSERT INTO t SELECT generate_series(1, 100)").await?;
    assert!(run(&standby, "INSERT INTO t VALUES (0)").await.is_err(), "a standby takes no writes");
    primary.kill(Signal::KILL).await?;

    standby.promote().await?;
    assert_eq!(number(&standby, "SELECT count(*) FROM t").await?, 100);
    // It waits for nobody, though its primary did.
    run(&standby, "INSERT INTO t VALUES (101)").await?;
    assert_eq!(number(&standby, TIMELINE).await?, 2);
    let third = standby.standby("third").await?;
    standby.caught_up(&third).await?;
    assert_eq!(number(&third, "SELECT count(*) FROM t").await?, 101);
    Ok(())
}

#[tokio::test]
async fn a_standby_that_is_cut_off_lacks_what_came_later_and_an_old_primary_can_follow() -> Result<()> {
    let mut first = Postgres::start(PostgresOptions::default()).await?;
    run(&first, "CREATE TABLE t AS SELECT 1::bigint AS n").await?;
    let second = first.standby("second").await?;
    first.caught_up(&second).await?;
    first.stop().await?;
    second.promote().await?;
    run(&second, "INSERT INTO t VALUES (2)").await?;
    let port = first.port();
    first.follow(&second, "first").await?;
    assert_eq!(first.port(), port);
    second.caught_up(&first).await?;
    assert_eq!(number(&first, "SELECT count(*) FROM t").await?, 2);

    first.cut_off().await?;
    run(&second, "INSERT INTO t VALUES (3)").await?;
    second.kill(Signal::KILL).await?;
    first.promote().await?;
    assert_eq!(number(&first, "SELECT count(*) FROM t").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_backup_is_restored_to_a_point_in_time_and_a_dump_into_another_server() -> Result<()> {
    let source = Postgres::start(PostgresOptions::default()).await?;
    run(&source, "CREATE TABLE t AS SELECT 1::bigint AS n").await?;
    let backup = source.back_up().await?;
    run(&source, "INSERT INTO t VALUES (2)").await?;
    run(&source, "SELECT pg_create_restore_point('before')").await?;
    run(&source, "INSERT INTO t VALUES (3); SELECT pg_switch_wal()").await?;
    let restored = backup.restore(("recovery_target_name", "before")).await?;
    assert_eq!(number(&restored, "SELECT max(n) FROM t").await?, 2);
    assert_eq!(number(&restored, TIMELINE).await?, 2);
    run(&restored, "INSERT INTO t VALUES (4)").await?;

    let folder = Folder::new("dump")?;
    let file = folder.path().join("dump.sql");
    source.dump("postgres", &file).await?;
    restored.create_database("copy").await?;
    restored.load("copy", &file).await?;
    let copy = restored.connect("copy").await?;
    assert_eq!(copy.query_one("SELECT max(n) FROM t", &[]).await?.get::<_, i64>(0), 3);
    let error = restored.load("copy", &file).await.expect_err("the table is there");
    assert!(format!("{error:#}").contains("already exists"), "{error:#}");
    Ok(())
}
