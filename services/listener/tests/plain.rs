//! Plain mode: triggers that were there before Rowcast, unchanged, through a real PostgreSQL and a real Redis.

mod common;

use anyhow::{Context, Result};
use common::{Listener, PATIENCE, System};
use rowcast_sandbox::wait_for;
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
    let listener = system.listener_with("only", &[("ROWCAST_LISTENER__CHANNELS", CHANNELS)]).await?;
    listener.expect_leading().await?;
    // A leader LISTENs before it reads: with the first heartbeat it hears.
    system.expect_heartbeat("a heartbeat", |_| true).await?;
    Ok((system, listener))
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
        system.database.execute("SELECT pg_notify('plain', $1)", &[&payload]).await?;
    }
    // The largest that PostgreSQL takes; one byte more fails at the call, before anyone hears of it.
    let frame = r#"{"merchantId":"m","type":"x","pad":""}"#.len();
    let largest = format!(r#"{{"merchantId":"m","type":"x","pad":"{}"}}"#, "p".repeat(7999 - frame));
    system.database.execute("SELECT pg_notify('plain', $1)", &[&largest]).await?;
    let larger = format!("{largest} ");
    assert!(system.database.execute("SELECT pg_notify('plain', $1)", &[&larger]).await.is_err());

    let arrived = events(&system, "m", 1).await?;
    assert_eq!(arrived[0]["data"]["pad"].as_str().map(str::len), Some(7999 - frame));
    for (reason, wanted) in [("malformed", 3.0), ("room", 2.0), ("type", 1.0)] {
        let metric = format!("rowcast_listener_plain_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(listener.metric(&metric).await?, wanted, "{reason}");
    }
    assert_eq!(listener.metric("rowcast_listener_terms_lost_total{reason=\"connection\"}").await.ok(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_redis_drops_what_does_not_fit_and_harms_nothing_committed() -> Result<()> {
    let system = System::start().await?;
    let settings = [("ROWCAST_LISTENER__CHANNELS", "plain"), ("ROWCAST_LISTENER__MAX_ROWS", "40")];
    let listener = system.listener_with("only", &settings).await?;
    listener.expect_leading().await?;
    system.expect_heartbeat("a heartbeat", |_| true).await?;
    system.redis.process().signal(rowcast_sandbox::Signal::STOP)?;
    let flood = "SELECT count(pg_notify('plain', json_build_object('merchantId', 'p', 'n', n)::text))
        FROM generate_series(1, 200) AS n";
    system.database.batch_execute(flood).await?;
    let dropped = "rowcast_listener_plain_refused_total{reason=\"queue_full\"}";
    wait_for("dropped notifications", PATIENCE, || async {
        let count = listener.metric(dropped).await?;
        anyhow::ensure!(count >= 150.0, "{count}");
        anyhow::Ok(())
    })
    .await?;
    system.publish("m", 0..30).await?;
    system.redis.process().signal(rowcast_sandbox::Signal::CONT)?;
    system.expect("m", 30).await?;
    system.expect_query("SELECT count(*) FROM rowcast.outbox", 0).await?;
    let kept = events(&system, "p", 1).await?;
    let numbers: Vec<i64> = kept.iter().filter_map(|event| event["data"]["n"].as_i64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in their order, each once: {numbers:?}");
    Ok(())
}
