//! PostgreSQL fails over: to a synchronous standby, to one that lacked something, by an orderly switch. Whoever leads does so at the
//! primary, nothing that survived is lost or doubled, and the generation is above all that were told.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use common::{Listener, PATIENCE, System};
use rowcast_sandbox::{Connection, Persistence, Postgres, PostgresOptions, Signal, wait_for, wait_until};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// From the promotion on, with a listener in line. The promise is 2 s; the rest is for a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(8);
/// Generations after a break are times.
const TIMES: u64 = 1_700_000_000;

/// A system whose PostgreSQL has a standby, with both in the listeners' address, the standby first: it is skipped until it is
/// promoted.
async fn with_standby(synchronous: bool) -> Result<(System, Postgres)> {
    let mut system = System::start().await?;
    system.database.batch_execute("CREATE TABLE sent (room text, n bigint, PRIMARY KEY (room, n))").await?;
    let standby = system.postgres.standby("second").await?;
    system.postgres.caught_up(&standby).await?;
    if synchronous {
        system.postgres.wait_for_standby(Some("second")).await?;
    }
    let (one, two) = (system.postgres.port(), standby.port());
    system.url = system.url.replace(&format!(":{one}/"), &format!(":{two},127.0.0.1:{one}/"));
    Ok((system, standby))
}

/// The standby takes the primary's place; the one that was the primary is given back.
async fn promote(system: &mut System, standby: Postgres) -> Result<Postgres> {
    standby.promote().await?;
    system.database = standby.connect("app").await?;
    Ok(std::mem::replace(&mut system.postgres, standby))
}

async fn sessions(postgres: &Postgres) -> Result<i64> {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rowcast-listener%'";
    Ok(postgres.connect("postgres").await?.query_one(query, &[]).await?.get(0))
}

async fn number(connection: &Connection, query: &str) -> Result<i64> {
    Ok(connection.query_one(query, &[]).await?.get(0))
}

/// Applications that write one event after the other into rooms of their own, and ask the table how far they came when an answer
/// was lost.
struct Applications {
    tasks: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
}

const ROOMS: [&str; 3] = ["room-0", "room-1", "room-2"];

