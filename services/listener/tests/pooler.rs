//! A listener behind a real PgBouncer: where sessions are shared it refuses to work and says why, and leaves nothing
//! behind in the application's sessions; where they are not, it works.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::{Listener, PATIENCE, System};
use rowcast_sandbox::{
    Connection, Pgbouncer, PgbouncerOptions, Signal, find_pgbouncer, http_get, pgbouncer_unavailable,
    wait_for, wait_until,
};

async fn start() -> Result<Option<System>> {
    if let (Err(_), Some(reason)) = (find_pgbouncer(), pgbouncer_unavailable()) {
        eprintln!("SKIPPED: there is no PgBouncer here ({reason})");
        return Ok(None);
    }
    System::start().await.map(Some)
}

async fn behind(system: &System, options: PgbouncerOptions) -> Result<(Pgbouncer, String)> {
    let pooler = Pgbouncer::start(options).await?;
    let url = pooler.url_of("app");
    // What the pooler and the test do before any listener.
    Connection::open(&url).await?.simple_query("SELECT 1").await?;
    assert_eq!(system.postgres.url_of("app"), system.url);
    Ok((pooler, url))
}

fn options(system: &System, pool_mode: &str) -> PgbouncerOptions {
    PgbouncerOptions::new(system.postgres.port(), pool_mode)
}

async fn listener(system: &System, name: &str, url: &str) -> Result<Listener> {
    system.live_listener(name, &[("ROWCAST_DATABASE__URL", url)]).await
}

/// Waits until the listener says, where an operator looks, why it does not work.
async fn expect_refusal(listener: &Listener, kind: &str, parts: &[&str]) -> Result<()> {
    wait_for("a refusal with its reason", PATIENCE, || async {
        let (status, body) = http_get(&listener.admin, "/ready").await?;
        anyhow::ensure!(status == 503, "{status}");
        for part in parts {
            anyhow::ensure!(body.contains(part), "{part} in {body}");
        }
        let log = listener.process.log_tail(50);
        anyhow::ensure!(parts.iter().all(|part| log.contains(part)), "{log}");
        let lost = format!("rowcast_listener_terms_lost_total{{reason=\"{kind}\"}}");
        anyhow::ensure!(listener.metric(&lost).await? >= 2.0, "it tries again");
        anyhow::Ok(())
    })
    .await?;
    assert!(listener.process.exited().is_none(), "and it does not exit");
    assert_eq!(http_get(&listener.admin, "/live").await?.0, 200);
    assert!(!listener.leads().await);
    Ok(())
}

const REASON: [&str; 4] = ["pooler", "PgBouncer", "pool_mode = session", "direct address"];

