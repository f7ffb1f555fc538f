//! `rowcast dev` as its users see it: the real command with the real listeners and edges.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rowcast_cli::devfile::DevFile;
use rowcast_sandbox::{Connection, Folder, Signal, http_get, wait_for, wait_until};
use serde_json::Value;
use support::dev::{Dev, SOON, alive, host, live_client, next_number, pids, ps};

#[tokio::test]
async fn dev_json_names_real_servers_that_work_whole_and_come_back_on_the_same_ports() -> Result<()> {
    let place = Folder::new("dev")?;
    // As a mkdtemp of root's: closed to PostgreSQL's user, and the folder itself is not there yet.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700))?;
    let log = place.path().join("log");
    let args = ["--no-demo", "--listeners", "2", "--edges", "2", "--restart-after", "0.2"];
    let running = Dev::spawn(&place.path().join("some/where"), &log, &args)?;
    let dev = running.ready().await?;

    check_fields(&running, &dev)?;
    let database = Connection::open(&dev.database_url).await?;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let row = database.query_one("SELECT current_setting($1)", &[&setting]).await?;
        assert_eq!(row.get::<_, &str>(0), "on", "{setting}");
    }
    let make = "CREATE TABLE public.t (n bigint PRIMARY KEY, m text); SELECT rowcast.watch('public.t', 'm')";
    database.batch_execute(make).await?;
    let mut client = live_client(&dev, &dev.url, "m1").await?;
    database.batch_execute("INSERT INTO t VALUES (1, 'm1')").await?;
    assert_eq!(next_number(&mut client).await?, Some(1));

    an_ended_process_comes_back(&running, &dev).await?;
    // On the same data, and the whole way works again.
    let database = wait_for("PostgreSQL is back", SOON, || Connection::open(&dev.database_url)).await?;
    let mut client = live_client(&dev, &dev.url, "m1").await?;
    let insert = "INSERT INTO t SELECT max(n) + 1, 'm1' FROM t";
    database.batch_execute(insert).await?;
    let arrived = match next_number(&mut client).await? {
        // The leader has found another Redis than the one it knew, and everyone is told once, spread over seconds.
        None => {
            database.batch_execute(insert).await?;
            next_number(&mut client).await?
        }
        delivered => delivered,
    };
    let last = database.query_one("SELECT max(n) FROM t", &[]).await?.get(0);
    assert_eq!(arrived, Some(last));
    running.interrupt().await
}

/// The fields named in the contract and no others; every pid the server itself.
fn check_fields(running: &Dev, dev: &DevFile) -> Result<()> {
    let text: Value = serde_json::from_slice(&fs::read(running.dir.join("dev.json"))?)?;
    let keys =
        |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&text), "database_url edges jwt_secret listeners postgres redis redis_url url");
    assert_eq!(
        (keys(&text["edges"][0]), keys(&text["listeners"][0])),
        ("admin pid url".into(), "admin pid".into())
    );
    assert_eq!((keys(&text["postgres"]), keys(&text["redis"])), ("pid".into(), "pid".into()));
    assert_eq!((dev.edges.len(), dev.listeners.len()), (2, 2));
    let urls = dev.edges.iter().flat_map(|edge| [&edge.url, &edge.admin]);
    for url in urls.chain(dev.listeners.iter().map(|listener| &listener.admin)).chain([&dev.url]) {
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    }
    assert!(dev.database_url.starts_with("postgres://") && dev.database_url.contains("@127.0.0.1:"));
    for (name, pid) in pids(dev) {
        // The kernel keeps 15 characters of a name.
        let command = ps(pid, "comm=");
        assert!(
            name.starts_with(command.rsplit('/').next().expect("a name")) && !command.is_empty(),
            "{command}"
        );
    }
    Ok(())
}