impl Applications {
    fn begin(url: &str) -> Self {
        let (mut tasks, stop) = (JoinSet::new(), watch::Sender::new(false));
        for room in ROOMS {
            let (url, stop) = (format!("{url}?target_session_attrs=read-write"), stop.subscribe());
            tasks.spawn(async move {
                while !*stop.borrow() {
                    // Whatever ends it, the table knows how far it came.
                    let _ = write(&url, room, &stop).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(())
            });
        }
        Self { tasks, stop }
    }

    async fn end(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn write(url: &str, room: &str, stop: &watch::Receiver<bool>) -> Result<()> {
    let connection = Connection::open(url).await?;
    let row =
        connection.query_one("SELECT coalesce(max(n) + 1, 0) FROM sent WHERE room = $1", &[&room]).await?;
    let mut n: i64 = row.get(0);
    while !*stop.borrow() {
        let text = format!(
            "BEGIN; INSERT INTO sent VALUES ('{room}', {n});
             SELECT rowcast.publish('{room}', 'booking.created', '{{\"n\":{n}}}'); COMMIT"
        );
        tokio::time::timeout(PATIENCE, connection.batch_execute(&text)).await??;
        n += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Waits until each room has exactly what its table has, in order.
async fn expect_all_sent(system: &System) -> Result<()> {
    for room in ROOMS {
        let query = format!("SELECT count(*) FROM sent WHERE room = '{room}'");
        let sent = number(&system.database, &query).await?;
        assert!(sent > 20, "{room} has {sent} events");
        system.expect(room, u64::try_from(sent)?).await?;
    }
    Ok(())
}

async fn leads_again(listeners: &[&Listener], since: Instant) -> Result<()> {
    wait_until("one leads", PATIENCE, || async {
        for listener in listeners {
            if listener.leads().await {
                return true;
            }
        }
        false
    })
    .await?;
    let took = since.elapsed();
    eprintln!("a leader {took:?} after the promotion");
    assert!(took < TAKEN_OVER, "it took {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_standby_promoted_under_load_loses_and_doubles_nothing() -> Result<()> {
    let (mut system, standby) = with_standby(true).await?;
    let first = system.listener("first").await?;
    first.expect_leading().await?;
    let second = system.listener("second").await?;
    assert_eq!((sessions(&system.postgres).await? > 0, sessions(&standby).await?), (true, 0));
    let before = system.expect_heartbeat("a heartbeat", |_| true).await?;
    let applications = Applications::begin(&system.url);
    wait_until("a part is published", PATIENCE, || async {
        matches!(system.numbers("room-0").await, Ok(numbers) if numbers.len() > 50)
    })
    .await?;
    system.postgres.kill(Signal::QUIT).await?;
    wait_until("nobody leads without a primary", PATIENCE, || async {
        !first.leads().await && !second.leads().await
    })
    .await?;
    let _old = promote(&mut system, standby).await?;
    leads_again(&[&first, &second], Instant::now()).await?;
    let after =
        system.expect_heartbeat("a heartbeat of the new history", |beat| beat.epoch > before.epoch).await?;
    assert!(after.generation > TIMES.max(before.generation), "{after:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    applications.end().await?;
    expect_all_sent(&system).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_standby_lacks_rows_an_epoch_and_a_generation_and_all_that_survived_is_told()
-> Result<()> {
    let (mut system, standby) = with_standby(false).await?;
    system.publish("m", 0..5).await?;
    let listener = system.listener("first").await?;
    system.expect("m", 5).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    listener.process.stop(Signal::TERM, PATIENCE).await?;
    // Published and deleted when the standby hears nothing any more: there they are as new.
    system.publish("m", 5..10).await?;
    system.postgres.caught_up(&standby).await?;
    standby.cut_off().await?;

    // What a restore would take back: an epoch, a generation that was told, and the numbers of rows.
    system.database.batch_execute("SELECT setval('rowcast.leader_epoch', 5000)").await?;
    let listener = system.listener("second").await?;
    system.database.batch_execute("SELECT rowcast.request_raise('a test')").await?;
    system.publish("m", 10..100).await?;
    system.expect("m", 100).await?;
    let before = system.expect_heartbeat("a raised generation", |beat| beat.generation == 2).await?;
    assert!(before.epoch > 5000);
    let lost = number(&system.database, "SELECT last_value FROM rowcast.outbox_id_seq").await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    system.postgres.kill(Signal::QUIT).await?;

    let _old = promote(&mut system, standby).await?;
    let back = number(&system.database, "SELECT last_value FROM rowcast.outbox_id_seq").await?;
    assert!(back < lost, "numbers of rows are given out again: {back}, {lost}");
    leads_again(&[&listener], Instant::now()).await?;
    system.publish("m", 100..200).await?;
    // Those that came back were published before; those with old numbers are new.
    system.expect("m", 200).await?;
    let after = system.expect_heartbeat("an epoch above", |beat| beat.epoch > before.epoch).await?;
    assert!(after.generation > TIMES.max(before.generation), "{after:?}");
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two switches, each with a shutdown: make test-long"]
async fn an_orderly_switch_and_the_way_back_lead_to_the_primary_each_time() -> Result<()> {
    let (mut system, standby) = with_standby(true).await?;
    let (first, second) = (system.listener("first").await?, system.listener("second").await?);
    let applications = Applications::begin(&system.url);
    let mut told = system.expect_heartbeat("a heartbeat", |_| true).await?.generation;
    let mut next = standby;
    for name in ["back", "forth"] {
        system.postgres.stop().await?;
        let mut old = promote(&mut system, next).await?;
        let since = Instant::now();
        old.follow(&system.postgres, name).await?;
        leads_again(&[&first, &second], since).await?;
        assert_eq!(sessions(&old).await?, 0, "nobody stays at a standby");
        let beat = system.expect_heartbeat("a new history", |beat| beat.generation > told).await?;
        told = beat.generation;
        next = old;
    }
    applications.end().await?;
    expect_all_sent(&system).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_there_is_no_primary_a_listener_waits_and_says_so() -> Result<()> {
    let (mut system, standby) = with_standby(false).await?;
    let listener = system.listener("only").await?;
    system.publish("m", 0..3).await?;
    system.expect("m", 3).await?;
    system.postgres.caught_up(&standby).await?;
    system.postgres.kill(Signal::QUIT).await?;
    let body = wait_for("it is not ready", PATIENCE, || async {
        let (status, body) = rowcast_sandbox::http_get(&listener.admin, "/ready").await?;
        anyhow::ensure!(status == 503 && body.contains("none of the hosts"), "{status} {body}");
        anyhow::Ok(body)
    })
    .await?;
    assert!(body.contains(&format!("127.0.0.1:{}: this PostgreSQL is a standby", standby.port())), "{body}");
    assert!(body.contains(&format!("127.0.0.1:{}: could not connect", system.postgres.port())), "{body}");
    let lost = listener.metric("rowcast_listener_terms_lost_total{reason=\"not_primary\"}").await?;
    assert!(lost >= 1.0 && !listener.leads().await);

    let _old = promote(&mut system, standby).await?;
    leads_again(&[&listener], Instant::now()).await?;
    system.publish("m", 3..6).await?;
    system.expect("m", 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_nobody_stopped_is_left_and_whoever_knows_no_other_is_refused() -> Result<()> {
    let (mut system, standby) = with_standby(false).await?;
    let old_url = system.postgres.url_of("app");
    let (first, second) = (system.listener("first").await?, system.listener("second").await?);
    system.publish("m", 0..5).await?;
    system.expect("m", 5).await?;
    let before = system.expect_heartbeat("a heartbeat", |_| true).await?;
    system.postgres.caught_up(&standby).await?;
    standby.cut_off().await?;
    let old = promote(&mut system, standby).await?;
    // Both listeners are connected to it, and nothing ends that.
    let beat = system.expect_heartbeat("the new history", |beat| beat.generation > TIMES).await?;
    assert!(beat.epoch > before.epoch);
    wait_until("nobody is left there", PATIENCE, || async { matches!(sessions(&old).await, Ok(0)) }).await?;
    system.publish("m", 5..10).await?;
    system.expect("m", 10).await?;

    // One that knows the old one alone holds its lock, and publishes nothing of what goes on there.
    let old_database = old.connect("app").await?;
    common::publish_one(&old_database, "m", 77).await?;
    let lost = system.live_listener("lost", &[("ROWCAST_DATABASE__URL", &old_url)]).await?;
    wait_for("it is refused", PATIENCE, || async {
        let times = lost.metric("rowcast_listener_terms_lost_total{reason=\"replaced\"}").await?;
        anyhow::ensure!(times >= 2.0, "{times} times");
        anyhow::Ok(())
    })
    .await?;
    assert!(std::fs::read_to_string(lost.process.log())?.contains("this PostgreSQL was replaced"));
    system.publish("m", 10..15).await?;
    system.expect("m", 15).await?;
    let after = system.heartbeat().await?;
    assert_eq!(
        (after.epoch, after.generation),
        (beat.epoch, beat.generation),
        "the two do not outbid each other"
    );
    assert!(first.leads().await || second.leads().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_primary_is_left_by_its_leader_and_taken_up_again() -> Result<()> {
    let system = System::start_on(PostgresOptions::default(), Persistence::None).await?;
    let listener = system.listener("only").await?;
    listener.expect_leading().await?;
    let admin = system.postgres.connect("postgres").await?;
    let fence = async |on: &str| -> Result<()> {
        admin.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}")).await?;
        Ok(admin.batch_execute("SELECT pg_reload_conf()").await?)
    };
    fence("on").await?;
    wait_until("it leads no more", PATIENCE, || async { !listener.leads().await }).await?;
    wait_for("it says why", PATIENCE, || async {
        let (_, body) = rowcast_sandbox::http_get(&listener.admin, "/ready").await?;
        body.contains("takes no writes").then_some(()).context(body)
    })
    .await?;
    let reset = "SET default_transaction_read_only = off";
    admin.batch_execute(reset).await?;
    fence("off").await?;
    listener.expect_leading().await?;
    let beat = system.expect_heartbeat("a heartbeat", |_| true).await?;
    assert_eq!(beat.generation, 1, "its history goes on");
    Ok(())
}