/// What a session of the application's that comes from the pool brings with it.
async fn expect_clean(system: &System, url: &str, sessions: usize) -> Result<()> {
    let mut open = Vec::new();
    for _ in 0..sessions {
        let application = Connection::open(url).await?;
        let messages = application
            .simple_query(
                "BEGIN; SELECT concat_ws(',', pg_backend_pid(), current_setting('idle_session_timeout'),
                    current_setting('statement_timeout'), current_setting('lock_timeout'),
                    (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_prepared_statements))",
            )
            .await?;
        let row = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        let row = row.unwrap_or_default();
        assert!(row.ends_with(",0,0,0,0,0"), "a session of the pool is as PostgreSQL made it: {row}");
        // Its transaction stays open, so that the next one gets another.
        open.push(application);
    }
    system.expect_query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler_is_refused_with_the_reason_and_the_remedy() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    for (name, round_robin) in [("last-first", "0"), ("round-robin", "1")] {
        let options = options(&system, "transaction").with("server_round_robin", round_robin);
        let (_pooler, url) = behind(&system, options.with("min_pool_size", "4")).await?;
        let listener = listener(&system, name, &url).await?;
        expect_refusal(&listener, "pooler", &REASON).await?;
        expect_clean(&system, &url, 4).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_pooler_is_refused_too() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    let (_pooler, url) = behind(&system, options(&system, "statement")).await?;
    let listener = listener(&system, "only", &url).await?;
    expect_refusal(&listener, "pooler", &REASON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler_that_is_busy_is_refused_and_its_application_unharmed() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    let (_pooler, url) = behind(&system, options(&system, "transaction")).await?;
    let mut application = tokio::task::JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for _ in 0..6 {
        let (url, stopped) = (url.clone(), stopped.clone());
        application.spawn(async move {
            let client = Connection::open(&url).await?;
            while !*stopped.borrow() {
                client.simple_query("BEGIN; SELECT pg_sleep(0.001); COMMIT").await?;
            }
            anyhow::Ok(())
        });
    }
    let listener = listener(&system, "only", &url).await?;
    let refused = expect_refusal(&listener, "pooler", &REASON).await;
    stop.send_replace(true);
    while let Some(ended) = application.join_next().await {
        ended??;
    }
    refused?;
    expect_clean(&system, &url, 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_one_session_is_refused_with_the_reason() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    for mode in ["session", "transaction"] {
        let (_pooler, url) = behind(&system, options(&system, mode).with("default_pool_size", "1")).await?;
        let listener = listener(&system, mode, &url).await?;
        let (kind, reason) = match mode {
            "session" => ("second_session", "its pool is too small"),
            _ => ("pooler", "pool_mode = session"),
        };
        expect_refusal(&listener, kind, &["pooler", "direct address", reason]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_pooler_works_and_a_killed_or_stopped_leader_is_followed() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    let (_pooler, url) = behind(&system, options(&system, "session")).await?;
    let first = listener(&system, "first", &url).await?;
    first.expect_leading().await?;
    let second = listener(&system, "second", &url).await?;
    let third = listener(&system, "third", &url).await?;
    system.publish("m", 0..20).await?;
    system.expect("m", 20).await?;
    first.process.signal(Signal::KILL)?;
    wait_until("another leads", PATIENCE, || async { second.leads().await || third.leads().await }).await?;
    system.publish("m", 20..40).await?;
    system.expect("m", 40).await?;
    let (leader, next) = if second.leads().await { (&second, &third) } else { (&third, &second) };
    leader.process.signal(Signal::STOP)?;
    next.expect_leading().await?;
    system.publish("m", 40..60).await?;
    system.expect("m", 60).await?;
    leader.process.signal(Signal::CONT)?;
    assert_eq!(system.heartbeat().await?.generation, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_is_set_right_needs_no_restart_of_the_listener() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    let (mut pooler, url) = behind(&system, options(&system, "transaction")).await?;
    let listener = listener(&system, "only", &url).await?;
    expect_refusal(&listener, "pooler", &REASON).await?;
    pooler.set_pool_mode("session")?;
    listener.expect_leading().await?;
    system.publish("m", 0..5).await?;
    system.expect("m", 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_refused_through_a_transaction_pooler() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    let (_pooler, url) = behind(&system, options(&system, "transaction")).await?;
    let refused = tokio::time::timeout(Duration::from_secs(20), rowcast_store::migrate(&url)).await?;
    let words = refused.expect_err("it is refused").to_string();
    assert!(REASON.iter().all(|part| words.contains(part)), "{words}");
    expect_clean(&system, &url, 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_behind_a_transaction_pooler_is_heard_as_any_other() -> Result<()> {
    let Some(system) = start().await? else { return Ok(()) };
    let (_pooler, url) =
        behind(&system, options(&system, "transaction").with("default_pool_size", "3")).await?;
    system
        .database
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, m text, n int); SELECT rowcast.watch('t', 'm')")
        .await?;
    let listener = system.listener("direct").await?;
    listener.expect_leading().await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let url = url.clone();
        writers.spawn(async move {
            let client = Connection::open(&url).await?;
            client.simple_query(&format!("INSERT INTO t VALUES ({writer}, 'room-{writer}', 0)")).await?;
            for n in (1..100).step_by(2) {
                let next = n + 1;
                client
                    .simple_query(&format!(
                        "BEGIN; UPDATE t SET n = {n} WHERE id = {writer}; UPDATE t SET n = {next} WHERE id = {writer}; COMMIT"
                    ))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    for writer in 0..6 {
        system.expect(&format!("room-{writer}"), 101).await?;
    }
    Ok(())
}
