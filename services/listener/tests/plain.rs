//! Plain mode: triggers that were there before Rowcast, unchanged, through a real PostgreSQL and a real Redis.

mod common;

use anyhow::{Context, Result};
use common::{Listener, PATIENCE, System};
use rowcast_sandbox::{Signal, wait_for};
use serde_json::{Value, json};

/// Two triggers as they are found in applications: a generic one, with a channel for each table and operation and the row
/// below `data`, and one for a table of its own, which keeps to the 8,000 bytes by itself.
const TRIGGERS: &str = r#"
CREATE TABLE "Booking" (id int PRIMARY KEY, "merchantId" text, status text);
CREATE OR REPLACE FUNCTION notify_table_changes()
RETURNS trigger AS $$
BEGIN
  PERFORM pg_notify(
    TG_TABLE_NAME || '_' || TG_OP,
    json_build_object(
      'operation', TG_OP,
      'table', TG_TABLE_NAME,
      'id', CASE
        WHEN TG_OP = 'DELETE' THEN OLD.id
        ELSE NEW.id
      END,
      'data', CASE
        WHEN TG_OP = 'DELETE' THEN row_to_json(OLD)
        ELSE row_to_json(NEW)
      END,
      'timestamp', NOW()
    )::text
  );
  RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER booking_notify
AFTER INSERT OR UPDATE OR DELETE ON "Booking"
FOR EACH ROW EXECUTE FUNCTION notify_table_changes();

CREATE TABLE note (id int PRIMARY KEY, field text);
CREATE OR REPLACE FUNCTION notify_changes()
RETURNS trigger AS $$
DECLARE
  payload json;
BEGIN
  payload := json_build_object(
    'id', NEW.id,
    'field', COALESCE(NEW.field, 'default'),
    'timestamp', NOW()
  );
  IF length(payload::text) < 8000 THEN
    PERFORM pg_notify('channel', payload::text);
  ELSE
    PERFORM pg_notify('channel', json_build_object(
      'id', NEW.id,
      'error', 'payload_too_large'
    )::text);
  END IF;
  RETURN NEW;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'Trigger notification failed: %', SQLERRM;
  RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER note_notify AFTER INSERT OR UPDATE ON note FOR EACH ROW EXECUTE FUNCTION notify_changes();
"#;

const CHANNELS: &str = r#"["Booking_INSERT", "Booking_UPDATE",
    {"channel": "Booking_DELETE", "type": "booking.deleted"}, {"channel": "channel", "room": "notes"}, "plain"]"#;

async fn start() -> Result<(System, Listener)> {
    let system = System::start().await?;
    system.database.batch_execute(TRIGGERS).await?;
    let listener = hearing(&system, "only", &[("ROWCAST_LISTENER__CHANNELS", CHANNELS)]).await?;
    Ok((system, listener))
}

/// A listener that leads and hears.
async fn hearing(system: &System, name: &str, settings: &[(&str, &str)]) -> Result<Listener> {
    let listener = system.listener_with(name, settings).await?;
    listener.expect_leading().await?;
    until_it_hears(system, &listener).await?;
    Ok(listener)
}

/// A leader LISTENs before it reads: with its first heartbeat it hears.
async fn until_it_hears(system: &System, leader: &Listener) -> Result<()> {
    let epoch = leader.metric("rowcast_listener_epoch").await?;
    system.expect_heartbeat("a heartbeat of its own", |beat| beat.epoch as f64 >= epoch).await.map(drop)
}

async fn notify(system: &System, channel: &str, payload: &str) -> Result<()> {
    system.database.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await?;
    Ok(())
}

async fn refused(listener: &Listener, reason: &str) -> Result<f64> {
    listener.metric(&format!("rowcast_listener_plain_refused_total{{reason=\"{reason}\"}}")).await
}

