//! Migrations.

use anyhow::Result;
use futures_util::future::try_join_all;

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
