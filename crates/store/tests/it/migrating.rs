//! Migrations.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use rowcast_store::{MigrateOptions, Migration, MigrationState, StoreError, migrations};

use crate::database::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_migrations_at_once_end_well_in_one_database_and_in_several() -> Result<()> {
    let mut databases = Vec::new();
    for n in 0..3 {
        databases.push(Database::empty(&format!("migrating_{n}")).await?);
    }
    let runs = databases.iter().flat_map(|database| (0..4).map(|_| rowcast_store::migrate(&database.url)));
    let reports = try_join_all(runs).await?;
    let version = reports[0].version;
    assert!(version >= 3 && reports.iter().all(|report| report.version == version));
    for of_one in reports.chunks(4) {
        let applied: usize = of_one.iter().map(|report| report.applied.len()).sum();
        assert_eq!(applied, usize::try_from(version)?, "each migration is applied once: {of_one:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_owner_of_the_database_without_superuser_rights_can_migrate_and_watch() -> Result<()> {
    let db = Database::migrated("roles_exist_already").await?;
    db.run("CREATE ROLE plain_owner LOGIN CREATEROLE").await?;
    db.run("CREATE DATABASE plain OWNER plain_owner").await?;
    let url = db.server.url_for("plain_owner", "plain");
    // The roles belong to the cluster and others made them: from PostgreSQL 16 on, membership must be given.
    db.run("GRANT rowcast_writer, rowcast_watcher TO plain_owner WITH ADMIN OPTION").await?;
    rowcast_store::migrate(&url).await?;
    let client = rowcast_sandbox::Connection::open(&url).await?;
    client
        .batch_execute(
            "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, m text);
             SELECT rowcast.watch('app.t', 'm'); INSERT INTO app.t VALUES (1, 'a'); TRUNCATE app.t",
        )
        .await?;
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM rowcast.outbox), (SELECT count(*) FROM rowcast.raise_request),
                    (SELECT count(*) FROM rowcast.trigger_error)",
            &[],
        )
        .await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (1, 1, 0));
    Ok(())
}

/// Patience for a test: as long as it takes, in short attempts.
fn patient() -> MigrateOptions {
    MigrateOptions { lock_timeout: Duration::from_millis(20), retry_for: Duration::from_secs(60) }
}

#[tokio::test]
async fn a_migration_waits_for_a_lock_in_short_attempts_and_says_who_holds_it() -> Result<()> {
    let db = Database::migrated("migrating_locked").await?;
    let blocker = db.another().await?;
    blocker.batch_execute("BEGIN; LOCK TABLE rowcast.schema_history IN ACCESS EXCLUSIVE MODE").await?;
    let pid: i32 = blocker.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let url = db.url.clone();
    let say = move |waiting: &rowcast_store::Waiting| said.send(waiting.to_string()).unwrap();
    let migration = tokio::spawn(async move { rowcast_store::migrate_with(&url, patient(), say).await });
    for _ in 0..2 {
        let waiting = heard.recv().await.context("it waits")?;
        for expected in [
            &format!("process {pid}"),
            "AccessExclusiveLock on rowcast.schema_history",
            "the next attempt is in",
        ] {
            assert!(waiting.contains(expected), "{expected}: {waiting}");
        }
    }
    blocker.batch_execute("COMMIT").await?;
    let report = migration.await??;
    assert!(report.applied.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_migration_that_never_gets_its_lock_gives_up_and_can_be_run_again() -> Result<()> {
    let db = Database::empty("migrating_given_up").await?;
    let blocker = db.another().await?;
    // Not even the schema can be made.
    blocker.batch_execute("BEGIN; CREATE SCHEMA rowcast").await?;
    let options = MigrateOptions { retry_for: Duration::from_millis(250), ..patient() };
    let error = rowcast_store::migrate_with(&db.url, options, |_| {}).await.unwrap_err();
    assert!(matches!(error, StoreError::MigrationLocked { .. }), "{error}");
    assert!(error.to_string().contains("250ms"), "{error}");
    blocker.batch_execute("ROLLBACK").await?;
    assert!(!rowcast_store::migrate(&db.url).await?.applied.is_empty());

    let other = db.another().await?;
    other.batch_execute("SELECT pg_advisory_lock(1919907683, 2)").await?;
    let error = rowcast_store::migrate_with(&db.url, options, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("another `rowcast migrate`"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_schema_of_another_build_is_left_alone_and_the_error_says_what_to_do() -> Result<()> {
    let db = Database::migrated("another_build").await?;
    db.run("UPDATE rowcast.schema_history SET checksum = '1' WHERE version = 1").await?;
    let error = rowcast_store::migrate(&db.url).await.err().context("it is another")?;
    assert!(matches!(error, StoreError::MigrationDiffers(_)), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("V1__schema") && words.contains("drop the schemas"), "{words}");
    Ok(())
}

#[tokio::test]
async fn the_state_of_each_migration_is_known_and_a_trial_keeps_nothing() -> Result<()> {
    let db = Database::empty("migrating_status").await?;
    let states = |all: &[Migration]| all.iter().map(|one| one.state.clone()).collect::<Vec<_>>();
    let before = migrations(&db.url).await?;
    assert!(before.len() >= 3 && states(&before).iter().all(|state| *state == MigrationState::Pending));

    let tried = rowcast_store::try_migrations(&db.url, patient(), |_| {}).await?;
    assert_eq!(tried.len(), before.len());
    assert!(tried[0].0 == "V1__schema" && tried[0].1.contains("CREATE TABLE rowcast.outbox"), "{tried:?}");
    assert_eq!(db.number("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rowcast%'").await?, 0);
    assert_eq!(migrations(&db.url).await?, before);

    rowcast_store::migrate(&db.url).await?;
    assert!(
        states(&migrations(&db.url).await?).iter().all(|state| matches!(state, MigrationState::Applied(_)))
    );
    assert!(rowcast_store::try_migrations(&db.url, patient(), |_| {}).await?.is_empty());

    db.run(
        "UPDATE rowcast.schema_history SET checksum = '1' WHERE version = 1;
         INSERT INTO rowcast.schema_history SELECT 9999, 'from_the_future', applied_on, '1' FROM rowcast.schema_history LIMIT 1",
    )
    .await?;
    let after = states(&migrations(&db.url).await?);
    assert!(matches!(after.first(), Some(MigrationState::Different(_))), "{after:?}");
    assert!(matches!(after.last(), Some(MigrationState::Unknown(_))), "{after:?}");
    Ok(())
}
