//! PostgreSQL of one's own.

use std::time::Duration;

use anyhow::Result;
use rowcast_sandbox::{Folder, Postgres, PostgresOptions, Signal, wait_until};

const SOON: Duration = Duration::from_secs(10);

async fn number(postgres: &Postgres, sql: &str) -> Result<i64> {
    Ok(postgres.connect("postgres").await?.query_one(sql, &[]).await?.get(0))
}

#[tokio::test]
async fn it_answers_and_its_pid_is_the_postmaster() -> Result<()> {
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    assert_eq!(number(&postgres, "SELECT 41::bigint + 1").await?, 42);
    let pid_file = std::fs::read_to_string(postgres.folder().join("data/postmaster.pid"))?;
    assert_eq!(pid_file.lines().next(), Some(postgres.pid().to_string().as_str()));
    postgres.stop().await?;
    assert!(postgres.connect("postgres").await.is_err());
    Ok(())
}

#[tokio::test]
async fn what_is_committed_survives_a_kill_and_a_restart_on_the_same_port() -> Result<()> {
    let mut postgres = Postgres::start(PostgresOptions::default()).await?;
    postgres.connect("postgres").await?.batch_execute("CREATE TABLE t AS SELECT 7::bigint AS n").await?;
    let (port, pid) = (postgres.port(), postgres.pid());
    for signal in [Signal::KILL, Signal::QUIT] {
        postgres.kill(signal).await?;
        postgres.restart().await?;
        assert_eq!(number(&postgres, "SELECT n FROM t").await?, 7);
    }
    assert_eq!(postgres.port(), port);
    assert_ne!(postgres.pid(), pid);
    Ok(())
}

#[tokio::test]
async fn two_at_once_do_not_meet() -> Result<()> {
    let start = || Postgres::start(PostgresOptions::default());
    let (one, two) = tokio::try_join!(start(), start())?;
    assert_ne!(one.port(), two.port());
    one.create_database("only here").await?;
    let count = "SELECT count(*) FROM pg_database WHERE datname = 'only here'";
    assert_eq!((number(&one, count).await?, number(&two, count).await?), (1, 0));
    Ok(())
}

#[tokio::test]
async fn settings_and_a_password_are_taken() -> Result<()> {
    let options =
        PostgresOptions { password: Some("secret".to_owned()), durable: true, ..Default::default() };
    let postgres = Postgres::start(options.with("max_prepared_transactions", "7")).await?;
    let connection = postgres.connect("postgres").await?;
    for (name, expected) in
        [("max_prepared_transactions", "7"), ("fsync", "on"), ("synchronous_commit", "on")]
    {
        let row = connection.query_one("SELECT current_setting($1)", &[&name]).await?;
        assert_eq!(row.get::<_, &str>(0), expected, "{name}");
    }
    let without =
        tokio_postgres::connect(&postgres.url_for("postgres", "postgres"), tokio_postgres::NoTls).await;
    assert!(without.is_err());
    Ok(())
}

#[tokio::test]
async fn its_folder_is_taken_up_again_though_the_way_to_it_is_closed_to_others() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("closed")?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))?;
    let options = PostgresOptions { folder: Some(folder.path().join("a/b")), ..Default::default() };
    let first = Postgres::start(options.clone()).await?;
    first.create_database("kept").await?;
    drop(first);
    let second = Postgres::start(options).await?;
    second.connect("kept").await?;
    Ok(())
}

#[tokio::test]
async fn a_failed_start_says_why() -> Result<()> {
    let options = PostgresOptions::default().with("no_such_setting", "1");
    let error = Postgres::start(options).await.expect_err("there is no such setting");
    assert!(
        format!("{error:#}").contains("unrecognized configuration parameter \"no_such_setting\""),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_an_error_when_it_was_asked_for() -> Result<()> {
    let one = Postgres::start(PostgresOptions::default()).await?;
    let options = PostgresOptions { port: Some(one.port()), ..Default::default() };
    let error = Postgres::start(options).await.expect_err("the port is taken");
    assert!(rowcast_sandbox::says_address_in_use(&error), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn a_panic_ends_it() -> Result<()> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let panicking = tokio::spawn(async move {
        let postgres = Postgres::start(PostgresOptions::default()).await.expect("it starts");
        tell.send((postgres.pid(), postgres.folder().to_owned())).expect("the test waits");
        panic!("as a failing test would");
    });
    assert!(panicking.await.expect_err("it panicked").is_panic());
    let (pid, folder) = told.recv()?;
    wait_until("the end of a panicked test's server", SOON, || async { !rustix_alive(pid) }).await?;
    // Kept for whoever wants to know why, and marked so that it goes away some day.
    assert!(folder.join(".kept").exists());
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[tokio::test]
async fn the_shared_one_is_the_same_for_all() -> Result<()> {
    let (one, two) = tokio::try_join!(Postgres::shared(), Postgres::shared())?;
    assert_eq!(one.pid(), two.pid());
    let (a, b) = tokio::try_join!(one.create_database("a"), two.create_database("b"))?;
    assert_ne!(a, b);
    Ok(())
}

fn rustix_alive(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid.try_into().expect("positive")).expect("not zero");
    rustix::process::test_kill_process(pid).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_nobody_waits_for_ends_initdb() -> Result<()> {
    let folder = Folder::new("postgres")?;
    let place = folder.path().join("place");
    let options = PostgresOptions {
        folder: Some(place.clone()),
        // With a password the data folder is made anew, and not copied.
        password: Some("secret".to_owned()),
        ..Default::default()
    };
    let starting = tokio::spawn(Postgres::start(options.clone()));
    wait_until("initdb's start", SOON, || async { place.join("initdb.log").exists() }).await?;
    starting.abort();
    assert!(starting.await.is_err_and(|error| error.is_cancelled()));
    wait_until("initdb's end", SOON, || async { !place.join(".password").exists() }).await?;
    assert!(!place.join("data").exists(), "initdb was left to finish");
    // The half that it left is not in the way.
    let postgres = Postgres::start(options).await?;
    assert_eq!(number(&postgres, "SELECT 1::bigint").await?, 1);
    Ok(())
}

#[tokio::test]
async fn each_major_version_has_one_shared_server() -> Result<()> {
    let mut versions: Vec<u32> =
        (14..18).filter(|major| rowcast_sandbox::find_postgres(Some(*major)).is_ok()).collect();
    match (rowcast_sandbox::find_postgres(Some(18)), rowcast_sandbox::postgres_unavailable(18)) {
        (Ok(_), _) => versions.push(18),
        (Err(_), Some(reason)) => eprintln!("SKIPPED on PostgreSQL 18: {reason}"),
        (Err(missing), None) => return Err(missing.into()),
    }
    for version in versions {
        let server = Postgres::shared_of(version).await?;
        assert_eq!(server.port(), Postgres::shared_of(version).await?.port());
        let number = number(server, "SELECT current_setting('server_version_num')::bigint / 10000").await?;
        assert_eq!(number, i64::from(version));
    }
    Ok(())
}