/// Whether it was killed or ended with status 0.
async fn an_ended_process_comes_back(running: &Dev, dev: &DevFile) -> Result<()> {
    let signals = [
        ("rowcast-edge", "KILL"),
        ("rowcast-listener", "TERM"),
        ("postgres", "QUIT"),
        ("redis-server", "TERM"),
    ];
    for (name, signal) in signals {
        let (_, pid) = pids(dev).into_iter().find(|(known, _)| known == name).context("a known server")?;
        let killed = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status()?;
        assert!(killed.success());
    }
    wait_until("four new pids", SOON, || async {
        let Ok(now) = DevFile::read(&running.dir) else { return false };
        pids(&now).iter().zip(pids(dev)).filter(|(now, before)| now.1 != before.1).count() == 4
    })
    .await?;
    let now = DevFile::read(&running.dir)?;
    let addresses = |dev: &DevFile| {
        let admins =
            dev.edges.iter().map(|edge| &edge.admin).chain(dev.listeners.iter().map(|one| &one.admin));
        admins.chain([&dev.url, &dev.redis_url, &dev.database_url]).cloned().collect::<Vec<_>>()
    };
    assert_eq!(addresses(&now), addresses(dev));
    for admin in now.edges.iter().map(|edge| &edge.admin).chain(now.listeners.iter().map(|one| &one.admin)) {
        let ready = || async { http_get(host(admin), "/ready").await.is_ok_and(|(status, _)| status == 200) };
        wait_until(format!("{admin} ready"), SOON, ready).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_demo_ends_by_itself_with_0_when_events_flowed_and_starts_again_on_its_folder() -> Result<()> {
    let place = Folder::new("dev")?;
    let mut secrets = Vec::new();
    for run in 1..=2 {
        let log = place.path().join(format!("log{run}"));
        let demo = Dev::spawn(&place.path().join("dir"), &log, &["--seconds", "4"])?;
        secrets.push(demo.ready().await?.jwt_secret);
        let status = demo.process.wait_exit(SOON).await?;
        let said = demo.process.log_tail(10_000);
        assert_eq!(status.code(), Some(0), "{said}");
        for words in
            ["salon-anna  booking.created B-", "barber-ben  booking.created B-", " ms ", "2 merchants"]
        {
            assert!(said.contains(words), "{words:?} is missing in:\n{said}");
        }
        // What the payload function joins.
        assert!(
            ["Haircut", "Colour", "Beard trim", "Wash"].iter().any(|service| said.contains(service)),
            "{said}"
        );
    }
    assert_eq!(secrets[0], secrets[1], "tokens stay good over a restart");
    Ok(())
}

#[tokio::test]
async fn the_demo_ends_with_1_when_nothing_flowed() -> Result<()> {
    let place = Folder::new("dev")?;
    let args = ["--seconds", "0", "--listeners", "1", "--edges", "1"];
    let demo = Dev::spawn(&place.path().join("dir"), &place.path().join("log"), &args)?;
    assert_eq!(demo.process.wait_exit(SOON).await?.code(), Some(1));
    assert!(demo.process.log_tail(10).contains("no event reached a client"), "{}", demo.process.log_tail(10));
    Ok(())
}

#[tokio::test]
async fn two_run_at_once_but_not_in_one_folder_and_a_killed_one_leaves_nothing_running() -> Result<()> {
    let place = Folder::new("dev")?;
    let spawn = |dir: &str, log: &str| {
        let args = ["--no-demo", "--listeners", "1", "--edges", "1", "--restart-after", "never"];
        Dev::spawn(&place.path().join(dir), &place.path().join(log), &args)
    };
    let (one, two) = (spawn("one", "log1")?, spawn("two", "log2")?);
    let (dev_one, dev_two) = tokio::try_join!(one.ready(), two.ready())?;
    assert_ne!(dev_one.url, dev_two.url);

    let third = spawn("one", "log3")?;
    assert_eq!(third.process.wait_exit(SOON).await?.code(), Some(1));
    assert!(
        third.process.log_tail(5).contains("another `rowcast dev` runs in"),
        "{}",
        third.process.log_tail(5)
    );

    let killed = Command::new("kill").args(["-KILL", &dev_two.edges[0].pid.to_string()]).status()?;
    assert!(killed.success());
    two.says("edge 1 has ended (signal: 9 (SIGKILL)) and is left so").await?;

    two.process.signal(Signal::KILL)?;
    for (name, pid) in pids(&dev_two) {
        wait_until(format!("the end of {name}"), SOON, || async { !alive(pid) }).await?;
    }
    // Its dev.json is still there, and is not taken for the next one's.
    let again = spawn("two", "log4")?;
    again.says("ready: http").await?;
    assert_ne!(again.ready().await?.edges[0].pid, dev_two.edges[0].pid);
    tokio::try_join!(one.interrupt(), again.interrupt())?;
    Ok(())
}

#[tokio::test]
async fn an_interrupt_during_the_start_ends_it_too() -> Result<()> {
    let place = Folder::new("dev")?;
    let dev = Dev::spawn(&place.path().join("dir"), &place.path().join("log"), &["--no-demo"])?;
    dev.says("Redis answers").await?;
    dev.process.signal(Signal::INT)?;
    assert_eq!(dev.process.wait_exit(Duration::from_secs(10)).await?.code(), Some(0));
    assert!(!dev.dir.join("dev.json").exists());
    Ok(())
}