/// The events of a room, once there are so many.
async fn events(system: &System, room: &str, count: usize) -> Result<Vec<Value>> {
    wait_for(format!("{count} events in {room}"), PATIENCE, || async {
        let records = system.load(room).await?.records;
        anyhow::ensure!(records.len() >= count, "{} events", records.len());
        let whole = |fragment: &[u8]| serde_json::from_slice(&[b"{", fragment, b"}"].concat());
        records.iter().map(|record| whole(&record.fragment).context("a fragment")).collect()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_triggers_are_delivered_unchanged() -> Result<()> {
    let (system, listener) = start().await?;
    system
        .database
        .batch_execute(
            r#"INSERT INTO "Booking" VALUES (1, 'm1', 'new');
               UPDATE "Booking" SET status = 'paid';
               DELETE FROM "Booking";
               INSERT INTO note VALUES (1, NULL), (2, repeat('x', 9000))"#,
        )
        .await?;
    let events_m1 = events(&system, "m1", 3).await?;
    let types: Vec<&str> = events_m1.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, ["Booking_INSERT", "Booking_UPDATE", "booking.deleted"]);
    let row = json!({ "id": 1, "merchantId": "m1", "status": "paid" });
    assert_eq!(events_m1[1]["data"]["data"], row, "the whole payload is the data");
    assert_eq!(events_m1[1]["data"]["operation"], "UPDATE");

    let notes = events(&system, "notes", 2).await?;
    assert_eq!(notes[0]["data"]["field"], "default");
    assert_eq!((&notes[1]["data"]["id"], &notes[1]["truncated"]), (&json!(2), &json!(true)));
    // They came past the outbox, and what is written there still comes through it, in ids of its own.
    system.publish("m1", 0..1).await?;
    let all = events(&system, "m1", 4).await?;
    let ids: std::collections::HashSet<&str> = all.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().filter(|id| id.starts_with('-')).count() == 3, "{ids:?}");
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    let metric = |name: &str| format!("rowcast_listener_plain_{name}");
    assert_eq!(listener.metric(&metric("events_total{channel=\"channel\"}")).await?, 2.0);
    assert_eq!(listener.metric(&metric("truncated_total")).await?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_payloads_are_counted_and_the_next_good_one_arrives() -> Result<()> {
    let (system, listener) = start().await?;
    let bad = [
        ("malformed", "hello"),
        ("malformed", "[1,2]"),
        ("malformed", ""),
        ("room", r#"{"id":1}"#),
        ("room", r#"{"merchantId":{}}"#),
        ("type", r#"{"merchantId":"m","type":"connect"}"#),
    ];
    for (_, payload) in bad {
        notify(&system, "plain", payload).await?;
    }
    // The largest that PostgreSQL takes; one byte more fails at the call, before anyone hears of it.
    let frame = r#"{"merchantId":"m","type":"x","pad":""}"#.len();
    let largest = format!(r#"{{"merchantId":"m","type":"x","pad":"{}"}}"#, "p".repeat(7999 - frame));
    notify(&system, "plain", &largest).await?;
    assert!(notify(&system, "plain", &format!("{largest} ")).await.is_err());

    let arrived = events(&system, "m", 1).await?;
    assert_eq!(arrived[0]["data"]["pad"].as_str().map(str::len), Some(7999 - frame));
    for (reason, wanted) in [("malformed", 3.0), ("room", 2.0), ("type", 1.0)] {
        assert_eq!(refused(&listener, reason).await?, wanted, "{reason}");
    }
    assert_eq!(listener.metric("rowcast_listener_terms_lost_total{reason=\"connection\"}").await.ok(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_redis_drops_what_does_not_fit_and_harms_nothing_committed() -> Result<()> {
    let system = System::start().await?;
    let settings = [("ROWCAST_LISTENER__CHANNELS", "plain"), ("ROWCAST_LISTENER__MAX_ROWS", "40")];
    let listener = hearing(&system, "only", &settings).await?;
    system.redis.process().signal(Signal::STOP)?;
    let flood = "SELECT count(pg_notify('plain', json_build_object('merchantId', 'p', 'n', n)::text))
        FROM generate_series(1, 200) AS n";
    system.database.batch_execute(flood).await?;
    wait_for("dropped notifications", PATIENCE, || async {
        let count = refused(&listener, "queue_full").await?;
        anyhow::ensure!(count >= 150.0, "{count}");
        anyhow::Ok(())
    })
    .await?;
    system.publish("m", 0..30).await?;
    system.redis.process().signal(Signal::CONT)?;
    system.expect("m", 30).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    let kept = events(&system, "p", 1).await?;
    let numbers: Vec<i64> = kept.iter().filter_map(|event| event["data"]["n"].as_i64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in their order, each once: {numbers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_too_large_for_a_notification_are_what_they_were_before() -> Result<()> {
    let (system, listener) = start().await?;
    // The generic trigger does not look: PostgreSQL refuses the row, with Rowcast or without.
    let large = r#"INSERT INTO "Booking" VALUES (1, 'm1', repeat('x', 9000))"#;
    let error = system.database.batch_execute(large).await.expect_err("it is too large");
    let words = error.as_db_error().map(|error| error.message().to_owned());
    assert_eq!(words.as_deref(), Some("payload string too long"));
    // The other one counts characters where PostgreSQL counts bytes: it catches the error, and nobody hears.
    system.database.batch_execute("INSERT INTO note VALUES (1, repeat('ü', 5000)), (2, 'next')").await?;
    let notes = events(&system, "notes", 1).await?;
    assert_eq!((notes.len(), &notes[0]["data"]["id"]), (1, &json!(2)));
    system.database.batch_execute(r#"INSERT INTO "Booking" VALUES (1, 'm1', 'small')"#).await?;
    assert_eq!(events(&system, "m1", 1).await?[0]["data"]["id"], json!(1));
    assert!(listener.process.exited().is_none() && listener.leads().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_above_the_configured_size_are_counted_and_odd_ones_arrive_as_they_are() -> Result<()> {
    const NAMES: [&str; 3] = ["plain", r#"a"b; --"#, "ümläut"];
    let system = System::start().await?;
    let channels = json!(NAMES).to_string();
    let settings =
        [("ROWCAST_LISTENER__CHANNELS", &*channels), ("ROWCAST_LISTENER__MAX_EVENT_BYTES", "500B")];
    let listener = hearing(&system, "only", &settings).await?;
    let deep = format!(r#"{{"merchantId":"m","deep":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for (payload, reason) in [
        (format!(r#"{{"merchantId":"m","pad":"{}"}}"#, "p".repeat(500)), "oversize"),
        (deep, "malformed"),
        (r#"{"merchantId":"m","number":1e999}"#.to_owned(), "malformed"),
        (r#"{"merchantId":"m","half":"\ud800"}"#.to_owned(), "malformed"),
        (r#"{"merchantId":"m"} {"merchantId":"m"}"#.to_owned(), "malformed"),
    ] {
        let before = refused(&listener, reason).await.unwrap_or(0.0);
        notify(&system, "plain", &payload).await?;
        wait_for(format!("{reason}: {payload}"), PATIENCE, || async {
            anyhow::ensure!(refused(&listener, reason).await? == before + 1.0);
            anyhow::Ok(())
        })
        .await?;
    }
    let odd = "{ \n\t\"merchantId\" : \"m\",\"merchantId\":\"m\", \"text\":\"\\u0000\\u2028</script>ü\", \"n\": 1234567890123456789012 }";
    for channel in NAMES {
        notify(&system, channel, odd).await?;
    }
    let arrived = events(&system, "m", 3).await?;
    let types: Vec<&str> = arrived.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(types, NAMES);
    assert_eq!(arrived[0]["data"]["text"], json!("\0\u{2028}</script>ü"));
    assert!(listener.process.exited().is_none() && listener.leads().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_heard_by_one_leader_and_the_next_one_goes_on() -> Result<()> {
    let (system, first) = start().await?;
    let second = system.listener_with("second", &[("ROWCAST_LISTENER__CHANNELS", CHANNELS)]).await?;
    let send = async |numbers: std::ops::Range<i64>| {
        for n in numbers {
            notify(&system, "plain", &json!({ "merchantId": "m", "n": n }).to_string()).await?;
        }
        anyhow::Ok(())
    };
    send(0..20).await?;
    let heard = events(&system, "m", 20).await?;
    first.process.signal(Signal::KILL)?;
    second.expect_leading().await?;
    until_it_hears(&system, &second).await?;
    send(20..40).await?;
    let all = events(&system, "m", 40).await?;
    let numbers: Vec<i64> = all.iter().filter_map(|event| event["data"]["n"].as_i64()).collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(all[..20], heard);
    let ids: std::collections::HashSet<&str> = all.iter().filter_map(|event| event["id"].as_str()).collect();
    assert_eq!(ids.len(), 40, "no two terms give out the same id");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_database_without_an_encoding_plain_mode_is_off_and_the_outbox_is_read() -> Result<()> {
    let mut system = System::start().await?;
    let maker = system.postgres.connect("postgres").await?;
    maker.batch_execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0").await?;
    system.url = system.postgres.url_of("bytes");
    rowcast_store::migrate(&system.url).await?;
    system.database = system.postgres.connect("bytes").await?;
    let listener = hearing(&system, "only", &[("ROWCAST_LISTENER__CHANNELS", "plain")]).await?;
    // Not text in any encoding: whoever listened would lose the connection.
    system.database.batch_execute(r"SELECT pg_notify('plain', E'\xff\xfe')").await?;
    system.publish("m", 0..3).await?;
    system.expect("m", 3).await?;
    let log = listener.process.log_tail(100);
    assert!(log.contains("plain mode is off") && log.contains("UTF8"), "{log}");
    assert_eq!(listener.metric("rowcast_listener_epoch").await?, 1.0, "it has led from the first");
    Ok(())
}
