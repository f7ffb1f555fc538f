//! What is committed reaches the rooms' logs once and in order, and leaves the outbox.

mod common;

use anyhow::Result;
use common::{PATIENCE, System};
use rowcast_protocol::RecordKind;
use rowcast_sandbox::{Launch, Signal, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn committed_rows_reach_their_rooms_in_order_once_and_leave_the_outbox() -> Result<()> {
    let system = System::start().await?;
    system.publish("early", 0..20).await?;
    let listener = system.listener("only").await?;
    system.expect("early", 20).await?;
    let before: i64 =
        system.database.query_one("SELECT pg_current_xact_id()::text::bigint", &[]).await?.get(0);

    system.publish("m1", 0..50).await?;
    system.publish("m2}x:ü", 0..50).await?;
    system.expect("m1", 50).await?;
    system.expect("m2}x:ü", 50).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    // A later leader begins after what was read and deleted.
    let passed = format!(
        "SELECT count(*) FROM rowcast.floor WHERE pg_snapshot_xmin(snapshot)::text::bigint > {before}"
    );
    system.expect_query(&passed, 1).await?;
    assert_eq!(listener.metric("rowcast_listener_events_published_total").await?, 120.0);
    assert_eq!(listener.metric("rowcast_listener_epoch").await?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_commits_late_is_published_though_later_ids_went_before() -> Result<()> {
    let system = System::start().await?;
    let _listener = system.listener("only").await?;
    let late = system.postgres.connect("app").await?;
    late.batch_execute("BEGIN").await?;
    common::publish_one(&late, "late", 0).await?;
    system.publish("other", 0..30).await?;
    system.expect("other", 30).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    late.batch_execute("COMMIT").await?;
    system.expect("late", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_in_one_room_is_carried_through_small_bounds_and_does_not_starve_another()
-> Result<()> {
    let system = System::start().await?;
    system
        .database
        .batch_execute(
            "INSERT INTO rowcast.outbox (room, type, data)
             SELECT 'big', 'x', json_build_object('n', n) FROM generate_series(0, 4999) AS n;
             INSERT INTO rowcast.outbox (room, type, data) VALUES ('small', 'x', '{\"n\":0}')",
        )
        .await?;
    let bounds = [
        ("ROWCAST_LISTENER__MAX_ROWS", "300"),
        ("ROWCAST_LISTENER__READ_ROWS", "100"),
        ("ROWCAST_LISTENER__BATCH_COMMANDS", "32"),
        ("ROWCAST_REDIS__LOG_MAX_ENTRIES", "5000"),
    ];
    let _listener = system.listener_with("only", &bounds).await?;
    system.expect("small", 1).await?;
    system.expect("big", 5000).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_becomes_a_dead_letter_and_a_resync_in_its_place() -> Result<()> {
    let system = System::start().await?;
    let listener = system.listener("only").await?;
    system.publish("m", 0..1).await?;
    system
        .database
        .batch_execute(
            "INSERT INTO rowcast.outbox (room, type, data) VALUES
                ('m', repeat('t', 201), '{}'), ('', 'x', '{}'), ('m', 'y', '{\"n\":1}')",
        )
        .await?;
    let loaded = wait_for("three records", PATIENCE, || async {
        let loaded = system.load("m").await?;
        anyhow::ensure!(loaded.records.len() == 3, "{} records", loaded.records.len());
        anyhow::Ok(loaded)
    })
    .await?;
    let kinds: Vec<_> = loaded.records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordKind::Event, RecordKind::Resync, RecordKind::Event]);
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    system.expect_query("SELECT count(*) FROM rowcast.dead_letter WHERE reason <> ''", 2).await?;
    let metric = "rowcast_listener_dead_letters_total{reason=\"unusable event type\"}";
    assert_eq!(listener.metric(metric).await?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_kept_though_its_leader_dies_before_it_could_keep_it() -> Result<()> {
    let system = System::start().await?;
    let first = system.listener("first").await?;
    first.expect_leading().await?;
    let holder = system.postgres.connect("app").await?;
    holder.batch_execute("BEGIN; LOCK TABLE rowcast.dead_letter").await?;
    let records = async |room: &str, count: usize| {
        wait_for(format!("{count} records in {room}"), PATIENCE, || async {
            let found = system.load(room).await?.records.len();
            anyhow::ensure!(found >= count, "{found} records");
            anyhow::Ok(found)
        })
        .await
    };
    // The first one holds up all deletion; the second one stands far behind others in its room.
    let poison = "INSERT INTO rowcast.outbox (room, type, data) VALUES ($1, repeat('t', 201), '{}')";
    system.database.execute(poison, &[&"first"]).await?;
    records("first", 1).await?;
    system.publish("m", 0..60).await?;
    system.database.execute(poison, &[&"m"]).await?;
    records("m", 61).await?;
    first.process.signal(Signal::KILL)?;
    first.process.wait_exit(PATIENCE).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 62).await?;
    holder.batch_execute("COMMIT").await?;
    // It sees the log before it has read the row that stands for a resync there.
    let _second = system.listener_with("second", &[("ROWCAST_LISTENER__READ_ROWS", "1")]).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    system.expect_query("SELECT count(*) FROM rowcast.dead_letter", 2).await?;
    assert_eq!(records("m", 61).await?, 61, "nothing twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_wish_raises_the_generation_and_a_loss_impairs_the_heartbeat() -> Result<()> {
    let system = System::start().await?;
    let _listener = system.listener("only").await?;
    let before = system.expect_heartbeat("a first heartbeat", |_| true).await?;
    system.database.batch_execute("SELECT rowcast.request_raise('TRUNCATE')").await?;
    let raised =
        system.expect_heartbeat("a higher generation", |beat| beat.generation > before.generation).await?;
    assert_eq!(raised.impaired, None);
    system.expect_query("SELECT count(*) FROM rowcast.raise_request", 0).await?;

    let lose = "INSERT INTO rowcast.trigger_error (relation, table_name, operation, sqlstate, message, lost)
        VALUES (0, 't', 'INSERT', 'XX000', 'failed', true)";
    system.database.batch_execute(lose).await?;
    let impaired = system.expect_heartbeat("an impaired heartbeat", |beat| beat.impaired.is_some()).await?;
    assert_eq!(impaired.generation, raised.generation, "not before it has become quiet");
    // Ten seconds without another.
    let age = "UPDATE rowcast.trigger_error SET occurred_at = clock_timestamp() - interval '9.5 s'";
    system.database.batch_execute(age).await?;
    system
        .expect_heartbeat("a new generation that answers for the loss", |beat| {
            beat.generation == raised.generation + 1 && beat.impaired.is_none()
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_listeners_role_are_enough() -> Result<()> {
    let system = System::start().await?;
    system.database.batch_execute("CREATE ROLE carrier LOGIN; GRANT rowcast_listener TO carrier").await?;
    let url = system.postgres.url_for("carrier", "app");
    let _listener = system.listener_with("only", &[("ROWCAST_DATABASE__URL", &url)]).await?;
    system.publish("m", 0..5).await?;
    system.expect("m", 5).await?;
    system.database.batch_execute("SELECT rowcast.request_raise('TRUNCATE')").await?;
    system.expect_heartbeat("a raised generation", |beat| beat.generation == 2).await?;
    system
        .database
        .batch_execute("INSERT INTO rowcast.outbox (room, type, data) VALUES ('m', repeat('t', 201), '{}')")
        .await?;
    system.expect_query("SELECT count(*) FROM rowcast.dead_letter", 1).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_copied_from_another_cluster_begins_a_new_history_and_loses_no_row() -> Result<()> {
    let system = System::start().await?;
    system.publish("m", 0..5).await?;
    // As a dump leaves it: transaction ids of elsewhere, and a floor beyond all that are given out here.
    system
        .database
        .batch_execute(
            "UPDATE rowcast.state SET installation = 'default', system_identifier = 'another', timeline = 1;
             UPDATE rowcast.outbox SET tx = '900000000';
             UPDATE rowcast.floor SET snapshot = '900000000:900000000:', id = 1000",
        )
        .await?;
    let _listener = system.listener("only").await?;
    system.expect("m", 5).await?;
    system.publish("m", 5..9).await?;
    system.expect("m", 9).await?;
    // Its own number is the copied one's: only the clock is above all that the original has told.
    system.expect_heartbeat("a raised generation", |beat| beat.generation > 1_700_000_000).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_it_before_a_port_is_bound_and_says_what_is_wrong() -> Result<()> {
    let folder = rowcast_sandbox::Folder::new("listener-config")?;
    let run = |name: &'static str, envs: &[(&'static str, &'static str)]| {
        let mut launch = Launch::new(name, env!("CARGO_BIN_EXE_rowcast-listener"), folder.path().join(name))
            .arg("--check")
            .env("RUST_BACKTRACE", "0");
        for (key, value) in envs {
            launch = launch.env(key, value);
        }
        launch.spawn()
    };
    for (name, envs, code, says) in [
        ("no-url", &[][..], 1, "ROWCAST_DATABASE__URL"),
        ("unknown", &[("ROWCAST_LISTENER__MAX_ROW", "5")][..], 1, "max_rows"),
        ("good", &[("ROWCAST_DATABASE__URL", "postgres://a:hush@db/app")][..], 0, "postgres://a:***@db/app"),
    ] {
        let process = run(name, envs)?;
        let status = process.wait_exit(PATIENCE).await?;
        let output = process.log_tail(60);
        assert_eq!(status.code(), Some(code), "{output}");
        assert!(output.contains(says) && !output.contains("hush"), "{output}");
    }
    Ok(())
}
